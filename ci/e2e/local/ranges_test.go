//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A part of a value that lies at another node comes alone: rows of an array, of one array of several, some of the bytes; from where it was made, whoever owns it, and from
// memory as from a file; by the network, and from one another's memory. What can't be divided comes whole, and what was lost is made again.
func TestRangesOfValues(t *testing.T) {
	t.Run("network", func(t *testing.T) {
		ranges(t, true, "--no-same-host-handover", "--object-spilling-directory", t.TempDir())
	})
	t.Run("machine", func(t *testing.T) { ranges(t, false) })
}

func ranges(t *testing.T, lost bool, flags ...string) {
	w := newWorld(t)
	w.must(append([]string{"up", "--cluster", "ranges", "--fake-nodes", "3", "--cpus", "2", "--object-store-memory", "100M"}, flags...)...)
	args := []string{"-c", rangesOfValues, "ranges"}
	if lost {
		args = append(args, "lost")
	}
	env := append(append([]string{}, w.env...), "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	p := w.launch("", env, torch(t), args...) // which has numpy
	if lost {
		p.says("kill n")
		w.killAgent(regexp.MustCompile(`kill (n\d)`).FindStringSubmatch(p.out.String())[1])
	}
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "ranges")
	w.nothingLeft()
}

const rangesOfValues = `
import os, sys, time
import maniple, numpy
from maniple._core.session import current
from maniple.util import placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy

maniple.init(sys.argv[1])
group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
ROWS, COLUMNS, FRONT = 4000, 1000, 64 << 10
a = numpy.arange(ROWS * COLUMNS, dtype="f8").reshape(ROWS, COLUMNS)

def at(i):
    return PlacementGroupSchedulingStrategy(group, i)

@maniple.remote(num_cpus=1)
def make(kind):
    a = numpy.arange(ROWS * COLUMNS, dtype="f8").reshape(ROWS, COLUMNS)
    kinds = {"array": lambda: a, "bytes": a.tobytes, "items": lambda: {"few": a[:10], "all": a + 1, "one": numpy.float64(3)}}
    return {**kinds, "columns": lambda: a.T, "text": lambda: "t" * a.nbytes}[kind]()

def seen(x):
    """What is compared."""
    return (x.shape, float(x.sum()), x.dtype) if hasattr(x, "sum") else x

@maniple.remote(num_cpus=1, max_restarts=0)
class Node:
    def where(self):
        return os.environ["MANIPLE_ADDRESS"].split("/")[-2]
    def fill(self, n):
        self.kept = [maniple.put(os.urandom(8 << 20)) for _ in range(n)]
    def read(self, refs, *args, **options):
        return seen(maniple.get_range(refs[0], *args, **options))

nodes = [Node.options(scheduling_strategy=at(i)).remote() for i in range(3)]
homes = maniple.get([n.where.remote() for n in nodes], timeout=60)
mine = homes.index("n1")
there, other = [i for i in range(3) if i != mine]

def made(kind, i=there):
    ref = make.options(scheduling_strategy=at(i)).remote(kind)
    maniple.wait([ref], fetch_local=False, timeout=60)
    return ref

def costs(most, i, *args, **options):
    """What a node, or the driver, reads, for at most so many bytes that come to any node."""
    stores = lambda: sum(n["store"].get("received", 0) for n in current().query("stores")["nodes"])
    before = stores()
    got = seen(maniple.get_range(*args, **options)) if i is None else maniple.get(nodes[i].read.remote([args[0]], *args[1:], **options), timeout=60)
    came = stores() - before
    assert most - FRONT <= came <= most, (came, most, args, options)
    return got

row = COLUMNS * 8
array = made("array")
for i in (other, None):
    assert costs(FRONT + 100 * row, i, array, 100, 200) == seen(a[100:200])
    assert costs(FRONT + 3 * row, i, array, -3) == seen(a[-3:])
    assert costs(FRONT, i, array, 10, 3) == seen(a[10:3])
assert not maniple.get_range(array, 1, 2).flags.writeable
assert costs(0, there, array, 100, 200) == seen(a[100:200])  # it lies there
data = made("bytes")
assert costs(1000, None, data, 5, 1005) == a.tobytes()[5:1005]
assert costs(0, other, data, a.nbytes) == b""
items = made("items")
assert costs(FRONT + 7 * row, other, items, 3, 10, item="all") == seen(a[3:10] + 1)
assert costs(FRONT + 2 * row, None, items, stop=2, item="few") == seen(a[:2])
try:
    maniple.get_range(array, 1, 2, item="none")
    raise AssertionError("an array has no such item")
except IndexError:
    pass
assert costs(a.nbytes + 2 * FRONT, None, made("columns"), 0, 1) == seen(a.T[0:1])
assert costs(a.nbytes + 2 * FRONT, None, made("text"), 1, 3) == "tt"
del items, data

if len(sys.argv) > 2:
    spilled = made("array")
    maniple.get(nodes[there].fill.remote(12), timeout=60)
    store = next(n["store"] for n in current().query("stores")["nodes"] if n["name"] == homes[there])
    assert store["on_disk"], store
    assert costs(FRONT + row, other, spilled, 7, 8) == seen(a[7:8])
    big = costs(FRONT + 3000 * row, other, spilled, 0, 3000)
    assert big == seen(a[:3000]), big
    print("kill", homes[there], flush=True)
    for i in range(30):  # meanwhile that node's agent dies
        assert seen(maniple.get_range(spilled, i, i + 8, timeout=60)) == seen(a[i:i + 8])
        time.sleep(0.1)
print("all is well", flush=True)
maniple.shutdown()
`
