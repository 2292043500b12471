//go:build e2e

package local

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wheels writes two versions of a package by hand, so that pip needs no network, and gives how a driver asks for one of them.
const wheels = `
import os, sys, time, zipfile
import maniple
here = os.path.abspath("wheels")
os.makedirs(here, exist_ok=True)
for version in ("1.0", "2.0"):
    path = os.path.join(here, f"tiny-{version}-py3-none-any.whl")
    with zipfile.ZipFile(f"{path}.{os.getpid()}", "w") as w:
        w.writestr("tiny.py", f"VERSION = {version!r}")
        info = f"tiny-{version}.dist-info/"
        w.writestr(info + "METADATA", f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n")
        w.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        w.writestr(info + "RECORD", "")
    os.replace(f"{path}.{os.getpid()}", path)
OPTIONS = ["--no-index", "--find-links", here]
def pip(*packages, **more):
    return {"pip": {"packages": list(packages), "pip_install_options": OPTIONS, **more}}
@maniple.remote(num_cpus=1)
def version(*_):
    import tiny, cloudpickle
    return tiny.VERSION, sys.executable
@maniple.remote(num_cpus=1)
class Version:
    def get(self):
        import tiny
        return tiny.VERSION
`

// Two jobs have two versions of a package at once, on two nodes of one machine that make each environment once; tasks and actors may have others than their job.
func TestInstalledEnvironments(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "env", "--fake-nodes", "2", "--cpus", "4")
	program := wheels + `
mine, other = sys.argv[2], {"1.0": "2.0", "2.0": "1.0"}[sys.argv[2]]
maniple.init(sys.argv[1], runtime_env=pip("tiny==" + mine))
from maniple.util import placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy
group = placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
both = [version.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, i)) for i in range(2)]
found = maniple.get([f.remote() for f in both], timeout=100)
assert [f[0] for f in found] == [mine] * 2 and found[0][1] == found[1][1] != sys.executable, found
assert maniple.get(Version.remote().get.remote(), timeout=60) == mine
assert maniple.get(version.options(runtime_env=pip("tiny==" + other)).remote(), timeout=100)[0] == other
assert maniple.get(Version.options(runtime_env=pip("tiny==" + other)).remote().get.remote(), timeout=100) == other
try:
    import tiny
    raise AssertionError("the driver has it")
except ImportError:
    pass
for wrong in (lambda env: version.options(runtime_env=env).remote(), lambda env: Version.options(runtime_env=env).remote().get.remote()):
    try:
        maniple.get(wrong(pip("tiny==3.0")), timeout=100)
        raise AssertionError("there is no such version")
    except maniple.exceptions.RuntimeEnvSetupError as e:
        assert "No matching distribution found for tiny==3.0" in str(e) and "--find-links" in str(e), e
print("all is well", flush=True)
`
	first, second := w.python(program, "env", "1.0"), w.python(program, "env", "2.0")
	for _, p := range []*process{first, second} {
		if code := p.code(3 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") || strings.Contains(p.out.String()+p.err.String(), "Looking in links") {
			t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
		}
	}
	w.must("down", "--cluster", "env")
	w.nothingLeft()
	if kept, _ := filepath.Glob(filepath.Join(w.environments(), "*.json")); len(kept) != 2 {
		t.Errorf("environments that are kept: %v", kept)
	}
	info, err := os.Stat(w.environments())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("their directory: %v, %v", info, err)
	}
}

// environments is the directory of what was installed, which outlives clusters.
func (w *world) environments() string {
	return filepath.Join(w.tmp, fmt.Sprintf("maniple-%d", os.Getuid()), ".environments")
}

// What is being installed is told to who asks, and ends with its time, with the last task that waits for it, with its driver, and with its agent.
func TestInstallingIsEnded(t *testing.T) {
	w := newWorld(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // an index that does not answer
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w.must("up", "--cluster", "env", "--cpus", "2")
	program := wheels + `
slow = {"pip": {"packages": ["tiny"], "pip_install_options": ["-v", "--index-url", "http://` + silent.Addr().String() + `/"]}}
maniple.init(sys.argv[1])
try:
    maniple.get(version.options(runtime_env={**slow, "config": {"setup_timeout_seconds": 3}}).remote(), timeout=60)
    raise AssertionError("it can't be made")
except maniple.exceptions.RuntimeEnvSetupError as e:
    assert "setup_timeout_seconds (3s)" in str(e), e
ref = version.options(runtime_env=slow).remote()
from maniple.util import state
end = time.monotonic() + 30
while "is being made at node" not in str(waits := (state.get_task(ref.task_id()) or {}).get("waits")) or "Looking in" not in waits:
    assert time.monotonic() < end, waits
    time.sleep(0.1)
print("waits", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
maniple.cancel(ref)
print("cancelled", flush=True)
time.sleep(600)
`
	p := w.python(program, "env")
	p.says("waits")
	pips := func() []int { return w.find("-m pip install") }
	w.wait(20*time.Second, "pip runs", func() bool { return len(pips()) > 0 })
	w.file("go", "")
	p.says("cancelled")
	w.wait(20*time.Second, "nobody runs pip for a task that was cancelled", func() bool { return len(pips()) == 0 })
	_ = p.cmd.Process.Kill()

	ends := wheels + `
maniple.init(sys.argv[1])
refs = [version.options(runtime_env={"pip": {"packages": ["tiny"], "pip_install_options": ["--index-url", "http://` + silent.Addr().String() + `/"]}}).remote()]
time.sleep(600)
`
	p = w.python(ends, "env")
	w.wait(20*time.Second, "pip runs", func() bool { return len(pips()) > 0 })
	_ = p.cmd.Process.Kill()
	w.wait(20*time.Second, "nobody runs pip for a driver that ended", func() bool { return len(pips()) == 0 })
	p = w.python(ends, "env")
	w.wait(20*time.Second, "pip runs", func() bool { return len(pips()) > 0 })
	_ = syscall.Kill(w.one("maniple agent"), syscall.SIGKILL)
	w.wait(20*time.Second, "nobody runs pip for an agent that was killed", func() bool { return len(pips()) == 0 })
	_ = p.cmd.Process.Kill()
	w.run("down", "--cluster", "env")
}
