package work

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// doneHere ends a task that runs at n1.
func (p *pair) doneHere(t id.Task) {
	p.t.Helper()
	w := p.cores[0].entries[t].task.worker.process.id
	p.say(0, w, &fb.ResultT{Task: taskT(t), Flags: uint32(fb.ResultFlagLast)}, []byte("done"))
}

// Nothing new goes to a node that is being drained. What runs there ends by itself until the time is over; then it is tried again elsewhere, which is not
// counted, unless it may not be.
func TestTasksMove(t *testing.T) {
	for _, retries := range []int32{0, 1} {
		p, _ := newNodes(t)
		p.step(0, Grant{Resources: []Amount{{"CPU", one}}, Node: []Amount{{"CPU", one}}})
		shape := &fb.ShapeT{Number: 3, Retries: retries}
		first, second := p.shaped(shape), p.shaped(shape)
		p.step(0, Nodes{N: 1})
		p.step(0, Drain{Agent: 2, Node: "n2", Reason: "it is old", Until: p.now + 1e9})
		third := p.shaped(shape)
		if p.at(second) != "there" || !strings.Contains(p.at(third), "node n2 is being drained: it is old") {
			t.Fatalf("the second is %s, the third %s", p.at(second), p.at(third))
		}
		p.doneHere(first)
		if p.at(third) != "here" {
			t.Errorf("the third is %s", p.at(third))
		}
		if next := p.cores[0].NextDeadline(); next > p.now+1e9 {
			t.Errorf("it looks at it again in %d ms", (next-p.now)/1e6)
		}
		p.now += 1e9
		p.step(0, Tick{})
		if retries == 0 {
			if p.at(second) != "there" {
				t.Errorf("what may not be tried again is %s", p.at(second))
			}
			continue
		}
		if at := p.at(second); !strings.Contains(at, "1 CPU: 0 of 1 CPU are free") {
			t.Fatalf("the second is %s", at)
		}
		p.doneHere(third)
		if p.at(second) != "here" || p.cores[0].entries[second].task.tried != 0 {
			t.Errorf("the second is %s, %d retries are counted", p.at(second), p.cores[0].entries[second].task.tried)
		}
		p.step(0, Drain{Agent: 2, Node: "n2", Undo: true})
		if fourth := p.shaped(shape); p.at(fourth) != "there" {
			t.Errorf("the fourth is %s", p.at(fourth))
		}
	}
}

// From a node that is being drained its own tasks move as well, and what has nowhere to go stays.
func TestTasksMoveFromHome(t *testing.T) {
	p, _ := newNodes(t)
	shape := &fb.ShapeT{Number: 3, Retries: 1}
	first := p.shaped(shape)
	p.step(0, Drain{Agent: 1, Node: "n1", Reason: "it is old", Until: p.now})
	if p.at(first) != "here" {
		t.Errorf("with no other node it is %s", p.at(first))
	}
	second := p.shaped(shape)
	if p.at(second) != "there" {
		t.Errorf("the second is %s", p.at(second))
	}
	p.result(second, nil, "done")
	p.step(0, Nodes{N: 1, Others: [][]Amount{{{"CPU", one}}}})
	if p.at(first) != "there" || p.cores[0].entries[first].task.tried != 0 {
		t.Errorf("the first is %s", p.at(first))
	}
	third := p.shaped(shape)
	p.step(0, Place{Agent: 2, Gone: true})
	if at := p.at(third); !strings.Contains(at, "another node: node n1 is being drained: it is old") {
		t.Errorf("the third is %s", at)
	}
}

// What would rather be on a node that is being drained goes elsewhere, and is there again once that is undone.
func TestSoftAffinityComesBack(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		p, _ := newNodes(t)
		home, away := "here", "there"
		drained := Drain{Agent: 1, Node: "n1", Reason: "it is old"}
		if node == "n2" {
			home, away, drained = "there", "here", Drain{Agent: 2, Node: "n2", Reason: "it is old"}
		}
		shape := &fb.ShapeT{Number: 3, Node: node, Soft: true}
		end := func(t id.Task) {
			if p.at(t) == "here" {
				p.doneHere(t)
			} else {
				p.result(t, nil, "done")
			}
		}
		p.step(0, drained)
		first := p.shaped(shape)
		if p.at(first) != away {
			t.Fatalf("%s: while that is drained the task is %s", node, p.at(first))
		}
		end(first)
		p.step(0, Drain{Agent: drained.Agent, Node: drained.Node, Undo: true})
		second, third := p.shaped(shape), p.shaped(shape)
		if p.at(second) != home || len(p.cores[0].loose) > 0 {
			t.Errorf("%s: then it is %s", node, p.at(second))
		}
		if at := p.at(third); at == away {
			t.Errorf("%s: the next one is %s", node, at)
		}
	}
}

// A drain that is taken back is so for all agents that its node had meanwhile.
func TestADrainIsOfItsNode(t *testing.T) {
	p, _ := newNodes(t)
	shape := &fb.ShapeT{Number: 3, Node: "n2", Soft: true}
	p.step(0, Drain{Agent: 2, Node: "n2", Reason: "it is old"})
	if first := p.shaped(shape); p.at(first) != "here" || len(p.cores[0].loose) != 1 {
		t.Fatalf("while n2 is drained the task is %s", p.at(first))
	}
	p.step(0, Drain{Agent: 7, Node: "n2", Reason: "it is old"})
	if p.cores[0].drainOf(2) == nil {
		t.Error("what is lost with the agent before would be counted")
	}
	p.step(0, Drain{Agent: 8, Undo: true})
	if len(p.cores[0].drains) != 2 {
		t.Errorf("what is said of another agent leaves %v", p.cores[0].drains)
	}
	p.step(0, Drain{Agent: 7, Node: "n2", Undo: true})
	if len(p.cores[0].loose)+len(p.cores[0].drains) > 0 {
		t.Errorf("then %v are drained still", p.cores[0].drains)
	}
	if second := p.shaped(shape); p.at(second) != "there" {
		t.Errorf("then it is %s", p.at(second))
	}
}

// Nor is room asked for on the node that is being drained.
func TestSoftAffinityAsksForRoomElsewhere(t *testing.T) {
	p, _ := newNodes(t)
	shape := &fb.ShapeT{Number: 3, Node: "n1", Soft: true}
	p.step(0, Drain{Agent: 1, Node: "n1", Reason: "it is old"})
	for range 3 {
		p.shaped(shape)
	}
	if w := p.cores[0].Wants(); len(w.Away) != 1 || w.Away[0].Shape.Node != "" {
		t.Errorf("it asks for %+v", w.Away)
	}
}

// An actor moves between two of its calls, and as often as nodes are drained; one that does several calls at a time gets them all the same, and one that may
// not be made again stays.
func TestActorMoves(t *testing.T) {
	make := func(restarts, concurrency int32) (*pair, id.Task, id.Process) {
		p, _ := newNodes(t)
		p.step(0, Grant{Resources: []Amount{{"CPU", one}}, Node: []Amount{{"CPU", one}}})
		first := p.shaped(&fb.ShapeT{Number: 3})
		actor := p.mint(0, 1)
		p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, MaxRestarts: restarts, Concurrency: uint32(concurrency), MaxPending: -1}, nil)
		p.result(actor, nil, "made")
		p.doneHere(first)
		return p, actor, p.worker(actor)
	}
	call := func(p *pair, actor id.Task) id.Task {
		t := p.mint(0, 1)
		p.say(0, 1, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Shape: 2, Returns: 1}, nil)
		return t
	}
	drain := Drain{Agent: 2, Node: "n2", Reason: "it is old"}

	p, actor, was := make(1, 1)
	a := p.cores[0].entries[actor].actor
	runs := call(p, actor)
	p.step(0, drain)
	next := call(p, actor)
	if a.worker.host == nil || p.at(next) == "there" {
		t.Errorf("the actor moves while its call runs, or gets another one: it is %s", p.at(next))
	}
	p.say(1, was, &fb.ResultT{Task: taskT(runs), Flags: uint32(fb.ResultFlagLast)}, []byte("done"))
	if a.worker == nil || a.worker.host != nil || a.restarts != 0 || a.incarnation != 2 {
		t.Fatalf("the actor is at %+v, %d restarts are counted", a.worker, a.restarts)
	}
	w := a.worker.process.id
	p.say(0, w, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	p.say(0, w, &fb.ResultT{Task: taskT(next), Attempt: 0, Flags: uint32(fb.ResultFlagLast)}, []byte("after"))
	if p.told("a 1", of(runs)) != "done" || p.told("a 1", of(next)) != "after" {
		t.Errorf("the driver is told %q and %q", p.told("a 1", of(runs)), p.told("a 1", of(next)))
	}

	p, actor, _ = make(1, 2)
	call(p, actor)
	p.step(0, drain)
	if next = call(p, actor); p.at(next) != "there" {
		t.Errorf("of an actor that does several calls at a time the next one is %s", p.at(next))
	}

	p, actor, _ = make(0, 1)
	p.step(0, drain)
	if a := p.cores[0].entries[actor].actor; a.worker == nil || a.worker.host == nil || a.worker.killed != "" {
		t.Errorf("an actor that may not be made again is ended")
	}
}

// drain takes a node out of use, or back; all agents hear of it.
func (h *history) drain(s *site) {
	ev := Drain{Agent: s.agent, Node: s.core.cfg.Node, Reason: "a test", Undo: s.core.going}
	if h.rng.IntN(3) > 0 {
		ev.Until = h.now + int64(h.rng.IntN(3))*1e8
	}
	h.drained(ev)
}

func (h *history) drained(ev Drain) {
	for _, o := range h.sites {
		var others [][]Amount
		for _, p := range h.sites {
			if p != o && !(p.core.going && p.agent != ev.Agent) && (p.agent != ev.Agent || ev.Undo) {
				others = append(others, []Amount{{"CPU", 32 * one}, {"lic", one}})
			}
		}
		h.step(o, Nodes{N: len(h.sites), Others: others})
		h.step(o, ev)
	}
}

// undrain takes all nodes back.
func (h *history) undrain() {
	for _, s := range h.sites {
		if s.core.going {
			h.drained(Drain{Agent: s.agent, Node: s.core.cfg.Node, Undo: true})
		}
	}
}
