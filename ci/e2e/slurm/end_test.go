//go:build e2e

package slurm

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/slurm"
)

var twoByTwo = []string{"-N", "2", "--ntasks-per-node", "2"}

// submit puts stubborn.sh into the queue and waits until its ranks run, each with a grandchild that has
// left its session and ignores every gentle signal.
func submit(t *testing.T, c *e2e.Cluster, dir string, flags []string, ranks int, command ...string) (id string) {
	t.Helper()
	where := programs(t, c)
	argv := append([]string{c.Binary, "submit", "--parsable"}, flags...)
	argv = append(append(argv, "--", filepath.Join(where, "stubborn.sh"), dir), command...)
	id = e2e.JobID(t, c.Run(t, short, dir, argv...))
	t.Cleanup(func() {
		if !c.Job(t, id).Over() {
			c.Root(t, "scancel", id)
		}
	})
	ready(t, c, dir, id, ranks)
	return id
}

func ready(t *testing.T, c *e2e.Cluster, dir, id string, ranks int) {
	t.Helper()
	e2e.Until(t, short, "all ranks run", func() bool {
		if j := c.Job(t, id); j.Over() {
			t.Fatalf("job %s is %s before its ranks run:\n%s", id, j.State, output(dir, id))
		}
		files, _ := filepath.Glob(filepath.Join(dir, "ready.*"))
		return len(files) == ranks
	})
}

func output(dir, id string) string { return e2e.Read(filepath.Join(dir, "slurm-"+id+".out")) }

// over waits for the job's end.
func over(t *testing.T, c *e2e.Cluster, id string, limit time.Duration) *slurm.Job {
	t.Helper()
	var j *slurm.Job
	e2e.Until(t, limit, "job "+id+" is over", func() bool { j = c.Job(t, id); return j.Over() })
	return j
}

// The first rank that fails ends the others; the job's exit code is that rank's, and the output says who,
// where, how, and the last lines.
func TestFailureOfARank(t *testing.T) {
	c := e2e.Slurm(t)
	for _, tt := range []struct {
		name, does string
		code       int
		says       string
	}{
		{"exit", "echo last words >&2; exit 3", 3, `exit(ed with)? (code )?3`},
		{"signal", "echo last words >&2; kill -SEGV $$", 139, `(signal 11|SEGV|[Ss]egmentation)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := c.Folder(t)
			// Rank 3 fails once all run; the others would go on for ever.
			id := submit(t, c, dir, twoByTwo, 4, "sh", "-c", `if [ "$RANK" = 3 ]; then while [ ! -e go ]; do sleep 0.05; done; date +%s%N > failed; `+tt.does+`; fi; sleep 1000`)
			c.Write(t, filepath.Join(dir, "go"), "", 0o644)
			e2e.Until(t, short, "no process of a rank is left", func() bool { return !ranksLive(c) })
			ended := time.Now()
			nanos, err := strconv.ParseInt(strings.TrimSpace(e2e.Read(filepath.Join(dir, "failed"))), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			took := ended.Sub(time.Unix(0, nanos))
			t.Logf("gang over %v after the rank failed (bar: 2s)", took.Round(time.Millisecond))
			if took > 10*time.Second { // a test must not fail on a loaded machine
				t.Errorf("the gang was over %v after the rank failed", took)
			}
			j := over(t, c, id, short)
			out := output(dir, id)
			if j.State != slurm.Failed || j.Result() != tt.code {
				t.Errorf("%s, result %d (exit %d signal %d)\n%s", j.State, j.Result(), j.ExitCode, j.Signal, out)
			}
			if !regexp.MustCompile(`rank 3.*n2|n2.*rank 3`).MatchString(out) || !regexp.MustCompile(tt.says).MatchString(out) || !strings.Contains(out, "last words") {
				t.Errorf("the output does not name rank, node, end and last words:\n%s", out)
			}
			c.Clean(t)
		})
	}
}

// ranksLive says whether any process that a rank started lives, also one that left its session.
func ranksLive(c *e2e.Cluster) bool {
	for _, p := range c.Processes() {
		if pid, _, _ := strings.Cut(p, " "); strings.Contains(e2e.Read("/proc/"+pid+"/environ"), "\x00MANIPLE_GROUP=") {
			return true
		}
	}
	return false
}

// scancel ends everything; the state is Slurm's, and whoever waits gets 143.
func TestScancel(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	wait := c.Command(t.Context(), dir, append(append([]string{c.Binary, "submit", "--wait"}, twoByTwo...), "--", filepath.Join(where, "stubborn.sh"), dir)...)
	results := make(chan e2e.Result, 1)
	go func() { results <- e2e.Do(t, wait) }()
	var id string
	e2e.Until(t, short, "the job is in the queue", func() bool {
		out := strings.Fields(c.Root(t, "squeue", "-h", "-o", "%A", "-u", c.User))
		if len(out) == 1 {
			id = out[0]
		}
		return id != ""
	})
	ready(t, c, dir, id, 4)
	if r := c.Run(t, short, dir, "scancel", id); r.Code != 0 {
		t.Fatal(r)
	}
	j := over(t, c, id, short)
	if j.State != slurm.Cancelled {
		t.Errorf("%s\n%s", j.State, output(dir, id))
	}
	select {
	case r := <-results:
		if r.Code != 143 || !strings.Contains(r.Stderr, "CANCELLED") {
			t.Errorf("exit %d: %s", r.Code, r.Stderr)
		}
	case <-time.After(short):
		t.Error("submit --wait does not end")
	}
	c.Clean(t)
}

// Ranks that do not heed TERM are killed by us before Slurm does it: else the nodes' directories would stay.
func TestScancelOfTheDeaf(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := e2e.JobID(t, c.Run(t, short, dir, append(append([]string{c.Binary, "submit", "--parsable"}, twoByTwo...), "--", "sh", "-c", `trap "" TERM; setsid sh -c 'while :; do sleep 1; done' & : > ready-$RANK; while :; do sleep 1; done`)...))
	e2e.Until(t, short, "four ranks run", func() bool {
		found, _ := filepath.Glob(filepath.Join(dir, "ready-?"))
		return len(found) == 4
	})
	if r := c.Run(t, short, dir, "scancel", id); r.Code != 0 {
		t.Fatal(r)
	}
	if j := over(t, c, id, short); j.State != slurm.Cancelled {
		t.Errorf("%s\n%s", j.State, output(dir, id))
	}
	c.Clean(t)
}

// Power loss of a node under a gang: the gang ends within seconds, long before Slurm notices; the text
// names the node, the exit code is 137.
func TestNodeCrash(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := submit(t, c, dir, twoByTwo, 4)
	began := time.Now()
	c.Node(t, "crash", "n2")
	t.Cleanup(func() { bootNode(t, c, "n2") })
	e2e.Until(t, short, "the output names the node", func() bool {
		return regexp.MustCompile(`n2 .*(died|lost|dead)|(died|lost|dead).* n2`).MatchString(output(dir, id))
	})
	t.Logf("named after %v", time.Since(began).Round(time.Millisecond))
	e2e.Until(t, short, "no rank lives on the other node", func() bool {
		for _, p := range c.Processes() {
			if strings.Contains(p, "stubborn.sh") || strings.Contains(p, "grandchild") {
				return false
			}
		}
		return true
	})
	took := time.Since(began)
	if took > 20*time.Second {
		t.Errorf("the gang ended after %v", took)
	}
	t.Logf("gang over after %v", took.Round(time.Millisecond))
	// The job ends as soon as Slurm can be told, or is requeued by it: never COMPLETED.
	j := over(t, c, id, 2*time.Minute)
	if (j.State != slurm.Failed || j.Result() != 137) && j.State != slurm.NodeFail {
		t.Errorf("%s, result %d\n%s", j.State, j.Result(), output(dir, id))
	}
	bootNode(t, c, "n2")
	c.Clean(t)
}

func bootNode(t *testing.T, c *e2e.Cluster, node string) {
	t.Helper()
	c.Node(t, "boot", node)
	e2e.Until(t, short, node+" is back", func() bool {
		state := strings.TrimSpace(c.Root(t, "sinfo", "--local", "-h", "-N", "-p", "low", "-n", node, "-o", "%T"))
		if base := strings.TrimRight(state, "*"); base == "down" || base == "unknown" {
			c.Root(t, "scontrol", "update", "NodeName="+node, "State=RESUME")
		}
		return state == "idle" || state == "mixed" || state == "allocated" // with a * it does not answer
	})
}

// kill -9 of what the batch script became: Slurm ends the step, and everything with it.
func TestKillOfTheBatchProcess(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := submit(t, c, dir, twoByTwo, 4)
	killed := false
	for _, p := range c.Processes() {
		pid, args, _ := strings.Cut(p, " ")
		if strings.Contains(args, "maniple run") {
			n, _ := strconv.Atoi(pid)
			killed = syscall.Kill(n, syscall.SIGKILL) == nil
		}
	}
	if !killed {
		t.Fatalf("no batch process among %v", c.Processes())
	}
	j := over(t, c, id, short)
	if j.State != slurm.Failed || j.Result() != 137 {
		t.Errorf("%s, result %d", j.State, j.Result())
	}
	c.Clean(t)
}

// kill -9 of agent and head under a running gang: no rank dies, and the exit code is still right.
func TestKillOfAgentAndHead(t *testing.T) {
	c := e2e.Slurm(t)
	for _, victim := range []string{"agent", "head"} {
		t.Run(victim, func(t *testing.T) {
			dir := c.Folder(t)
			id := submit(t, c, dir, twoByTwo, 4, "sh", "-c", `while [ ! -e go ]; do sleep 0.05; done; [ "$RANK" = 2 ] && exit 4; sleep 1000`)
			before := pidsOf(t, dir)
			n := killAll(t, c, "maniple "+victim)
			if n == 0 {
				t.Fatalf("no %s among %v", victim, c.Processes())
			}
			e2e.Until(t, short, "they are started again", func() bool { return count(c, "maniple "+victim) == n })
			if after := pidsOf(t, dir); after != before {
				t.Errorf("grandchildren %s became %s", before, after)
			}
			c.Write(t, filepath.Join(dir, "go"), "", 0o644)
			j := over(t, c, id, short)
			if j.State != slurm.Failed || j.Result() != 4 {
				t.Errorf("%s, result %d\n%s", j.State, j.Result(), output(dir, id))
			}
			c.Clean(t)
		})
	}
}

func pidsOf(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for rank := range 4 {
		all = append(all, strings.TrimSpace(e2e.Read(filepath.Join(dir, fmt.Sprintf("grandchild.%d", rank)))))
	}
	return strings.Join(all, " ")
}

func count(c *e2e.Cluster, what string) (n int) {
	for _, p := range c.Processes() {
		if _, args, _ := strings.Cut(p, " "); strings.HasSuffix(args, what) {
			n++
		}
	}
	return n
}

func killAll(t *testing.T, c *e2e.Cluster, what string) (n int) {
	t.Helper()
	for _, p := range c.Processes() {
		pid, args, _ := strings.Cut(p, " ")
		if id, err := strconv.Atoi(pid); err == nil && strings.HasSuffix(args, what) {
			if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			n++
		}
	}
	return n
}

// Nodes that lack what Slurm granted: the job fails with the reason in words, and nothing is left of the
// half-started cluster.
func TestNodesThatCannotStart(t *testing.T) {
	c := e2e.Slurm(t)
	for _, broken := range [][]string{{"n2"}, {"n1", "n2"}} {
		t.Run(strings.Join(broken, " and "), func(t *testing.T) {
			dir := c.Folder(t)
			for _, n := range broken {
				c.Node(t, "exec", n, "rm", "/dev/nvidia3")
				t.Cleanup(func() { c.Node(t, "exec", n, "mknod", "-m", "666", "/dev/nvidia3", "c", "1", "3") })
			}
			r := c.Run(t, short, dir, c.Binary, "submit", "--follow", "-N2", "--gpus-per-node=4", "--", "/bin/hostname")
			if r.Code != 75 || !strings.Contains(r.Stdout, "grants GPU 3") || !strings.Contains(r.Stdout, broken[len(broken)-1]+" could not start") && !strings.Contains(r.Stdout, broken[0]+" could not start") {
				t.Errorf("exit %d\n%s", r.Code, r.Stdout)
			}
			c.Clean(t)
		})
	}
}

// kill -9 of a keeper is the death of its node: the gang ends, with 137, and the node is named. That of
// the first node has the head below it.
func TestKillOfAKeeper(t *testing.T) {
	c := e2e.Slurm(t)
	for _, node := range []string{"n2", "n1"} {
		t.Run(node, func(t *testing.T) {
			dir := c.Folder(t)
			id := submit(t, c, dir, append([]string{"-w", "n[1-2]"}, twoByTwo...), 4)
			killed := 0
			for _, p := range c.Processes() {
				pid, args, _ := strings.Cut(p, " ")
				if n, err := strconv.Atoi(pid); err == nil && strings.HasPrefix(args, c.Binary+" keeper ") && strings.Contains(e2e.Read("/proc/"+pid+"/environ"), "\x00SLURMD_NODENAME="+node+"\x00") {
					if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					killed++
				}
			}
			if killed != 1 {
				t.Fatalf("%d keepers of %s among\n%s", killed, node, strings.Join(c.Processes(), "\n"))
			}
			j := over(t, c, id, short)
			out := output(dir, id)
			if j.State != slurm.Failed || j.Result() != 137 {
				t.Errorf("%s, result %d\n%s", j.State, j.Result(), out)
			}
			if !regexp.MustCompile(`\b` + node + `\b.*(died|lost|dead)|(died|lost|dead).*\b` + node + `\b`).MatchString(out) {
				t.Errorf("the output does not name %s:\n%s", node, out)
			}
			c.Clean(t)
		})
	}
}
