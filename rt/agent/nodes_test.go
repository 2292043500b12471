package agent_test

import (
	"strconv"
	"strings"
	"testing"

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
