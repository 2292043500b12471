package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// ended tells whether an actor's worker at an agent was told to end.
func (p *pair) ended(at int, worker id.Process) bool {
	return slices.ContainsFunc(p.got[fmt.Sprintf("%c %d", 'a'+at, worker)], func(f frame) bool { return f.kind == fb.FrameTypeShutdown })
}

// Handles of an actor at the node where it lives for another one: given back to its owner they end nothing, held there they keep it.
func TestHandlesBesideTheirActor(t *testing.T) {
	p := newPair(t)
	actor := p.create(0)
	lives := p.worker(actor)
	task := p.submit(nil, []id.Object{of(actor)})
	w := p.worker(task)
	p.result(task, []id.Object{of(actor)}, "and back")
	p.release(1, w, of(actor), 1)
	p.release(0, 1, of(task), 0)
	if call := p.call(actor); p.ended(1, lives) || p.worker(call) != lives {
		t.Fatal("its handle came home, and it ended")
	}
	task = p.submit(nil, []id.Object{of(actor)})
	w = p.worker(task)
	p.result(task, nil, "done")
	p.release(0, 1, of(actor), 1)
	if p.ended(1, lives) {
		t.Fatal("a task beside it holds a handle, and it ended")
	}
	p.release(1, w, of(actor), 1)
	for _, f := range p.got[fmt.Sprintf("b %d", lives)] {
		if f.kind == fb.FrameTypeCall {
			m, _ := wire.Unmarshal(f.kind, f.body)
			p.say(1, lives, &fb.ResultT{Task: m.(*fb.CallT).Task, Flags: uint32(fb.ResultFlagLast)}, nil)
		}
	}
	if !p.ended(1, lives) {
		t.Error("nobody has a handle, and it lives")
	}
}

// A task at another node calls an actor of its owner's with a value of its own as an argument.
func TestCallFromElsewhereWithAnArgument(t *testing.T) {
	p := newPair(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, MaxPending: -1, Detached: true}, []byte("args"))
	home := p.keys[0][1]
	p.say(0, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	task := p.submit(nil, []id.Object{of(actor)})
	w := p.worker(task)
	put := p.mint(1, w)
	p.say(1, w, &fb.PutT{Object: objectT(of(put))}, []byte("its own"))
	p.say(1, w, &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	call := p.mint(1, w)
	p.say(1, w, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 1, Returns: 1, Deps: 1}, objectBytes(of(put)))
	if v := p.told(fmt.Sprintf("a %d", home), of(put)); v != "its own" {
		t.Fatalf("the actor has %q as argument; %v", v, p.said)
	}
	p.say(0, home, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.told(fmt.Sprintf("b %d", w), of(call)); v != "called" {
		t.Errorf("the caller is told %q", v)
	}

	// A large value goes by itself, before the call.
	large := id.Task{Agent: 2, Process: w, Counter: 9000}
	p.step(0, &Frames{Process: p.errand[0], Bytes: frameOf(t, &fb.ResultT{Task: taskT(large), Flags: uint32(fb.ResultFlagLast | fb.ResultFlagNotTask)}, []byte("large"))})
	p.step(0, &Frames{Process: p.errand[0], Bytes: frameOf(t, &fb.CallT{Task: taskT(id.Task{Agent: 2, Process: w, Counter: 9001}), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Returns: 1, Deps: 1}, objectBytes(of(large)))})
	if v := p.told(fmt.Sprintf("a %d", home), of(large)); v != "large" {
		t.Errorf("the actor has %q as a large argument; %v", v, p.said)
	}
}

// A worker that dies beside handles of its actor takes nothing from them: what its owner makes of the actor, they go on with.
func TestActorThatMovesAway(t *testing.T) {
	p := newPair(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	actor := p.create(1)
	task := p.submit(nil, []id.Object{of(actor)})
	w := p.worker(task)
	p.say(1, w, &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	p.step(0, Place{Group: groupOfPair, Gone: true}) // it can't be made again there
	p.gone(1, p.worker(actor), "killed by signal 9")
	call := p.mint(1, w)
	p.say(1, w, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 1, Returns: 1}, []byte("args"))
	if v := p.told(fmt.Sprintf("b %d", w), of(call)); v != "" {
		t.Fatalf("while it is made again the caller is told %q", v)
	}
	p.step(0, Grant{Group: groupOfPair, Resources: []Amount{{"CPU", one}}})
	home := p.last[0]
	p.say(0, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	p.say(0, home, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.told(fmt.Sprintf("b %d", w), of(call)); v != "called" {
		t.Errorf("when it lives elsewhere the caller is told %q; %v", v, p.said)
	}
}

// A call that crosses the end of its actor is not sent back to who made it, which knows better by then.
func TestCallThatCrossesTheEnd(t *testing.T) {
	p := newPair(t)
	actor := p.create(1)
	task := p.submit(nil, []id.Object{of(actor)})
	p.worker(task)
	p.call(actor)
	p.step(0, Place{Group: groupOfPair, Gone: true}) // it can't be made again there
	p.gone(1, p.worker(actor), "killed by signal 9")
	p.step(1, &Frames{Process: p.errand[1], Bytes: frameOf(t, &fb.CallT{Task: taskT(p.mint(0, 1)), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Returns: 1}, nil)})
	if n := p.cores[0].refused + p.cores[1].refused; n > 0 || len(p.cores[1].processes) == 0 {
		t.Errorf("%d frames were refused: %v", n, p.said)
	}
}

// Who gets a handle of an actor at its own node, by way of a third node, keeps it alive with its owner, whatever comes of that third one.
func TestHandleThatComesWhereItsActorLives(t *testing.T) {
	for _, lost := range []string{"", "early", "late", "with its worker"} {
		x := newTrio(t)
		x.step(0, Place{Group: groupOfPair, Agent: 3, Node: "n3", Resources: []Amount{{"CPU", one}}})
		x.step(2, Grant{Group: groupOfPair, Resources: []Amount{{"CPU", one}}})
		x.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: 0, Group: taskT(groupOfPair)}, nil)
		actor := x.mint(0, 1)
		x.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, MaxPending: -1, MaxRestarts: 1}, []byte("args"))
		home := x.cores[2].entries[actor].actor.worker.process.id
		x.say(2, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
		w := x.passed(of(actor))
		if lost == "early" { // nothing keeps it then but what the third one did
			x.dies(1)
			x.step(2, ProcessGone{Process: home, Why: "it ended"})
			x.drop(2, of(actor))
			x.empty(0, of(actor))
			x.empty(2, of(actor))
			continue
		}
		x.later()
		x.release(1, w, of(actor), 1)
		if lost == "late" {
			x.dies(1)
		}
		if lost == "with its worker" { // it is made again, and is not dead for who calls it
			retried := x.mint(2, 1)
			x.say(2, 1, &fb.ShapeT{Number: 3, Bundle: -1, Retries: 1}, nil)
			x.say(2, 1, &fb.CallT{Task: taskT(retried), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 3, Shape: 3, Returns: 1}, nil)
			x.step(2, ProcessGone{Process: home, Why: "killed by signal 9"})
			home = x.cores[2].entries[actor].actor.worker.process.id
			x.say(2, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
			if v := x.told(2, 1, of(retried)); !strings.HasPrefix(v, "ACTOR_UNAVAILABLE: ") {
				t.Errorf("of a call that it died in the driver is told %q", v)
			}
			x.release(2, 1, of(retried), 0)
		}
		call := x.call(2, actor)
		x.result(2, home, call, "called")
		if v := x.told(2, 1, of(call)); v != "called" || x.cores[0].entries[actor].actor.ending {
			t.Fatalf("lost %q: the driver is told %q", lost, v)
		}
		x.release(2, 1, of(call), 0)
		x.drop(2, of(actor))
		if !x.cores[0].entries[actor].actor.ending {
			t.Errorf("lost %q: it does not end when nobody has a handle", lost)
		}
		x.step(2, ProcessGone{Process: home, Why: "it ended"})
		for at := range x.cores {
			if !x.dead[at] {
				x.empty(at, of(actor))
			}
		}
	}
}
