package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// shape says one of the shapes that the model has.
func (p *peer) shape(i int) {
	s := modelShapes[i]
	m := &fb.ShapeT{Number: uint32(i + 1), Retries: s.retries, RetryExceptions: s.exceptions, MaxCalls: s.calls, Bundle: -1, Environment: s.env}
	m.Resources = amounts(p.h.t, s.need)
	wishLabels(m, i)
	p.send(m, nil)
}

// forget ends a shape, and says it anew.
func (p *peer) forget(i int) {
	p.send(&fb.ShapeT{Number: uint32(i + 1), Over: true}, nil)
	p.shape(i)
}

// hearShape takes in what a worker is told of a class.
func (p *peer) hearShape(m *fb.ShapeT) {
	if p.said == nil {
		p.said = map[uint32]bool{}
	}
	if m.Over && slices.ContainsFunc(append(slices.Clone(p.inbox), p.running...), func(j *job1) bool { return j.shape == m.Number && p.matters(j) }) {
		p.h.t.Fatalf("seed %d: WORK-15: worker %d has a task of class %d, which is over", p.h.seed, p.id, m.Number)
	}
	p.said[m.Number] = !m.Over
}

// matters tells whether the core waits for what a task of the worker gives.
func (p *peer) matters(j *job1) bool {
	e := p.at.core.entries[j.id]
	return e != nil && e.task != nil && e.task.attempt == j.attempt && e.task.worker != nil && e.task.worker.process != nil && e.task.worker.process.id == p.id
}

// knows checks that a worker was told of the class of what it is given.
func (p *peer) knows(class uint32) {
	if !p.said[class] {
		p.h.t.Fatalf("seed %d: WORK-15: worker %d was not told of class %d", p.h.seed, p.id, class)
	}
}

// oneShape says a shape with a name, of a group unless that is zero, and submits a task of it.
func (w *world) oneShape(number uint32, name string, group id.Task) {
	s := &fb.ShapeT{Number: number, Name: name, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1}
	if group != (id.Task{}) {
		s.Group = taskT(group)
	}
	w.send("d", s, nil)
	t := w.mint("d", name)
	w.send("d", &fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: number, Returns: 1}, nil)
}

// A driver may name as many shapes as it likes, one after the other: of those that are over nothing stays, here or in a worker, be they of a group.
func TestShapesThatAreOver(t *testing.T) {
	for i, group := range []id.Task{{}, {Agent: 1, Process: 77, Counter: 1}, {Agent: 1, Process: 77, Counter: 1}} {
		w, early := newWorld(t, Config{}), i == 2 // its task runs still
		w.auto = true
		w.step(Grant{Group: group, Resources: []Amount{{"CPU", one}}})
		w.attach("d", Driver, 1, 0)
		w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
		for n := uint32(maxShapes) - 50; n < maxShapes+50; n++ {
			name := fmt.Sprint("n", n)
			w.oneShape(n, name, group)
			if early {
				w.send("d", &fb.ShapeT{Number: n, Over: true}, nil)
			}
			for _, k := range w.core.workers {
				if k.process != nil && k.flight.n == 1 {
					w.told(w.who[k.process.id], name, fb.ResultFlagLast, "")
				}
			}
			if o := w.core.lookup(w.object(name)); o.state != objectThere {
				t.Fatalf("%s did not run", name)
			}
			if !early {
				w.send("d", &fb.ShapeT{Number: n, Over: true}, nil)
			}
		}
		j := w.core.jobs[0]
		if p := w.core.byProcess[w.procs["d"]]; len(p.shapes) > 0 || len(j.classes) > 0 || len(j.grouped) > 0 || w.core.refused > 0 {
			t.Errorf("%d shapes and %d classes are left, %d of a group, %d frames were refused", len(p.shapes), len(j.classes), len(j.grouped), w.core.refused)
		}
		for _, k := range w.core.workers {
			if len(k.shapes) > 0 {
				t.Errorf("a worker knows %d classes", len(k.shapes))
			}
		}
	}
}

// A task whose shape is over hears of the end of its group all the same, also if it did not wait for that at the time.
func TestTaskOfAShapeThatIsOver(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	group := id.Task{Agent: 1, Process: 77, Counter: 1}
	w.step(Grant{Resources: []Amount{{"CPU", one}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.oneShape(7, "first", id.Task{})
	w.send("d", &fb.ShapeT{Number: 8, Bundle: -1, Group: taskT(group)}, nil)
	name := w.mint("d", "late")
	w.send("d", &fb.SubmitT{Task: taskT(name), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 8, Returns: 1, Deps: 1}, objectBytes(w.object("first")))
	w.send("d", &fb.ShapeT{Number: 8, Over: true}, nil)
	j := w.core.jobs[0]
	if len(j.grouped) != 0 {
		t.Errorf("%d classes are kept", len(j.grouped))
	}
	w.told(w.who[w.core.workers[0].process.id], "first", fb.ResultFlagLast, "")
	if len(j.grouped) != 1 || w.core.lookup(w.object("late")).state != objectPending {
		t.Fatalf("when it waits for its group, %d classes are kept", len(j.grouped))
	}
	w.step(Grant{Group: group, Gone: true})
	if len(j.grouped) != 0 || w.core.lookup(w.object("late")).state != objectFailed {
		t.Errorf("when that is over, %d classes are kept", len(j.grouped))
	}
}

// What was submitted runs, though its shape is over, and keeps it in its worker.
func TestTasksOutliveTheirShape(t *testing.T) {
	w := newPiler(t)
	for i := range 20 {
		w.submit(fmt.Sprint("t", i))
	}
	w.send("d", &fb.ShapeT{Number: 1, Over: true}, nil)
	k := w.core.workers[0]
	if len(k.shapes) != 1 || k.flight.n == 0 {
		t.Fatalf("the worker knows %d classes of its %d tasks", len(k.shapes), k.flight.n)
	}
	if got := w.runAll(); len(got) != 20 || w.core.refused > 0 {
		t.Errorf("%v ran, %d frames were refused", got, w.core.refused)
	}
	if len(k.shapes) > 0 {
		t.Errorf("the worker knows %d classes, and has no task", len(k.shapes))
	}
	w.submit("late")
	if w.core.refused == 0 {
		t.Error("a number that is over was taken")
	}
}

// So do calls; an actor's own class stays in its worker.
func TestCallsOutliveTheirShape(t *testing.T) {
	w := newPiler(t)
	w.send("d", &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
	a := w.mint("d", "a")
	w.send("d", &fb.CreateT{Actor: taskT(a), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, MaxPending: -1}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Over: true}, nil)
	w.runAll()
	k := w.core.workers[0]
	for n := uint32(2); n < 6; n++ {
		w.send("d", &fb.ShapeT{Number: n, Name: fmt.Sprint("n", n), Bundle: -1}, nil)
		for i := range 3 {
			w.send("d", &fb.CallT{Task: taskT(w.mint("d", fmt.Sprint("c", n, i))), Parent: &fb.TaskIDT{}, Actor: taskT(a), Sequence: uint64(3*(n-2)) + uint64(i) + 1, Incarnation: 1, Job: 1, Shape: n, Returns: 1}, nil)
		}
		w.send("d", &fb.ShapeT{Number: n, Over: true}, nil)
		if k.flight.n != 3 || len(k.shapes) != 2 {
			t.Fatalf("the worker knows %d classes, and has %d calls", len(k.shapes), k.flight.n)
		}
		w.runAll()
		if k.flight.n != 0 || len(k.shapes) != 1 || w.core.refused > 0 {
			t.Fatalf("the worker knows %d classes, and has %d calls; %d frames were refused", len(k.shapes), k.flight.n, w.core.refused)
		}
	}
}

// A class is kept as long as any process of its job has the shape.
func TestAClassIsOverWithItsLastShape(t *testing.T) {
	w := newPiler(t)
	w.submit("a")
	w.attach("e", Driver, 1, 0)
	w.send("e", &fb.ShapeT{Number: 9, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1}, nil)
	n := w.mint("e", "b")
	w.send("e", &fb.SubmitT{Task: taskT(n), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 9, Returns: 1}, nil)
	w.runAll()
	j := w.core.jobs[0]
	for _, step := range []struct {
		do   func()
		want int
	}{
		{func() { w.send("d", &fb.ShapeT{Number: 1, Over: true}, nil) }, 1},
		{func() { w.send("d", &fb.ShapeT{Number: 1, Over: true}, nil) }, 1}, // twice is once
		{func() { w.step(ProcessGone{Process: w.procs["e"]}) }, 0},
	} {
		if step.do(); len(j.classes) != step.want {
			t.Errorf("%d classes, want %d", len(j.classes), step.want)
		}
	}
	if told := strings.Join(w.log, "\n"); !strings.Contains(told, "Shape") {
		t.Error("the worker was told nothing")
	}
}

// Too many at a time are still too many.
func TestTooManyShapesAtATime(t *testing.T) {
	w := newWorld(t, Config{})
	w.attach("d", Driver, 1, 0)
	var all []byte
	for n := range uint32(maxShapes) {
		all = append(all, frameOf(t, &fb.ShapeT{Number: n * 3, Bundle: -1}, nil)...)
	}
	if w.step(&Frames{Process: w.procs["d"], Bytes: all}); w.core.refused > 0 {
		t.Fatal("so many may be")
	}
	if w.send("d", &fb.ShapeT{Number: 1, Bundle: -1}, nil); w.core.refused == 0 {
		t.Error("one more was taken")
	}
}
