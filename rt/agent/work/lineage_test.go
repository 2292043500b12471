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

// What is lost is made again once somebody wants it, and what it is made of before it; who has it already notices nothing.
func TestLostValuesAreMadeAgain(t *testing.T) {
	p := newPair(t)
	first := p.submit(nil, nil)
	p.runs(first)
	second := p.submit([]id.Object{of(first)}, nil)
	p.fetched("") // home; there it lies still
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
