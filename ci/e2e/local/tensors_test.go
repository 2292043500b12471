//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tensors is a driver of actors on two nodes that pass tensors to each other, which stay where they were made until somebody reads them.
const tensors = spread + `
import gc
import torch
from maniple.experimental import wait_tensor_freed
from maniple.experimental.collective import create_collective_group, destroy_collective_group

@maniple.remote(num_cpus=1)
class Actor:
    def __init__(self):
        self.tensor = torch.ones(1 << 20)
    @maniple.method(tensor_transport="gloo")
    def make(self, x):
        self.tensor = torch.full((1 << 20,), x)
        return {"is": self.tensor}
    @maniple.method(tensor_transport="gloo")
    def again(self, value):
        return value["is"] * 2
    def write(self, value):
        value["is"][0] = 100
        return float(self.tensor[0])
    def sum(self, value):
        return float((value["is"] if type(value) is dict else value).sum())
    def both(self, box):
        return [float(v["is"].sum()) for v in maniple.get(box)]
    def freed(self, timeout=20):
        wait_tensor_freed(self.tensor, timeout)
    def holds(self):
        from maniple import _device
        return len(_device.keeper._kept), len(_device.keeper._new), dict(_device.COUNTS)
    def pid(self):
        return os.getpid()
    def seen(self, name, *args):
        self.order = getattr(self, "order", []) + [name]
        return self.order

group = placement_group([{"CPU": 2}] * 2, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
a, b, c = [Actor.options(scheduling_strategy=on(group, i), max_restarts=r).remote() for i, r in ((0, 0), (1, 1), (1, 0))]
size = float(1 << 20)
create_collective_group([a, b], "gloo", "two")
ref = a.make.remote(3.0)
assert maniple.get([b.sum.remote(ref), c.sum.remote(ref), b.both.remote([ref])], timeout=60) == [3 * size, 3 * size, [3 * size]]
assert maniple.get(b.holds.remote())[2] == {"group": 2} and maniple.get(c.holds.remote())[2] == {"store": 1}
assert maniple.get(ref)["is"][5] == 3

# Its own maker has it, not a copy; others see what is written.
assert maniple.get(a.write.remote(ref)) == 100 and maniple.get(ref, _use_object_store=True)["is"][0] == 100

# The memory is free once nobody anywhere can ask for it.
assert "still" in raised(maniple.exceptions.GetTimeoutError, a.freed.remote(0.2))
box = b.both.remote([ref])
del ref
maniple.get(box)
maniple.get(a.freed.remote(), timeout=60)
chain = b.again.remote(a.make.remote(2.0))
assert maniple.get(a.sum.remote(chain), timeout=60) == 4 * size
maniple.get(a.freed.remote(), timeout=60)
a.make.remote(1.0)  # nobody wants it
maniple.get(a.freed.remote(), timeout=60)
assert maniple.get(a.holds.remote())[:2] == (0, 0) and maniple.get(b.holds.remote())[:2] == (1, 0)
del chain

# The calls of a caller keep their order, also behind one whose argument is missing.
@maniple.remote(num_cpus=0)
def late():
    time.sleep(1)
calls = [c.seen.remote("first", late.remote()), c.seen.remote("second")]
assert maniple.get(calls[1], timeout=60) == ["first", "second"]

# An actor that is made anew has none of what it had; and is not of the group any more.
ref = b.make.remote(5.0)
assert maniple.get(a.sum.remote(ref), timeout=60) == 5 * size
os.kill(maniple.get(b.pid.remote()), 9)
assert "made anew" in raised(maniple.exceptions.ObjectLostError, a.sum.remote(ref))
ref = b.make.remote(6.0)
assert maniple.get(a.sum.remote(ref), timeout=60) == 6 * size
destroy_collective_group("two")

# The actor lives as long as its tensors may be asked for. Who died for good has none.
ref = c.make.remote(7.0)
pid = maniple.get(c.pid.remote())
del c
gc.collect()
assert maniple.get(a.sum.remote(ref), timeout=60) == 7 * size
os.kill(pid, 9)
assert "lost with it" in raised(maniple.exceptions.ObjectLostError, a.sum.remote(ref))
assert "lost with it" in raised(maniple.exceptions.ObjectLostError, ref)
print("all is well", flush=True)
maniple.shutdown()
`

func TestDeviceObjects(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "tensors", "--fake-nodes", "2", "--cpus", "2", "--object-store-memory", "128M")
	env := append([]string{}, w.env...)
	env = append(env, "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	p := w.launch("", env, torch(t), "-c", tensors, "tensors")
	if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "tensors")
	w.nothingLeft()
}
