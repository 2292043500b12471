package boot

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend/local"
)

// pollGone is how often Gone looks; the end of processes that are no children of ours has no event
// without a descriptor per process, and down is not a hot path.
const pollGone = 20 * time.Millisecond

// Keepers are those of a cluster that lived on this machine when they were looked for.
type Keepers []liveNode

// Keepers looks for the cluster's keepers on this machine. Who means this cluster and no later one of its name does so at once.
func (ep *Endpoint) Keepers() Keepers { return liveNodes(ep.Dir) }

// Signal asks those of them that still live to drain (TERM), or to stop now (TERM twice), when their agent
// cannot be asked. It says how many there are.
func (k Keepers) Signal(now bool) int {
	n := k.term()
	if now && n > 0 {
		time.Sleep(pollGone) // two signals at once would be one
		k.term()
	}
	return n
}

func (k Keepers) term() (n int) {
	for _, node := range k {
		if alive(node.Pid, node.Start) {
			n++
			syscall.Kill(node.Pid, syscall.SIGTERM)
		}
	}
	return n
}

// Gone returns when no keeper of the cluster lives on this machine any more.
func (ep *Endpoint) Gone(ctx context.Context) error {
	tick := time.NewTicker(pollGone)
	defer tick.Stop()
	for len(liveNodes(ep.Dir)) > 0 || ep.Pid != 0 && ep.Host == local.HostName() && alive(ep.Pid, ep.Start) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	os.Remove(ep.Dir) // empty, if all went well
	return nil
}

// Forget removes the endpoint files of a cluster that has ended.
func Forget(getenv func(string) string, name string) {
	for _, state := range StateDirs(getenv) {
		for _, file := range []string{
			filepath.Join(state, "jobs", "local", name+"@"+local.HostName(), "endpoint.json"),
			filepath.Join(state, "jobs", "slurm", name, "endpoint.json"),
			filepath.Join(state, "jobs", "yarn", name, "endpoint.json"),
		} {
			(&Endpoint{path: file}).Remove()
		}
	}
}
