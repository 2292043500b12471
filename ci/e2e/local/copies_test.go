//go:build e2e

package local

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// copying is what two drivers at two nodes have in common, whose values of 4 MiB are known by their numbers.
const copying = finder + `
from maniple._core.session import current
from maniple.util.scheduling_strategies import NodeAffinitySchedulingStrategy as At
MIB = 1 << 20
N = 40

def value(i):
    return bytes([i, 255 - i]) * (2 * MIB)

here = At([n for n in maniple.nodes() if n["NodeName"] == current().node][0]["NodeID"], soft=False)

def store():
    return current().query("memory")["store"]
`

// A node reads two and a half times as much of another node's values as its memory holds, twice: by itself, with the references kept, and as arguments. Nothing is written to its disk for that.
// When the other node dies, what is still here is had, and goes to disk now when memory is short; the rest is lost with its owner.
func TestCopiesAreDropped(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "copies", "--fake-nodes", "2", "--cpus", "2", "--object-store-memory", "64M", "--object-spilling-directory", w.dir)
	at := func(node, program, name string) *process {
		return w.python(copying+program, filepath.Join(w.nodeDir(node), "agent.sock"), name)
	}
	reader := at("n1", `
@maniple.remote(num_cpus=0)
class Keeper:
    def keep(self, refs):
        self.refs = refs
    def give(self):
        return self.refs
keeper = Keeper.options(name="keeper", scheduling_strategy=here).remote()
assert get(keeper.keep.remote([])) is None
print("made", flush=True)
go()
refs = get(keeper.give.remote())
assert len(refs) == N
for _ in range(2):
    for i, ref in enumerate(refs):
        assert get(ref) == value(i), i
s = store()
assert not s.get("spilled") and s["dropped"] >= 80 * MIB and s["copy_bytes"] > 16 * MIB and s["used"] <= 64 * MIB, s

@maniple.remote(num_cpus=1)
def right(i, v):
    return v == value(i), current().node

assert get([right.options(scheduling_strategy=here).remote(i, ref) for i, ref in enumerate(refs)]) == [(True, current().node)] * N
s = store()
assert not s.get("spilled") and s["received"] >= 3 * (N * 4 - 64) * MIB, s
looked = get(refs[N - 1])
print("read", flush=True)
go()
until(lambda: len([n for n in maniple.nodes() if n["Alive"]]) == 1, "the owner's node lives on")
until(lambda: not store().get("copies"), "what is left is held for copies")
there, lost = [], 0
for i, ref in enumerate(refs):
    try:
        assert get(ref) == value(i), i
        there.append(i)
    except maniple.exceptions.OwnerDiedError:
        lost += 1
assert len(there) + lost == N and len(there) >= 8 and N - 1 in there, (there, lost)
assert not store().get("spilled"), store()
own = [maniple.put(value(100 + i)) for i in range(16)]
assert store()["spilled"] >= 4 * MIB, store()
for i in there:
    assert get(refs[i]) == value(i), i
for i, ref in enumerate(own):
    assert get(ref) == value(100 + i), i
assert looked == value(N - 1) and not store().get("failed"), store()
print("all is well", flush=True)
maniple.shutdown()
`, "reader")
	reader.says("made")
	owner := at("n2", `
refs = [maniple.put(value(i)) for i in range(N)]
assert store()["spilled"] >= 64 * MIB, store() # which is all of its own
get(maniple.get_actor("keeper").keep.remote(refs))
print("gave", flush=True)
go()
`, "owner")
	owner.says("gave")
	w.file("reader1", "")
	reader.says("read")
	_ = syscall.Kill(w.keeperOf(w.nodeDir("n2")), syscall.SIGKILL)
	w.file("reader2", "")
	if code := reader.code(2 * time.Minute); code != 0 || !strings.Contains(reader.out.String(), "all is well\n") {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, reader.out.String(), reader.err.String(), w.logs())
	}
	if text := w.logs(); strings.Contains(text, "the object store") {
		t.Errorf("the store and the work core don't agree:\n%s", text)
	}
	w.file("owner1", "")
	owner.code(time.Minute)
	w.must("down", "--cluster", "copies")
	w.nothingLeft()
}
