//go:build e2e

package local

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// spread begins every driver here: a group with a bundle on each of a cluster's nodes.
const spread = `
import os, sys, time
import maniple
from maniple.util import placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy
maniple.init(sys.argv[1])

def on(group, index):
    return PlacementGroupSchedulingStrategy(group, index)

def raised(kind, ref):
    try:
        maniple.get(ref, timeout=60)
    except kind as e:
        return str(e)
    raise AssertionError(f"no {kind}")

@maniple.remote(num_cpus=1)
def where(*args):
    return os.environ["MANIPLE_ADDRESS"]

@maniple.remote(num_cpus=1)
class Counter:
    def __init__(self, n=0):
        self.n = n
    def add(self, k=1):
        self.n += k
        return self.n
    def where(self):
        return os.environ["MANIPLE_ADDRESS"]
    def die(self):
        os.kill(os.getpid(), 9)
`

// Tasks and actors on the bundles of a group whose nodes are not the driver's.
func TestNodesOfAGroup(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "three", "--fake-nodes", "3", "--cpus", "3")
	p := w.python(spread+`
group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
places = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(3)], timeout=60)
assert len(set(places)) == 3, places
assert len(maniple.get([where.options(scheduling_strategy=on(group, -1)).remote(i) for i in range(300)], timeout=60)) == 300

@maniple.remote(num_cpus=1)
def double(x):
    print("doubling", flush=True)
    return x * 2
assert maniple.get([double.options(scheduling_strategy=on(group, i)).remote(b"ab") for i in range(3)], timeout=60) == [b"abab"] * 3
chain = 1
for i in range(9):
    chain = double.options(scheduling_strategy=on(group, i % 3)).remote(chain)
assert maniple.get(chain, timeout=60) == 512
big = maniple.put(b"x" * (20 << 20))
assert len(maniple.get(double.options(scheduling_strategy=on(group, 2)).remote(big), timeout=60)) == 40 << 20

class Mine(ValueError):
    pass
@maniple.remote(num_cpus=1)
def fails():
    raise Mine("no luck")
for i in range(3):
    assert "no luck" in raised(Mine, fails.options(scheduling_strategy=on(group, i)).remote())

counters = [Counter.options(name=f"c{i}", scheduling_strategy=on(group, i)).remote(i) for i in range(3)]
assert sorted(maniple.get([c.where.remote() for c in counters], timeout=60)) == sorted(places)
for i in range(3):
    assert maniple.get([maniple.get_actor(f"c{i}").add.remote() for _ in range(100)], timeout=60)[-1] == i + 100
again = Counter.options(max_restarts=1, max_task_retries=0, scheduling_strategy=on(group, 1)).remote()
assert maniple.get(again.add.remote(5), timeout=60) == 5
raised(maniple.exceptions.ActorError, again.die.remote())
assert maniple.get(again.add.remote(7), timeout=60) == 7
assert "signal 9" in raised(maniple.exceptions.ActorDiedError, again.die.remote())
for c in counters:
    maniple.kill(c)
    raised(maniple.exceptions.ActorDiedError, c.add.remote())

@maniple.remote(num_cpus=1)
def items(n):
    for i in range(n):
        yield i
got = [maniple.get(r, timeout=60) for r in items.options(num_returns="streaming", scheduling_strategy=on(group, 2)).remote(20)]
assert got == list(range(20)), got

@maniple.remote(num_cpus=1)
def sleeps():
    time.sleep(600)
slow = sleeps.options(scheduling_strategy=on(group, 1)).remote()
maniple.wait([slow], timeout=1)
maniple.cancel(slow)
raised(maniple.exceptions.TaskCancelledError, slow)
time.sleep(0.5)
print("all is well", flush=True)
maniple.shutdown()
`, "three")
	if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") || strings.Count(p.out.String(), "doubling\n") < 12 {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "three")
	w.nothingLeft()
}

// What a node that dies had is tried again where its bundle is placed next; what may not be names the node.
func TestNodesThatDie(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "dies", "--fake-nodes", "3", "--cpus", "3")
	p := w.python(spread+`
group = placement_group([{"CPU": 3}, {"CPU": 3}], strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
mine = os.environ.get("MANIPLE_ADDRESS") or maniple.get(where.options(num_cpus=0).remote(), timeout=60)
at = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(2)], timeout=60)
away = 0 if at[0] != mine else 1

@maniple.remote(num_cpus=1)
def waits(flag):
    open(flag + "." + str(os.getpid()), "w").close()
    while not os.path.exists(flag):
        time.sleep(0.05)
    return os.environ["MANIPLE_ADDRESS"]
flag = os.path.abspath("flag")
there = dict(scheduling_strategy=on(group, away))
once = waits.options(max_retries=0, **there).remote(flag)
often = waits.options(max_retries=3, **there).remote(flag)
counter = Counter.options(max_restarts=1, **there).remote(3)
before = maniple.get(counter.where.remote(), timeout=60)
assert before == at[away]
while len([f for f in os.listdir(".") if f.startswith("flag.")]) < 2:
    time.sleep(0.05)
print("node", before.split("/")[-2], flush=True)
text = raised(maniple.exceptions.NodeDiedError, once)
assert before.split("/")[-2] in text, text
open(flag, "w").close()
assert maniple.get(often, timeout=60) != before
until = time.monotonic() + 60
while True:
    try:
        assert maniple.get(counter.add.remote(2), timeout=60) == 5
        break
    except maniple.exceptions.ActorUnavailableError:
        assert time.monotonic() < until
assert maniple.get(counter.where.remote(), timeout=60) != before
print("all is well", flush=True)
maniple.shutdown()
`, "dies")
	p.says("node ")
	_, name, _ := strings.Cut(p.out.String(), "node ")
	if err := syscall.Kill(w.keeper(strings.TrimSpace(name)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "dies")
	w.nothingLeft()
}
