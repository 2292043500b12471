package cli

import (
	"context"
	"encoding/json"
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
			"maniple explain\teverything that waits",
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
		data, err := c.query(ctx, client, "explain", which)
		if err != nil {
			return err
		}
		if c.on("json") {
			return c.raw(data)
		}
		return c.printExplain(data)
	})
}

func (c *call) printExplain(data json.RawMessage) error {
	var reply struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &reply); err != nil {
		return &Fault{Name: "BUG", What: c.page.name, Why: "the head's explanation: " + err.Error(), Err: err}
	}
	fmt.Fprintln(c.stdout, strings.TrimRight(reply.Text, "\n"))
	return nil
}
