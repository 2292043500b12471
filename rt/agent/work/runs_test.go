package work

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What a worker says of a task, of a call and of an actor's making is told as it said it, and of one that died with its worker that.
func TestRunsAreTold(t *testing.T) {
	s := &script{t: t}
	for _, line := range []string{"core CPU:2 auto", "driver d", "function d f", "function d C class", "methods d C slow get", "shape d 1 CPU:1", "shape d 2", "submit d t f shape=1"} {
		s.do(line)
	}
	s.w.send("w1", &fb.RanT{Task: taskT(s.w.task("t")), Began: 5e9, Read: 10, Ran: 20, Took: 30, Failed: 1}, nil)
	for _, line := range []string{"result w1 t error", "create d a C", "result w1 a", "call d c a 1"} {
		s.do(line)
	}
	s.w.send("w1", &fb.RanT{Task: taskT(s.w.task("c")), Began: 1 << 63, Took: 7}, nil)
	for _, line := range []string{"result w1 c", "submit d dies f shape=1", "gone w2"} {
		s.do(line)
	}
	strays := s.w.core.strays
	s.w.send("d", &fb.RanT{Task: taskT(s.w.task("t"))}, nil)
	if s.w.core.strays != strays+1 {
		t.Error("a Ran of a driver was taken")
	}
	got, next, lost, err := s.w.core.listRuns("")
	if err != nil || next != 3 || lost != 0 || len(got) != 3 {
		t.Fatalf("%+v, next %d, lost %d, %v", got, next, lost, err)
	}
	for i, want := range []jsonRun{
		{ID: s.w.task("t").String(), Name: "f", State: "failed", Job: 1, Process: 2, PID: 1002, Began: 5e9, Read: 10, Ran: 20, Took: 30},
		{ID: s.w.task("c").String(), Name: "get", Class: "C", State: "finished", Actor: s.w.task("a").String(), Job: 1, Process: 2, PID: 1002, Began: 1 << 62, Took: 7},
		{ID: s.w.task("dies").String(), Name: "f", State: "died", Job: 1, Process: 3, PID: 1003, Began: 1e9},
	} {
		if got[i] != want {
			t.Errorf("run %d is %+v, want %+v", i, got[i], want)
		}
	}
	if got, next, _, err := s.w.core.listRuns("2"); err != nil || next != 3 || len(got) != 1 || got[0].State != "died" {
		t.Errorf("from 2 on: %+v, next %d, %v", got, next, err)
	}
	if _, _, _, err := s.w.core.listRuns("x"); err == nil {
		t.Error("x was taken for a number")
	}
}

// The last ones are kept, and of titles those that they have.
func TestRunsAreBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var r runs
	var all []title
	for i := range 3*runsKept + 100 {
		name := title{name: fmt.Sprint(rng.IntN(50_000))}
		if i > 2*runsKept { // in the end but a few
			name = title{"C", fmt.Sprint(rng.IntN(3))}
		}
		r.add(name).task = id.Task{Counter: uint64(i)}
		if all = append(all, name); i%50_021 != 0 && i < 3*runsKept {
			continue
		}
		used := map[title]bool{}
		for n := max(0, len(all)-runsKept); n < len(all); n++ {
			x := &r.ring[n%runsKept]
			if x.task.Counter != uint64(n) || r.titles[x.title].title != all[n] {
				t.Fatalf("run %d of %d is %+v, called %v, want %v", n, i, x, r.titles[x.title].title, all[n])
			}
			used[all[n]] = true
		}
		if len(r.ring) > runsKept || len(r.at) != len(used) || len(r.titles) > 50_001+3 {
			t.Fatalf("%d runs, %d titles of %d, and %d used", len(r.ring), len(r.at), len(r.titles), len(used))
		}
	}
	c := New(Config{})
	c.runs = r
	seen, from, lost := 0, "", uint64(0)
	for {
		got, next, missed, err := c.listRuns(from)
		if err != nil {
			t.Fatal(err)
		}
		if seen, lost = seen+len(got), lost+missed; len(got) == 0 {
			break
		}
		from = fmt.Sprint(next)
	}
	if seen != runsKept || lost != r.n-runsKept {
		t.Errorf("%d runs were told of, and %d are lost", seen, lost)
	}
}
