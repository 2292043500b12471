package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// ready tells whether a process was told that an object is there, and neither what it is nor where.
func (p *pair) ready(who string, o id.Object) (told bool) {
	for _, f := range p.got[who] {
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeResult {
			if r := m.(*fb.ResultT); taskOf(r.Task) == o.Task && r.Index == o.Index {
				told = r.Flags&uint32(fb.ResultFlagLocated) != 0 && len(f.payload) == 0
			}
		}
	}
	return told
}

// get has the driver ask for a value.
func (p *pair) get(o id.Object) {
	p.t.Helper()
	p.say(0, 1, &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
}

// runs has a task at b give a large value, in the last worker that it was given to.
func (p *pair) runs(task id.Task, in ...id.Object) {
	p.t.Helper()
	p.seal(1, p.worker(task), of(task), fb.ResultFlagLast, in...)
}

// cut has the agents lose each other. What was said to workers that are over is forgotten.
func (p *pair) cut() {
	p.t.Helper()
	clear(p.keys[1])
	p.cutOff("it died")
	p.wanted = nil
}

// large has a process at a put a large value.
func (p *pair) large() id.Object {
	p.t.Helper()
	put := p.mint(0, 1)
	p.seal(0, 1, of(put), 0)
	return of(put)
}

// explained is what explain says of an object.
func (p *pair) explained(o id.Object) string {
	e, err := p.cores[0].explain(objectName(o))
	if err != nil {
		return err.Error()
	}
	return e.Text
}

// A large result that can be made again stays where it was made until somebody wants it, and then moves.
func TestResultStaysWhereItWasMade(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	p.runs(task)
	if !p.ready("a 1", of(task)) || len(p.wanted) > 0 || len(p.stores[1].views) != 1 {
		t.Fatalf("the driver is told %v, and %d values are to be fetched", p.got["a 1"], len(p.wanted))
	}
	if s := p.explained(of(task)); !strings.Contains(s, "lies at node n2") {
		t.Errorf("explain says %q", s)
	}
	p.say(0, 1, &fb.GetT{Object: objectT(of(task)), Want: fb.WantReadiness}, nil)
	if len(p.wanted) > 0 {
		t.Error("to know that it is there it is fetched")
	}
	p.get(of(task))
	p.get(of(task))
	p.fetched("")
	if !p.lies("a 1", of(task)) || len(p.wanted) > 0 || len(p.stores[1].views) > 0 {
		t.Errorf("the driver gets %q, and there %d values are kept", p.told("a 1", of(task)), len(p.stores[1].views))
	}
	p.release(0, 1, of(task), 2)
	p.empty(0)
	p.empty(1)

	nobody := p.submit(nil, nil)
	p.runs(nobody)
	p.release(0, 1, of(nobody), 0)
	p.empty(0)
	p.empty(1)
}

// A task goes where its large argument lies, which thereby crosses no network; elsewhere it has it brought first.
func TestTaskFollowsItsArguments(t *testing.T) {
	p := newPair(t)
	first := p.submit(nil, nil)
	p.runs(first)
	next := p.submit([]id.Object{of(first)}, nil)
	after := p.submit([]id.Object{of(next)}, nil) // before that one has its outcome
	p.runs(next)
	if w := p.worker(after); len(p.wanted) > 0 || !p.lies(fmt.Sprintf("b %d", w), of(next)) {
		t.Errorf("%d values are fetched, and its worker has %q", len(p.wanted), p.told(fmt.Sprintf("b %d", w), of(next)))
	}
	p.result(after, nil, "done")
	second := p.submit([]id.Object{of(first)}, nil)
	if w := p.worker(second); len(p.wanted) > 0 || !p.lies(fmt.Sprintf("b %d", w), of(first)) {
		t.Errorf("%d values are fetched, and its worker has %q", len(p.wanted), p.told(fmt.Sprintf("b %d", w), of(first)))
	}
	p.say(0, 1, &fb.ShapeT{Number: 3, Bundle: -1}, nil)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	here := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(here), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1, Deps: 1}, objectBytes(of(first)))
	if s := p.cores[0].explainTask(p.cores[0].entries[here].task); !strings.Contains(s, "on its way from node n2") {
		t.Errorf("the one that runs here waits for %s", s)
	}
	p.fetched("")
	if who := fmt.Sprint("a ", p.last[0]); !p.lies(who, of(first)) {
		t.Errorf("its worker has %q", p.told(who, of(first)))
	}

	// A task that waits to go there when its argument is lost has that made again first.
	p.runs(second)
	base := p.submit(nil, nil)
	p.runs(base)
	p.step(0, Place{Agent: 2, Gone: true})
	last := p.submit([]id.Object{of(base)}, nil)
	p.cut()
	p.step(0, Place{Group: groupOfPair, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", 2 * one}}})
	p.runs(base)
	p.fetched("")
	p.result(last, nil, "done")
	if v := p.told("a 1", of(last)); v != "done" {
		t.Errorf("the driver is told %q", v)
	}
}

// What is lost is made again once somebody wants it, and what it is made of before it; who has it already notices nothing.
func TestLostValuesAreMadeAgain(t *testing.T) {
	p := newPair(t)
	first := p.submit(nil, nil)
	p.runs(first)
	second := p.submit([]id.Object{of(first)}, nil)
	p.runs(second)
	p.release(0, 1, of(first), 0)
	if n := len(p.stores[0].views); n > 0 {
		t.Fatalf("%d values are kept for lineage alone", n)
	}
	p.cut()
	if p.cores[0].remade != 0 {
		t.Error("what nobody wants is made again")
	}
	if s := p.explained(of(second)); !strings.Contains(s, "node n2") || !strings.Contains(s, "made again once somebody wants it") {
		t.Errorf("explain says %q", s)
	}
	p.get(of(second))
	p.runs(first)
	p.fetched("")
	p.runs(second)
	p.fetched("")
	if !p.lies("a 1", of(second)) || p.cores[0].remade != 2 {
		t.Errorf("the driver gets %q, of %d tasks that ran again", p.told("a 1", of(second)), p.cores[0].remade)
	}
	p.release(0, 1, of(second), 1)
	p.empty(0)
}

// What can't be made again says why: it was put, its driver's word is used up, or there was no room to remember how.
func TestValuesThatCanNotBeMadeAgain(t *testing.T) {
	p := newPair(t)
	put := p.large()
	task := p.submit([]id.Object{put}, nil)
	p.fetched("")
	p.runs(task)
	p.release(0, 1, put, 0)
	p.cut()
	p.get(of(task))
	if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "OBJECT_LOST: ") || !strings.Contains(v, objectName(put)) || !strings.Contains(v, "it was put") {
		t.Errorf("of a value made from one that was put the driver is told %q", v)
	}
	p.release(0, 1, of(task), 0)
	p.empty(0)

	twice := p.submit(nil, nil) // max_retries=1
	p.runs(twice)
	p.cut()
	p.get(of(twice))
	p.runs(twice)
	if len(p.wanted) != 1 {
		t.Fatal("what can't be made again a second time does not come home")
	}
	p.cut()
	if v := p.told("a 1", of(twice)); !strings.HasPrefix(v, "NODE_DIED: ") || !strings.Contains(v, "try 2 of 2") {
		t.Errorf("when it is lost a second time the driver is told %q", v)
	}
	p.release(0, 1, of(twice), 0)
	p.empty(0)
}

// Lineage has a bound. What is beyond it comes home instead, the oldest first, and explain says so.
func TestBoundOfLineage(t *testing.T) {
	p := newPair(t)
	c := p.cores[0]
	first := p.submit(nil, nil)
	p.runs(first)
	c.cfg.Lineage = c.lineageBytes
	second := p.submit(nil, nil)
	p.runs(second)
	if len(p.wanted) != 1 || p.wanted[0].Object != of(first) || c.lineage.n != 1 {
		t.Fatalf("%d values come home, and %d tasks are remembered", len(p.wanted), c.lineage.n)
	}
	if s := p.explained(of(first)); !strings.Contains(s, "lies at node n2") {
		t.Errorf("explain says %q", s)
	}
	p.fetched("")
	if s := p.explained(of(first)); !strings.Contains(s, "is forgotten, because what this node keeps of that has reached") {
		t.Errorf("explain says %q", s)
	}
	c.cfg.Lineage = 256 << 20
	third := p.submit([]id.Object{of(first)}, nil)
	p.fetched("")
	p.runs(third)
	p.release(0, 1, of(first), 0)
	p.cut()
	p.get(of(third))
	if v := p.told("a 1", of(third)); !strings.HasPrefix(v, "RECONSTRUCTION: ") || !strings.Contains(v, objectName(of(first))+" is lost: how it was made is forgotten") {
		t.Errorf("the driver is told %q", v)
	}
}

// A call's value is made again only if calls may be tried again, and while the actor lives.
func TestResultsOfActorsThatAreLost(t *testing.T) {
	p := newPair(t)
	p.say(0, 1, &fb.ShapeT{Number: 3, Bundle: -1, Retries: 1}, nil)
	actor := p.create(2)
	say := func(shape uint32) id.Task {
		call := p.mint(0, 1)
		p.say(0, 1, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Shape: shape, Returns: 1}, []byte("args"))
		p.runs(call)
		return call
	}
	once := say(2)
	if len(p.wanted) != 1 {
		t.Fatal("a value that can't be made again does not come home")
	}
	p.fetched("")
	again, dead := say(3), say(3)
	if len(p.wanted) > 0 {
		t.Fatal("one that can be comes home")
	}
	p.cut()
	p.result(actor, nil, "made again")
	if !p.lies("a 1", of(once)) {
		t.Errorf("the driver has %q", p.told("a 1", of(once)))
	}
	p.get(of(again))
	p.runs(again)
	p.fetched("")
	if !p.lies("a 1", of(again)) {
		t.Errorf("the driver gets %q", p.told("a 1", of(again)))
	}
	p.say(0, 1, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	p.get(of(dead))
	if v := p.told("a 1", of(dead)); !strings.HasPrefix(v, "RECONSTRUCTION: ") || !strings.Contains(v, "node n2") || !strings.Contains(v, "its actor is dead") {
		t.Errorf("when the actor is dead the driver is told %q", v)
	}
}

// A value that stayed away and outlives its driver, because a detached actor holds it, comes home before the way there is closed.
func TestValueThatOutlivesItsDriver(t *testing.T) {
	p := newPair(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, MaxPending: -1, Detached: true}, []byte("args"))
	home := p.keys[0][1]
	p.say(0, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	task := p.submit(nil, nil)
	p.runs(task)
	call := p.mint(0, 1)
	p.say(0, 1, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Shape: 2, Returns: 1, Refs: 1}, objectBytes(of(task)))
	p.gone(0, 1, "it ended")
	if len(p.wanted) != 1 || !p.open {
		t.Fatalf("%d values come home, and the way there is open: %v", len(p.wanted), p.open)
	}
	p.fetched("")
	if p.open {
		t.Error("the way there stays open")
	}
	p.say(0, home, &fb.GetT{Object: objectT(of(task)), Want: fb.WantValue}, nil)
	if who := fmt.Sprint("a ", home); !p.lies(who, of(task)) {
		t.Errorf("the actor gets %q", p.told(who, of(task)))
	}
}

// A task that is tried again gives a result once more that was told of and is lost: who waits for it has it, and nobody hears of it twice.
func TestResultOfATaskThatRunsStill(t *testing.T) {
	p := newPair(t)
	task := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 2}, []byte("args"))
	p.seal(1, p.worker(task), of(task), 0)
	if !p.ready("a 1", of(task)) {
		t.Fatal("the driver is not told of the first result")
	}
	p.cut()
	p.get(of(task))
	if v := p.told("a 1", of(task)); v != "" {
		t.Fatalf("while it runs again the driver is told %q", v)
	}
	p.got["a 1"] = nil
	w := p.worker(task)
	p.seal(1, w, of(task), 0)
	p.fetched("")
	p.say(1, w, &fb.ResultT{Task: taskT(task), Index: 1, Attempt: 0, Flags: uint32(fb.ResultFlagLast)}, []byte("two"))
	if !p.lies("a 1", of(task)) || len(p.got["a 1"]) != 2 || p.told("a 1", id.Object{Task: task, Index: 1}) != "two" {
		t.Errorf("the driver is told %v", p.got["a 1"])
	}
}

// A reference to what was made at another agent and stayed there keeps it, wherever it is held, and goes with the last one.
func TestReferencesToWhatStayedAway(t *testing.T) {
	p := newPair(t)
	made := p.submit(nil, nil)
	p.runs(made)
	holds := p.submit(nil, []id.Object{of(made)})
	w := p.worker(holds)
	p.release(0, 1, of(made), 0)
	p.result(holds, []id.Object{of(made)}, "and back")
	p.release(1, w, of(made), 1)
	p.get(of(made))
	p.fetched("")
	if !p.lies("a 1", of(made)) {
		t.Errorf("the driver gets %q", p.told("a 1", of(made)))
	}
	p.release(0, 1, of(made), 2)
	p.release(0, 1, of(holds), 0)
	p.empty(0)
	p.empty(1)

	made = p.submit(nil, nil)
	p.runs(made)
	holds = p.submit(nil, []id.Object{of(made)})
	p.release(0, 1, of(made), 0)
	p.result(holds, nil, "done")
	p.release(1, p.worker(holds), of(made), 1)
	p.release(0, 1, of(holds), 0)
	p.empty(0)
	p.empty(1)
}

// What only lineage named at an agent and came from another one is given back; when it is sent anew it is fetched anew.
func TestArgumentThatComesAgain(t *testing.T) {
	p := newPair(t)
	put := p.large()
	task := p.submit(nil, []id.Object{put})
	w := p.worker(task)
	p.say(1, w, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1, Group: taskT(groupOfPair), Retries: 1}, nil)
	child := p.mint(1, w)
	p.say(1, w, &fb.SubmitT{Task: taskT(child), Parent: taskT(task), Function: numberOf("f"), Job: uint32(p.errand[1]), Shape: 1, Returns: 1, Deps: 1}, objectBytes(put))
	p.fetched("")
	p.runs(child)
	p.release(1, p.worker(child), put, 1)
	p.release(1, w, put, 1)
	p.result(task, nil, "done")
	if p.cores[1].lineage.n != 1 || p.stores[1].views[put] != nil || p.cores[1].lookup(put).state != objectGone {
		t.Fatal("for the sake of lineage alone the argument is kept")
	}
	again := p.submit([]id.Object{put}, nil)
	p.fetched("")
	if v := p.worker(again); !p.lies(fmt.Sprintf("b %d", v), put) {
		t.Errorf("the next task has %q as argument", p.told(fmt.Sprintf("b %d", v), put))
	}
}

// A task whose argument can't be brought because there is no memory for it fails with that, and not because another one's get did.
func TestArgumentThatFailsInTheQueue(t *testing.T) {
	p := newPair(t)
	made := p.submit(nil, nil)
	p.runs(made)
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1}, nil)
	task := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1, Deps: 1}, objectBytes(of(made)))
	p.get(of(made))
	p.fetched(storeFull)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	p.fetched(storeFull)
	if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "STORE_FULL: ") || !strings.Contains(v, "node n1: the store is full") {
		t.Errorf("the driver is told %q", v)
	}
}

// An actor that only lineage names ends as if nothing did.
func TestLineageKeepsNoActor(t *testing.T) {
	p := newPair(t)
	actor := p.create(0)
	task := p.submit(nil, []id.Object{of(actor)})
	w := p.worker(task)
	p.runs(task)
	p.release(1, w, of(actor), 1)
	p.release(0, 1, of(actor), 0)
	if lives := p.worker(actor); !p.ended(1, lives) {
		t.Error("nobody has a handle, and it lives")
	}
	if p.cores[0].lineage.n != 1 {
		t.Error("how the task's value was made is forgotten")
	}
}
