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
from maniple.util import placement_group, remove_placement_group
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

near = placement_group([{"CPU": 0.1}] * 2, topology_strategy={"maniple.node": "STRICT_PACK", "ray.io/node-id": "PACK"})
assert near.wait(30), near.explain()
far = placement_group([{"CPU": 0.1}] * 2, topology_strategy={"maniple.node": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"})
assert not far.wait(0.3) and "same maniple.node" in far.explain(), far.explain()
for g in (near, far):
    remove_placement_group(g)

@maniple.remote(num_cpus=1)
def double(x):
    print("doubling on", os.environ["MANIPLE_ADDRESS"].split("/")[-2], flush=True)
    return x * 2
assert maniple.get([double.options(scheduling_strategy=on(group, i)).remote(b"ab") for i in range(3)], timeout=60) == [b"abab"] * 3
chain = 1
for i in range(9):
    chain = double.options(scheduling_strategy=on(group, i % 3)).remote(chain)
assert maniple.get(chain, timeout=60) == 512
ran = [e for e in maniple.timeline() if e.get("cat") == "task::double"]  # of all nodes, each with its own clock
assert len(ran) == 12 and len({e["pid"] for e in ran}) == 3 and all(e["dur"] > 0 for e in ran), ran
huge = os.urandom(80 << 20)
assert maniple.get(double.options(scheduling_strategy=on(group, 2)).remote(maniple.put(huge)), timeout=120) == huge * 2
del huge
big = maniple.put(b"x" * (20 << 20))
assert len(maniple.get(double.options(scheduling_strategy=on(group, 2)).remote(big), timeout=60)) == 40 << 20
assert [len(v) for v in maniple.get([double.options(scheduling_strategy=on(group, 2)).remote(big) for _ in range(6)], timeout=120)] == [40 << 20] * 6

from maniple.util import state
def known(ref):
    me = maniple.get_runtime_context().get_node_id()
    return [o["state"] for o in state.get_objects(ref.hex()) if o["node_id"] == me]
@maniple.remote(num_cpus=1)
def looks(refs):
    assert maniple.wait(refs, timeout=60, fetch_local=False)[0]
    before = known(refs[0])
    assert maniple.wait(refs, timeout=60)[0]
    return before, known(refs[0])
far = next(i for i in range(3) if places[i].split("/")[-2] != maniple.get_runtime_context().get_node_id())
away = double.options(scheduling_strategy=on(group, far)).remote(b"x" * (5 << 20))
assert maniple.wait([away], timeout=60, fetch_local=False)[0] and known(away) == ["away"], known(away)
assert maniple.wait([away], timeout=60)[0] and known(away) == ["there"], known(away)
mine = maniple.put(b"y" * (5 << 20))  # another node has a reference, and what it is to only when it wants that there
assert maniple.get(looks.options(scheduling_strategy=on(group, far)).remote([mine]), timeout=60) == (["pending"], ["there"])
del away, mine

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
	code := p.code(3 * time.Minute)
	for _, name := range []string{"n1", "n2", "n3"} {
		if !strings.Contains(p.out.String(), "doubling on "+name) {
			t.Errorf("what a task on %s prints does not come", name)
		}
	}
	if code != 0 || !strings.Contains(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "three")
	w.nothingLeft()
}

// References go between nodes and keep what they name, in values and as handles; nested tasks belong to the node where they
// were submitted.
func TestNodesShareReferences(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "refs", "--fake-nodes", "3", "--cpus", "3")
	p := w.python(spread+`
group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
at = lambda i: dict(scheduling_strategy=on(group, i))
everywhere = range(3)

@maniple.remote(num_cpus=1)
def puts(n):
    return [maniple.put(b"x" * n), maniple.put(os.environ["MANIPLE_ADDRESS"])]
@maniple.remote(num_cpus=1)
def reads(refs):
    return [len(v) for v in maniple.get(refs)]
@maniple.remote(num_cpus=1)
def nests(k):
    inner = maniple.remote(num_cpus=0)(lambda i: (os.environ["MANIPLE_ADDRESS"], i))
    return os.environ["MANIPLE_ADDRESS"], maniple.get([inner.remote(i) for i in range(k)])
@maniple.remote(num_cpus=1)
def adds(counter, n):
    return maniple.get([counter.add.remote() for _ in range(n)])[-1]
@maniple.remote(num_cpus=1)
def finds(name):
    return maniple.get(maniple.get_actor(name).add.remote())

for n in (10, 300_000, 5_000_000):
    refs = [maniple.get(puts.options(**at(i)).remote(n), timeout=60) for i in everywhere]
    assert [len(maniple.get(r[0], timeout=60)) for r in refs] == [n] * 3
    assert len({maniple.get(r[1], timeout=60) for r in refs}) == 3
    for i in everywhere:  # from node to node, by way of the driver's
        sizes = maniple.get(reads.options(**at(i)).remote([r[0] for r in refs]), timeout=60)
        assert sizes == [n] * 3, sizes
    mine = maniple.put(b"y" * n)
    assert maniple.get([reads.options(**at(i)).remote([mine]) for i in everywhere], timeout=60) == [[n]] * 3
    late = maniple.remote(num_cpus=0)(lambda: (time.sleep(0.5), b"z" * n)[1]).remote()
    assert maniple.get([reads.options(**at(i)).remote([late]) for i in everywhere], timeout=60) == [[n]] * 3
    del refs, mine, late

for i in everywhere:
    outer, inner = maniple.get(nests.options(**at(i)).remote(20), timeout=60)
    assert inner == [(outer, k) for k in range(20)], inner

counters = [Counter.options(name=f"n{i}", **at(i)).remote() for i in everywhere]
for k, counter in enumerate(counters):
    total = 0
    for i in everywhere:
        total += 30
        assert maniple.get(adds.options(**at(i)).remote(counter, 30), timeout=60) == total
    for i in everywhere:
        assert maniple.get(finds.options(**at(i)).remote(f"n{k}"), timeout=60) == total + i + 1
maniple.kill(counters[1])
raised(maniple.exceptions.ActorDiedError, adds.options(**at(2)).remote(counters[1], 1))
print("all is well", flush=True)
maniple.shutdown()
`, "refs")
	if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "refs")
	w.nothingLeft()
}

// The agent of another node is killed and its keeper starts the next one: what ran there is tried again, the bundle stays.
func TestNodesWhoseAgentIsKilled(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "killed", "--fake-nodes", "2", "--cpus", "2")
	p := w.python(spread+`
group = placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
at = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(2)], timeout=60)
away = [i for i in range(2) if at[i].split("/")[-2] == "n2"][0]

@maniple.remote(num_cpus=1)
def waits(flag):
    open(flag + "." + str(os.getpid()), "w").close()
    while not os.path.exists(flag):
        time.sleep(0.05)
    return os.environ["MANIPLE_ADDRESS"]
flag = os.path.abspath("flag")
there = dict(scheduling_strategy=on(group, away))
often = waits.options(max_retries=3, **there).remote(flag)
counter = Counter.options(max_restarts=1, **there).remote(3)
maniple.get(counter.where.remote(), timeout=60)
while not [f for f in os.listdir(".") if f.startswith("flag.")]:
    time.sleep(0.05)
print("up", flush=True)
while len([f for f in os.listdir(".") if f.startswith("flag.")]) < 2:
    time.sleep(0.05)
open(flag, "w").close()
assert maniple.get(often, timeout=60).split("/")[-2] == "n2"
until = time.monotonic() + 60
while True:
    try:
        assert maniple.get(counter.add.remote(2), timeout=60) == 5
        break
    except maniple.exceptions.ActorUnavailableError:
        assert time.monotonic() < until
print("all is well", flush=True)
maniple.shutdown()
`, "killed")
	p.says("up")
	w.killAgent("n2")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "killed")
	w.nothingLeft()
}

// killAgent kills the agent of a node, whose keeper goes on.
func (w *world) killAgent(node string) {
	w.t.Helper()
	keeper, killed := w.keeperOf(w.nodeDir(node)), 0
	for _, pid := range w.find("maniple agent") {
		if parent(pid) == keeper {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killed++
		}
	}
	if killed != 1 {
		w.t.Fatalf("%d agents of %s were killed", killed, node)
	}
}

// Tasks that belong to no group go to other nodes when their own has no room, and where they are told to.
func TestNodesHaveTasksOfOthers(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "others", "--fake-nodes", "3", "--cpus", "2")
	p := w.python(spread+`
@maniple.remote(num_cpus=1)
def waits(flag, need):
    # Ends when as many run at a time as the cluster has CPUs.
    open(f"{flag}.{os.getpid()}.{time.monotonic_ns()}", "w").close()
    while len([f for f in os.listdir(".") if f.startswith(os.path.basename(flag) + ".")]) < need:
        time.sleep(0.02)
    return os.environ["MANIPLE_ADDRESS"]
got = maniple.get([waits.remote(os.path.abspath("all"), 6) for _ in range(6)], timeout=60)
assert sorted(got.count(a) for a in set(got)) == [2, 2, 2], got

names = {n["NodeName"] for n in maniple.nodes()}
assert len(names) == 3
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At
for cpus in (0, 1):
    where_is = {n: maniple.get(where.options(num_cpus=cpus, scheduling_strategy=At(n, False)).remote(), timeout=60) for n in names}
    assert all(where_is[n].split("/")[-2] == n for n in names), where_is
raised(maniple.exceptions.TaskUnschedulableError, where.options(scheduling_strategy=At("nowhere", False)).remote())
assert maniple.get(where.options(scheduling_strategy=At("nowhere", True)).remote(), timeout=60)
for n in names:  # what no node has is not waited for
    began, other = time.monotonic(), [{"label_selector": {"old": "x"}}, {"label_selector": {"ray.io/node-id": n}}]
    assert maniple.get(where.options(label_selector={"nowhere": n}, fallback_strategy=other).remote(), timeout=60).split("/")[-2] == n
    assert maniple.get(Counter.options(label_selector={"nowhere": n}, fallback_strategy=other).remote().where.remote(), timeout=60).split("/")[-2] == n
    assert time.monotonic() - began < 3
raised(maniple.exceptions.TaskUnschedulableError, where.options(label_selector={"nowhere": "y"}, fallback_strategy=[{"label_selector": {"old": "x"}}]).remote())

actors = [Counter.options(num_cpus=1).remote(i) for i in range(5)]
assert maniple.get([a.add.remote(1) for a in actors], timeout=60) == [1, 2, 3, 4, 5]
assert len({maniple.get(a.where.remote()) for a in actors}) == 3
for a in actors:
    maniple.kill(a)
from maniple._core import session, wire
def lent():
    return [g for g in session.current().query("groups").get("groups") or [] if g["name"].startswith("tasks-") and g["phase"] != "ended"]
until = time.monotonic() + 30
while lent() or maniple.available_resources().get("CPU") != 6:  # else there may be room for two of the next ones on a node
    assert time.monotonic() < until, (lent(), maniple.available_resources())
    time.sleep(0.1)
spread_out = maniple.get([waits.options(scheduling_strategy="SPREAD").remote(os.path.abspath("spread"), 3) for _ in range(3)], timeout=60)
assert len(set(spread_out)) == 3, spread_out

@maniple.remote
class Free:
    def where(self):
        return os.environ["MANIPLE_ADDRESS"]
free = [Free.remote() for _ in range(6)]
homes = maniple.get([a.where.remote() for a in free], timeout=60)
assert sorted(homes.count(h) for h in set(homes)) == [2, 2, 2], homes
del free

# Wherever they are, tasks call an actor that is elsewhere, with references as arguments, and go on when it is made again.
@maniple.remote(max_restarts=-1, max_task_retries=-1)
class Sums:
    def add(self, x, y):
        return int(sum(x)) + y
    def where(self):
        return os.environ["MANIPLE_ADDRESS"]

@maniple.remote(num_cpus=0)
def calls(sums, refs):
    before = maniple.get([s.add.remote(*refs) for s in sums])
    maniple.kill(sums[0], no_restart=False)
    return before + maniple.get([s.add.remote(*refs) for s in sums], timeout=60)
sums = [Sums.options(scheduling_strategy=At(n, False)).remote() for n in sorted(names)]
assert [maniple.get(s.where.remote(), timeout=60).split("/")[-2] for s in sums] == sorted(names)
refs = [maniple.put(list(range(1000))), maniple.put(5)]
for n in names:
    assert maniple.get(calls.options(scheduling_strategy=At(n, False)).remote(sums, refs), timeout=60) == [499505] * 6
del sums

slow = [maniple.remote(num_cpus=2)(lambda: time.sleep(600)).remote() for _ in range(4)]
until = time.monotonic() + 30
while True:
    whys = [t.get("waits") or "" for t in session.current().query("tasks").get("tasks") or []]
    if any("CPU" in why and ("lent of node" in why or "elsewhere" in why) for why in whys):
        break
    assert time.monotonic() < until, whys
    time.sleep(0.2)
for s in slow:
    maniple.cancel(s, force=True)
much = where.options(num_cpus=99).remote()
time.sleep(1.5)
print("all is well", flush=True)
maniple.shutdown()
`, "others")
	if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if !strings.Contains(p.err.String(), "waits for what no node has") {
		t.Errorf("a task that needs more than any node has is not spoken of: %s", p.err.String())
	}
	w.must("down", "--cluster", "others")
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
