//go:build e2e

package slurm

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// A user's second command: the demo on two nodes, each of its tasks a plain `maniple demo`.
func TestDemoUnderSrun(t *testing.T) {
	c := e2e.Slurm(t)
	python := c.Python(t)
	dir := c.Folder(t)
	r := c.Run(t, long, dir, "srun", "-N2", "-n2", "--ntasks-per-node=1", c.Binary, "demo", "--python", python)
	if r.Code != 0 || !strings.Contains(r.Stdout, "2 ranks trained") || !strings.Contains(r.Stderr, "2 nodes x 1 rank") {
		t.Errorf("exit %d\n%s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	// Homes that are not shared: the state directory is each node's own.
	r = c.Run(t, long, dir, "srun", "-N2", "-n2", "--ntasks-per-node=1", "env", "XDG_STATE_HOME=/tmp", c.Binary, "demo", "--python", python, "--join-timeout", "2")
	if r.Code != 75 || !strings.Contains(r.Stderr, "that directory has to be shared by the nodes") {
		t.Errorf("exit %d without a shared home\n%s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	c.Clean(t)
}

// A login node from which no TCP reaches the nodes: commands go through srun.
func TestLoginNodeBehindAFirewall(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	sh := c.Terminal(t, dir, "salloc", "-Q", "-t", "10", "-N", "2", "--ntasks-per-node", "1")
	defer sh.Close(t)
	if out, code := sh.Line(t, short, c.Binary+" up"); code != 0 || !strings.Contains(out, "an srun stays here") {
		t.Fatalf("up: exit %d\n%s", code, out)
	}
	// Nobody answers at port 9 of an address outside of every testbed (RFC 5737).
	endpoint := filepath.Join(c.Home, ".local/state/maniple/jobs/slurm/$SLURM_JOB_ID/endpoint.json")
	if out, code := sh.Line(t, short, `sed -i 's/"[0-9.]*:[0-9]*"/"192.0.2.99:9"/' `+endpoint+` && grep -c 192.0.2.99 `+endpoint); code != 0 {
		t.Fatalf("sed: exit %d\n%s", code, out)
	}
	if out, code := sh.Line(t, short, c.Binary+" nodes"); code != 0 || !strings.Contains(out, "n2") {
		t.Errorf("nodes: exit %d\n%s", code, out)
	}
	if out, code := sh.Line(t, short, c.Binary+" run -- sh -c 'echo rank $RANK; test $RANK = 1 || exit 4; sleep 60'"); code != 4 || !strings.Contains(out, "rank 0") {
		t.Errorf("run: exit %d\n%s", code, out)
	}
	if out, code := sh.Line(t, short, c.Binary+" down"); code != 0 {
		t.Errorf("down: exit %d\n%s", code, out)
	}
}
