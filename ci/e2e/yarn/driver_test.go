//go:build e2e

package yarn

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// A driver's tasks and actors run in both containers, each in its own container's folder, where the driver's files are.
func TestDriverInPython(t *testing.T) {
	g := gatewayOf(t)
	python, top := devPython(t)
	g.write("main.py", `
import os, time, maniple

maniple.init()

@maniple.remote
def here(i):
    time.sleep(0.3)
    return os.environ["CONTAINER_ID"], os.getcwd(), open("main.py").read() != ""

@maniple.remote(num_cpus=1)
class Place:
    def here(self):
        return os.environ["CONTAINER_ID"]

seen = set(maniple.get([here.remote(i) for i in range(8)]))
print("tasks in", len({c for c, _, _ in seen}), all(c in d and ok for c, d, ok in seen))
pg = maniple.util.placement_group([{"CPU": 1}] * 2, strategy="STRICT_SPREAD")
maniple.get(pg.ready())
places = [Place.options(placement_group=pg, placement_group_bundle_index=i).remote() for i in range(2)]
print("actors in", len(set(maniple.get([p.here.remote() for p in places]))))
`)
	r := g.run("submit", "--on", "yarn", "--follow", "-N", "2", "-c", "2", "--mem", "512M", "--am-memory", "512M",
		"--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"), "--", python, "main.py")
	if r.Code != 0 || r.Stdout[strings.Index(r.Stdout, "\n")+1:] != "tasks in 2 True\nactors in 2\n" {
		t.Errorf("%+v", r)
	}
}

// devPython is the Python of the tests, and the top of this repository.
func devPython(t *testing.T) (python, top string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	top = filepath.Join(filepath.Dir(here), "..", "..", "..")
	out, err := exec.CommandContext(within(t), "bash", filepath.Join(top, "ci", "python", "env.sh"), "dev").Output()
	if err != nil {
		t.Fatal("ci/python/env.sh dev: ", err)
	}
	return strings.TrimSpace(string(out)), top
}
