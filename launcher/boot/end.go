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

// Signal asks this cluster's keepers on this machine to drain (TERM), or to stop now (TERM twice), when
// their agent cannot be asked. It says how many there are.
func (ep *Endpoint) Signal(now bool) int {
	nodes := liveNodes(ep.Dir)
	for _, n := range nodes {
		syscall.Kill(n.Pid, syscall.SIGTERM)
	}
	if now {
		time.Sleep(pollGone) // two signals at once would be one
		for _, n := range nodes {
			if alive(n.Pid, n.Start) {
				syscall.Kill(n.Pid, syscall.SIGTERM)
			}
		}
	}
	return len(nodes)
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
