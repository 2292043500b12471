package work

import (
	"fmt"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Without anything granted a task is hungry; what a worker has is used, also while it waits and lends its CPU.
func TestWants(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	w.attach("d", Driver, 1, 0)
	if wants := w.core.Wants(); len(wants.Hungry) > 0 || len(wants.Used) != 0 || !w.core.Has(1) || w.core.Has(2) {
		t.Errorf("of nothing: %+v", wants)
	}
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 3, Bundle: -1}, nil)
	task := w.mint("d", "t")
	w.send("d", &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)
	if h := w.core.Wants().Hungry; len(h) != 1 || !slices.Equal(h[0], []Amount{{"CPU", one}}) {
		t.Errorf("a task waits for what nobody granted, and is hungry for %v", h)
	}
	used := func() int64 {
		wants := w.core.Wants()
		if len(wants.Hungry) > 0 || len(wants.Used) != 1 || wants.Used[0].Name != "CPU" {
			t.Fatalf("%+v", wants)
		}
		return wants.Used[0].Amount
	}
	w.step(Grant{Resources: []Amount{{"CPU", 2 * one}}})
	runs := w.who[w.core.entries[task].task.worker.process.id]
	if used() != one {
		t.Errorf("one task uses %d", used())
	}
	w.send(runs, &fb.BlockedT{Task: taskT(task)}, nil)
	if used() != one {
		t.Errorf("while it waits it uses %d", used())
	}
	w.send(runs, &fb.UnblockedT{Task: taskT(task)}, nil)
	w.send(runs, &fb.ResultT{Task: taskT(task), Flags: 1}, nil)
	if wants := w.core.Wants(); len(wants.Used) != 0 && wants.Used[0].Amount != 0 {
		t.Errorf("afterwards: %+v", wants)
	}
	w.step(ProcessGone{Process: w.procs["d"]})
	w.step(ProcessGone{Process: w.procs[runs]})
	if w.core.Has(1) {
		t.Error("the job is over, and still there")
	}
}

// What is granted and lent counts as idle but for what tasks have of it.
func TestIdle(t *testing.T) {
	p, _ := newNodes(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", 2 * one}, {"GPU", one}}})
	idle := func(want string) {
		t.Helper()
		if got := fmt.Sprint(p.cores[0].Idle()); got != want {
			t.Errorf("it is %s, not %s", got, want)
		}
	}
	idle("[{n1 [{CPU 20000} {GPU 10000}]} {n2 [{CPU 10000}]}]")
	shape := &fb.ShapeT{Number: 3}
	first := p.shaped(shape)
	idle("[{n1 [{CPU 10000} {GPU 10000}]} {n2 [{CPU 10000}]}]")
	p.shaped(shape)
	third := p.shaped(shape)
	idle("[{n1 [{GPU 10000}]} {n2 []}]")
	p.doneHere(first)
	p.result(third, nil, "done")
	idle("[{n1 [{CPU 10000} {GPU 10000}]} {n2 [{CPU 10000}]}]")
}
