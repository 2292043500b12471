//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// On one CPU tasks that wait for each other run as deep as they go; on none runs what needs none, and nothing else.
const oneAndNone = `
import sys, time
import maniple
from maniple.util import state

@maniple.remote
def deep(n):
    return 0 if n == 0 else 1 + maniple.get(deep.remote(n - 1))

@maniple.remote
class Actor:
    def name(self):
        return "I"

depth = int(sys.argv[1])
with maniple.init("local", num_cpus=1):
    assert maniple.cluster_resources()["CPU"] == 1
    assert maniple.get(deep.remote(depth), timeout=100) == depth

maniple.init("local", num_cpus=0, resources={"light": 1})
there = maniple.cluster_resources()
assert "CPU" not in there and there["light"] == 1, there
assert maniple.get([deep.options(num_cpus=0).remote(0) for _ in range(20)], timeout=60) == [0] * 20
assert maniple.get(deep.options(num_cpus=0, resources={"light": 1}).remote(0), timeout=60) == 0
assert maniple.get(Actor.options(num_cpus=0).remote().name.remote(), timeout=60) == "I"
waits = [deep.remote(0), Actor.options(num_cpus=1).remote().name.remote()]
until = time.monotonic() + 60
while sum("the node has 0 CPU at all" in (t["waits"] or "") for t in state.list_tasks()) < 2:
    assert time.monotonic() < until, state.list_tasks()
    time.sleep(0.05)
assert maniple.wait(waits, timeout=0) == ([], waits)
assert maniple.get(maniple.put(b"x" * (1 << 20))) == b"x" * (1 << 20)
print("all is well", flush=True)
`

func TestOneCPUAndNone(t *testing.T) {
	for _, tt := range []struct{ name, pure, depth string }{{"by the extension", "", "200"}, {"in Python alone", "1", "20"}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.env = append(w.env, "MANIPLE_PURE="+tt.pure)
			p := w.python(oneAndNone, tt.depth)
			if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
				t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
			}
			w.nothingLeft()
		})
	}
}
