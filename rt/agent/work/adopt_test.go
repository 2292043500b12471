package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// keep has a process create a detached actor that may be made again, and gives the worker in which it lives.
func (p *pair) keep(at int, process id.Process, name string, restarts int32, deps ...id.Object) (id.Task, id.Process) {
	p.t.Helper()
	actor := p.mint(at, process)
	p.say(at, process, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: uint32(process), Shape: 2, MaxPending: -1,
		Namespace_: "s", Name: name, Detached: true, MaxRestarts: restarts, Deps: uint32(len(deps))}, append(objectBytes(deps...), "how to make it"...))
	w := p.cores[at].entries[actor].actor.worker.process.id
	p.say(at, w, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	return actor, w
}

// moved does what the head does when the agent of an actor is dead: the other one makes it again.
func (p *pair) moved(actor id.Task, to int) {
	p.t.Helper()
	n := p.names.claims[actor]
	p.names.holders[n.Namespace+"/"+n.Name] = holding{actor, id.Agent(to + 1), fmt.Sprint("n", to+1)}
	p.step(to, Adopt{Actor: actor, Job: 77, Spec: n.Spec, Restarts: n.Restarts + 1})
}

// A detached actor whose agent is dead is made again by another one, with what it was made with; who has a handle finds it by its name.
func TestDetachedActorOutlivesItsAgent(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.keep(0, 1, "it", 3)
	p.find(1, d, "it")
	p.invoke(1, d, actor)
	p.gone(0, w, "killed by signal 9") // its first restart is at home
	if n := p.names.claims[actor]; n.Restarts != 1 {
		t.Errorf("the head is told of %d restarts", n.Restarts)
	}
	p.dead = true
	p.cutWay(p.ways[0], "it died")
	if v := p.toldOf(1, d, p.invoke(1, d, actor)); !strings.HasPrefix(v, "ACTOR_DIED: ") {
		t.Errorf("while it is nowhere the caller is told %q", v)
	}
	p.moved(actor, 1)
	w = p.worker(actor)
	made := p.got[fmt.Sprintf("b %d", w)]
	for _, f := range made {
		if m, _ := wire.Unmarshal(f.kind, f.body); f.kind == fb.FrameTypeCreate && (string(f.payload) != "how to make it" || m.(*fb.CreateT).Function != numberOf("f")) {
			t.Errorf("it is made with %q", f.payload)
		}
	}
	if a := p.cores[1].entries[actor].actor; a.incarnation != 3 || a.restarts != 2 {
		t.Errorf("it is in life %d, after %d restarts", a.incarnation, a.restarts)
	}
	p.say(1, w, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	if v := p.find(1, d, "it"); v != actor.String() {
		t.Fatalf("the driver finds %q", v)
	}
	call := p.invoke(1, d, actor)
	p.say(1, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
	if v := p.toldOf(1, d, call); v != "called" {
		t.Errorf("then the caller is told %q; %v", v, p.said)
	}
	p.moved(actor, 1) // said twice
	p.gone(1, d, "it ended")
	if p.cores[1].byProcess[w] == nil {
		t.Fatal("it ended with a driver")
	}
	d = p.drive(1)
	p.find(1, d, "it")
	p.say(1, d, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	p.release(1, d, of(actor), 1)
	if v := p.find(1, d, "it"); !strings.Contains(v, "no actor named") {
		t.Errorf("when it was killed the driver finds %q", v)
	}
	p.gone(1, d, "it ended")
	p.empty(1)
	if len(p.cores[1].jobs) > 0 {
		t.Errorf("%d jobs are left", len(p.cores[1].jobs))
	}
}

// What an actor needs beside its class and plain arguments is not at the head: such a one ends with its agent.
func TestActorsThatEndWithTheirAgent(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	put := p.mint(0, 1)
	p.say(0, 1, &fb.PutT{Object: objectT(of(put))}, []byte("large"))
	withValue, _ := p.keep(0, 1, "a", -1, of(put))
	never, _ := p.keep(0, 1, "b", 0)
	again, _ := p.keep(0, 1, "c", -1)
	for actor, movable := range map[id.Task]bool{withValue: false, never: false, again: true} {
		if n := len(p.names.claims[actor].Spec); (n > 0) != movable {
			t.Errorf("of %v the head is told %d bytes", actor, n)
		}
	}
	// What is told wrongly makes nothing, and gives the name back.
	for _, spec := range [][]byte{nil, []byte("no frames"), p.names.claims[again].Spec[:100]} {
		out := p.cores[1].Step(p.now, Adopt{Actor: again, Job: 78, Spec: spec}, nil)
		if err := check(p.cores[1]); err != nil || len(out) != 1 || out[0].Do != Free || len(p.cores[1].jobs) > 0 {
			t.Errorf("%d effects, %v", len(out), err)
		}
	}
}
