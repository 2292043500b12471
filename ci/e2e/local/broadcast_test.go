//go:build e2e

package local

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A large value that all nodes want at once goes on from node to node: its own sends it twice at most. Who wants it again when it is gone there gets it again, and
// a node that is lost meanwhile holds up nobody. So it is over the network, and where nodes of one machine copy values from one another's memory.
func TestBroadcast(t *testing.T) {
	t.Run("network", func(t *testing.T) { broadcast(t, false, "--no-same-host-handover") })
	t.Run("unencrypted", func(t *testing.T) { broadcast(t, false, "--no-same-host-handover", "--clear-values", "127.0.0.0/8") })
	t.Run("machine", func(t *testing.T) { broadcast(t, true) })
}

func broadcast(t *testing.T, beside bool, flags ...string) {
	w := newWorld(t)
	w.must(append([]string{"up", "--cluster", "many", "--fake-nodes", "6", "--cpus", "1", "--object-store-memory", "256M"}, flags...)...)
	clear := 0
	if slices.Contains(flags, "--clear-values") {
		clear = 1
	}
	share := 0
	if beside {
		share = 1
	}
	p := w.python(spread+fmt.Sprintf("\nBESIDE, CLEAR = %d, %d\n", share, clear)+`
import hashlib
from maniple._core.session import current

group = placement_group([{"CPU": 1}] * 6, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
homes = maniple.get([where.options(scheduling_strategy=on(group, i)).remote() for i in range(6)], timeout=60)

@maniple.remote(num_cpus=1, max_restarts=0)
class Reader:
    def read(self, refs):
        return hashlib.sha256(maniple.get(refs[0], timeout=60)).hexdigest()

def moved():
    return {n["name"]: (n["store"].get("sent", 0), n["store"].get("received", 0), n["store"].get("beside", 0), n["store"].get("clear_received", 0)) for n in current().query("stores")["nodes"]}

readers = [Reader.options(scheduling_strategy=on(group, i)).remote() for i in range(6)]
size = 48 << 20
value = os.urandom(1 << 20) * (size >> 20)
ref = maniple.put(value)
want = hashlib.sha256(value).hexdigest()
assert set(maniple.get([r.read.remote([ref]) for r in readers], timeout=100)) == {want}
got = moved()
source = max(got, key=lambda n: got[n][0] - got[n][1])
assert size <= got[source][0] < 2.1 * size, (source, got)  # two copies, and pieces that a third one asked for before others had them
assert got[source][1] == 0 and sum(1 for n in got if got[n][1] >= size) == 5, got
assert sum(got[n][1] for n in got) < 5.1 * size, got
assert all(got[n][2:] == (BESIDE * got[n][1], CLEAR * got[n][1]) for n in got), got

victim = next(i for i in range(6) if homes[i].split("/")[-2] not in (source, "n1"))
value = os.urandom(1 << 20) * (size >> 20)
ref, want = maniple.put(value), hashlib.sha256(value).hexdigest()
asked = [r.read.remote([ref]) for r in readers]
print("kill", homes[victim].split("/")[-2], flush=True)
assert set(maniple.get([a for i, a in enumerate(asked) if i != victim], timeout=100)) == {want}
print("all is well", flush=True)
maniple.shutdown()
`, "many")
	p.says("kill n")
	w.killAgent(regexp.MustCompile(`kill (n\d)`).FindStringSubmatch(p.out.String())[1])
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "many")
	w.nothingLeft()
}
