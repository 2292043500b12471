package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
)

func (a *app) explainCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "explain", summary: "say why a gang or job waits, how it ended, or what a node does", args: "[GANG|NODE|JOB]",
		examples: []string{
			"maniple explain\tthe cluster and all that waits",
			"maniple explain 1.2.1\ta gang",
			"maniple explain n2\ta node",
			"maniple explain 123\ta Slurm job, in the queue or over",
		},
		flags:  []urfave.Flag{clusterFlag(), jsonFlag()},
		action: (*call).explain,
	})
}

func (c *call) explain() error {
	if len(c.rest()) > 1 {
		return usage("explain", "one at a time", "write the command once for each")
	}
	which := strings.Join(c.rest(), "")
	if isJob(which) && c.str("cluster") == "" { // Slurm's word on the job, not that of the only cluster
		if _, err := c.find(); errors.Is(err, boot.ErrNone) {
			return c.explainJob(which, err)
		}
	}
	if isApplication(which) {
		return c.explainApplication(which)
	}
	err := c.explainHere(which)
	if isJob(which) && c.str("cluster") == "" && (errors.Is(err, boot.ErrNone) || errors.Is(err, errNoSuch)) {
		return c.explainJob(which, err)
	}
	return err
}

// explainHere asks the cluster.
func (c *call) explainHere(which string) error {
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		reply, raw, err := ask[stateExplain](ctx, c, client, "explain", which)
		if err != nil {
			return err
		}
		if c.on("json") {
			return c.raw(raw)
		}
		fmt.Fprintln(c.stdout, strings.TrimRight(reply.Explain.Text, "\n"))
		return nil
	})
}
