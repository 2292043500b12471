//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// Tasks, actors and placement groups have parts of one device, and the whole of it when nobody has a part.
func TestTasksAndGroupsShareADevice(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "device", "--fake-nodes", "1", "--cpus", "4", "--node-gpus", "1")
	p := w.python(`
import os, sys
import maniple
from maniple.util import placement_group, remove_placement_group
from maniple.util.scheduling_strategies import PlacementGroupSchedulingStrategy as On
maniple.init(sys.argv[1])

@maniple.remote(num_cpus=0)
class Sees:
    def devices(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]
def seen(actors):
    return maniple.get([a.devices.remote() for a in actors], timeout=30)

plain = [Sees.options(num_gpus=0.25).remote()]
assert seen(plain) == ["gpu-0"]
group = placement_group([{"GPU": 0.5}])
assert group.wait(30), group.explain()
inside = [Sees.options(num_gpus=0.25, scheduling_strategy=On(group, 0)).remote() for _ in range(2)]
plain.append(Sees.options(num_gpus=0.25).remote())
assert seen(plain + inside) == ["gpu-0"] * 4
more = Sees.options(num_gpus=0.01).remote()
whole = Sees.options(num_gpus=1).remote()
waits = [more.devices.remote(), whole.devices.remote()]
assert maniple.wait(waits, timeout=1) == ([], waits)
remove_placement_group(group)
assert maniple.get(waits[0], timeout=30) == "gpu-0"
for a in plain + [more]:
    maniple.kill(a)
assert maniple.get(waits[1], timeout=30) == "gpu-0"
print("all is well", flush=True)
maniple.shutdown()
`, "device")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "device")
	w.nothingLeft()
}
