//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDirectCalls: a driver that calls an actor one by one does so past the agent, and nothing of what may happen meanwhile is lost, done twice, or
// out of order.
func TestDirectCalls(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "one", "--cpus", "2")
	p := w.python(`
import os, signal, sys, time
import maniple
from maniple import exceptions
maniple.init(sys.argv[1])

class Actor:
    def __init__(self):
        self.seen = []
    def f(self, x=None):
        return x
    def pid(self):
        return os.getpid()
    def add(self, x):
        self.seen.append(x)
        return len(self.seen)
    def all(self):
        return self.seen
    def rest(self, seconds):
        time.sleep(seconds)
        return os.getpid()
    def die(self, once=""):
        if not once or not os.path.exists(once):
            open(once or os.devnull, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return "again"
    def fail(self):
        raise KeyError("no")
    def ask(self, other):
        return maniple.get(other.f.remote(5)) + len(maniple.get(maniple.put(b"x" * 7)))

def made(**options):
    """An actor, and a line to it."""
    a = maniple.remote(**options)(Actor).remote() if options else maniple.remote(Actor).remote()
    maniple.get(a.f.remote())
    for i in range(100):
        before = sum(os.readlink(f"/proc/self/fd/{f}").startswith("socket") for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}"))
        for i in range(100):
            assert maniple.get(a.f.remote(i)) == i
        if sockets() > before or sockets() > start:
            return a
    raise SystemExit("there is no line")

def sockets():
    return sum(os.readlink(f"/proc/self/fd/{f}").startswith("socket") for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}"))

def raised(kind, ref):
    try:
        maniple.get(ref, timeout=60)
    except kind as e:
        return e
    raise SystemExit(f"{kind} was not raised")

start = sockets()
a = made()
assert isinstance(raised(KeyError, a.fail.remote()), KeyError)
b = maniple.remote(Actor).remote()
assert maniple.get(a.ask.remote(b)) == 12
for i in range(400):
    ref = a.add.remote(i)
    if i % 3:
        assert maniple.get(ref) == i + 1
assert maniple.get(a.all.remote()) == list(range(400))
kept = []
for i in range(100):
    kept.append(a.f.remote(i))
    maniple.get(kept[-1])
assert maniple.get(b.f.remote(kept)) == kept and maniple.get(b.f.remote(kept[7])) == 7
print("values", flush=True)

class Stop(Exception):
    pass
def stop(*_):
    raise Stop
signal.signal(signal.SIGALRM, stop)
for after in (0.002, 0.005, 0.02, 0.1):
    for _ in range(40):
        maniple.get(a.f.remote())
    ref = a.rest.remote(0.4)
    signal.setitimer(signal.ITIMER_REAL, after)
    began = time.monotonic()
    try:
        maniple.get(ref)
        raise SystemExit("no signal")
    except Stop:
        assert time.monotonic() - began < 0.3 + after
    assert maniple.get(ref) == maniple.get(a.pid.remote())
print("interrupted", flush=True)

@maniple.remote(num_cpus=1)
def caller(a, n):
    for i in range(n):
        maniple.get(a.add.remote(-1))
other = caller.remote(a, 500)
n = 0
while not maniple.wait([other], timeout=0)[0] or n < 500:
    maniple.get(a.add.remote(n))
    n += 1
maniple.get(other)
seen = maniple.get(a.all.remote())[400:]
assert [x for x in seen if x >= 0] == list(range(n)) and seen.count(-1) == 500
print("two", flush=True)

assert "died" in str(raised(exceptions.ActorDiedError, a.die.remote()))
a = made(max_restarts=-1)
raised(exceptions.ActorUnavailableError, a.die.remote())
assert maniple.get(a.f.remote(3), timeout=60) == 3
a = made(max_restarts=-1, max_task_retries=1)
assert maniple.get(a.die.remote("died"), timeout=60) == "again"
a = made(max_restarts=-1)
pid = maniple.get(a.pid.remote())

@maniple.remote(num_cpus=1)
def end(pid, a):
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL) if pid else maniple.kill(a)
end.remote(pid, None)
raised(exceptions.ActorUnavailableError, a.rest.remote(60))
a = made()
end.remote(0, a)
assert "killed" in str(raised(exceptions.ActorDiedError, a.rest.remote(60)))
del a
assert maniple.get(made().f.remote(4)) == 4
print("died", flush=True)
`, "one")
	if code := p.code(2 * time.Minute); code != 0 || !strings.Contains(p.out.String(), "values\ninterrupted\ntwo\ndied") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.python(killed, "one").code(time.Minute)
	if p := w.python(after, "one"); p.code(time.Minute) != 0 || p.out.String() != "[0, 'it ran on', 1]\n" {
		t.Errorf("after a driver that was killed by its own call: %s\n%s\n%s", p.out.String(), p.err.String(), w.logs())
	}
	code, err := os.ReadFile(filepath.Join(top, "libs/python/tests/direct_histories.py"))
	if err != nil {
		t.Fatal(err)
	}
	p = w.python(string(code), "one", "1", "6")
	if code := p.code(2 * time.Minute); code != 0 {
		t.Errorf("random histories: exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "one")
	w.nothingLeft()
}

// killed is a driver that ends within a call, which runs on, as its actor does.
const killed = `
import os, signal, sys, time
import maniple
maniple.init(sys.argv[1], namespace="direct")

class Actor:
    def __init__(self):
        self.seen = []
    def f(self, x=None):
        return x
    def end(self, pid):
        self.seen.append(0)
        os.kill(pid, signal.SIGKILL)
        for _ in range(20):
            time.sleep(0.1)
        self.seen.append("it ran on")
    def all(self, x):
        self.seen.append(x)
        return self.seen

a = maniple.remote(name="it", lifetime="detached")(Actor).remote()
for i in range(200):
    maniple.get(a.f.remote(i))
maniple.get(a.end.remote(os.getpid()))
`

const after = `
import sys
import maniple
maniple.init(sys.argv[1], namespace="direct")
a = maniple.get_actor("it")
print(maniple.get(a.all.remote(1), timeout=20))
maniple.kill(a)
`
