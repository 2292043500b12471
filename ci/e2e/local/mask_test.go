//go:build e2e

package local

import (
	"strings"
	"testing"
	"time"
)

// Two gangs on nodes with declared GPUs: no GPU is in the masks of two ranks, and a gang that is started
// again gives each rank as many of its own as before.
func TestMasksOfTwoGangsAreDisjoint(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--fake-nodes", "2", "--node-gpus", "4", "--cpus", "8")
	defer w.run("down")
	const script = `echo "$MANIPLE_RESTARTS $RANK $LOCAL_RANK $CUDA_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES" > $0-$MANIPLE_RESTARTS-$RANK
if [ $MANIPLE_RESTARTS = 0 ]; then [ $RANK = 1 ] || exec sleep 600; while [ ! -e together ]; do sleep 0.05; done; exit 1; fi
while [ ! -e go ]; do sleep 0.05; done`
	flags := []string{"run", "-N", "2", "--ntasks-per-node", "2", "--gpus-per-task", "1", "--max-restarts", "1", "--", "sh", "-c"}
	first := w.start("", append(flags[:len(flags):len(flags)], script, "first")...)
	second := w.start("", append(flags[:len(flags):len(flags)], script, "second")...)
	masks := func(restarts int) map[string]string { // node and GPU, whose
		taken := map[string]string{}
		for _, gang := range []string{"first", "second"} {
			for rank := range 4 {
				name := gang + "-" + itoa(restarts) + "-" + itoa(rank)
				w.wait(20*time.Second, name, func() bool { return strings.HasSuffix(w.read(name), "\n") })
				f := strings.Fields(w.read(name))
				if len(f) != 4 || strings.Contains(f[3], ",") {
					t.Fatalf("%s: %q is not one mask of one GPU", name, f)
				}
				gpu := itoa(rank/2) + ":" + f[3]
				if other := taken[gpu]; other != "" {
					t.Errorf("%s and %s both see GPU %s", other, name, gpu)
				}
				taken[gpu] = name
			}
		}
		return taken
	}
	masks(0)
	w.file("together", "")
	masks(1)
	w.file("go", "")
	for i, p := range []*process{first, second} {
		if code := p.code(30 * time.Second); code != 0 {
			t.Errorf("gang %d: exit code %d\n%s", i, code, p.err.String())
		}
	}
}
