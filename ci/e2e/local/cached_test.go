//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// A value of a key is made once on each node, by whoever asks first, and seen by tasks, drivers and programs in Go; it outlives its driver, is made by the next one if its
// maker dies, and goes when memory is short before anything is written to disk.
func TestCachedValues(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "cached", "--fake-nodes", "2", "--cpus", "3", "--object-store-memory", "64M", "--object-spilling-directory", t.TempDir())
	dir := t.TempDir()
	for _, part := range []string{"first", "second"} {
		p := w.python(cachedValues, "cached", part, dir)
		if code := p.code(time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
			t.Fatalf("%s: exit code %d\n%s\n%s\n%s", part, code, p.out.String(), p.err.String(), w.logs())
		}
		if part == "first" {
			q := w.golang(w.goProgram("ci/e2e/programs/driver"), "cached", "cached")
			if code := q.code(time.Minute); code != 0 || q.out.String() != "all is well\n" {
				t.Fatalf("exit code %d\n%s\n%s\n%s", code, q.out.String(), q.err.String(), w.logs())
			}
			if got := w.must("status", "--cluster", "cached"); !strings.Contains(got, " cached") {
				t.Errorf("status does not say what is cached:\n%s", got)
			}
		}
	}
	w.must("down", "--cluster", "cached")
	w.nothingLeft()
}

const cachedValues = `
import os, signal, sys, time
import maniple
from maniple._core.session import current
from maniple.util.state import list_objects
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At

MIB = 1 << 20
part, top = sys.argv[2:]
maniple.init(sys.argv[1])
nodes = sorted(n["NodeID"] for n in maniple.nodes())
store = lambda: current().query("memory")["store"]

def make(name):
    """8 MiB, and a line in a file for each time that it was made."""
    def made():
        with open(os.path.join(top, name), "a") as f:
            f.write(os.environ["MANIPLE_ADDRESS"].split("/")[-2] + "\n" if "MANIPLE_ADDRESS" in os.environ else "driver\n")
        time.sleep(0.3)
        return name.encode() * (8 * MIB // len(name))
    return made

def times(name):
    with open(os.path.join(top, name)) as f:
        return len(f.readlines())

@maniple.remote(num_cpus=1)
def size(name):
    return len(maniple.cached(name, make(name)))

@maniple.remote(num_cpus=1, max_retries=0)
def dies(name):
    def make():
        open(os.path.join(top, "dying"), "w").close()
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    maniple.cached(name, make)

def on(task, node):
    return task.options(scheduling_strategy=At(node, soft=False))

if part == "first":
    asked = [on(size, node).remote("weights0") for node in nodes for _ in range(3)]
    assert maniple.get(asked, timeout=30) == [8 * MIB] * 6 and times("weights0") == 2, times("weights0")
    assert len(maniple.cached("weights0", make("weights0"))) == 8 * MIB and times("weights0") == 2
    dead, here = on(dies, current().node).remote("killed00"), on(size, current().node)
    while not os.path.exists(os.path.join(top, "dying")):
        time.sleep(0.01)
    late = [here.remote("killed00") for _ in range(2)]
    assert maniple.get(late, timeout=30) == [8 * MIB] * 2 and times("killed00") == 1
    try:
        maniple.get(dead)
        assert False, "it lives"
    except maniple.exceptions.WorkerCrashedError:
        pass
    assert maniple.cached("of Python", lambda: b"by Python" * 3) == b"by Python" * 3
else:
    assert maniple.cached("weights0", make("weights0"))[:8] == b"weights0" and times("weights0") == 2  # of a driver that is over
    assert maniple.cached("of Go", lambda: 1 / 0) == b"by Go"
    end, rest = time.monotonic() + 10, set()
    while not rest >= {'"weights0"', '"killed00"', '"of Python"', '"of Go"'} and time.monotonic() < end:  # what held them has just ended
        time.sleep(0.02)
        rest = {o["cached"] for o in list_objects() if o.get("cached") and not o["process"] and o["node_id"] == current().node}
    assert rest >= {'"weights0"', '"killed00"', '"of Python"', '"of Go"'}, rest
    assert store()["cached_bytes"] >= 16 * MIB, store()
    held = [maniple.put(bytes(8 * MIB)) for _ in range(6)]  # with what is cached more than there is room for
    assert not store().get("spilled"), store()
    assert maniple.get(held[0]) == bytes(8 * MIB)
    assert len(maniple.cached("killed00", make("killed00"))) == 8 * MIB and times("killed00") + times("weights0") in (4, 3), (times("killed00"), times("weights0"))
print("all is well", flush=True)
`
