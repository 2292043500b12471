package work

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// adrift is an actor whose agent is dead, and that the head has not been able to give to another one yet.
func (p *pair) adrift(name string) id.Task {
	p.t.Helper()
	actor, _ := p.keep(0, 1, name, 3)
	p.say(0, 1, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	p.release(0, 1, of(actor), 0)
	p.names.holders["s/"+name] = holding{actor, 0, "that has yet to come"}
	return actor
}

// wait lets time pass at an agent, with a look at its clock whenever it asked for one.
func (p *pair) wait(at int, d int64) {
	p.t.Helper()
	for until := p.now + d; p.now < until; {
		p.now = min(until, max(p.now+1, p.cores[at].NextDeadline()))
		p.step(at, Tick{})
	}
}

// Who looks for an actor that no node can make again now is answered once one can.
func TestFindWhileAnActorHasNoNode(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor := p.adrift("it")
	if v := p.find(1, d, "it"); v != "" {
		t.Fatalf("the driver finds %q", v)
	}
	corr := p.next
	p.wait(1, 2e9)
	if v := p.found(1, d, corr); v != "" || len(p.ways) > 0 {
		t.Fatalf("after 2 s the driver finds %q, and %d ways are open", v, len(p.ways))
	}
	p.moved(actor, 0)
	p.say(0, p.cores[0].entries[actor].actor.worker.process.id, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	p.wait(1, homeAgain)
	if v := p.found(1, d, corr); v != actor.String() {
		t.Errorf("when it has one the driver finds %q", v)
	}
}

// It may be the agent itself that makes it.
func TestFindAnActorThatComesHome(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	d := p.drive(1)
	actor := p.adrift("it")
	p.find(1, d, "it")
	corr := p.next
	p.moved(actor, 1)
	p.wait(1, homeAgain)
	if v := p.found(1, d, corr); v != actor.String() {
		t.Errorf("the driver finds %q", v)
	}
}

// Where no node ever comes who looks for it is told so.
func TestFindAnActorThatNeverHasANode(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	p.adrift("it")
	p.find(1, d, "it")
	corr := p.next
	p.wait(1, headPatience-1)
	if v := p.found(1, d, corr); v != "" {
		t.Fatalf("too early the driver is told %q", v)
	}
	p.wait(1, 1)
	if v := p.found(1, d, corr); !strings.Contains(v, "its node died, and for 20s no node was there") {
		t.Errorf("the driver is told %q", v)
	}
	if n := len(p.cores[1].finding) + len(p.cores[1].finds); n > 0 {
		t.Errorf("%d questions are left", n)
	}
}

// Its name is taken all the same.
func TestClaimOfAnActorThatHasNoNode(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	p.adrift("it")
	actor, w := p.make(1, d, "it", false)
	if w != 0 {
		t.Fatal("a second one of its name is made")
	}
	if why := p.cores[1].explainTask(p.cores[1].entries[actor].task); !strings.Contains(why, "a detached one whose node died") {
		t.Errorf("it waits for %s", why)
	}
	p.wait(1, 2e9)
	if v := p.toldOf(1, d, actor); !strings.HasPrefix(v, "NAME_TAKEN: ") || !strings.Contains(v, "a detached one whose node died, and which no node can make again now") {
		t.Errorf("the driver is told %q", v)
	}
}

// The head names an agent to which its own word has not come yet: the question is asked again.
func TestFindAheadOfTheHeadsWord(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	p.drive(1)
	actor := p.adrift("it")
	p.names.holders["s/it"] = holding{actor, 2, "n2"}
	if v := p.find(0, 1, "it"); v != "" {
		t.Fatalf("the driver is told %q", v)
	}
	corr := p.next
	p.moved(actor, 1)
	p.wait(0, claimAgain)
	if v := p.found(0, 1, corr); v != actor.String() {
		t.Errorf("the driver finds %q", v)
	}
	// One that never comes is none.
	p.names.holders["s/that"] = holding{id.Task{Agent: 2, Process: 5, Counter: 2}, 2, "n2"}
	p.find(0, 1, "that")
	corr = p.next
	p.wait(0, 2e9)
	if v := p.found(0, 1, corr); !strings.Contains(v, "no actor named \"that\"") {
		t.Errorf("the driver is told %q", v)
	}
}

// An agent that dies while it is asked has had its actors made again elsewhere: the head is asked where.
func TestFindAcrossADeath(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	d := p.drive(1)
	actor := p.adrift("it")
	p.names.holders["s/it"] = holding{actor, 3, "n3"}
	p.find(1, d, "it")
	corr := p.next
	h := p.cores[1].hosts[0]
	p.last[1]++
	p.step(1, ProcessUp{Process: p.last[1], Kind: Host, Agent: 3, Node: "n3"})
	if h.process == nil {
		t.Fatal("it is not asked")
	}
	p.gone(1, p.last[1], "it died")
	p.moved(actor, 1)
	p.wait(1, claimAgain)
	if v := p.found(1, d, corr); v != actor.String() {
		t.Errorf("the driver finds %q", v)
	}
}
