//go:build e2e

package slurm

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// In a job without a cluster one is there for the measurement, and nothing of it afterwards.
func TestDoctorMeasuresAJobsNodes(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "job.sh"), "#!/bin/bash\n"+c.Binary+" doctor --fabric --within 6 --json > ways.json\n", 0o755)
	r := c.Run(t, long, dir, "sbatch", "--wait", "-N", "3", "-t", "5", script)
	if id := e2e.JobID(t, r); r.Code != 0 {
		t.Fatalf("exit %d\n%s", r.Code, e2e.Read(filepath.Join(dir, "slurm-"+id+".out")))
	}
	var report struct {
		Nodes  []string
		Ways   []struct{ From, To string }
		Failed []any
	}
	text := e2e.Read(filepath.Join(dir, "ways.json"))
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	seen := map[string]bool{}
	for _, w := range report.Ways {
		seen[w.From+" "+w.To] = true
	}
	if len(report.Nodes) != 3 || len(seen) != 6 || len(report.Failed) > 0 {
		t.Errorf("%s", text)
	}
	c.Clean(t)
}
