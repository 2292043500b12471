//go:build e2e

package slurm

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// Keeper, agent and head of all nodes get KILL before the nodes are done: what stays on the nodes is swept by
// the next job of the same user there, though it is another one.
func TestLeftoversAreSweptByTheNextJob(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	on := []string{"-w", "n[1-2]", "-N", "2", "--ntasks-per-node", "1"}
	id := submit(t, c, dir, on, 2)
	var pids []int
	for _, p := range c.Processes() {
		pid, args, _ := strings.Cut(p, " ")
		if strings.HasPrefix(args, c.Binary+" keeper ") || args == "maniple agent" || args == "maniple head" {
			n, _ := strconv.Atoi(pid)
			pids = append(pids, n)
		}
	}
	if len(pids) != 5 {
		t.Fatalf("%d keepers, agents and heads among\n%s", len(pids), strings.Join(c.Processes(), "\n"))
	}
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} { // so that none sees another's death
		for _, pid := range pids {
			if err := syscall.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	over(t, c, id, short)
	left := strings.Join(c.Leftovers(t), "\n")
	for _, node := range []string{"n1", "n2"} {
		if !strings.Contains(left, "/"+id+"/"+node+"/keeper.json") {
			t.Fatalf("nothing was left on %s: the test shows nothing\n%s", node, left)
		}
	}
	argv := append(append([]string{c.Binary, "submit", "--wait"}, on...), "--", "true")
	if r := c.Run(t, short, dir, argv...); r.Code != 0 {
		t.Errorf("the next job: exit %d: %s", r.Code, r.Stderr)
	}
	c.Clean(t)
}
