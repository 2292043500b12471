//go:build e2e

package slurm

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// A job in the queue's hands is reached from the login node: by its ID, and by nothing where it is the only
// one. What is shown there is what is shown on its nodes.
func TestSubmittedJobIsReachedFromTheLoginNode(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := submit(t, c, dir, append([]string{"-J", "far", "-t", "5"}, twoByTwo...), 4, "sleep", "1000")
	for _, tt := range []struct{ command, want string }{
		{"status", "cluster " + id + " (slurm): n[1-2]\n"}, {"nodes", "\nn2 "}, {"explain", "running since"},
		{"logs stubborn.sh", "running since"}, {"status stubborn.sh", "running since"},
	} {
		for _, flags := range [][]string{nil, {"--cluster", id}} {
			argv := append(strings.Fields(tt.command)[:1:1], append(flags, strings.Fields(tt.command)[1:]...)...)
			if r := c.Run(t, short, dir, append([]string{c.Binary}, argv...)...); r.Code != 0 || !strings.Contains(r.Stdout, tt.want) {
				t.Errorf("%v: exit %d\n%s%s", argv, r.Code, r.Stdout, r.Stderr)
			}
		}
	}
	for _, node := range []string{"n1", "n2"} {
		r := c.Run(t, short, dir, "srun", "--jobid="+id, "--overlap", "--mem=0", "-N1", "-n1", "-w", node, c.Binary, "status")
		if !strings.Contains(r.Stdout, "cluster "+id+" (slurm): n[1-2]\n") {
			t.Errorf("status on %s: exit %d\n%s%s", node, r.Code, r.Stdout, r.Stderr)
		}
	}
	r := c.Run(t, short, dir, c.Binary, "explain", id)
	if _, do, _ := strings.Cut(r.Stdout, "-> `maniple "); !strings.HasPrefix(do, "explain --cluster "+id+"`") {
		t.Errorf("explain %s:\n%s%s", id, r.Stdout, r.Stderr)
	}
	if r := c.Run(t, short, dir, c.Binary, "cancel", "stubborn.sh"); r.Code != 0 {
		t.Errorf("cancel: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	over(t, c, id, short)
	forgotten(t, c, dir, id)
	c.Clean(t)
}

// forgotten waits until nothing is noted of a job's cluster, and no command finds it.
func forgotten(t *testing.T, c *e2e.Cluster, dir, id string) {
	t.Helper()
	path := filepath.Join(c.Home, ".local/state/maniple/jobs/slurm", id, "endpoint.json")
	e2e.Until(t, short, path+" is gone", func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
	if r := c.Run(t, short, dir, c.Binary, "status"); r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "no cluster is up") {
		t.Errorf("status: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if r := c.Run(t, short, dir, c.Binary, "nodes", "--cluster", id); r.Code != 69 {
		t.Errorf("nodes: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// The note goes with the job: taken back after scancel, by the head's keeper if its writer was killed, and
// forgotten where both were.
func TestNoteOfAJobThatEnds(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	for _, how := range []string{"scancel", "KILL", "KILL of both"} {
		t.Run(how, func(t *testing.T) {
			dir := c.Folder(t)
			id := submit(t, c, dir, append([]string{"-t", "5"}, twoByTwo...), 4, "sleep", "1000")
			path := filepath.Join(c.Home, ".local/state/maniple/jobs/slurm", id, "endpoint.json")
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			switch how {
			case "scancel":
				c.Root(t, "scancel", id)
			case "KILL of both":
				send(t, c, "maniple run", syscall.SIGSTOP) // or it would see the keeper's end
				send(t, c, "maniple keeper", syscall.SIGKILL)
				fallthrough
			case "KILL":
				send(t, c, "maniple run", syscall.SIGKILL)
			}
			over(t, c, id, short)
			if how == "KILL of both" {
				if _, err := os.Stat(path); err != nil {
					t.Fatalf("a process that was killed removed it: %v", err)
				}
				e2e.Until(t, short, "status forgets it", func() bool {
					return c.Run(t, short, dir, c.Binary, "status").Stdout == ""
				})
			}
			forgotten(t, c, dir, id)
		})
	}
	// No home: a note, and the job runs.
	r := c.Run(t, short, dir, "srun", "-N1", "-n1", "env", "HOME=/proc/nowhere", c.Binary, "run", "--", "echo", "fine")
	if r.Code != 0 || r.Stdout != "fine\n" || strings.Count(r.Stderr, "no command outside the job's nodes finds this cluster") != 1 {
		t.Errorf("exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// send signals the processes whose command line has these words.
func send(t *testing.T, c *e2e.Cluster, words string, sig syscall.Signal) {
	t.Helper()
	sent := 0
	for _, p := range c.Processes() {
		pid, args, _ := strings.Cut(p, " ")
		if n, err := strconv.Atoi(pid); err == nil && strings.Contains(args, words) && syscall.Kill(n, sig) == nil {
			sent++
		}
	}
	if sent == 0 {
		t.Fatalf("no %s among %v", words, c.Processes())
	}
}
