package cli

import (
	"context"
	"fmt"
	"strings"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
)

func (a *app) explainCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "explain", summary: "say why a gang waits, how it ended, or what a node does", args: "[GANG|NODE]",
		examples: []string{
			"maniple explain\tthe cluster and all that waits",
			"maniple explain 1.2.1\ta gang",
			"maniple explain n2\ta node",
		},
		flags:  []urfave.Flag{clusterFlag(), jsonFlag()},
		action: (*call).explain,
	})
}

func (c *call) explain() error {
	if len(c.rest()) > 1 {
		return usage("explain", "one at a time", "")
	}
	which := strings.Join(c.rest(), "")
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
