package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestGoOutputIsCounted(t *testing.T) {
	r := readGo(strings.NewReader(`{"Action":"output","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestA","Output":"    a_test.go:3: no GPU here\n"}
{"Action":"skip","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestA"}
{"Action":"pass","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestB"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestC/one"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt","Test":"TestC"}
{"Action":"fail","Package":"github.com/maniple-hpc/maniple/rt"}
{"Action":"build-fail","Package":"github.com/maniple-hpc/maniple/x"}
`))
	if r.passed != 1 || r.failed != 3 {
		t.Errorf("%d passed, %d failed, want 1 and 3", r.passed, r.failed)
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

func TestWatchdogEndsAPart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	r := part{name: "x", argv: []string{"sleep", "60"}}.run(ctx, ".")
	if r.failed != 1 || time.Since(start) > 30*time.Second {
		t.Errorf("got %+v after %s", r, time.Since(start))
	}
}
