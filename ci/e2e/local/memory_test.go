//go:build e2e

package local

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hogs is a driver on a node with 768 MiB: a ballast lives while more values are put than the rest has room for, and then tasks take all that
// there is, one of which does so once only.
const hogs = `
import os, sys, time
import maniple

maniple.init(address=sys.argv[1])
MIB = 1 << 20

@maniple.remote(num_cpus=0)
class Ballast:
    def __init__(self, size):
        self.held = b"x" * size
    def who(self):
        return os.getpid(), len(self.held)

@maniple.remote
def hog(flag):
    if flag and os.path.exists(flag):
        return "the second time"
    if flag:
        open(flag, "w").close()
    held = []
    for i in range(256):
        held.append(b"x" * (8 * MIB))
    return "all of it"

@maniple.remote(num_cpus=0)
def modest(seconds):
    time.sleep(seconds)
    return os.getpid()

ballast = Ballast.remote(300 * MIB)
before = maniple.get(ballast.who.remote())
refs = [maniple.put(bytes([i]) * (16 * MIB)) for i in range(24)]
for i, ref in enumerate(refs):
    assert maniple.get(ref) == bytes([i]) * (16 * MIB), i
print("values", flush=True)
del refs, ref
kept = maniple.put(b"k" * (64 * MIB))
others = [modest.remote(4), modest.options(max_retries=0).remote(4)]
assert maniple.get(hog.remote(sys.argv[2])) == "the second time"
print("again", flush=True)
try:
    maniple.get(hog.options(max_retries=0).remote(""))
    raise SystemExit("it had all of it")
except maniple.exceptions.OutOfMemoryError as e:
    assert "hog" in str(e) and "768 MiB" in str(e) and "Ballast" in str(e) and "max_retries=0" in str(e), e
maniple.get(others)
assert maniple.get(ballast.who.remote()) == before
assert maniple.get(kept) == b"k" * (64 * MIB)
print("all is well", flush=True)
`

// limited makes a control group with so much memory, and gives its directory and the file that counts what the kernel ends there.
func limited(t *testing.T, bytes int) (dir, ended string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a control group here")
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		limit := ""
		switch controllers, _ := os.ReadFile(filepath.Join(f[1], "cgroup.controllers")); {
		case strings.Contains(f[3], "ro,"):
			continue
		case f[2] == "cgroup2" && strings.Contains(string(controllers), "memory"):
			limit, ended = "memory.max", "memory.events"
			_ = os.WriteFile(filepath.Join(f[1], "cgroup.subtree_control"), []byte("+memory"), 0)
		case f[2] == "cgroup" && strings.Contains(","+f[3]+",", ",memory,"):
			limit, ended = "memory.limit_in_bytes", "memory.oom_control"
		default:
			continue
		}
		dir = filepath.Join(f[1], fmt.Sprintf("maniple-e2e-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatalf("the memory of a control group can be bounded here, and none be made: %v", err)
		}
		t.Cleanup(func() {
			for end := time.Now().Add(5 * time.Second); os.Remove(dir) != nil && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
		})
		if err := os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(bytes)), 0); err != nil {
			t.Fatal(err)
		}
		return dir, filepath.Join(dir, ended)
	}
	t.Skip("no file system of control groups that bounds memory can be written here")
	return "", ""
}

// With memory bounded by the kernel: values that find none go to disk, who takes all is ended before the kernel ends anything, and is named, and
// the others live.
func TestMemoryLimit(t *testing.T) {
	dir, ended := limited(t, 768<<20)
	w := newWorld(t)
	up := w.launch("", w.env, "sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, dir, binary,
		"up", "--cluster", "tight", "--cpus", "2", "--object-store-memory", "600M", "--object-spilling-directory", w.dir)
	if code := up.code(time.Minute); code != 0 {
		t.Fatalf("exit code %d: %s\n%s", code, up.err.String(), w.logs())
	}
	p := w.python(hogs, "tight", filepath.Join(w.dir, "flag"))
	code := p.code(2 * time.Minute)
	if code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	if errs := p.err.String(); !strings.Contains(errs, "768 MiB (cgroup v") || !strings.Contains(errs, "the worker of __main__.hog") {
		t.Errorf("the driver was not told who was ended:\n%s", errs)
	}
	if text, _ := os.ReadFile(ended); !strings.Contains(string(text), "oom_kill 0\n") {
		t.Errorf("the kernel ended something:\n%s\n%s", text, w.logs())
	}
	w.must("down", "--cluster", "tight")
	w.nothingLeft()
}
