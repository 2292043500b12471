//go:build e2e

package local

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Directories and modules of a driver are where its tasks and actors run, on every node and from nobody's disk but its own, and go with it.
func TestEnvironmentsOnNodes(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "env", "--fake-nodes", "3", "--cpus", "3")
	p := w.python(strings.Replace(spread, "maniple.init(sys.argv[1])", `
def tree(files):
    for name, text in files.items():
        os.makedirs(os.path.dirname(name), exist_ok=True)
        open(name, "w").write(text)
tree({"wd/data.txt": "hello", "wd/mine.py": "X = 42", "wd/noise.log": "", "wd/big": os.urandom(5 << 20).hex(), "pkg/__init__.py": "Y = 7", "late/own.py": "Z = 9", "late/data.txt": "late"})
maniple.init(sys.argv[1], runtime_env={"working_dir": "wd", "py_modules": ["pkg"], "excludes": ["*.log"], "env_vars": {"HERE": "${HOME}/here"}})
`, 1)+`
import shutil
for name in ("wd", "pkg"):
    shutil.rmtree(name)
late = os.path.abspath("late")
group = placement_group([{"CPU": 2}] * 3, strategy="STRICT_SPREAD")
assert group.wait(30), group.explain()
at = lambda i: dict(scheduling_strategy=on(group, i))

@maniple.remote
def looks():
    import mine, pkg
    assert os.environ["HERE"] == os.environ["HOME"] + "/here" and len(open("big").read()) == 10 << 20
    return mine.X + pkg.Y, open("data.txt").read(), os.path.exists("noise.log"), os.getcwd()
@maniple.remote(runtime_env={"working_dir": late})
def owns():
    import own
    return own.Z, open("data.txt").read()
@maniple.remote
def nests(function, i):
    return maniple.get(function.options(**at(i)).remote())
@maniple.remote
class Looks:
    def look(self):
        return maniple.get(looks.remote())

found = maniple.get([looks.options(**at(i % 3)).remote() for i in range(9)], timeout=60)
assert {f[:3] for f in found} == {(49, "hello", False)} and len({f[3] for f in found}) == 3, found
assert maniple.get([nests.options(**at(i)).remote(looks, (i + 1) % 3) for i in range(3)], timeout=60)[0][:2] == (49, "hello")
assert maniple.get(nests.options(**at(1)).remote(owns, 2), timeout=60) == (9, "late")
actor = Looks.options(**at(2)).remote()
assert maniple.get(actor.look.remote(), timeout=60)[:2] == (49, "hello")
bad = {"working_dir": "package:" + "0" * 64}
for i in range(3):
    assert "can't be had" in raised(maniple.exceptions.RuntimeEnvSetupError, looks.options(runtime_env=bad, **at(i)).remote())
    assert "can't be had" in raised(maniple.exceptions.RuntimeEnvSetupError, Looks.options(runtime_env=bad, **at(i)).remote().look.remote())
print("all is well", flush=True)
maniple.shutdown()
`, "env")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	left := func() (found []string) {
		for _, node := range []string{"n1", "n2", "n3"} {
			some, _ := filepath.Glob(filepath.Join(w.nodeDir(node), "jobs", "*", "*"))
			found = append(found, some...)
		}
		return found
	}
	w.wait(20*time.Second, "the job's directories are gone", func() bool { return len(left()) == 0 })
	w.must("down", "--cluster", "env")
	w.nothingLeft()
}
