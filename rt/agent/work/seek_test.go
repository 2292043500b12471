package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// elsewhere is an actor of the first agent of which a driver at the second one has the only handle.
func elsewhere(t *testing.T) (p *pair, driver id.Process, actor id.Task, worker id.Process) {
	p = newPair(t)
	driver = p.drive(1)
	p.drive(0)
	actor, worker = p.make(0, 1, "it", false)
	p.find(1, driver, "it")
	p.release(0, 1, of(actor), 0)
	return p, driver, actor, worker
}

// calls answers a call in the actor's worker.
func (p *pair) calls(worker id.Process, call id.Task, value string) {
	p.t.Helper()
	p.say(0, worker, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte(value))
}

// stayAway lets the time pass in which agents that were out of reach could come back.
func (h *history) stayAway() {
	h.now += cutGrace
	for _, s := range h.sites {
		h.step(s, Tick{})
	}
	h.quiesce("agents that were out of reach")
}

// While the connection to an actor's agent is lost its calls fail as such that may have run, not as calls of a dead one; the next one finds the actor again.
func TestActorOutOfReach(t *testing.T) {
	p, d, actor, w := elsewhere(t)
	lost := p.invoke(1, d, actor)
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	if v := p.toldOf(1, d, lost); !strings.HasPrefix(v, "ACTOR_UNAVAILABLE: ") || !strings.Contains(v, "node n1: the connection is lost; it may live, and the call may have run") {
		t.Errorf("of a call that was on its way the driver is told %q", v)
	}
	vain := p.invoke(1, d, actor)
	if v := p.toldOf(1, d, vain); !strings.HasPrefix(v, "ACTOR_UNAVAILABLE: ") || !strings.Contains(v, "this call did not run") {
		t.Errorf("of the next one the driver is told %q", v)
	}
	if p.ended(0, w) {
		t.Fatal("its only handle is out of reach, and the actor ended")
	}
	p.down = false
	again, next := p.invoke(1, d, actor), p.invoke(1, d, actor)
	p.calls(w, lost, "for nobody")
	p.calls(w, again, "first")
	p.calls(w, next, "second")
	if a, b := p.toldOf(1, d, again), p.toldOf(1, d, next); a != "first" || b != "second" {
		t.Errorf("when it can be reached again the driver is told %q, %q", a, b)
	}
	p.wait(0, cutGrace)
	if p.ended(0, w) {
		t.Error("the driver has a handle again, and the actor ended")
	}
	for _, call := range []id.Task{lost, vain, again, next} {
		p.release(1, d, of(call), 0)
	}
	p.release(1, d, of(actor), 1)
	if !p.ended(0, w) {
		t.Error("nobody has a handle, and it lives")
	}
	p.empty(1)
}

// A call that may be tried again waits until the actor can be reached.
func TestRetriesOutOfReach(t *testing.T) {
	p, d, actor, w := elsewhere(t)
	p.say(1, d, &fb.ShapeT{Number: 3, Bundle: -1, Retries: -1}, nil)
	call := p.mint(1, d)
	p.say(1, d, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(d), Shape: 3, Returns: 1}, []byte("args"))
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	p.calls(w, call, "for nobody")
	p.wait(1, 5*seekAgain)
	if v := p.toldOf(1, d, call); v != "" {
		t.Errorf("while it can't be reached the driver is told %q", v)
	}
	p.down = false
	p.wait(1, seekAgain)
	p.calls(w, call, "called")
	if v := p.toldOf(1, d, call); v != "called" {
		t.Errorf("then the driver is told %q", v)
	}
}

// Calls that an actor has, and that may be tried again, are taken back when the way to their caller is lost: it sends them again. Those that may not go on.
func TestCallsThatComeAgain(t *testing.T) {
	for _, retries := range []int32{-1, 0} {
		p, d, actor, w := elsewhere(t)
		p.say(1, d, &fb.ShapeT{Number: 3, Bundle: -1, Retries: retries}, nil)
		var calls []id.Task
		for range 5 {
			call := p.mint(1, d)
			p.say(1, d, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(d), Shape: 3, Returns: 1}, []byte("args"))
			calls = append(calls, call)
		}
		had := p.cores[0].entries[actor].actor.worker.flight.n
		p.down = true
		p.cutWay(p.ways[0], connectionLost)
		var recalled []id.Task
		cancels := 0
		for _, f := range p.got[fmt.Sprintf("a %d", w)] {
			switch m, _ := wire.Unmarshal(f.kind, f.body); m := m.(type) {
			case *fb.RecallT:
				recalled = append(recalled, taskOf(m.Task))
			case *fb.CancelT:
				cancels++
			}
		}
		if retries == 0 {
			if had < 2 || len(recalled)+cancels > 0 {
				t.Errorf("of %d calls that are not tried again %d are recalled and %d cancelled", had, len(recalled), cancels)
			}
			continue
		}
		if had < 2 || len(recalled) != had-1 || cancels != 1 {
			t.Fatalf("of %d calls %d are recalled and %d cancelled", had, len(recalled), cancels)
		}
		p.calls(w, calls[0], "for nobody")
		for _, call := range recalled {
			p.say(0, w, &fb.RecalledT{Task: taskT(call)}, nil)
		}
		p.down = false
		p.wait(1, seekAgain)
		for _, call := range calls {
			p.calls(w, call, "called")
			if v := p.toldOf(1, d, call); v != "called" {
				t.Errorf("of %v the driver is told %q", call, v)
			}
		}
	}
}

// What the head says, or the actor's agent, is for good.
func TestActorThatDiedOutOfReach(t *testing.T) {
	p, d, actor, w := elsewhere(t)
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	p.gone(0, w, "killed by signal 9")
	p.down = false
	if v := p.toldOf(1, d, p.invoke(1, d, actor)); !strings.HasPrefix(v, "ACTOR_DIED: ") || !strings.Contains(v, "is over") {
		t.Errorf("of an actor whose process died the driver is told %q", v)
	}
	p, d, actor, _ = elsewhere(t)
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	p.down, p.dead = false, true
	for range 2 {
		if v := p.toldOf(1, d, p.invoke(1, d, actor)); !strings.HasPrefix(v, "ACTOR_DIED: ") {
			t.Errorf("of one whose node died the driver is told %q", v)
		}
	}
}

// Nobody comes back for ever.
func TestAgentThatDoesNotComeBack(t *testing.T) {
	p, _, _, w := elsewhere(t)
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	p.wait(0, cutGrace-1)
	if p.ended(0, w) {
		t.Error("it ended too early")
	}
	p.wait(0, 1)
	if !p.ended(0, w) {
		t.Error("it lives for nobody")
	}
}
