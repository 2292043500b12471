package main

import (
	"strings"
	"testing"
)

// TestProfilePage: shares add up to what the clocks say, what is lost is explained for that sort of call, and a busy machine is said.
func TestProfilePage(t *testing.T) {
	p := &profiler{tools: []string{byClocks, byPerf}, scenes: map[string]*scene{
		"task, one by one": {
			name: "task, one by one", p50: 50e-6, p90: 70e-6, count: 1000, cpu: map[string]float64{"driver": 0.02, "agent": 0.03},
			samples: map[string]map[kind]int{"driver": {inPython: 30, inKernel: 10}, "agent": {inOurGo: 20, inKernel: 40}},
			frames:  map[string]map[string]int{"driver": {"submit (/x/maniple/_core/session.py:1)": 2, "work (/x/programs/profiled.py:2)": 1}},
		},
		"tasks, 10,000 at once": {
			name: "tasks, 10,000 at once", p50: 10e-6, count: 10_000, cpu: map[string]float64{"agent": 0.05},
			samples: map[string]map[kind]int{"agent": {inOurGo: 10, inGo: 10}},
		},
	}}
	l := &lab{top: "/top", dir: "/dir", report: &Report{Load: 5}}
	page := l.profilePage(p)
	first, second, found := strings.Cut(page, "## Tasks, 10,000 at once")
	if !found {
		t.Fatalf("there is no second part:\n%s", page)
	}
	for part, lines := range map[string][]string{
		first: {
			"| ours, in Python | 10.00 | 0.00 | 10.00 | 20% |", "| Python's own | 5.00 | 0.00 | 5.00 | 10% |", "| ours, in Go | 0.00 | 10.00 | 10.00 | 20% |",
			"| the kernel | 5.00 | 20.00 | 25.00 | 50% |", "| all | 20.00 | 30.00 | 50.00 | |", "* the kernel, 25.00 us: four switches",
		},
		second: {"| ours, in Go | 2.50 | 2.50 | 50% |", "| Go's runtime | 2.50 | 2.50 | 50% |", "* ours, in Go, 2.50 us: the agent's core: a record"},
	} {
		for _, line := range lines {
			if !strings.Contains(part, line) {
				t.Errorf("%q is missing in:\n%s", line, part)
			}
		}
	}
	const busy = "The machine had other work"
	if !strings.Contains(page, busy) {
		t.Error("it does not say that the machine was busy")
	}
	l.report.Load = 0.1
	if strings.Contains(l.profilePage(p), busy) {
		t.Error("it says that an idle machine was busy")
	}
	if k := kindOf("__vdso_clock_gettime", "[vdso]"); k != inKernel {
		t.Errorf("the kernel's own page counts as %s", k)
	}
}
