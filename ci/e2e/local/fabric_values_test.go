//go:build e2e

package local

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// secondProgram sees to it that maniple-native lies beside maniple.
func secondProgram(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(filepath.Dir(binary), "maniple-native")); err == nil {
		return
	}
	build := exec.Command("go", "build", "-o", filepath.Dir(binary), "./launcher/cmd/maniple-native")
	build.Dir = top
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fabricWorld is one in which agents find libfabric.
func fabricWorld(t *testing.T) *world {
	t.Helper()
	secondProgram(t)
	out, err := exec.Command(filepath.Join(top, "ci/native/libfabric.sh")).Output()
	if err != nil {
		const text = "no libfabric for tests: ci/native/libfabric.sh says why"
		if os.Getuid() == 0 {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	w := newWorld(t)
	w.env = append(w.env, "LD_LIBRARY_PATH="+strings.TrimSpace(string(out)))
	return w
}

// Large values go by the fabric that was named. When its process is killed in the middle they go on by TCP from where they were, none is lost or wrong, and a line says so.
func TestValuesGoByAFabric(t *testing.T) {
	w := fabricWorld(t)
	w.must("up", "--cluster", "fabric", "--fake-nodes", "2", "--cpus", "1", "--object-store-memory", "512M", "--fabric", "tcp", "--no-same-host-handover")
	p := w.python(spread+`
import zlib
from maniple._core.session import current

group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()

@maniple.remote(num_cpus=1, max_restarts=0)
class Holder:
    def make(self, n):
        self.value = os.urandom(1 << 20) * (n >> 20)
        return [maniple.put(self.value)], zlib.adler32(self.value)
    def read(self, refs):
        return zlib.adler32(maniple.get(refs[0], timeout=60))

def moved():
    return [n["store"] for n in current().query("stores")["nodes"]]

a, b = [Holder.options(scheduling_strategy=on(group, i)).remote() for i in range(2)]
maniple.get([x.read.remote([maniple.put(b"here")]) for x in (a, b)], timeout=60)
end = time.monotonic() + 30
while not all(s.get("fabric") for s in moved()):
    assert time.monotonic() < end, moved()
    time.sleep(0.05)
assert moved()[0]["fabric"].startswith("tcp"), moved()
size = 96 << 20

def one():
    refs, want = maniple.get(a.make.remote(size), timeout=60)
    assert maniple.get(b.read.remote(refs), timeout=60) == want

one()
got = moved()
for kind in ("sent", "received"):
    assert sum(s.get(f"fabric_{kind}", 0) for s in got) == sum(s.get(kind, 0) for s in got) == size, got
print("kill", flush=True)
for i in range(2, 30):
    one()
    if any(s.get("no_fabric") for s in moved()):
        break
else:
    raise AssertionError(moved())
one()
got = moved()
came, fabric = (sum(s.get(kind, 0) for s in got) for kind in ("received", "fabric_received"))
assert came == (i + 1) * size and fabric < i * size, (i, got)  # nothing came twice
print("of", i + 1, "values came by the fabric", fabric / size, flush=True)
print("all is well", flush=True)
maniple.shutdown()
`, "fabric")
	p.says("kill")
	if text := w.must("status", "--cluster", "fabric"); !strings.Contains(text, "\nvalues of n1, n2 go by tcp;ofi_rxm lo\n") {
		t.Errorf("status says:\n%s", text)
	}
	killed := 0
	for _, pid := range w.find("maniple-native") {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	if code := p.code(2 * time.Minute); code != 0 || killed != 2 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("%d processes were killed, exit code %d\n%s\n%s\n%s", killed, code, p.out.String(), p.err.String(), w.logs())
	}
	if n := strings.Count(w.logs(), "maniple-native ended; values go by TCP meanwhile"); n != 2 {
		t.Errorf("%d lines say that the fabric is gone:\n%s", n, w.logs())
	}
	w.must("down", "--cluster", "fabric")
	w.nothingLeft()
}
