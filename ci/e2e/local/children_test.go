//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// TestChildrenOnBothNodes: tasks on two nodes of one CPU each wait for tasks that they have started, 20 deep, and a gang has its turn among them.
func TestChildrenOnBothNodes(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "two", "--fake-nodes", "2", "--cpus", "1")
	p := w.python(`
import os, sys, time
import maniple
maniple.init(sys.argv[1])

@maniple.remote
def depth(n):
    return 1 + (maniple.get(depth.remote(n - 1)) if n > 1 else 0)

@maniple.remote(scheduling_strategy="SPREAD")
def parent(n):
    time.sleep(0.1)
    return os.environ["MANIPLE_ADDRESS"], sum(maniple.get([depth.remote(1) for _ in range(n)])), maniple.get(depth.remote(20))

got = maniple.get([parent.remote(5) for _ in range(6)], timeout=60)
assert [x[1:] for x in got] == [(5, 20)] * 6, got
assert len({x[0] for x in got}) == 2, got
more = [parent.remote(5) for _ in range(6)]
print("more", flush=True)
maniple.get(more, timeout=60)
print("done", flush=True)
`, "two")
	p.says("more")
	w.must("run", "--cluster", "two", "-N", "2", "true")
	if code := p.code(time.Minute); code != 0 || !strings.Contains(p.out.String(), "done") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "two")
	w.nothingLeft()
}
