//go:build e2e

package local

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A driver has references and a handle of a second node's by way of an actor of a third one. That node's end loses nothing; the second one's does,
// and is named.
func TestNodeInTheMiddle(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "middle", "--fake-nodes", "3", "--cpus", "1")
	at := func(node, program, name string) *process {
		return w.python(finder+program, filepath.Join(w.nodeDir(node), "agent.sock"), name)
	}
	middle := at("n3", `
@maniple.remote(num_cpus=0)
class Keeper:
    def keep(self, refs):
        self.refs = refs
    def give(self):
        return self.refs
keeper = Keeper.options(name="keeper").remote()
assert get(keeper.keep.remote([])) is None
print("made", flush=True)
go()
`, "middle")
	middle.says("made")
	owner := at("n2", `
counter = Counter.options(num_cpus=1).remote(5)
assert get(counter.add.remote(0)) == 5
given = [maniple.put(b"a" * (1 << 20)), maniple.put("small"), maniple.put("another"), counter]
get(maniple.get_actor("keeper").keep.remote(given))
del given, counter
get(maniple.put(0)), maniple.nodes() # and what was let go of is said
time.sleep(0.3)
print("gave", flush=True)
go()
`, "owner")
	owner.says("gave")
	taker := at("n1", `
large, small, another, counter = get(maniple.get_actor("keeper").give.remote())
assert get(counter.add.remote()) == 6
time.sleep(0.5) # a moment, for the owner to be asked
print("took", flush=True)
go()
until(lambda: found("keeper") is None, "the node in the middle lives on")
assert get(large) == b"a" * (1 << 20) and get(small) == "small" and get(counter.add.remote()) == 7
print("outlived", flush=True)
go()
until(lambda: len([n for n in maniple.nodes() if n["Alive"]]) == 1, "the owner's node lives on")
try:
    get(another)
    assert False, "it is there"
except maniple.exceptions.OwnerDiedError as e:
    assert "its owner, node n2" in str(e), e
print("all is well", flush=True)
maniple.shutdown()
`, "taker")
	taker.says("took")
	_ = syscall.Kill(w.keeperOf(w.nodeDir("n3")), syscall.SIGKILL)
	w.file("taker1", "")
	taker.says("outlived")
	_ = syscall.Kill(w.keeperOf(w.nodeDir("n2")), syscall.SIGKILL)
	w.file("taker2", "")
	if code := taker.code(time.Minute); code != 0 || !strings.Contains(taker.out.String(), "all is well\n") {
		t.Fatalf("exit code %d\n%s\n%s\n%s", code, taker.out.String(), taker.err.String(), w.logs())
	}
	for _, name := range []string{"middle1", "owner1"} {
		w.file(name, "")
	}
	middle.code(time.Minute)
	owner.code(time.Minute)
	w.must("down", "--cluster", "middle")
	w.nothingLeft()
}
