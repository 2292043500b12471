//go:build e2e

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shares is a driver that moves large values, in a cluster whose store has 307 MiB.
const shares = `
import gc, os, sys, time
import numpy as np
import maniple
from maniple._core import session

MIB = 1 << 20

def mappings():
    with open("/proc/self/maps") as f:
        return [line for line in f if "memfd:maniple" in line]

def lies_in_shared_memory(a):
    at = a.__array_interface__["data"][0]
    for line in mappings():
        first, last = (int(x, 16) for x in line.split()[0].split("-"))
        if first <= at < last:
            return line.split()[1].startswith("r--")
    return False

def raised(kind, f, *args):
    try:
        f(*args)
    except kind as e:
        return str(e)
    raise AssertionError(f"no {kind}")

def write(a):
    a[0] = 1

@maniple.remote
def looks(a):
    assert lies_in_shared_memory(a) and not a.flags.owndata and not a.flags.writeable
    assert "read-only" in raised(ValueError, write, a)
    return int(a[::4096].sum())

@maniple.remote
def inside(box):
    assert lies_in_shared_memory(box["a"])
    return int(box["a"][0]), maniple.get(box["ref"])[5]

@maniple.remote
def makes(n, x):
    return np.full(n, x, np.uint8)

@maniple.remote
def yields(n):
    for x in range(n):
        yield np.full(MIB, x, np.uint8)

@maniple.remote(max_retries=0)
def dies_while_writing():
    room = session.current().slabs.take(120 * MIB)
    room.fill([b"x" * (60 * MIB)])
    os.kill(os.getpid(), 9)

@maniple.remote
class Keeper:
    def keep(self, a):
        self.a = a
        return lies_in_shared_memory(a)
    def first(self):
        return int(self.a[0])

maniple.init(sys.argv[1])

# A put by the driver, read by three workers where it lies.
big = np.arange(100 * MIB // 8)
ref = maniple.put(big)
assert maniple.get([looks.remote(ref) for _ in range(3)]) == [int(big[::4096].sum())] * 3
mine = maniple.get(ref)
assert lies_in_shared_memory(mine) and (mine == big).all()
del mine, ref

# A result; an argument that nobody put; items of a stream; a value with a reference inside.
made = maniple.get(makes.remote(50 * MIB, 7))
assert lies_in_shared_memory(made) and made.nbytes == 50 * MIB and (made[::4096] == 7).all()
assert maniple.get(looks.remote(made)) == 7 * len(made[::4096])
del made
assert [int(maniple.get(r)[-1]) for r in yields.remote(8)] == list(range(8))
unread = yields.remote(8)
next(unread)
del unread
box = {"a": np.full(MIB, 3, np.uint8), "ref": maniple.put(list(range(100_000)))}
assert maniple.get(inside.remote(maniple.put(box))) == (3, 5)
del box

# What is looked at stays as it is, though nobody has a reference: in this process and in an actor's.
view = maniple.get(makes.remote(40 * MIB, 9))
keeper = Keeper.remote()
assert maniple.get(keeper.keep.remote(makes.remote(40 * MIB, 11)))
gc.collect()
for x in range(8):
    assert (maniple.get(makes.remote(60 * MIB, x))[::4096] == x).all()
assert (view == 9).all() and maniple.get(keeper.first.remote()) == 11
del view
maniple.kill(keeper)

# Of one that died while it wrote everything comes back: four such are more than there is.
for _ in range(4):
    assert "signal 9" in raised(maniple.exceptions.WorkerCrashedError, maniple.get, dies_while_writing.remote())

# What does not fit is refused: at once if it never will, else with who looks at what.
assert "may ever hold" in raised(maniple.exceptions.ObjectStoreFullError, maniple.put, np.zeros(400 * MIB, np.uint8))
held = maniple.get(maniple.put(np.zeros(180 * MIB, np.uint8)))  # what is looked at does not go to disk
began = time.monotonic()
text = raised(maniple.exceptions.ObjectStoreFullError, maniple.put, np.zeros(180 * MIB, np.uint8))
assert time.monotonic() - began > 20 and f"(driver, pid {os.getpid()}) holds 180 MiB in 1 objects" in text, text
del held
held = maniple.put(np.zeros(180 * MIB, np.uint8))
del held

print("up", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
maniple.shutdown()
gc.collect()
assert not mappings(), mappings()
assert not [f for f in os.listdir("/proc/self/fd") if "memfd:maniple" in os.path.realpath("/proc/self/fd/" + f)]
print("all is well", flush=True)
`

// memfds counts a process's descriptors of shared memory.
func memfds(pid int) (n int) {
	list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range list {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "/memfd:maniple") {
			n++
		}
	}
	return n
}

func TestLargeValues(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "large", "--fake-nodes", "1", "--cpus", "3", "--node-mem", "2G", "--object-store-memory", "307M")
	p := w.python(shares, "large")
	w.wait(4*time.Minute, "the driver is through", func() bool { return strings.Contains(p.out.String(), "up\n") || exited(p) })
	p.says("up")
	agent := w.one("maniple agent")
	if memfds(agent) == 0 {
		t.Error("the agent has no shared memory")
	}
	w.file("go", "")
	if code := p.code(20 * time.Second); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if text := w.logs(); strings.Contains(text, "the object store") {
		t.Errorf("the store and the work core don't agree:\n%s", text)
	}
	_ = syscall.Kill(agent, syscall.SIGKILL) // its memory goes with it
	w.wait(5*time.Second, "another agent", func() bool {
		pids := w.find("maniple agent")
		return len(pids) == 1 && pids[0] != agent && memfds(pids[0]) == 0
	})
	w.must("down", "--cluster", "large")
	w.nothingLeft()
}
