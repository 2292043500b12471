//go:build e2e

package local

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// everything is a driver that uses each part of the runtime once, on a cluster of its own.
const everything = `
import multiprocessing, os, time
import maniple

class Mine(ValueError):
    pass

@maniple.remote
def square(x):
    return x * x

@maniple.remote
def total(n):
    return sum(maniple.get([square.remote(i) for i in range(n)]))

@maniple.remote
def deep(n):
    return 0 if n == 0 else 1 + maniple.get(deep.remote(n - 1))

@maniple.remote
def fails():
    raise Mine("no luck")

@maniple.remote
def sleeps(seconds):
    time.sleep(seconds)
    return os.getpid()

@maniple.remote(max_retries=2)
def dies_once(flag):
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), 9)
    return "the second time"

@maniple.remote(max_retries=0)
def dies():
    os.kill(os.getpid(), 9)

@maniple.remote
def says():
    print("a worker speaks", flush=True)

@maniple.remote
class Counter:
    def __init__(self, n=0):
        self.n = n
    def add(self, k=1):
        self.n += k
        return self.n

@maniple.remote
def adds(counter):
    return maniple.get(counter.add.remote(10))

def in_fork(queue):
    queue.put(maniple.get(square.remote(3)))

@maniple.remote
def forks():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_fork, args=(queue,))
    child.start()
    got = queue.get(timeout=30)
    child.join()
    return got

def raised(kind, ref):
    try:
        maniple.get(ref)
    except kind as e:
        return str(e)
    raise AssertionError(f"no {kind}")

maniple.init("local")
assert sum(maniple.get([square.remote(i) for i in range(1000)])) == 332833500
for _ in range(3):  # deep in its workers, and given back by them
    assert len(maniple.get([square.remote(i) for i in range(5000)])) == 5000
assert maniple.get(total.remote(20)) == 2470
assert maniple.get(deep.remote(12)) == 12
assert maniple.get(forks.remote()) == 9
text = raised(Mine, fails.remote())
assert "no luck" in text and "in fails" in text, text
counter = Counter.remote(5)
assert maniple.get([counter.add.remote() for _ in range(100)])[-1] == 105
named = Counter.options(name="it").remote()
assert maniple.get(maniple.get_actor("it").add.remote()) == 1
assert maniple.get(adds.remote(named)) == 11
ref = maniple.put({"a": [1, 2, 3]})
assert maniple.get(ref) == {"a": [1, 2, 3]} and maniple.get(square.remote(maniple.put(7))) == 49
fast, slow = sleeps.remote(0), sleeps.remote(60)
assert maniple.wait([slow, fast]) == ([fast], [slow])
maniple.cancel(slow)
raised(maniple.exceptions.TaskCancelledError, slow)
maniple.kill(counter)
raised(maniple.exceptions.ActorDiedError, counter.add.remote())
began = time.monotonic()
assert maniple.get(dies_once.remote(os.path.abspath("flag"))) == "the second time"
assert time.monotonic() - began < 5
assert "signal 9" in raised(maniple.exceptions.WorkerCrashedError, dies.remote())
assert len(maniple.get(maniple.put(b"x" * (10 << 20)))) == 10 << 20
assert len(maniple.get(maniple.remote(lambda: b"y" * (80 << 20)).remote())) == 80 << 20
env = maniple.remote(lambda: (os.environ.get("COLOUR"), os.getcwd())).options(runtime_env={"env_vars": {"COLOUR": "red"}})
assert maniple.get(env.remote()) == ("red", os.getcwd())
inherits = maniple.remote(lambda: maniple.get(maniple.remote(lambda: (os.environ.get("COLOUR"), os.environ.get("SHAPE"))).options(runtime_env={"env_vars": {"SHAPE": "round"}}).remote()))
assert maniple.get(inherits.options(runtime_env={"env_vars": {"COLOUR": "red"}}).remote()) == ("red", "round")
assert maniple.get(inherits.remote()) == (None, "round")
asks = lambda c: (c.get_task_name(), c.get_assigned_resources())
asker = maniple.remote(lambda: asks(maniple.get_runtime_context()))
assert maniple.get(asker.options(name="mine", num_cpus=0.5).remote()) == ("mine", {"CPU": 0.5})
class Asks:
    def ask(self):
        return asks(maniple.get_runtime_context())
one = maniple.remote(num_cpus=1)(Asks).remote()
assert maniple.get(one.ask.remote()) == ("Asks.ask", {"CPU": 1.0})
from maniple.util import state
assert state.get_actor(one._actor_id)["class"] == "__main__.Asks" and "__main__.Asks" in state.summarize_actors(), state.list_actors()
assert state.get_objects(ref.hex())[0]["state"] == "there", state.list_objects()
late = sleeps.remote(60)
until = time.monotonic() + 20
while state.summarize_tasks() != {"__main__.sleeps": {"running": 1}}:
    assert time.monotonic() < until, state.list_tasks()
    time.sleep(0.05)
del one
maniple.cancel(late)
maniple.get(says.remote())
assert [n["Alive"] for n in maniple.nodes()] == [True]
time.sleep(0.3)
maniple.shutdown()
print("all is well", flush=True)
`

// python starts a driver.
func (w *world) python(code string, args ...string) *process {
	w.t.Helper()
	env := append([]string{}, w.env...)
	env = append(env, "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	return w.launch("", env, cached(w.t, "dev"), append([]string{"-c", code}, args...)...)
}

func (p *process) says(what string) {
	p.w.t.Helper()
	p.w.wait(30*time.Second, "the driver says "+what, func() bool { return strings.Contains(p.out.String(), what) || exited(p) })
	if !strings.Contains(p.out.String(), what) {
		p.w.t.Fatalf("stdout: %s\nstderr: %s\n%s", p.out.String(), p.err.String(), p.w.logs())
	}
}

func TestTasksActorsAndObjects(t *testing.T) {
	w := newWorld(t)
	p := w.python(everything)
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") || !strings.Contains(p.out.String(), "a worker speaks\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
}

// sleeper is a driver with more tasks than there are CPUs, in the cluster that its argument names.
const sleeper = `
import sys, time
import maniple
maniple.init(sys.argv[1])
@maniple.remote
def sleep(seconds):
    time.sleep(seconds)
maniple.get(sleep.remote(0))
waits = [sleep.remote(600) for _ in range(3)]
print("up", flush=True)
try:
    maniple.get(waits)
except maniple.exceptions.LocalAgentDiedError as e:
    print("agent died", flush=True)
`

func TestDriverThatEndsTakesItsClusterAlong(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newWorld(t)
			p := w.python(sleeper, "local")
			p.says("up")
			_ = p.cmd.Process.Signal(sig)
			if code := p.code(10 * time.Second); code != 128+int(sig) {
				t.Errorf("exit code %d\n%s", code, p.err.String())
			}
			w.nothingLeft()
		})
	}
}

// The fate rule: what ran under an agent that was killed ends with it; the cluster goes on under the next one.
func TestKilledAgentTakesItsWorkersAlong(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "fate")
	p := w.python(sleeper, "fate")
	p.says("up")
	_ = syscall.Kill(w.one("maniple agent"), syscall.SIGKILL)
	w.wait(5*time.Second, "the workers are gone", func() bool { return len(w.find("maniple._template")) == 0 })
	if code := p.code(10 * time.Second); code != 0 || !strings.Contains(p.out.String(), "agent died") {
		t.Errorf("exit code %d\n%s\n%s", code, p.out.String(), p.err.String())
	}
	q := w.python("import sys, maniple\nmaniple.init(sys.argv[1])\nprint(maniple.get(maniple.remote(lambda: 'again').remote()))", "fate")
	if code := q.code(30 * time.Second); code != 0 || q.out.String() != "again\n" {
		t.Errorf("exit code %d\n%s\n%s", code, q.out.String(), q.err.String())
	}
	w.must("down", "--cluster", "fate")
	w.nothingLeft()
}

// Tasks and gangs have the node's CPUs from one ledger: a driver that idles keeps none from a gang, what an actor
// holds a gang can't have, and a rank is a driver like any other.
func TestTasksBesideGangs(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "both", "--fake-nodes", "1", "--cpus", "3")
	p := w.python(`
import sys, maniple
from maniple.util import placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy
maniple.init(sys.argv[1])
@maniple.remote(num_cpus=1)
class One:
    def where(self):
        return "here"
one = One.remote()
assert maniple.get(one.where.remote()) == "here"
group = placement_group([{"CPU": 1}])
assert group.wait(20), group.explain()
table = maniple.util.placement_group_table(group)
assert (table["state"], table["bundles"], len(table["bundles_to_node_id"])) == ("CREATED", {0: {"CPU": 1.0}}, 1), table
inside = maniple.remote(lambda: "inside").options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0))
assert maniple.get(inside.remote(), timeout=20) == "inside"
there = maniple.remote(num_cpus=0)(maniple.util.get_current_placement_group)
children = maniple.remote(lambda: maniple.get([there.remote(), there.options(scheduling_strategy=PlacementGroupSchedulingStrategy(None)).remote(), there.options(memory=1).remote()]))
for capture in (True, False):
    mine, *outside = maniple.get(children.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0, capture)).remote(), timeout=20)
    assert mine == (group if capture else None) and outside == [None, None], (capture, mine, outside)
@maniple.remote(num_cpus=0)
class Within:
    def __init__(self):
        self.born = maniple.util.get_current_placement_group()
    def where(self):
        return self.born, maniple.util.get_current_placement_group()
assert maniple.get(Within.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, 0)).remote().where.remote(), timeout=20) == (group, group)
print("up", flush=True)
import time; time.sleep(600)
`, "both")
	p.says("up")
	rank := `import os, maniple
maniple.init()
print("rank", os.environ["RANK"], maniple.get(maniple.remote(num_cpus=0)(lambda: "runs").remote()))`
	env := append([]string{}, w.env...)
	env = append(env, "PYTHONPATH="+filepath.Join(top, "libs/python"))
	g := w.launch("", env, binary, "run", "--cluster", "both", "-n", "1", "--", cached(t, "dev"), "-c", rank)
	if code := g.code(40 * time.Second); code != 0 || !strings.Contains(g.out.String(), "rank 0 runs") {
		t.Errorf("the third CPU is free, and a gang of one ended with %d\n%s\n%s", code, g.out.String(), g.err.String())
	}
	two := w.start("", "run", "--cluster", "both", "-n", "2", "--", "true")
	w.wait(20*time.Second, "a gang of two waits", func() bool { return strings.Contains(two.err.String(), "waiting") })
	var state struct {
		Nodes []struct {
			Free map[string]float64 `json:"free"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal([]byte(w.must("nodes", "--cluster", "both", "--json")), &state); err == nil {
		for _, n := range state.Nodes {
			if n.Free["CPU"] > 1 {
				t.Errorf("%g CPUs are free beside an actor and a group", n.Free["CPU"])
			}
		}
	}
	_ = p.cmd.Process.Kill()
	if code := two.code(30 * time.Second); code != 0 {
		t.Errorf("with the driver gone: exit code %d\n%s", code, two.err.String())
	}
	w.must("down", "--cluster", "both")
	w.nothingLeft()
}

// The guide's program runs as it stands there.
func TestGuideToPython(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top, "docs/guide/python.md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for i, block := range strings.Split(string(text), "\n```python\n") {
		program, _, ended := strings.Cut(block, "\n```\n")
		if i > 0 && ended {
			code.WriteString(program + "\n\n")
		}
	}
	w := newWorld(t)
	if p := w.python(code.String() + "print('all is well')"); p.code(time.Minute) != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("%s\n%s\n%s", p.out.String(), p.err.String(), w.logs())
	}
	w.nothingLeft()
}
