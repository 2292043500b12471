package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestGoOutputIsCounted(t *testing.T) {
	r := readGo(strings.NewReader(`{"Action":"output","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestA","Output":"    a_test.go:3: no GPU here\n"}
{"Action":"skip","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestA"}
{"Action":"pass","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestB"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestC/one"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestC"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt"}
{"Action":"build-output","ImportPath":"github.com/maniple-hpc/maniple/x","Output":"x.go:1: broken\n"}
{"Action":"build-fail","ImportPath":"github.com/maniple-hpc/maniple/x"}
{"Action":"run","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestHangs"}
{"Action":"output","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestHangs","Output":"=== RUN TestHangs\n"}
`))
	want := []string{"rt.TestC/one", "rt.TestC", "github.com/maniple-hpc/maniple/x does not build", "rt.TestHangs did not end"}
	if r.passed != 1 || r.failed != 4 || !slices.Equal(r.names, want) {
		t.Errorf("%d passed, %d failed: %q, want 1 and %q", r.passed, r.failed, r.names, want)
	}
	if want := []skip{{"rt.TestA", "no GPU here"}}; !slices.Equal(r.skipped, want) {
		t.Errorf("skipped %v, want %v", r.skipped, want)
	}
}

func TestPytestClosingLineIsCounted(t *testing.T) {
	r := readPytest(strings.NewReader("3 passed in the middle\nFAILED tests/a.py::b - no\n== 1 failed, 12 passed, 2 errors in 0.1s ==\n"), "python")
	if r.passed != 12 || r.failed != 3 || !slices.Equal(r.names, []string{"tests/a.py::b - no"}) {
		t.Errorf("got %+v", r)
	}
}

func TestPartFailsWithItsCommand(t *testing.T) {
	r := part{name: "x", argv: []string{"sh", "-c", "exit 3"}}.run(t.Context(), ".")
	if r.failed != 1 || r.passed != 0 || !strings.Contains(r.names[0], "exit status 3") {
		t.Errorf("got %+v", r)
	}
	if r := (part{name: "x", argv: []string{"true"}}).run(t.Context(), "."); r.passed != 1 || r.failed != 0 {
		t.Errorf("got %+v", r)
	}
	// A runner that dies before it could count anything is a failure too.
	if r := (part{name: "x", argv: []string{"sh", "-c", "exit 2"}, count: countGo}).run(t.Context(), "."); r.failed != 1 {
		t.Errorf("got %+v", r)
	}
}

// SUITE-1: of parts that all are well, of which at least one test ran, a suite is well.
func TestSuiteHolds(t *testing.T) {
	good, bad := part{name: "good", argv: []string{"true"}}, part{name: "bad", argv: []string{"false"}}
	idle := part{name: "idle", argv: []string{"true"}, count: countGo} // runs no test
	skips := part{name: "skips", argv: []string{"echo", `{"Action":"skip","Package":"p","Test":"T"}`}, count: countGo}
	for _, c := range []struct {
		list   []part
		strict bool
		want   bool
	}{
		{nil, false, false},
		{[]part{idle}, false, false},
		{[]part{skips}, false, false},
		{[]part{good}, true, true},
		{[]part{good, idle}, true, true},
		{[]part{bad, good}, false, false},
		{[]part{good, bad}, false, false},
		{[]part{good, skips}, false, true},
		{[]part{good, skips}, true, false},
	} {
		if got := runAll(t.Context(), io.Discard, c.list, ".", c.strict, nil); got != c.want {
			t.Errorf("%v, strict %v: %v", c.list, c.strict, got)
		}
	}
}

// SUITE-2: a part that hangs is ended with all of its processes, what they said is shown, and what came after it
// counts as failed.
func TestWatchdogEndsASuite(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("the watchdog barks"))
	defer cancel()
	pid := filepath.Join(t.TempDir(), "pid")
	var text strings.Builder
	ok := runAll(ctx, &text, []part{
		{name: "good", argv: []string{"true"}, budget: time.Minute},
		{name: "hangs", argv: []string{"sh", "-c", "trap '' QUIT; sleep 600 & echo $! > " + pid + ".part; mv " + pid + ".part " + pid + "; wait"}},
		{name: "after", argv: []string{"true"}},
	}, ".", true, nil)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if ok || lines[len(lines)-1] != "1 passed, 3 failed, 0 skipped" {
		t.Errorf("%v:\n%s", ok, text.String())
	}
	for _, want := range []string{"=== good (budget 1m0s)", "the watchdog barks", `failed: after: not run`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, text.String())
		}
	}
	data, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	fd, err := unix.PidfdOpen(n, 0)
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	if got, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); err == nil && got == 0 { // who was killed ends when he next runs
		t.Errorf("process %d outlives the watchdog", n)
	}
}

// SUITE-2: Go tests that hang say where.
func TestWatchdogDumpsStacks(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module x\n"), 0o644)
	os.WriteFile(filepath.Join(dir, "x_test.go"), []byte(`package x
import ("os"; "testing")
func TestHangs(t *testing.T) { os.WriteFile("hangs", nil, 0o644); <-make(chan int) }
func TestGood(t *testing.T) {}
`), 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "hangs")); err == nil {
				cancel()
			}
			runtime.Gosched()
		}
	}()
	said := stdout(t, func() {
		if r := (part{name: "go", argv: []string{"go", "test", "-json", "."}, count: countGo}).run(ctx, dir); r.failed == 0 {
			t.Errorf("got %+v", r)
		}
	})
	for _, want := range []string{"SIGQUIT", "x_test.go:3", "suite: processes of this suite"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
}

func stdout(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	old := os.Stdout
	os.Stdout = file
	defer func() { os.Stdout = old }()
	f()
	data, _ := os.ReadFile(file.Name())
	return string(data)
}

// A part that leaves a process which holds its output is not waited for.
func TestHeldOutput(t *testing.T) {
	defer func(old time.Duration) { holders = old }(holders)
	holders = 100 * time.Millisecond
	r := part{name: "x", argv: []string{"sh", "-c", "setsid sleep 3 & exit 0"}}.run(t.Context(), ".")
	if r.failed != 1 || !strings.Contains(strings.Join(r.names, " "), "hold its output") {
		t.Errorf("got %+v", r)
	}
}

func TestStrictSkips(t *testing.T) {
	list := []part{{name: "x", count: countGo, argv: []string{"echo", `{"Action":"skip","Package":"rt","Test":"TestA"}
{"Action":"pass","Package":"rt","Test":"TestB"}`}}}
	for _, c := range []struct {
		strict  bool
		allowed map[string]bool
		want    bool
	}{{false, nil, true}, {true, nil, false}, {true, map[string]bool{"rt.TestA": true}, true}} {
		if got := runAll(t.Context(), io.Discard, list, ".", c.strict, c.allowed); got != c.want {
			t.Errorf("strict %v, allowed %v: %v", c.strict, c.allowed, got)
		}
	}
	if runAll(t.Context(), io.Discard, nil, ".", false, nil) {
		t.Error("a suite in which nothing ran holds")
	}
}

// Daemons' logs of this suite are shown, older ones are not.
func TestDump(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "agent.log"), []byte("the agent waits for the head\n"), 0o644)
	var now, later strings.Builder
	dump(&now, time.Now().Add(-time.Minute), []string{dir + "/*.log"})
	dump(&later, time.Now().Add(time.Minute), []string{dir + "/*.log"})
	if !strings.Contains(now.String(), "the agent waits") || strings.Contains(later.String(), "the agent waits") {
		t.Errorf("now:\n%s\nlater:\n%s", now.String(), later.String())
	}
}
