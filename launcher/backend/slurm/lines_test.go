package slurm

import (
	"slices"
	"testing"
)

func TestReadNews(t *testing.T) {
	for line, want := range map[string]news{
		"srun: error: Node failure on n[2-3]":                                                      {kind: newsFailed, nodes: []string{"n2", "n3"}},
		"srun: error: n3: task 2: Killed":                                                          {kind: newsTaskEnd, nodes: []string{"n3"}},
		"srun: error: n[1-2]: tasks 0-1: Exited with exit code 2":                                  {kind: newsTaskEnd, nodes: []string{"n1", "n2"}},
		"srun: error: Task launch for StepId=3.0 failed on node n4: Communication failure":         {kind: newsNoLaunch, nodes: []string{"n4"}},
		"slurmstepd: error: execve(): /opt/maniple: No such file or directory":                     {kind: newsNoFile},
		"1: slurmstepd: error: execve(): /opt/maniple: Permission denied":                          {kind: newsNoFile},
		"slurmstepd-n1: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-21T09:43:00 ***":            {kind: newsStopping},
		"srun: Job step aborted: Waiting up to 7 seconds for job step to finish.":                  {},
		"srun: error: Unable to create step for job 7: Memory required by task is not available":   {},
		"0: something a keeper printed: task":                                                      {},
		"slurmstepd: error: couldn't chdir to `/home/x': No such file or directory: going to /tmp": {},
	} {
		got := readNews(line, "/opt/maniple")
		if got.kind != want.kind || !slices.Equal(got.nodes, want.nodes) {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func TestCutLabel(t *testing.T) {
	for line, want := range map[string]struct {
		task int
		rest string
	}{
		"0: {}": {0, "{}"}, " 7: a: b": {7, "a: b"}, "12: ": {12, ""}, "12:": {12, ""}, "srun: error: x": {-1, "srun: error: x"}, "plain": {-1, "plain"}, "-1: x": {-1, "-1: x"},
	} {
		if task, rest := cutLabel(line); task != want.task || rest != want.rest {
			t.Errorf("%q: %d %q", line, task, rest)
		}
	}
}
