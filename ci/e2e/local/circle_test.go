//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// TestCircleOverNodes: actors on two nodes that wait for each other are told so, with the names of all that wait.
func TestCircleOverNodes(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "two", "--fake-nodes", "2", "--cpus", "1")
	p := w.python(`
import os, sys
import maniple
maniple.init(sys.argv[1])

@maniple.remote(num_cpus=1, scheduling_strategy="SPREAD")
class Actor:
    def knows(self, other):
        self.other = other
        return os.environ["MANIPLE_ADDRESS"]
    def first(self):
        return maniple.get(self.other.second.remote())
    def second(self):
        return maniple.get(self.other.third.remote())
    def third(self):
        return 3

a, b = Actor.remote(), Actor.remote()
assert len(set(maniple.get([a.knows.remote(b), b.knows.remote(a)], timeout=60))) == 2
try:
    maniple.get(a.first.remote(), timeout=30)
except maniple.exceptions.DeadlockError as e:
    assert all(f"Actor.{name} " in str(e) for name in ("first", "second", "third")), e
    print("told", flush=True)
assert maniple.get([a.third.remote(), b.third.remote()], timeout=30) == [3, 3]
print("done", flush=True)
`, "two")
	if code := p.code(time.Minute); code != 0 || !strings.Contains(p.out.String(), "told\ndone") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "two")
	w.nothingLeft()
}

// TestRecursionThatTakesAllNodes: one level more than all nodes have GPUs for is told so, with what holds them.
func TestRecursionThatTakesAllNodes(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "two", "--fake-nodes", "2", "--cpus", "1", "--node-gpus", "1")
	p := w.python(`
import sys
import maniple
maniple.init(sys.argv[1])

@maniple.remote(num_gpus=1)
def down(n):
    return n and 1 + maniple.get(down.remote(n - 1))

assert maniple.get(down.remote(1), timeout=60) == 1
try:
    maniple.get(down.remote(2), timeout=60)
except maniple.exceptions.DeadlockError as e:
    assert " of node n1" in str(e) and " of node n2" in str(e), e
    print("told", flush=True)
assert maniple.get(down.remote(1), timeout=60) == 1
print("done", flush=True)
`, "two")
	if code := p.code(2 * time.Minute); code != 0 || !strings.Contains(p.out.String(), "told\ndone") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "two")
	w.nothingLeft()
}

// TestLicensesOfANodeInUse: of a node's licenses those that nobody uses go to tasks of another node, whoever had them all a moment ago.
func TestLicensesOfANodeInUse(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "two", "--fake-nodes", "2", "--cpus", "4", "--node-resources", "lic=4")
	p := w.python(`
import os, sys, tempfile, time
import maniple
maniple.init(sys.argv[1])
here = maniple.get_runtime_context().get_node_id()
there = [n["NodeID"] for n in maniple.nodes() if n["NodeID"] != here][0]
met = tempfile.mkdtemp()

@maniple.remote(num_cpus=0, resources={"lic": 1})
def uses(name, others):
    open(os.path.join(met, name), "w").close()
    while len(os.listdir(met)) < others:
        time.sleep(0.01)
    return maniple.get_runtime_context().get_node_id()

@maniple.remote(scheduling_strategy=maniple.util.scheduling_strategies.NodeAffinitySchedulingStrategy(there, soft=False))
def owner():
    return [uses.remote("first", 8)]  # that node's own, which has all of them then

first = maniple.get(owner.remote(), timeout=60)[0]
nodes = maniple.get([uses.remote(str(i), 8) for i in range(7)], timeout=60)  # all of them at a time
assert maniple.get(first, timeout=60) == there and nodes.count(there) == 3, nodes
print("done", flush=True)
`, "two")
	if code := p.code(2 * time.Minute); code != 0 || !strings.Contains(p.out.String(), "done") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "two")
	w.nothingLeft()
}
