//go:build e2e

package yarn

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/yarn"
)

// lookers is a driver whose value of so many MiB so many actors look at for a while, each at all of it a few times a second.
const lookers = `
import pickle, sys, time, maniple

maniple.init()
size, n, seconds = int(sys.argv[1]) << 20, int(sys.argv[2]), float(sys.argv[3])

@maniple.remote(num_cpus=1)
class Looker:
    def look(self, value, seconds):
        over, looks = time.monotonic() + seconds, 0
        while time.monotonic() < over:
            assert bytes(value[::4096]) == bytes([7]) * (len(value) >> 12)
            looks += 1
            time.sleep(0.2)
        return looks > 1

ref = maniple.put(pickle.PickleBuffer(bytearray([7]) * size))
lookers = [Looker.remote() for _ in range(n)]
print("looked", sum(maniple.get([a.look.remote(ref, seconds) for a in lookers])), flush=True)
`

func (g *gateway) look(mem string, size, n, seconds int) {
	g.t.Helper()
	python, top := devPython(g.t)
	g.write("main.py", lookers)
	id := g.submit("-N", "1", "-c", fmt.Sprint(n+1), "--mem", mem, "--am-memory", "512M", "--export", "PYTHONPATH="+filepath.Join(top, "libs", "python"),
		"--", python, "main.py", fmt.Sprint(size), fmt.Sprint(n), fmt.Sprint(seconds))
	if r := g.over(id); r.Final != yarn.Succeeded || !strings.Contains(g.logs(id), fmt.Sprintf("looked %d\n", n)) {
		g.t.Errorf("%+v\n%s", r, g.logs(id))
	}
}

// A program that needs more memory than its container has ends with what to raise, as YARN ends it.
func TestMemoryIsTooLittle(t *testing.T) {
	g := gatewayOf(t)
	python, _ := devPython(t)
	id := g.submit("-N", "1", "-n", "1", "--mem", "256M", "--am-memory", "512M", "--", python, "-c", "import time; x = bytearray(1 << 30); time.sleep(60)")
	if r := g.over(id); r.Final != yarn.Failed || !strings.Contains(r.Diagnostics, "over its memory (-104)") {
		t.Errorf("%+v", r)
	}
	if r := g.run("explain", id); !strings.Contains(r.Stdout, "--mem") {
		t.Errorf("%+v", r)
	}
}

// NodeManagers count what each process has of a value: 7 that look at 700 MiB have more than the container, which lives on.
func TestManyLookAtOneValue(t *testing.T) {
	gatewayOf(t).look("3G", 700, 7, 8)
}
