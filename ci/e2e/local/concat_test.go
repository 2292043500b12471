//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Objects are made of parts of others that lie on several nodes: each range is brought alone, and once, to where the object is made; before all parts are there it is not. A part that
// fails, that is too short or of another kind, whose worker dies, or that has no room, is the object's error. What is lost with a node is made anew, parts and object.
func TestObjectsMadeOfParts(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "parts", "--fake-nodes", "3", "--cpus", "2", "--object-store-memory", "100M", "--no-same-host-handover", "--object-spilling-directory", "none")
	env := append(append([]string{}, w.env...), "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	p := w.launch("", env, torch(t), "-c", madeOfParts, "parts") // which has numpy
	p.says("kill n")
	w.killAgent(regexp.MustCompile(`kill (n\d)`).FindStringSubmatch(p.out.String())[1])
	w.file("killed", "")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "parts")
	w.nothingLeft()
}

const madeOfParts = `
import os, sys, time
import maniple, numpy
from maniple import exceptions
from maniple._core.session import current
from maniple.util import placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy

maniple.init(sys.argv[1])
group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
ROWS, COLUMNS, FRONT = 2000, 1000, 64 << 10  # 16 MB

def at(i):
    return PlacementGroupSchedulingStrategy(group, i)

@maniple.remote(num_cpus=1)
def where():
    return os.environ["MANIPLE_ADDRESS"].split("/")[-2]

@maniple.remote(num_cpus=1)
def make(first, kind, flag=None):
    while flag and not os.path.exists(flag):
        time.sleep(0.01)
    a = numpy.arange(first, first + ROWS * COLUMNS, dtype="f8").reshape(ROWS, COLUMNS)
    return {"array": lambda: a, "bytes": a.tobytes, "item": lambda: {"few": a[:10], "all": a}}[kind]()

homes = maniple.get([where.options(scheduling_strategy=at(i)).remote() for i in range(3)], timeout=60)
mine = homes.index("n1")
there, other = [i for i in range(3) if i != mine]

def made(i, *args):
    return make.options(scheduling_strategy=at(i)).remote(*args)

def block(first):
    return numpy.arange(first, first + ROWS * COLUMNS, dtype="f8").reshape(ROWS, COLUMNS)

def stores():
    return {n["name"]: n["store"] for n in current().query("stores")["nodes"]}

def concat(i, *parts):
    return maniple.concat(list(parts), scheduling_strategy=at(i))

def received():
    return sum(s.get("received", 0) for s in stores().values())

def lies(i):
    return stores()[homes[i]]["bytes"]

def eventually(what, ok):
    end = time.monotonic() + 20
    while not ok():
        assert time.monotonic() < end, what()
        time.sleep(0.02)

# From three nodes to one, some of it not made yet.
flag = os.path.abspath("go")
a, b, c = made(there, 0, "array"), made(mine, 7, "item"), made(other, 9, "array", flag)
maniple.wait([a, b], num_returns=2, fetch_local=False, timeout=60)
before = received()
whole = concat(other, (a, 100, 1100), (b, -500, None, "all"), (c, 0, 1000))
assert maniple.wait([whole], timeout=0.5) == ([], [whole]), "a part is missing"
open(flag, "w").close()
assert maniple.wait([whole], timeout=60, fetch_local=False)[0]
row = COLUMNS * 8
came = received() - before
assert 1500 * row <= came <= 1500 * row + 2 * FRONT, came
assert lies(other) >= 2500 * row
expected = numpy.concatenate([block(0)[100:1100], block(7)[-500:], block(9)[:1000]])
got = maniple.get(whole, timeout=60)
assert got.dtype == expected.dtype and (got == expected).all() and not got.flags.writeable
data = made(there, 3, "bytes")
text = concat(there, (data, 5, 1 << 20), data, (data, -3, None))
raw = block(3).tobytes()
assert maniple.get(concat(mine, (text, 0, 2 << 20), (text, -5, None)), timeout=60) == (raw[5:1 << 20] + raw)[:2 << 20] + raw[-2:] + raw[-3:]
del data, text, got

# What is no object.
def fails(error, said, *parts):
    try:
        maniple.get(concat(mine, *parts), timeout=60)
    except error as e:
        assert said in str(e), e
    else:
        raise AssertionError(said)

@maniple.remote(max_retries=0, scheduling_strategy=at(mine))
def dies():
    os.kill(os.getpid(), 9)

@maniple.remote(scheduling_strategy=at(mine))
def divides():
    return 1 / 0

fails(ZeroDivisionError, "division", a, divides.remote())
fails(exceptions.WorkerCrashedError, "signal 9", a, dies.remote())
fails(ValueError, "has 2000 rows or bytes, of which [1999:2001] are wanted", (a, 1999, 2001))
fails(TypeError, "is bytes, and part 0", a, maniple.put(b"x" * 200_000))
fails(exceptions.ObjectStoreFullError, "", *[a] * 8)
quit = concat(mine, a, made(there, 0, "array", "/never"))
maniple.cancel(quit)
fails(exceptions.TaskCancelledError, "", quit)

# Its worker dies in the middle of writing: what it has written is given back, else there were no room for the next one.
@maniple.remote(max_retries=1, scheduling_strategy=at(other))
def interrupted(plan, flag):
    from maniple._core import concat
    whole = concat._pieces
    def pieces(parts):
        for piece in whole(parts):
            yield piece
            if not os.path.exists(flag):
                open(flag, "w").close()
                os.kill(os.getpid(), 9)
    concat._pieces = pieces
    try:
        return concat._make(plan)
    finally:
        concat._pieces = whole

died = os.path.abspath("died")
twice = interrupted.remote([(ref, None, None, None) for ref in (a, c, a)], died)
assert (maniple.get(twice, timeout=60) == numpy.concatenate([block(0), block(9), block(0)])).all() and os.path.exists(died)
del twice

# Its memory is given back.
total = lambda: sum(map(lies, range(3)))  # it came to the driver's node when that looked at it
size = total()
del whole
eventually(lambda: f"{total()} bytes are in memory, and were {size}", lambda: total() <= size - 2500 * row)

# The node is lost on which the object lies and one of its parts.
one = made(there, 5, "array")
lost = concat(there, (one, 0, 1000), (c, 1000, None))
maniple.wait([lost], fetch_local=False, timeout=60)
print("kill", homes[there], flush=True)
eventually(lambda: "nobody killed it", lambda: os.path.exists("killed"))
assert (maniple.get(lost, timeout=60) == numpy.concatenate([block(5)[:1000], block(9)[1000:]])).all()
print("all is well", flush=True)
maniple.shutdown()
`
