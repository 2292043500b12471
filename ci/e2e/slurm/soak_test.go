//go:build e2e && soak

package slurm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/slurm"
)

// victims are what a round kills, and how its job may end then. A job whose gang is not hurt is let go on.
var victims = map[string]struct {
	state   slurm.State
	results []int
	unhurt  bool
}{
	"rank":       {state: slurm.Failed, results: []int{137}},
	"agent":      {state: slurm.Completed, results: []int{0}, unhurt: true},
	"head":       {state: slurm.Completed, results: []int{0}, unhurt: true},
	"keeper":     {state: slurm.Failed, results: []int{137}},
	"driver":     {state: slurm.Failed, results: []int{137}},
	"srun":       {state: slurm.Failed, results: []int{137, 143}},
	"slurmstepd": {state: slurm.Failed, results: []int{137, 143}},
	"scancel":    {state: slurm.Cancelled, results: []int{143}},
}

// find lists the processes of a role, of every node or of the login node.
func find(c *e2e.Cluster, role, id string) (pids []int) {
	is := func(pid, args string) bool {
		switch role {
		case "rank":
			return strings.HasPrefix(args, "/bin/sh ") && strings.Contains(args, "/stubborn.sh ")
		case "driver":
			return strings.HasPrefix(args, c.Binary+" run ")
		case "srun":
			// Not its helper, a child that only waits for its end.
			return strings.HasPrefix(args, "srun ") && strings.Contains(args, " keeper ") && !strings.HasPrefix(parent(pid), "srun")
		case "keeper":
			return strings.HasPrefix(args, c.Binary+" keeper ")
		}
		return strings.HasSuffix(args, "maniple "+role)
	}
	if role == "slurmstepd" { // root's, of our step
		dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is valid
		for _, dir := range dirs {
			if strings.HasPrefix(e2e.Read(dir+"/cmdline"), "slurmstepd: ["+id+".0]") {
				pid, _ := strconv.Atoi(filepath.Base(dir))
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for _, p := range c.Processes() {
		if pid, args, _ := strings.Cut(p, " "); is(pid, args) {
			n, _ := strconv.Atoi(pid)
			pids = append(pids, n)
		}
	}
	return pids
}

// parent is the command line of a process's parent.
func parent(pid string) string {
	_, after, _ := strings.Cut(e2e.Read("/proc/"+pid+"/status"), "\nPPid:\t")
	ppid, _, _ := strings.Cut(after, "\n")
	return e2e.Read("/proc/" + ppid + "/cmdline")
}

// Random kills of anything that belongs to a job, under a gang each of whose ranks has a grandchild that
// left its session and ignores TERM. Exit code and Slurm's state are right, and nothing is left on any
// node. MANIPLE_SOAK_ROUNDS says how many, MANIPLE_SEED which, MANIPLE_SOAK_VICTIMS of what.
func TestRandomKills(t *testing.T) {
	c := e2e.Slurm(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MANIPLE_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	rounds := 100
	if s := os.Getenv("MANIPLE_SOAK_ROUNDS"); s != "" {
		rounds, _ = strconv.Atoi(s)
	}
	t.Logf("MANIPLE_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var names []string
	for name := range victims {
		names = append(names, name)
	}
	if s := os.Getenv("MANIPLE_SOAK_VICTIMS"); s != "" {
		names = strings.Split(s, ",")
	}
	slices.Sort(names)
	for i := range rounds {
		// All of a kind before the first comes again.
		if i%len(names) == 0 {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		victim, after := names[i%len(names)], time.Duration(r.IntN(400))*time.Millisecond
		t.Run(fmt.Sprintf("%d-%s-%dms", i, victim, after.Milliseconds()), func(t *testing.T) {
			round(t, c, r, victim, after)
		})
	}
}

func round(t *testing.T, c *e2e.Cluster, r *rand.Rand, victim string, after time.Duration) {
	dir := c.Folder(t)
	id := submit(t, c, dir, twoByTwo, 4, "sh", "-c", `while [ ! -e go ]; do sleep 0.05; done; exit 0`)
	time.Sleep(after)
	if victim == "scancel" {
		if r := c.Run(t, short, dir, "scancel", id); r.Code != 0 {
			t.Fatal(r)
		}
	} else {
		pids := find(c, victim, id)
		if len(pids) == 0 {
			t.Fatalf("no %s among\n%s", victim, strings.Join(c.Processes(), "\n"))
		}
		if err := syscall.Kill(pids[r.IntN(len(pids))], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	want := victims[victim]
	if want.unhurt {
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		c.Write(t, filepath.Join(dir, "go"), "", 0o644)
	}
	began := time.Now()
	j := over(t, c, id, short)
	took := time.Since(began)
	if j.State != want.state || !slices.Contains(want.results, j.Result()) {
		t.Errorf("%s, result %d\n%s", j.State, j.Result(), output(dir, id))
	}
	t.Logf("%s, result %d after %v", j.State, j.Result(), took.Round(time.Millisecond))
	c.Clean(t)
	e2e.Until(t, short, "all nodes are idle", func() bool {
		return !strings.ContainsAny(strings.TrimSpace(strings.ReplaceAll(c.Root(t, "sinfo", "-h", "-N", "-p", "low", "-o", "%t"), "idle", "")), "abcdefghijklmnopqrstuvwxyz")
	})
	if left, _ := filepath.Glob(filepath.Join(c.Home, ".local/state/maniple/jobs/slurm", id, "endpoint.json")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
