package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// newPiler gives a core with one CPU, a credit of 8 tasks, and a queue that is deep with 4, whose driver submits.
func newPiler(t *testing.T) *world {
	w := newWorld(t, Config{Records: 8, Deep: 4})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", one}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1}, nil)
	return w
}

// runAll has the worker do whatever it is given, and gives the names in that order.
func (w *world) runAll() (ran []string) {
	for range 1000 {
		for _, k := range w.core.workers {
			for k.process != nil && k.flight.head != nil {
				name := k.flight.head.id()
				ran = append(ran, w.names[name])
				w.send(w.who[k.process.id], &fb.ResultT{Task: taskT(name), Flags: uint32(fb.ResultFlagLast)}, nil)
			}
		}
	}
	return ran
}

// Tasks behind a deep queue cost no credit, and are run in the order in which they were submitted.
func TestPile(t *testing.T) {
	w := newPiler(t)
	var want []string
	for i := range 600 {
		want = append(want, fmt.Sprint("t", i))
		w.submit(want[i])
	}
	if w.core.refused > 0 || w.core.taskRec.used > 8 {
		t.Fatalf("%d were refused, %d are more than frames", w.core.refused, w.core.taskRec.used)
	}
	if _, n := w.core.listTasks(); n != 600 {
		t.Errorf("%d tasks are counted", n)
	}
	if got := w.runAll(); !slices.Equal(got, want) {
		t.Errorf("they ran as %v", got)
	}
	if w.core.piled != 0 || w.core.taskRec.used != 0 {
		t.Errorf("%d bytes and %d tasks are left", w.core.piled, w.core.taskRec.used)
	}
}

// A task on a pile is cancelled, explained, waited for, named by others and let go of like any other.
func TestPiledTaskIsNamed(t *testing.T) {
	w := newPiler(t)
	for i := range 40 {
		w.submit(fmt.Sprint("t", i))
	}
	w.send("d", &fb.CancelT{Task: taskT(w.task("t20"))}, nil)
	if told := strings.Join(w.log, "\n"); !strings.Contains(told, "d <- Result t20[0] last error CANCELLED") {
		t.Errorf("of the cancelled one is told: %s", told)
	}
	if e, err := w.core.explain(w.task("t21").String()); err != nil || !strings.Contains(e.Text, "CPU") {
		t.Errorf("explained as %+v, %v", e, err)
	}
	w.send("d", &fb.GetT{Object: objectT(w.object("t22")), Want: fb.WantValue}, nil)
	w.send("d", &fb.ReleaseT{Object: objectT(w.object("t23"))}, nil)
	w.send("d", &fb.ReleaseT{Object: objectT(w.object("t26"))}, nil)
	w.send("d", &fb.ReleaseT{Object: objectT(w.object("t26"))}, nil)
	w.submit("after", "t24")
	if _, n := w.core.listTasks(); n != 40 {
		t.Errorf("%d tasks are counted", n)
	}
	ran := w.runAll()
	for i := range 40 {
		if name := fmt.Sprint("t", i); slices.Contains(ran, name) != (i != 20) {
			t.Errorf("%s ran: %v", name, i == 20)
		}
	}
	if slices.Index(ran, "after") < slices.Index(ran, "t24") {
		t.Errorf("a task ran before its argument: %v", ran)
	}
	if e := w.core.entries[w.task("t23")]; e != nil {
		t.Error("a result that was let go of before it came is kept")
	}
	if e := w.core.entries[w.task("t25")]; e == nil || e.first == nil || e.first.state != objectThere {
		t.Error("a result that is held is gone")
	}
}

// What lies on a pile goes with its driver, and an ID that lies there is used.
func TestPileOfADriverThatEnds(t *testing.T) {
	w := newPiler(t)
	w.attach("other", Driver, 2, 0)
	for i := range 40 {
		w.submit(fmt.Sprint("t", i))
	}
	w.send("d", &fb.SubmitT{Task: taskT(w.task("t30")), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)
	if w.core.refused != 1 {
		t.Error("the ID of a task on a pile was taken again")
	}
	w.step(ProcessGone{Process: w.procs["d"], Why: "it ended"})
	for _, k := range slices.Clone(w.core.workers) {
		if k.process != nil {
			w.step(ProcessGone{Process: k.process.id, Why: "killed"})
		}
	}
	if w.core.piled != 0 || w.core.taskRec.used != 0 || len(w.core.jobs) != 1 {
		t.Errorf("%d bytes, %d tasks and %d jobs are left", w.core.piled, w.core.taskRec.used, len(w.core.jobs))
	}
}
