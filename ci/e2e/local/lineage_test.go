//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// The agent that has the only copy of large results is killed: they are made again, what they are made of before them, once each and
// only when somebody asks. What can't be made again says so, and what the driver has already it keeps.
func TestNodesLoseValuesThatAreMadeAgain(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "lineage", "--fake-nodes", "2", "--cpus", "2")
	p := w.python(spread+`
group = placement_group([{"CPU": 2}, {"CPU": 2}], strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
at = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(2)], timeout=60)
away = [i for i in range(2) if at[i].split("/")[-2] == "n2"][0]
there = dict(scheduling_strategy=on(group, away), num_cpus=1)
MB = 1 << 20
here = os.getcwd()
from maniple._core import session

def runs(name):
    return len([f for f in os.listdir(here) if f.startswith("ran-" + name + ".")])

@maniple.remote(max_retries=2, **there)
def make(name, *args):
    open(f"{here}/ran-{name}.{time.monotonic_ns()}", "w").close()
    return name.encode() * MB + b"".join(a[:1] for a in args)

@maniple.remote(max_restarts=1, max_task_retries=1, **there)
class Maker:
    def make(self, name):
        open(f"{here}/ran-{name}.{time.monotonic_ns()}", "w").close()
        return name.encode() * MB

maker = Maker.remote()
seen, lost, unseen = make.remote("a"), make.remote("b"), make.remote("c")
base = make.remote("d")
above = make.remote("e", base)
put = maniple.put(b"p" * MB)
of_put = make.remote("f", put)
called = maker.make.remote("g")
everything = [seen, lost, unseen, base, above, of_put, called]
assert len(maniple.wait(everything, num_returns=len(everything), timeout=60, fetch_local=False)[0]) == len(everything)
value = maniple.get(seen, timeout=60)
states = {o["id"].split("[")[0]: o["state"] for o in session.current().query("objects")["objects"]}
assert list(states.values()).count("away") == 6, states
del base, put, everything
print("up", flush=True)
while not os.path.exists("killed"):
    time.sleep(0.05)
assert maniple.get(lost, timeout=60) == b"b" * MB and runs("b") == 2
assert maniple.get(above, timeout=60) == b"e" * MB + b"d" and (runs("d"), runs("e")) == (2, 2)
assert maniple.get(called, timeout=60) == b"g" * MB and runs("g") == 2
assert maniple.get(seen, timeout=60) == value and runs("a") == 1 and runs("c") == 1
told = raised(maniple.exceptions.ObjectLostError, of_put)
assert "it was put" in told, told
print("all is well", flush=True)
maniple.shutdown()
`, "lineage")
	p.says("up")
	w.killAgent("n2")
	w.file("killed", "")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "lineage")
	w.nothingLeft()
}
