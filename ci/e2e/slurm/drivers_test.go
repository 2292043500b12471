//go:build e2e

package slurm

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// Drivers that call init() at once on both nodes of a job have one cluster, which ends once: with the last of them. One that is killed takes
// along what it started. init("local") beside the job's cluster leaves that up.
func TestDriversOfOneJob(t *testing.T) {
	c := e2e.Slurm(t)
	python := c.Python(t)
	dir := c.Folder(t)
	// The package as the job's user, who may not be allowed to look into the checkout, can read it.
	if err := os.CopyFS(filepath.Join(dir, "sdk", "maniple"), os.DirFS(filepath.Join(c.Top, "libs/python/maniple"))); err != nil {
		t.Fatal(err)
	}
	program := python + " " + filepath.Join(programs(t, c), "at_once.py")
	script := c.Write(t, filepath.Join(dir, "job.sh"), strings.Join([]string{
		"#!/bin/bash", "#SBATCH -N 2 --ntasks-per-node=1 -c 2 -t 5 -o " + filepath.Join(dir, "job.out"),
		"export PATH=" + filepath.Dir(c.Binary) + ":$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=" + filepath.Join(dir, "sdk"),
		"exec 2>&1",
		"srun -N 2 -n 2 " + program + " " + dir, "echo at once $?", "maniple status",
		program + " killed", "echo killed $?",
		"for i in $(seq 100); do maniple status 2>&1 | grep -q 'no cluster is up' && break; sleep 0.1; done", "maniple status",
		"maniple up || exit", program + " beside", "echo beside $?", "maniple status", "maniple down",
	}, "\n")+"\n", 0o755)
	id := e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", script))
	j := over(t, c, id, long)
	out := e2e.Read(filepath.Join(dir, "job.out"))
	for want, times := range map[string]int{
		"through: started it": 1, "through: joined": 1, "nodes: ['n1', 'n2']": 3, "at once 0": 1, "killed 137": 1, "no cluster is up": 2,
		"beside: True True": 1, "and then: ['n1', 'n2']": 1, "beside 0": 1, "cluster " + id + " (slurm): n[1-2]": 1, "cluster " + id + " is down": 1,
	} {
		if got := strings.Count(out, want); got != times {
			t.Errorf("%d times %q, want %d", got, want, times)
		}
	}
	if wrong := regexp.MustCompile(`(?m)^.*(Error|Traceback|BUG).*$`).FindString(out); wrong != "" || j.Result() != 0 {
		t.Errorf("exit %d, %s", j.Result(), wrong)
	}
	if t.Failed() {
		t.Log(out)
	}
	c.Clean(t)
}
