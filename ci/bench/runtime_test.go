package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The median has to be within the limit, and no pair beyond half of it.
func TestBarsOfPairs(t *testing.T) {
	rates := func(ours ...float64) Result {
		ray := slices.Repeat([]float64{1}, len(ours))
		return paired("x", "1/s", "Ray", ours, ray).atLeast(20)
	}
	times := func(ours ...float64) Result {
		ray := slices.Repeat([]float64{1}, len(ours))
		return paired("x", "s", "Ray", ours, ray).atMost(0.1)
	}
	for _, c := range []struct {
		what string
		r    Result
		pass bool
	}{
		{"all fast", rates(21, 22, 30), true},
		{"one pair between half and the limit", rates(11, 22, 30), true},
		{"one pair under half", rates(9, 22, 30), false},
		{"the median too slow", rates(19, 19, 30), false},
		{"all short", times(0.05, 0.1, 0.09), true},
		{"one pair beyond twice", times(0.05, 0.05, 0.21), false},
		{"the median too long", times(0.11, 0.11, 0.01), false},
		{"nothing allowed, nothing there", single("x", "", []float64{0, 0}).atMost(0), true},
		{"nothing allowed, one there", single("x", "", []float64{0, 0, 0.001}).atMost(0), false},
	} {
		if c.r.Pass != c.pass {
			t.Errorf("%s: pass %v, want %v: %+v", c.what, c.r.Pass, c.pass, c.r)
		}
	}
	if row := rates(40, 40, 40).row(); !strings.Contains(strings.Join(row, "|"), ">= 20 x, each 10 x") {
		t.Errorf("the row does not say both limits: %q", row)
	}
}

func ran(seconds ...float64) (out []map[string]part) {
	for _, s := range seconds {
		out = append(out, map[string]part{"a": {Part: "a", Figures: map[string]float64{"seconds": s, "count": 10}}})
	}
	return out
}

// Every bar of a race has its line, whatever happened to the programs.
func TestEveryBarHasItsLine(t *testing.T) {
	seven := []float64{1, 1, 1, 1, 1, 1, 1}
	broken := ran(seven...)
	broken[3] = map[string]part{"a": {Part: "a", Error: "no such thing"}}
	for _, c := range []struct {
		what  string
		b     bar
		got   runs
		alone bool
		want  string // in the error; "": it is measured
	}{
		{"all ran", faster("x", "a", "1/s", 2), runs{ours: ran(seven...), theirs: ran(seven...)}, false, ""},
		{"alone", atLeast("x", "a", "1/s", perSecond, 2), runs{ours: ran(seven...)}, true, ""},
		{"alone and long", atLeast("x", "a", "1/s", perSecond, 2), runs{ours: ran(1), longest: long + 1}, true, ""},
		{"nothing could start", faster("x", "a", "1/s", 2), runs{err: errors.New("no Python")}, false, "no Python"},
		{"the deadline in the second run", faster("x", "a", "1/s", 2), runs{ours: append(ran(1), map[string]part{}), theirs: ran(1), err: errors.New("it did not end")}, false, "it did not end"},
		{"said before the deadline", atLeast("x", "a", "1/s", perSecond, 2), runs{ours: ran(1, 1), theirs: ran(1), err: errors.New("it did not end")}, false, "2 of 7 runs: it did not end"},
		{"one part failed once", faster("x", "a", "1/s", 2), runs{ours: broken, theirs: ran(seven...)}, false, "no such thing"},
		{"Ray's part failed", faster("x", "a", "1/s", 2), runs{ours: ran(seven...), theirs: broken}, false, "with Ray: a: no such thing"},
		{"Ray's part failed, and no bar hangs on it", atLeast("x", "a", "1/s", perSecond, 2), runs{ours: ran(seven...), theirs: broken}, false, ""},
		{"a part that no program says", faster("x", "b", "1/s", 2), runs{ours: ran(seven...), theirs: ran(seven...)}, false, "did not say"},
		{"a figure that is not there", atMost("x", "a", "us", cpuEach, 2), runs{ours: ran(seven...), theirs: ran(seven...)}, false, `no "cpu"`},
	} {
		r := c.b.result(c.got, c.alone)
		if measured := r.Error == ""; measured != (c.want == "") || !strings.Contains(r.Error, c.want) || r.Name == "" {
			t.Errorf("%s: %+v", c.what, r)
		}
		if r.Error != "" && (&Report{Results: []Result{r}}).holds() {
			t.Errorf("%s: a bar that was not measured holds", c.what)
		}
	}
}

// Every part that a bar is about is said by its program.
func TestBarsNameParts(t *testing.T) {
	for _, r := range []race{tasks, actorCalls, roundTrips, puts, gets, messages, groups, groupsOnNodes, actors, actorsWithTorch, firstResult, workerKilled, idleRuntime, queued, many, store, mapped, sorting, nodeToNode, broadcast} {
		text, err := os.ReadFile("programs/" + r.program)
		if err != nil {
			t.Error(err)
		}
		for _, b := range r.bars {
			if !strings.Contains(string(text), `"`+b.part+`"`) {
				t.Errorf("%s does not say %q", r.program, b.part)
			}
		}
		if r.limit == 0 {
			t.Errorf("%s may run for ever", r.program)
		}
	}
}

// What a program says: parts, questions between which the clocks are read, and the first error of a part.
func TestStage(t *testing.T) {
	st := &stage{parts: map[string]part{}, found: map[string]float64{}, looks: func(what string) (map[string]float64, error) {
		return map[string]float64{what: 7}, nil
	}}
	var answers strings.Builder
	err := st.follow(strings.NewReader(`{"ask":"begin"}
{"ask":"end"}
{"ask":"memory"}
{"part":"a","figures":{"seconds":2}}
{"part":"b","error":"first"}
{"part":"b","error":"second"}
{"part":"b","figures":{"seconds":2}}
{"part":"c"}
`), &answers)
	a := st.parts["a"].Figures
	if _, timed := a["cpu"]; err != nil || !timed || a["seconds"] != 2 || a["memory"] != 7 || answers.String() != "\n\n\n" {
		t.Errorf("%v, %v, %q", err, st.parts, answers.String())
	}
	if len(st.parts["c"].Figures) != 0 || st.parts["b"].Error != "first" {
		t.Errorf("%v", st.parts)
	}
	for _, bad := range []string{"no JSON\n", `{"ask":"the moon"}` + "\n"} {
		if err := (&stage{}).follow(strings.NewReader(bad), &answers); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A program that hangs is ended, with what it started; one that fails says why; what it said before counts.
func TestPlay(t *testing.T) {
	if err := adopt(); err != nil {
		t.Fatal(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	l := &lab{top: t.TempDir(), dir: t.TempDir()}
	programs := filepath.Join(l.top, "ci/bench/programs")
	if err := os.MkdirAll(programs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, script, want string }{
		{"all well", `echo '{"part":"a","figures":{"seconds":1}}'`, ""},
		{"it hangs, and so does its child", `sleep 1000 2>/dev/null & echo '{"part":"a","figures":{"seconds":1}}'; echo "waiting for $1 $2 $MARK" >&2; read x`, "did not end within 1s: waiting for maniple 7 here"},
		{"it fails", `echo '{"part":"a","figures":{"seconds":1}}'; echo "no luck" >&2; exit 3`, "exit status 3: no luck"},
		{"it says something else", `echo '{"part":"a","figures":{"seconds":1}}'; echo hello; read x`, `it said "hello"`},
	} {
		if err := os.WriteFile(filepath.Join(programs, "p"), []byte(c.script), 0o644); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		said, err := l.play(side{"maniple", "sh", []string{"MARK=here"}}, "p", time.Second, nil, "7")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		if said["a"].Figures["seconds"] != 1 || time.Since(began) > 20*time.Second {
			t.Errorf("%s: %v after %v", c.what, said, time.Since(began))
		}
		if left := descendants(); len(left) > 0 {
			t.Errorf("%s: %v is left", c.what, left)
		}
	}
	l.ending.Store(true)
	if said, err := l.play(side{"maniple", "sh", nil}, "p", time.Second, nil); err == nil || len(said) > 0 {
		t.Errorf("after an interrupt: %v, %v", said, err)
	}
}

// The time of a process counts while it lives, and once it was waited for.
func TestSpentCountsWhoIsGone(t *testing.T) {
	before := spent(nil)
	cmd := exec.Command("sh", "-c", `i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo; read x`)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1))
	living := spent(nil) - before
	in.Close()
	cmd.Wait()
	gone := spent(nil) - before
	used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if off := (living - used).Abs(); used < 20*time.Millisecond || off > 15*time.Millisecond {
		t.Errorf("%v used while it lived, %v counted", used, living)
	}
	if off := (gone - used).Abs(); off > 3*tick {
		t.Errorf("%v used until it was gone, %v counted", used, gone)
	}
	if s, ok := readStat(os.Getpid()); !ok || s.parent != os.Getppid() {
		t.Errorf("%+v", s)
	}
}

func TestSharesOfAProfile(t *testing.T) {
	s := &scene{
		name: "task, one by one", count: 1000, cpu: map[string]float64{"driver": 0.1, "agent": 0.05}, system: map[string]float64{"agent": 0.02},
		samples: map[string]map[kind]int{"driver": {inKernel: 50, inPython: 50}},
		frames:  map[string]map[string]int{"driver": {"send (/x/maniple/_core/connection.py:3)": 30, "wait (/usr/lib/threading.py:1)": 10}},
	}
	d, a := s.shares("driver"), s.shares("agent")
	if d[kernels] != 50 || d[oursInPython] != 37.5 || d[pythonsOwn] != 12.5 {
		t.Errorf("driver: %v", d)
	}
	if a[kernels] != 20 || a[oursInGo] != 30 { // without perf
		t.Errorf("agent: %v", a)
	}
	var b strings.Builder
	s.write(&b)
	for _, want := range []string{"| the kernel | 50.00 | 20.00 | 70.00 | 47% |", "Distance: 11.3 times", "* the kernel, 70.00 us"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	for place, want := range map[string]kind{"[kernel.kallsyms]": inKernel, "/x/site/maniple/_core/_fast.abi3.so": inOurC, "/usr/bin/python3.11": inPython, "/x/maniple": inOurGo} {
		if got := kindOf("f", place); got != want {
			t.Errorf("%s is %s", place, got)
		}
	}
	if kindOf("runtime.futex", "/x/maniple") != inGo {
		t.Error("the runtime of Go is ours")
	}
	if got := shorten("send (/x/maniple/_core/connection.py:31)"); got != "send in _core/connection.py" {
		t.Errorf("got %q", got)
	}
}

// --only leaves out, and a pattern that leaves nothing is an error.
func TestOnlyAPattern(t *testing.T) {
	for _, args := range [][]string{{"bars", "runtime", "--only", "nothing of the sort"}, {"bars", "runtime", "--only", "("}, {"bars", "nothing"}, {}} {
		if _, err := run(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// Actors that have imported torch by themselves are no measurement of those whose worker had.
func TestActorsWithoutTorchAreAnError(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"torch.py": "", "heavy.py": `
from unittest import mock
init = kill = shutdown = lambda *a, **k: None
remote = lambda **k: lambda cls: mock.MagicMock()
get = lambda refs: [100 << 20 for _ in refs]
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("python3", "programs/actors.py", "heavy", "100", "torch")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	cmd.Stdin = strings.NewReader("\n\n")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "100 MiB of its own") {
		t.Errorf("%v: %s", err, out)
	}
}
