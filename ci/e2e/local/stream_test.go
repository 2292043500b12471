//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// A fast producer of large items is held by the bytes that its reader on another node has not taken: a task that dies in between, whose CPU the reader's own
// tasks have meanwhile, and an actor.
func TestStreamsWaitForTheirReader(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "flow", "--fake-nodes", "2", "--cpus", "1", "--object-store-memory", "400M", "--no-same-host-handover")
	p := w.python(spread+`
from maniple._core.session import current

group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
here = current().node
homes = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(2)], timeout=60)
there = next(on(group, i) for i in range(2) if homes[i].split("/")[-2] != here)
SIZE, ITEMS, BOUND = 10 << 20, 16, 64 << 20

def items(path, dies):
    for i in range(ITEMS):
        if i == dies and not os.path.exists(path + ".died"):
            open(path + ".died", "w").close()
            os.kill(os.getpid(), 9)
        with open(path, "a") as f:
            f.write("%d " % i)
        yield bytes([i]) * SIZE

made = maniple.remote(items)

@maniple.remote(num_cpus=0)
class Maker:
    def make(self, path):
        yield from items(path, -1)

@maniple.remote(num_cpus=1)
def first(value):
    return value[0]

def count(path):
    with open(path) as f:
        return max(map(int, f.read().split())) + 1

def slowly(name, stream, use):
    most = 0
    for i in range(ITEMS):
        ref = next(stream)
        assert use(ref) == i, i
        del ref
        time.sleep(0.05)
        ahead = count(name) - i - 1
        assert ahead * SIZE <= BOUND, (name, i, ahead)
        most = max(most, ahead)
    assert next(stream, None) is None
    assert most == BOUND // SIZE, (name, most)

slowly("task", made.options(scheduling_strategy=there).remote(os.path.abspath("task"), 9), lambda ref: maniple.get(first.options(scheduling_strategy=there).remote(ref), timeout=60))
maker = Maker.options(scheduling_strategy=there).remote()
stream = maker.make.remote(os.path.abspath("actor"))
slowly("actor", stream, lambda ref: maniple.get(ref, timeout=60)[0])
print("all is well", flush=True)
maniple.shutdown()
`, "flow")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "flow")
	w.nothingLeft()
}
