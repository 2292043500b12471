//go:build e2e

package local

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// finder is a driver at another node than the first one, whose socket it is given.
const finder = `
import os, sys, time
import maniple
from maniple.util import list_named_actors
maniple.init(sys.argv[1], namespace="shop")

@maniple.remote(num_cpus=0)
class Counter:
    def __init__(self, n=0):
        self.n = n
    def add(self, k=1):
        self.n += k
        return self.n

def get(ref):
    return maniple.get(ref, timeout=60)

def taken(name):
    try:
        Counter.options(name=name).remote()
    except ValueError as e:
        return name in str(e)
    return False

def found(name):
    try:
        return maniple.get_actor(name)
    except ValueError as e:
        assert name in str(e)

turn = 0
def go():
    global turn
    turn += 1
    until(lambda: os.path.exists(f"{sys.argv[2]}{turn}"), "nobody says go")

def until(what, why):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.05)
`

// Two drivers at two nodes share the names of actors: what one makes the other finds, may not make again, and kills; what is detached outlives its
// driver, and a head that is killed; what was a dead node's is free, or made again.
func TestNamesOfTwoDrivers(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "names", "--fake-nodes", "3", "--cpus", "2")
	second := w.python(finder+`
print("up", flush=True)
go()
c = maniple.get_actor("kept")
assert get(c.add.remote(2)) == 12
assert taken("kept") and Counter.options(name="kept", get_if_exists=True).remote(0) == c
assert list_named_actors() == ["kept", "theirs"], list_named_actors()
assert {"name": "kept", "namespace": "shop"} in list_named_actors(all_namespaces=True)
assert found("nobody") is None

@maniple.remote(num_cpus=1)
def inside():
    return get(maniple.get_actor("kept").add.remote(0))
assert get(inside.remote()) == 12
print("found", flush=True)
go()
until(lambda: found("theirs") is None, "theirs lives on")
assert get(c.add.remote(3)) == 15
d = Counter.options(name="theirs").remote(7)
assert get(d.add.remote()) == 8
maniple.kill(c)
c = Counter.options(name="kept", lifetime="detached").remote(1)
assert get(c.add.remote()) == 2
again = Counter.options(name="again", lifetime="detached", max_restarts=-1).remote(100)
assert get(again.add.remote()) == 101
print("reused", flush=True)
go()
assert get(maniple.get_actor("kept").add.remote()) == 3 and taken("kept")
print("all is well", flush=True)
maniple.shutdown()
`, filepath.Join(w.nodeDir("n2"), "agent.sock"), "second")
	second.says("up")
	first := w.python(finder+`
c = Counter.options(name="kept", lifetime="detached").remote(10)
assert get(c.add.remote(0)) == 10
other = Counter.options(name="theirs").remote()
assert get(other.add.remote()) == 1
print("made", flush=True)
go()
assert get(c.add.remote(0)) == 12
maniple.shutdown()
`, filepath.Join(w.nodeDir("n1"), "agent.sock"), "first")
	first.says("made")
	w.file("second1", "")
	second.says("found")
	w.file("first1", "")
	if code := first.code(time.Minute); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, first.out.String(), first.err.String(), w.logs())
	}
	w.file("second2", "")
	second.says("reused")
	for _, pid := range w.find("maniple head") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	w.file("second3", "")
	if code := second.code(time.Minute); code != 0 || !strings.Contains(second.out.String(), "all is well\n") {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, second.out.String(), second.err.String(), w.logs())
	}
	third := w.python(finder+`
c, again = maniple.get_actor("kept"), maniple.get_actor("again")
assert get(c.add.remote()) == 4 and get(again.add.remote()) == 102
print("found", flush=True)
go()
try:
    get(c.add.remote())
    assert False, "it lives"
except maniple.exceptions.ActorDiedError as e:
    assert "n2" in str(e), e
until(lambda: found("kept") is None, "a dead node has a name")
until(lambda: found("again") is not None, "what may be made again is not")
assert get(maniple.get_actor("again").add.remote()) == 101 and get(again.add.remote()) == 102
assert list_named_actors() == ["again"]
assert get(Counter.options(name="kept").remote(3).add.remote()) == 4
print("all is well", flush=True)
maniple.shutdown()
`, filepath.Join(w.nodeDir("n3"), "agent.sock"), "third")
	third.says("found")
	_ = syscall.Kill(w.keeperOf(w.nodeDir("n2")), syscall.SIGKILL)
	w.file("third1", "")
	if code := third.code(time.Minute); code != 0 || !strings.Contains(third.out.String(), "all is well\n") {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, third.out.String(), third.err.String(), w.logs())
	}
	w.must("down", "--cluster", "names")
	w.nothingLeft()
}
