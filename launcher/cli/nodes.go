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

func (a *app) nodesCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "nodes", summary: "list the nodes, what they have and what is free, and what their GPUs do",
		examples: []string{"maniple nodes", "maniple nodes --json"},
		flags:    []urfave.Flag{clusterFlag(), jsonFlag()},
		action:   (*call).nodes,
	})
}

func (c *call) nodes() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		reply, raw, err := ask[stateNodes](ctx, c, client, "nodes", "")
		if err != nil {
			return err
		}
		drivers, told, err := c.drivers(ctx, client, reply.Nodes)
		if err != nil {
			return err
		}
		if c.on("json") {
			if raw, err = with(raw, "devices", told); err != nil {
				return err
			}
			return c.raw(raw)
		}
		table(c.stdout, "", nodeHeadings, reply.rows())
		c.printGPUs(&drivers, "")
		return nil
	})
}

const nodeHeadings = "NODE STATE CORES GPUS MEMORY OTHER ADDRESS"

// rows are those of a table of nodes, with a last one of its own that has no heading.
func (s *stateNodes) rows() (rows [][]string) {
	for _, n := range s.Nodes {
		rows = append(rows, []string{
			n.Name, n.State, n.amount("CPU"), n.amount("GPU"), n.amount("memory"), n.custom(), strings.Join(n.Addresses, ","), n.Why,
		})
	}
	for _, name := range s.Missing {
		rows = append(rows, []string{name, "missing", "-", "-", "-", "-", "-", "has not joined"})
	}
	return rows
}

// amount is "free/total".
func (n *stateNode) amount(name string) string {
	total, ok := n.Total[name]
	if !ok {
		return "0"
	}
	if name == "memory" {
		return strings.TrimSuffix(size(n.Free[name]), " GiB") + "/" + size(total)
	}
	return trim(n.Free[name]) + "/" + trim(total)
}

func (n *stateNode) custom() string {
	var list []string
	for _, name := range sortedKeys(n.Total) {
		if name != "CPU" && name != "GPU" && name != "memory" {
			list = append(list, fmt.Sprintf("%s %s/%s", name, trim(n.Free[name]), trim(n.Total[name])))
		}
	}
	for _, k := range sortedKeys(n.Labels) {
		list = append(list, k+"="+n.Labels[k])
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ",")
}

// with adds a field to a reply, if there is something in it.
func with(reply json.RawMessage, name string, value json.RawMessage) (json.RawMessage, error) {
	if value == nil {
		return reply, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(reply, &fields); err != nil {
		return nil, err
	}
	fields[name] = value
	return json.Marshal(fields)
}
