package agent_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// AGENT-13: a driver's tasks run on a bundle that another node has, in workers of that node, and retry there; they and
// what they were forked from end with the driver. Beside them tasks of no group go there when their own node is full.
func TestTasksOnAnotherNode(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	d := drive(t, nodes[0])
	g := oneBundle(d.at, "at n2", 2)
	g.Bundles[0].Labels = []*fb.LabelT{{Key: "maniple.node", Value: "n2"}}
	d.send(g)
	d.send(&fb.ShapeT{Number: 3, Group: g.Group, Bundle: 0, Retries: 2, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}})
	d.submit(fnPID, 3)
	there, err := strconv.Atoi(d.result())
	if err != nil {
		t.Fatal(err)
	}
	d.submit(fnDie, 3)
	if again, err := strconv.Atoi(d.result()); err != nil || again == there {
		t.Errorf("after kill -9 of its worker: %d, %v", again, err)
	}
	here := drive(t, nodes[1])
	here.submit(fnPID, 1)
	if r := here.result(); strings.HasPrefix(r, "error") {
		t.Errorf("a driver of that node beside them: %s", r)
	}
	for range 8 + 2 { // more than n1 has
		d.submit(fnSleep, 2)
	}
	until(t, "tasks of no group are at n2", func() bool {
		d.send(&fb.StateQueryT{What: "tasks"})
		return strings.Contains(<-d.replies, `"node":"n2"`)
	})
	_ = d.conn.Close()
	until(t, "the worker is gone with its driver", func() bool { return gone(there) })
	here.submit(fnPID, 1)
	if r := here.result(); strings.HasPrefix(r, "error") {
		t.Errorf("the other driver afterwards: %s", r)
	}
}

// AGENT-15: what one driver's tasks have of all nodes comes back for another one's, and for a group, within the time of a
// task; what both want they share.
func TestTwoDriversOnTwoNodes(t *testing.T) {
	nodes := cluster(t, "n1", "n2")
	first := drive(t, nodes[0])
	for range 3000 {
		first.submit(fnNap, 1)
	}
	until(t, "the first has all of both nodes", func() bool {
		first.send(&fb.StateQueryT{What: "tasks"})
		return strings.Count(<-first.replies, `"node":"n2"`) >= 8
	})
	second := drive(t, nodes[1])
	began := time.Now()
	second.submit(fnPID, 1)
	if r := second.result(); strings.HasPrefix(r, "error") {
		t.Fatal(r)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the second's first task took %v", took)
	}
	for range 400 {
		second.submit(fnNap, 1)
	}
	for range 400 {
		second.result()
	}
	if n := len(first.results); n > 1300 { // on eight CPUs of 16 each some 400 meanwhile, and those before
		t.Errorf("until the second's 400 tasks were done %d of the first's were", n)
	}
	group := oneBundle(second.at, "all of n1", 8)
	group.Bundles[0].Labels = []*fb.LabelT{{Key: "maniple.node", Value: "n1"}}
	began = time.Now()
	second.send(group)
	until(t, "a group has all of n1", func() bool { return second.phases()["all of n1"] == "created" })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a group waited for %v", took)
	}
}
