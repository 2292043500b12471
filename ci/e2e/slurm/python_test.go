//go:build e2e

package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// A Python driver in an ordinary batch script has both nodes of the job: of a cluster that the script brought up, and of one that init() brings up,
// and that ends with the program. What init is told of a node is of one beside it, on this node alone.
func TestDriverInPython(t *testing.T) {
	c := e2e.Slurm(t)
	python := c.Python(t)
	for _, tt := range []struct{ name, before, argument, after string }{
		{"beside maniple up", `maniple up || exit`, "up", "maniple status\nmaniple down"},
		{"alone", "", "alone", "maniple status"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := c.Folder(t)
			where := programs(t, c)
			// The package as the job's user, who may not be allowed to look into the checkout, can read it.
			if err := os.CopyFS(filepath.Join(dir, "sdk", "maniple"), os.DirFS(filepath.Join(c.Top, "libs/python/maniple"))); err != nil {
				t.Fatal(err)
			}
			script := c.Write(t, filepath.Join(dir, "job.sh"), strings.Join([]string{
				"#!/bin/bash", "#SBATCH -N 2 -c 2 --gpus-per-node=2 -t 5",
				"export PATH=" + filepath.Dir(c.Binary) + ":$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=" + filepath.Join(dir, "sdk"),
				tt.before, python + " " + filepath.Join(where, "both_nodes.py") + " " + tt.argument, "code=$?", tt.after, "exit $code",
			}, "\n")+"\n", 0o755)
			id := e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", script))
			e2e.Until(t, long, "job "+id+" is over", func() bool { return c.Job(t, id).Over() })
			out := e2e.Read(filepath.Join(dir, "slurm-"+id+".out"))
			if code := c.Job(t, id).Result(); code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			for _, want := range []string{
				"alone: ['n1'] 1 1 mask 0\n", "cluster: True ['n1', 'n2']\n", "\nall is well\n",
				", node=n2) read 8388608 n\n", ") read 8388608 f\n",
			} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if told := strings.Contains(out, "num_cpus, num_gpus was given, so this is a cluster of this node alone: the Slurm job "+id+" has 2 nodes"); told != (tt.argument == "alone") {
				t.Errorf("said that one node is used: %v\n%s", told, out)
			}
			if up := strings.Contains(out, "cluster "+id+" (slurm): n[1-2]"); up != (tt.before != "") {
				t.Errorf("up after the program: %v\n%s", up, out)
			}
			c.Clean(t)
		})
	}
}
