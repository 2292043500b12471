package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func reportOf(commit string) *Report {
	return &Report{Title: "data-plane", Commit: commit, Machine: "2 x some processor"}
}

// A run that was cut off goes on with the rows that it had, but for those that could not be measured; another commit's, and those of a tree with changes, are no rows of this run.
func TestResume(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	k, err := keeps(reportOf("abc"), true)
	if err != nil {
		t.Fatal(err)
	}
	good, failed := single("put", "GB/s", []float64{3, 4}).least(5), Result{Name: "get", Error: "no Python"}
	for _, d := range []keptOf{{"store", 60, []Result{good}}, {"mapped", 1, []Result{good, failed}}, {"store", 70, []Result{good}}} {
		if err := k.add(d); err != nil {
			t.Fatal(err)
		}
	}
	k, err = keeps(reportOf("abc"), true)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := k.of("store"); !ok || d.Took != 70 || len(d.Results) != 1 || d.Results[0].Figure != 3.5 || d.Results[0].Pass {
		t.Errorf("of store: %+v, %v", d, ok)
	}
	for _, name := range []string{"mapped", "transfer"} {
		if d, ok := k.of(name); ok {
			t.Errorf("of %s: %+v", name, d)
		}
	}
	for _, commit := range []string{"def", "abc" + dirty} {
		if _, err := keeps(reportOf(commit), true); err == nil || !strings.Contains(err.Error(), "nothing can be resumed") {
			t.Errorf("commit %s: %v", commit, err)
		}
	}
	if k, err = keeps(reportOf("def"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(k.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run from the start left what an earlier one had: %v", err)
	}
	if _, err := keeps(reportOf("abc"+dirty), true); err != nil {
		t.Errorf("nothing was kept: %v", err)
	}
}
