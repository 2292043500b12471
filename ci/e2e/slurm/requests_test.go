//go:build e2e

package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// What a launch asks of the controller (docs/ops/slurm.md): ours are requests that we or the programs we
// call cause; theirs are slurmd's own, whoever runs in the job.
var (
	ours = map[string]bool{
		"REQUEST_SUBMIT_BATCH_JOB": true, "REQUEST_HET_JOB_ALLOC_INFO": true, "REQUEST_JOB_ALLOCATION_INFO": true, "REQUEST_JOB_STEP_CREATE": true,
		"REQUEST_JOB_INFO": true, "REQUEST_JOB_INFO_SINGLE": true, "REQUEST_PARTITION_INFO": true, "REQUEST_NODE_INFO": true, "REQUEST_FED_INFO": true,
		"REQUEST_BUILD_INFO": true, "REQUEST_STEP_LAYOUT": true, "REQUEST_JOB_SBCAST_CRED": true, "REQUEST_JOB_READY": true, "REQUEST_PING": true, "REQUEST_CONFIG": true,
		"REQUEST_CANCEL_JOB_STEP": true, "REQUEST_KILL_JOB": true, "REQUEST_JOB_STEP_INFO": true,
	}
	theirs = map[string]bool{
		"MESSAGE_NODE_REGISTRATION_STATUS": true, "REQUEST_COMPLETE_PROLOG": true, "REQUEST_STEP_COMPLETE": true, "REQUEST_COMPLETE_BATCH_SCRIPT": true,
		"MESSAGE_EPILOG_COMPLETE": true, "REQUEST_COMPLETE_JOB_ALLOCATION": true,
	}
)

// caused are the requests since the last reset that we cause.
func caused(t *testing.T, c *e2e.Cluster) (counts map[string]int, total int) {
	t.Helper()
	counts = map[string]int{}
	for name, n := range c.Requests(t) {
		switch {
		case ours[name]:
			counts[name], total = n, total+n
		case !theirs[name]:
			t.Errorf("%d requests of a kind that the docs do not list: %s", n, name)
		}
	}
	return counts, total
}

// A launch costs three requests to the controller that we cause, in the forms whose job we put into the
// queue, also the first time: the submission, srun's look-up of the allocation, the creation of its step.
func TestRequestsOfALaunch(t *testing.T) {
	c := e2e.Slurm(t)
	where := programs(t, c)
	cache := filepath.Join(c.Home, ".cache/maniple/slurm.json")
	for _, tt := range []struct{ name, remembers string }{{"submit the first time", "nothing"}, {"submit", "all"}, {"batch script", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := c.Folder(t)
			argv := append(append([]string{c.Binary, "submit", "--parsable", "-t", "10"}, twoByTwo...), "--", filepath.Join(where, "plain.sh"), dir)
			switch tt.remembers {
			case "nothing":
				os.Remove(cache)
			case "":
				text := "#!/bin/bash\n#SBATCH -t 10 " + strings.Join(twoByTwo, " ") + "\n\"$MANIPLE\" run -- " + filepath.Join(where, "plain.sh") + " " + dir + "\n"
				argv = []string{"sbatch", "--parsable", c.Write(t, filepath.Join(dir, "job.sh"), text, 0o755)}
			}
			c.ResetRequests(t)
			id := e2e.JobID(t, c.Run(t, short, dir, argv...))
			e2e.Until(t, short, "the job is over", func() bool { // looked for where no request is needed
				return len(c.Processes()) == 0 && strings.Count(output(dir, id), "plain ") == 4
			})
			counts, total := caused(t, c)
			t.Logf("%v", counts)
			if total != 3 || counts["REQUEST_SUBMIT_BATCH_JOB"] != 1 || counts["REQUEST_JOB_STEP_CREATE"] != 1 {
				t.Errorf("%d requests that we cause: %v", total, counts)
			}
		})
	}
	c.Clean(t)
}

// In salloc's shell `up` costs two, and what runs on the cluster nothing.
func TestRequestsInTheShellOfSalloc(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	plain := filepath.Join(programs(t, c), "plain.sh") + " " + dir
	sh := c.Terminal(t, dir, append([]string{"salloc", "-Q", "-t", "10"}, twoByTwo...)...)
	if _, code := sh.Line(t, short, "true"); code != 0 {
		t.Fatal(sh.Text())
	}
	for _, tt := range []struct {
		command string
		want    int
	}{{"up", 2}, {"run -- " + plain, 0}, {"run -- " + plain, 0}, {"exec -- hostname", 0}, {"status --cluster $SLURM_JOB_ID", 0}, {"down", 0}} {
		c.ResetRequests(t)
		if out, code := sh.Line(t, short, c.Binary+" "+tt.command); code != 0 {
			t.Errorf("%s: exit %d\n%s", tt.command, code, out)
		}
		if counts, total := caused(t, c); total != tt.want {
			t.Errorf("%s: %d requests that we cause, not %d: %v", tt.command, total, tt.want, counts)
		}
	}
	// Without `up` the command has a cluster of its own.
	c.ResetRequests(t)
	if out, code := sh.Line(t, short, c.Binary+" run -- "+plain); code != 0 {
		t.Errorf("run: exit %d\n%s", code, out)
	}
	if counts, total := caused(t, c); total != 2 {
		t.Errorf("run without up: %d requests that we cause, not 2: %v", total, counts)
	}
	sh.Close(t)
	c.Clean(t)
}
