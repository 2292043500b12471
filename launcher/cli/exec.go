package cli

import (
	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/spec"
)

// execLess are the flags that have no meaning for a single driver.
var execLess = []string{"nodes", "ntasks", "ntasks-per-node", "gpus-per-task", "gpus", "gpu-visibility", "strategy", "max-restarts", "output", "error", "time", "signal", "bind", "slurm-env"}

func (a *app) execCommand() *urfave.Command {
	flags := append(specFlags(execLess...), clusterFlag(), toggle("quiet", "Q", "no messages but errors"), runJSON())
	return a.newCommand(&page{
		name: "exec", summary: "run one program on the cluster's first node, with your terminal", args: "[--] PROGRAM [ARG...]",
		examples: []string{
			"maniple exec -- python\tan interpreter",
			"maniple exec -- bash\ta shell on node 0",
			"maniple exec --gpus-per-node 1 -- python x.py",
		},
		notes: []string{"It needs a cluster: see `maniple up`. Without -c it reserves no core."},
		flags: flags, program: true, more: true, action: (*call).exec,
	})
}

func (c *call) exec() error {
	s, err := spec.Parse(func(name string) (string, string, bool) {
		if contains(execLess, name) {
			return "", "", false
		}
		return c.flag(name)
	})
	if err != nil {
		return err
	}
	s.Command = c.rest()
	return c.runSpec(s, runOptions{needCluster: true, terminal: true, noCores: true})
}
