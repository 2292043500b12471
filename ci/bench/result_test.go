package main

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFigureIsTheMedianOfRatios(t *testing.T) {
	r := paired("x", "s", "peer", []float64{1, 2, 30}, []float64{4, 4, 10}).most(0.5)
	if r.Figure != 0.5 || r.Low != 0.25 || r.High != 3 || !r.Pass {
		t.Errorf("got %+v", r)
	}
	if r := more("x", "s", "peer", []float64{5, 2, 3}, []float64{4, 4, 1}); r.Figure != 1 || r.Low != -2 || r.High != 2 {
		t.Errorf("got %+v", r)
	}
	if r := single("x", "s", []float64{2, 1, 4, 3}); r.Figure != 2.5 {
		t.Errorf("got %+v", r)
	}
}

func TestBars(t *testing.T) {
	slow := make([]float64, 20) // the median is within the limit, two in twenty are not
	for i := range slow {
		slow[i] = 1
	}
	slow[3], slow[4], slow[5] = 9, 9, 9
	for _, c := range []struct {
		what string
		r    Result
		pass bool
	}{
		{"median over the limit", single("x", "s", []float64{2, 2, 2}).most(1), false},
		{"one in ten over the limit", single("x", "s", slow).most(1), false},
		{"all within", single("x", "s", []float64{1, 1, 1}).most(1), true},
		{"a pair out of seven over the limit", paired("x", "s", "p", []float64{1, 1, 1, 1, 1, 1, 9}, []float64{1, 1, 1, 1, 1, 1, 1}).most(2), true},
		{"nothing measured", single("x", "s", nil).most(1), false},
		{"too little", single("x", "", []float64{0.97, 0.94}).least(0.95), false},
		{"enough", single("x", "", []float64{0.97, 0.96}).least(0.95), true},
		{"no failure", failures("x", 0), true},
		{"a failure", failures("x", 1), false},
	} {
		if c.r.Pass != c.pass {
			t.Errorf("%s: pass %v, want %v: %+v", c.what, c.r.Pass, c.pass, c.r)
		}
	}
}

func TestPercentiles(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	if a, b := percentile(hundred, 90), percentile(hundred, 99); a != 90 || b != 99 {
		t.Errorf("p90 %v, p99 %v", a, b)
	}
	if p := percentile([]float64{3}, 90); p != 3 {
		t.Errorf("of one sample: %v", p)
	}
}

// A run does not hold when a bar fails, could not be measured, or was left out.
func TestReportHolds(t *testing.T) {
	good, skipped := failures("good", 0), Result{Name: "suite", Skipped: "not asked for"}
	for _, c := range []struct {
		list []Result
		want bool
	}{
		{nil, false},
		{[]Result{good}, true},
		{[]Result{good, skipped}, false},
		{[]Result{good, failures("bad", 1)}, false},
		{[]Result{good, {Name: "x", Pass: true, Error: "no such program"}}, false},
	} {
		if got := (&Report{Results: c.list}).holds(); got != c.want {
			t.Errorf("%+v: %v", c.list, got)
		}
	}
}

func TestTableAndPage(t *testing.T) {
	r := &Report{Title: "first-light", Results: []Result{
		paired("start", "s", "ray", []float64{1}, []float64{20}).most(0.05),
		failures("kills", 2),
		{Name: "suite", Skipped: "not asked for"},
		{Name: "submit", Error: "no | such\nqueue"},
	}}
	var table strings.Builder
	r.print(&table)
	for _, text := range []string{table.String(), r.page()} {
		for _, want := range []string{"start", "0.05 x", "pass", "kills", "FAIL", "suite", "NOT RUN", "not asked for", "NOT MEASURED"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	if end := "\n\npass: 1\nFAIL: 1: kills\nNOT MEASURED: 1: submit\nNOT RUN: 1: suite\n"; !strings.HasSuffix(table.String(), end) {
		t.Errorf("the table does not end with %q:\n%s", end, table.String())
	}
	part := r.interrupted(time.Minute)
	r.Results[0].Name = "changed since"
	if part.Results[0].Name != "start" || !strings.Contains(part.Title, "INTERRUPTED") || r.Title != "first-light" {
		t.Errorf("of a run that was interrupted: %+v", part)
	}
	r.Results[0].Name = "start"
	for line := range strings.Lines(r.page()) {
		if strings.HasPrefix(line, "|") && strings.Count(strings.ReplaceAll(line, "\\|", ""), "|") != 8 {
			t.Errorf("a broken row: %s", line)
		}
	}
	for title, target := range map[string]string{"first-light": "`make bars-first-light`", "bench": "`make bench`"} {
		if page := (&Report{Title: title}).page(); !strings.Contains(page, target) {
			t.Errorf("not written by %s: %s", target, page)
		}
	}
	top := t.TempDir()
	if err := r.save(top); err != nil {
		t.Fatal(err)
	}
	var back Report
	data, err := os.ReadFile(top + "/docs/perf/0001-01-01-first-light.json")
	if err != nil || json.Unmarshal(data, &back) != nil || len(back.Results) != 4 {
		t.Errorf("read back: %v, %+v", err, back)
	}
}

// An experiment that gives no figure does not hold either.
func TestNoFigureIsAFailure(t *testing.T) {
	for _, c := range []struct {
		run  func(*lab) error
		want bool
	}{
		{func(*lab) error { return nil }, false},
		{func(l *lab) error { l.add(failures("x", 0)); return nil }, true},
		{func(l *lab) error { l.add(failures("x", 0)); return errors.New("broke") }, false},
	} {
		l := &lab{report: &Report{Results: []Result{failures("another", 0)}}}
		l.measure(experiment{"x", c.run})
		if got := l.report.holds(); got != c.want {
			t.Errorf("%+v: %v", l.report.Results, got)
		}
	}
}

// A bar of tests fails with one that was skipped, or that is not there any more under its name.
func TestTestsOfABar(t *testing.T) {
	for _, c := range []struct {
		events string
		passed int
		failed string
	}{
		{`{"Action":"pass","Package":"p","Test":"TestA/1"}
{"Action":"pass","Package":"p","Test":"TestA/2"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"q","Test":"TestB"}`, 3, ""},
		{`{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"q","Test":"TestB"}`, 1, "TestA"},
		{`{"Action":"pass","Package":"p","Test":"TestA"}`, 1, "TestB was not run"},
		{"", 0, "TestA was not run, TestB was not run"},
	} {
		got := countTests(strings.NewReader(c.events), "TestA", "TestB")
		if got.passed != c.passed || strings.Join(got.failed, ", ") != c.failed {
			t.Errorf("%s\n%+v", c.events, got)
		}
	}
}

// What the first that failed said last is in the report.
func TestWordsOfAFailedTest(t *testing.T) {
	got := countTests(strings.NewReader(`{"Action":"output","Package":"p","Test":"TestA","Output":"fine\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"one\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"it has grown:\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"watched: 0 before, 3 after\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- FAIL: TestB (1s)\n"}
{"Action":"fail","Package":"p","Test":"TestB"}`), "TestA", "TestB")
	if !strings.HasSuffix(got.said, "it has grown:\nwatched: 0 before, 3 after\n") {
		t.Errorf("%q", got.said)
	}
}

func TestNoMachineInAReport(t *testing.T) {
	host, _ := os.Hostname()
	got := anonymous("/srv/tree/x on "+host+" failed\nbadly", "/srv/tree")
	if strings.Contains(got, "/srv") || strings.Contains(got, host) || strings.Contains(got, "\n") {
		t.Errorf("got %q", got)
	}
}

// Every bar that an issue names can be measured.
func TestIssuesNameExperiments(t *testing.T) {
	for issue, names := range issues {
		for _, name := range names {
			if !slices.ContainsFunc(experiments, func(e experiment) bool { return e.name == name }) {
				t.Errorf("%s: no experiment is called %q", issue, name)
			}
		}
	}
}
