//go:build e2e

package slurm

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// Two runs in one job: the second uses the cluster that the first brought up, and is not ended with it.
// What a node may use is what the job was granted: memory too, said at the start and refused beyond.
func TestTwoRunsInOneJob(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "job.sh"), fmt.Sprintf(`#!/bin/bash
#SBATCH -N 2 --ntasks-per-node=2 --mem=600M -t 5 -o %[1]s/job.out
%[2]s run -J first -N 2 --ntasks-per-node 1 -- sh -c 'touch %[1]s/up.$RANK; sleep 2' 2>%[1]s/first.err &
until [ -e %[1]s/up.0 ]; do sleep 0.1; done
%[2]s run -J second -N 2 --ntasks-per-node 1 -- sh -c 'sleep 4; echo second $RANK ended'
echo second $?
wait %%1
echo first $?
%[2]s run -N 2 --ntasks-per-node 1 --mem 4G -- true
echo more $?
`, dir, c.Binary), 0o755)
	j := over(t, c, e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", script)), long)
	out, first := e2e.Read(filepath.Join(dir, "job.out")), e2e.Read(filepath.Join(dir, "first.err"))
	for _, want := range []string{"second 0 ended", "second 1 ended", "second 0\n", "first 0\n", "more 78\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%s\nthe first run said\n%s", j.State, want, out, first)
		}
	}
	for _, want := range []string{"(SLURM_MEM_PER_NODE)", "0.5 of ", "it stays for second, which other commands of this job run on its cluster"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in\n%s", want, first)
		}
	}
	c.Clean(t)
}

// An allocation that ends takes its cluster along, and what was noted of it: nobody has to clean up.
func TestAllocationEndsWithACluster(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	r := c.Run(t, long, dir, "salloc", "-Q", "-N", "2", "-t", "5", "sh", "-c", "$MANIPLE up && { $MANIPLE up; echo again $?; }")
	if r.Code != 0 || r.Stdout != "again 73\n" || !strings.Contains(r.Stderr, "a cluster of this name is up (n[1-2]); end it with `maniple down`") {
		t.Fatalf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	e2e.Until(t, long, "status lists nothing", func() bool {
		r := c.Run(t, short, dir, c.Binary, "status")
		return r.Code == 0 && strings.Contains(r.Stderr, "no cluster is up") && r.Stdout == ""
	})
	c.Clean(t)
}
