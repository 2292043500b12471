package work

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A recursion 200 deep on one CPU: every one that waits gives its CPU to the next (WORK-2), and gets its
// result when it wakes up.
func TestRecursionOnOneCPU(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", one}}})
	w.attach("d", Driver, 1, 0)
	const depth = 200
	parent := &fb.TaskIDT{}
	at := "d"
	for i := range depth {
		w.send(at, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
		w.send(at, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 3, Bundle: -1}, nil)
		task := w.mint(at, fmt.Sprint("t", i))
		w.send(at, &fb.SubmitT{Task: taskT(task), Parent: parent, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)
		if at != "d" {
			w.send(at, &fb.BlockedT{Task: parent}, nil)
		}
		parent = taskT(task)
		e := w.core.entries[task]
		if e.task.worker == nil || e.task.worker.process == nil {
			t.Fatalf("task %d does not run: %s", i, w.core.explainTask(e.task))
		}
		at = w.who[e.task.worker.process.id]
	}
	for i := depth - 1; i >= 0; i-- {
		task := w.task(fmt.Sprint("t", i))
		runs := w.core.entries[task].task.worker
		if i < depth-1 {
			w.send(w.who[runs.process.id], &fb.UnblockedT{Task: taskT(task)}, nil)
		}
		w.send(w.who[runs.process.id], &fb.ResultT{Task: taskT(task), Flags: 1}, nil)
	}
	if w.core.taskRec.used != 0 || get(w.core.grants[0].free, resCPU) != one {
		t.Errorf("%d tasks are left, %d CPU free", w.core.taskRec.used, get(w.core.grants[0].free, resCPU))
	}
}

// What waits behind a task that lasts is asked back after 5 ms, however much else comes meanwhile.
func TestRecallWhileOthersSpeak(t *testing.T) {
	w := newWorld(t, Config{})
	w.auto = true
	w.step(Grant{Resources: []Amount{{"CPU", 2 * one}}})
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 3, Bundle: -1}, nil)
	submit := func(names ...string) (b []byte) {
		for _, name := range names {
			b = append(b, frameOf(t, &fb.SubmitT{Task: taskT(w.mint("d", name)), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)...)
		}
		return b
	}
	worker := func(name string) string {
		if k := w.core.entries[w.task(name)].task.worker; k != nil && k.process != nil {
			return w.who[k.process.id]
		}
		return ""
	}
	w.step(&Frames{Process: w.procs["d"], Bytes: submit("short")})
	w.send(worker("short"), &fb.ResultT{Task: taskT(w.task("short")), Flags: uint32(fb.ResultFlagLast)}, nil)
	w.step(&Frames{Process: w.procs["d"], Bytes: submit("lasts", "next")})
	if worker("lasts") == "" || worker("next") != worker("lasts") {
		t.Fatalf("one runs in %q, the other one in %q", worker("lasts"), worker("next"))
	}
	for range 10 {
		w.now += int64(time.Millisecond)
		w.send("d", &fb.PutT{Object: objectT(id.Object{Task: w.mint("d", "value")})}, nil)
		if w.core.NextDeadline() <= w.now { // as the shell asks after each
			w.step(Tick{})
		}
	}
	if !strings.Contains(strings.Join(w.log, "\n"), worker("lasts")+" <- Recall") {
		t.Fatal("nothing is asked back")
	}
	w.send(worker("next"), &fb.RecalledT{Task: taskT(w.task("next"))}, nil)
	if worker("next") == "" || worker("next") == worker("lasts") {
		t.Errorf("it runs in %q", worker("next"))
	}
}

// Results that a driver holds, a million of them, are what its memory is for: 380 bytes each, all told.
func TestMemoryOfHeldResults(t *testing.T) {
	m := newMill(t, false)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m.keep = true
	const n = 200_000
	for m.done = 0; m.done < n; {
		m.add(64)
		m.turn()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(m)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes a result", each)
	if each > 380 {
		t.Errorf("%.0f bytes a result of 40 bytes, want at most 380", each)
	}
}

// Tasks that wait for their turn, behind a deep queue too, and then the memory is used again.
func TestMemoryOfQueuedTasks(t *testing.T) {
	m := newMill(t, false)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 200_000
	m.add(n)
	m.batch.Process, m.batch.Bytes = 1, m.driver
	m.step(&m.batch)
	m.driver, m.batch.Bytes = nil, nil
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.0f bytes a task", each)
	if each > 250 {
		t.Errorf("%.0f bytes a queued task, want at most 250", each)
	}
	for m.core.taskRec.used > 0 {
		m.turn()
	}
	if err := check(m.core); err != nil {
		t.Error(err)
	}
}
