//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// Nodes are drained one after the other under a driver: its actor moves, and so do a task that runs when the time is over, and a value. That is not
// counted, and what may not be tried again is left alone. A node that is taken back takes work again.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "three", "--fake-nodes", "3", "--cpus", "3")
	p := w.python(spread+`
import pathlib, subprocess
from maniple.util import state
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At
folder = pathlib.Path.cwd()

def drain(*words):
    return subprocess.run(["maniple", "drain", "--cluster", "three", *words], check=True, capture_output=True, text=True).stdout
def until(what, ok):
    for _ in range(3000):
        if ok():
            return
        time.sleep(0.01)
    raise AssertionError(what)
def node():
    return maniple.get_runtime_context().get_node_id()

me = node()
other = next(n["NodeName"] for n in maniple.nodes() if n["NodeName"] != me)
there = At(other, soft=True)

@maniple.remote(num_cpus=1, max_retries=1)
def runs(name):
    (folder / f"{name}.{node()}").touch()
    while not (folder / name).exists():
        time.sleep(0.01)
    return node()
@maniple.remote(num_cpus=0.5, max_restarts=1, max_task_retries=0)
class Lives:
    def where(self):
        return node()
@maniple.remote(num_cpus=0.1, max_retries=1)
def makes():
    (folder / f"made.{time.monotonic_ns()}").touch()
    return b"x" * (5 << 20)

lives = Lives.options(scheduling_strategy=there).remote()
assert maniple.get(lives.where.remote(), timeout=60) == other
value = makes.options(scheduling_strategy=there).remote()
assert maniple.wait([value], timeout=60, fetch_local=False)[0]
def here(ref):
    return [o["state"] for o in state.get_objects(ref.hex()) if o["node_id"] == me]
assert here(value) == ["away"], here(value)
moves = runs.options(scheduling_strategy=there).remote("moves")
stays = runs.options(scheduling_strategy=there, max_retries=0).remote("stays")
until("both run", lambda: (folder / f"moves.{other}").exists() and (folder / f"stays.{other}").exists())

assert "new memory" in drain(other, "--reason", "new memory", "--deadline", "1")
assert [(n["State"], n["Why"]) for n in maniple.nodes() if n["NodeName"] == other] == [("draining", "new memory")]
first = maniple.get(lives.where.remote(), timeout=60)
assert first != other, first
until("the value is here", lambda: here(value) == ["there"])
until("the task runs again", lambda: len(list(folder.glob("moves.*"))) == 2)
for name in ("moves", "stays"):
    (folder / name).touch()
assert maniple.get(moves, timeout=60) != other
assert maniple.get(stays, timeout=60) == other
assert len(list(folder.glob("stays.*"))) == 1 and len(list(folder.glob("made.*"))) == 1
assert other not in maniple.get([maniple.remote(num_cpus=1)(node).remote() for _ in range(30)], timeout=60)

drain(other, "--undo")
drain(first)
second = maniple.get(lives.where.remote(), timeout=60)
assert second not in (first, me) or first == me, (first, second, me)
assert maniple.get(maniple.remote(node).options(num_cpus=1, scheduling_strategy=At(other, soft=False)).remote(), timeout=60) == other
print("moved", flush=True)
`, "three")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "moved\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "three")
	w.nothingLeft()
}
