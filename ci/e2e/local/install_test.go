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
	silent := func() string { // an index that does not answer
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return "http://" + l.Addr().String() + "/"
	}
	index, another := silent(), silent()
	pips := func(index string) int {
		return len(w.find("-m pip install", "--trusted-host "+strings.Split(index, "/")[2]))
	}
	runs := func(index string) {
		t.Helper()
		w.wait(20*time.Second, "pip runs", func() bool { return pips(index) > 0 })
	}
	ends := func(index, what string) {
		t.Helper()
		w.wait(20*time.Second, "nobody runs pip for "+what, func() bool { return pips(index) == 0 })
	}
	w.must("up", "--cluster", "killed", "--cpus", "1")
	lost := w.python(wheels+`
maniple.init(sys.argv[1])
ref = version.options(runtime_env={"pip": {"packages": ["tiny"], "pip_install_options": ["-i", sys.argv[2], "--trusted-host", sys.argv[2].split("/")[2]]}}).remote()
time.sleep(600)`, "killed", another)
	runs(another)
	_ = syscall.Kill(w.one("maniple agent"), syscall.SIGKILL) // after which its head waits for ten seconds for those whom it had
	_ = lost.cmd.Process.Kill()
	w.must("up", "--cluster", "env", "--cpus", "2")
	program := wheels + `
slow = {"pip": {"packages": ["tiny"], "pip_install_options": ["-v", "-i", sys.argv[2], "--trusted-host", sys.argv[2].split("/")[2]]}}
maniple.init(sys.argv[1])
try:
    maniple.get(version.options(runtime_env={**slow, "config": {"setup_timeout_seconds": 1}}).remote(), timeout=60)
    raise AssertionError("it can't be made")
except maniple.exceptions.RuntimeEnvSetupError as e:
    assert "setup_timeout_seconds (1s)" in str(e), e
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
while not os.path.exists("again"):
    time.sleep(0.02)
ref = version.options(runtime_env=slow).remote()
time.sleep(600)
`
	p := w.python(program, "env", index)
	p.says("waits")
	runs(index)
	w.file("go", "")
	p.says("cancelled")
	ends(index, "a task that was cancelled")
	w.file("again", "")
	runs(index)
	_ = p.cmd.Process.Kill()
	ends(index, "a driver that ended")
	ends(another, "an agent that was killed")
	for _, cluster := range []string{"env", "killed"} {
		w.must("down", "--cluster", cluster)
	}
}

// apptainer stands in for the real one, which is in no registry: its image is the system's own directories, and of all else the program sees what is bound.
const apptainer = `#!/bin/sh
[ "$1" = exec ] || exit 64
shift
while :; do
	case "$1" in
	--bind) binds=$2; shift 2;;
	--pwd) cd "$2" || exit 64; shift 2;;
	--*) shift;;
	*) break;;
	esac
done
export root=$1 binds
shift
exec unshare -m --propagation private sh -c '
mount -t tmpfs none "$root"
for dir in /usr /bin /lib /lib64 /etc /proc /dev $(echo "$binds" | tr , " "); do
	[ -d "$dir" ] && mkdir -p "$root$dir" && mount --rbind "$dir" "$root$dir"
done
touch "$root/this is the image"
exec chroot "$root" sh -c "cd \"\$0\" && exec \"\$@\"" "$PWD" "$@"' sh "$@"
`

// Workers run in a container, with nothing of the driver's file system but what they need, and have values, files and one another as any.
func TestWorkersInAContainer(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the program that stands in for apptainer mounts, which needs root")
	}
	w := newWorld(t)
	if err := os.Mkdir(filepath.Join(w.dir, "image"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+filepath.Dir(w.file("apptainer", apptainer))+":"+filepath.Dir(binary)+":"+os.Getenv("PATH"), "PYTHONPATH="+filepath.Join(top, "libs/python"))
	w.must("up", "--cluster", "env", "--fake-nodes", "2", "--cpus", "2")
	p := w.launch("", w.env, cached(t, "dev"), "-c", `
import os, sys
import maniple
os.makedirs("files")
open("files/data.txt", "w").write("hello")
maniple.init("env", runtime_env={"image_uri": os.path.abspath("image")})
@maniple.remote
def looks(data):
    return os.path.exists("/this is the image"), sys.executable, len(data), bytes(3 << 20), os.getcwd()
@maniple.remote(runtime_env={"working_dir": "files"})
class Reads:
    def read(self):
        return open("data.txt").read(), maniple.get(looks.remote(b""))[0]
inside, python, size, much, cwd = maniple.get(looks.remote(bytes(5 << 20)), timeout=60)
assert (inside, size, len(much)) == (True, 5 << 20, 3 << 20) and python != sys.executable and cwd == os.getcwd(), (inside, python, size, cwd)
actors = [Reads.remote() for _ in range(4)]
assert maniple.get([a.read.remote() for a in actors], timeout=60) == [("hello", True)] * 4
print("all is well", flush=True)
`)
	if code := p.code(time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "env")
}
