package yarn

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// What YARN says of a master that needed too much memory is told together with what to do; other ends have other reasons.
func TestMasterWasTooSmall(t *testing.T) {
	const of, beyond = "Application application_17_0001 failed 2 times due to AM Container for appattempt_17_0001_000002 exited with  exitCode: ", "\nFailing this attempt.Diagnostics: [2026-01-02 03:04:05.678]Container [pid=17,containerID=container_17_0001_02_000001] is running 1B beyond the 'PHYSICAL' memory limit."
	for code, want := range map[string]string{"-104": "more memory", "-103": "more address space", "-100": "", "1": "", "137": "", "-1041": ""} {
		got := TooSmall(of + code + beyond)
		if (got == "") != (want == "") || !strings.Contains(got, want) || want != "" && (!strings.Contains(got, "("+code+")") || !strings.Contains(got, "--am-memory")) {
			t.Errorf("of %s: %q", code, got)
		}
	}
	if got := TooSmall("a rank ended: exited with exitCode: -104"); got != "" {
		t.Errorf("of what was no master: %q", got)
	}
}

// How the master before an application's present one ended YARN tells who asks, and nothing of a first one.
func TestMasterBefore(t *testing.T) {
	cluster := yarntest.New(t, yarn.Resource{MemoryMB: 1024, VCores: 4})
	c, err := yarn.New(yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := cluster.Application()
	for _, want := range []string{"", "more memory", ""} {
		r, err := c.Report(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if got := MasterBefore(t.Context(), c, r); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("before attempt %d: %q", r.Attempt.Number, got)
		}
		cluster.NextAttempt(id, map[int32]string{1: "AM Container for appattempt_17_0001_000001 exited with  exitCode: -104", 2: "AM Container for appattempt_17_0001_000002 exited with  exitCode: 137"}[r.Attempt.Number])
	}
}
