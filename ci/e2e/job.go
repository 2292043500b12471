package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

// Client asks this cluster's Slurm as the administrator.
func (c *Cluster) Client() *exec.Client {
	return &exec.Client{Environ: append(os.Environ(), "SLURM_CONF="+c.Conf)}
}

// Job is what Slurm says about a job.
func (c *Cluster) Job(t testing.TB, id string) *slurm.Job {
	t.Helper()
	ctx := context.WithoutCancel(t.Context()) // clean-ups ask too
	j, err := c.Client().Job(ctx, id)
	if errors.Is(err, slurm.ErrUnreachable) { // a busy controller hangs up at times
		time.Sleep(time.Second)
		j, err = c.Client().Job(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Await waits for a job to be in a state.
func (c *Cluster) Await(t testing.TB, id string, state slurm.State, limit time.Duration) *slurm.Job {
	t.Helper()
	var j *slurm.Job
	Until(t, limit, fmt.Sprintf("job %s is %s", id, state), func() bool {
		j = c.Job(t, id)
		if j.Over() && j.State != state {
			t.Fatalf("job %s is %s (exit %d, signal %d, %s), not %s", id, j.State, j.ExitCode, j.Signal, j.Reason, state)
		}
		return j.State == state && (!state.Final() || j.Over())
	})
	return j
}

var jobID = regexp.MustCompile(`(?m)^(?:Submitted batch job )?(\d+)$`)

// JobID reads the ID that sbatch or `maniple submit` printed.
func JobID(t testing.TB, r Result) string {
	t.Helper()
	m := jobID.FindStringSubmatch(r.Stdout)
	if m == nil {
		t.Fatalf("no job ID: exit %d\nstdout: %s\nstderr: %s", r.Code, r.Stdout, r.Stderr)
	}
	return m[1]
}

// Requests counts the requests that the controller got since the last Reset, by type.
func (c *Cluster) Requests(t testing.TB) map[string]int {
	t.Helper()
	counts := map[string]int{}
	in := false
	for _, line := range strings.Split(c.Root(t, "sdiag"), "\n") {
		switch {
		case strings.Contains(line, "by message type"):
			in = true
		case strings.Contains(line, "by user"):
			in = false
		case in:
			f := strings.Fields(strings.NewReplacer("(", " ", ")", " ", "count:", " ").Replace(line))
			if len(f) > 2 {
				counts[f[0]], _ = strconv.Atoi(f[2])
			}
		}
	}
	delete(counts, "REQUEST_STATS_INFO") // sdiag itself
	return counts
}

// ResetRequests begins the count anew.
func (c *Cluster) ResetRequests(t testing.TB) { c.Root(t, "sdiag", "-r") }

// Processes lists the user's processes, on the login node and on all nodes: "pid args".
func (c *Cluster) Processes() []string {
	var list []string
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || uid(info) != c.UID {
			continue
		}
		args, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(args) == 0 {
			continue // a zombie, or gone
		}
		list = append(list, filepath.Base(dir)+" "+string(bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '})))
	}
	return list
}

// Leftovers lists what the user has on the nodes: files in /tmp and /dev/shm.
func (c *Cluster) Leftovers(t testing.TB) []string {
	t.Helper()
	var list []string
	for i := range c.Nodes {
		init := c.init(fmt.Sprintf("n%d", i+1))
		if init == "" {
			continue // the node is down
		}
		for _, dir := range []string{"/tmp", "/dev/shm"} {
			root := filepath.Join("/proc", init, "root", dir)
			filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
				if err == nil && path != root && uid(info) == c.UID {
					list = append(list, fmt.Sprintf("n%d:%s%s", i+1, dir, strings.TrimPrefix(path, root)))
				}
				return nil
			})
		}
	}
	return list
}

// Clean waits until nothing of the user is left: no process, and no file on any node but those that a
// program itself leaves under the given beginnings of paths; these are removed.
func (c *Cluster) Clean(t testing.TB, programs ...string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		procs, files := c.Processes(), slices.DeleteFunc(c.Leftovers(t), func(file string) bool {
			node, path, _ := strings.Cut(file, ":")
			for _, p := range programs {
				if strings.HasPrefix(path, p) {
					os.RemoveAll(filepath.Join("/proc", c.init(node), "root", path))
					return true
				}
			}
			return false
		})
		if len(procs)+len(files) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind:\n%s", strings.Join(append(procs, files...), "\n"))
			for _, file := range files { // the next test begins clean
				node, path, _ := strings.Cut(file, ":")
				os.RemoveAll(filepath.Join("/proc", c.init(node), "root", path))
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// init is the first process of a node as this machine sees it.
func (c *Cluster) init(node string) string {
	data, err := os.ReadFile(filepath.Join(c.Dir, "pid", "node-"+node))
	if err != nil {
		return ""
	}
	pid, _, _ := strings.Cut(string(data), " ")
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(children)), " ")
	return first
}
