package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

func (a *app) statusCommand() *urfave.Command {
	return a.newCommand(&page{
		name: "status", summary: "show clusters and their gangs", args: "[GANG]",
		examples: []string{
			"maniple status\tall clusters, their gangs",
			"maniple status --all\tended gangs too",
			"maniple status --json 1.2.1\tone gang, everything",
		},
		flags:  []urfave.Flag{toggle("all", "a", "with gangs that have ended"), clusterFlag(), jsonFlag()},
		action: (*call).status,
	})
}

func (c *call) status() error {
	if len(c.rest()) > 1 {
		return usage("status", "one gang at a time", "write the command once for each")
	}
	if len(c.rest()) == 1 {
		return c.statusOf(c.rest()[0])
	}
	list := boot.List(c.getenv)
	if c.str("cluster") != "" || c.getenv("MANIPLE_ADDRESS") != "" {
		ep, err := c.find()
		if err != nil {
			return err
		}
		list = []*boot.Endpoint{ep}
	}
	type report struct {
		Cluster string          `json:"cluster"`
		Kind    string          `json:"kind"`
		Nodes   []string        `json:"nodes"`
		Error   string          `json:"error,omitempty"`
		Groups  json.RawMessage `json:"groups,omitempty"`
		Stores  json.RawMessage `json:"stores,omitempty"`  // of the nodes: what their memory has
		Devices json.RawMessage `json:"devices,omitempty"` // and what their GPUs do
	}
	reports := []report{}
	for _, ep := range list {
		r := report{Cluster: ep.Name, Kind: ep.Kind, Nodes: ep.Nodes}
		x, err := c.look(ep)
		if errors.Is(err, boot.ErrNone) && c.str("cluster") == "" {
			continue // it ended, and has just been forgotten
		}
		if err != nil {
			r.Error = err.Error()
		}
		r.Groups, r.Stores, r.Devices = x.rawGroups, x.rawStores, x.rawDevices
		if len(x.nodes) > 0 {
			r.Nodes = x.nodes // on one of the cluster's nodes no more than that node is known of it
		}
		reports = append(reports, r)
		if c.on("json") {
			continue
		}
		if len(reports) > 1 {
			fmt.Fprintln(c.stdout)
		}
		fmt.Fprintf(c.stdout, "cluster %s (%s): %s\n", ep.Name, ep.Kind, slurm.FoldHosts(r.Nodes))
		if err != nil {
			fmt.Fprintf(c.stdout, "  does not answer: %v\n", err)
			continue
		}
		for _, text := range x.drains {
			fmt.Fprintf(c.stdout, "  %s\n", text)
		}
		c.printGroups(x.groups)
		c.printStores(&x.stores)
		c.printGPUs(&x.devices, "  ")
	}
	if c.on("json") {
		return c.json(struct {
			Version  int      `json:"version"`
			Clusters []report `json:"clusters"`
		}{1, reports})
	}
	if len(reports) == 0 {
		c.say("no cluster is up")
	}
	return nil
}

// standing is what a cluster says of itself.
type standing struct {
	groups    []stateGroup
	rawGroups json.RawMessage
	nodes     []string
	drains    []string // what is said of nodes that are being drained
	stores    stateStores
	rawStores json.RawMessage

	devices    stateDevices
	rawDevices json.RawMessage
}

func (c *call) look(ep *boot.Endpoint) (x standing, err error) {
	client, err := c.connect(c.ctx, ep)
	if err != nil {
		return x, err
	}
	defer client.Close()
	reply, data, err := ask[stateGroups](c.ctx, c, client, "groups", "")
	if err != nil {
		return x, err
	}
	there, _, err := ask[stateNodes](c.ctx, c, client, "nodes", "")
	if err != nil {
		return x, err
	}
	for _, n := range there.Nodes {
		x.nodes = append(x.nodes, n.Name)
		if n.Drain != nil {
			x.drains = append(x.drains, n.drainText())
		}
	}
	var rest struct {
		Groups json.RawMessage `json:"groups"`
	}
	if err = json.Unmarshal(data, &rest); err != nil {
		return x, err
	}
	x.groups, x.rawGroups = reply.Groups, rest.Groups
	stores, data, err := ask[stateStores](c.ctx, c, client, "stores", "")
	if err != nil {
		return x, err
	}
	x.stores = stores
	if x.rawStores, err = nodesOf(data); err != nil {
		return x, err
	}
	x.devices, x.rawDevices, err = c.drivers(c.ctx, client, there.Nodes)
	return x, err
}

func (c *call) printGroups(groups []stateGroup) {
	rows := groupRows(groups, c.on("all"))
	if len(rows) == 0 {
		fmt.Fprintln(c.stdout, "  no gangs")
		return
	}
	table(c.stdout, "  ", groupHeadings, rows)
}

const groupHeadings = "GANG NAME PHASE RANKS NODES SINCE WHY"

// groupRows are those of a table of gangs, all: with those that have ended.
func groupRows(groups []stateGroup, all bool) (rows [][]string) {
	for _, g := range groups {
		if g.Phase == "ended" && !all {
			continue
		}
		what := lastLine(g.Explain)
		if g.End != nil {
			what = fmt.Sprintf("%s, exit code %d", g.End.Cause, g.End.Code)
		}
		rows = append(rows, []string{
			g.ID, g.Name, g.Phase, strconv.Itoa(g.World), dash(g.Hosts), since(time.Now(), g.Since), what,
		})
	}
	return rows
}

// statusOf shows one gang.
func (c *call) statusOf(which string) error {
	return c.withClient(func(ctx context.Context, client *gang.Client, _ *boot.Endpoint) error {
		if c.on("json") {
			data, err := c.query(ctx, client, "group", which)
			if err != nil {
				return err
			}
			return c.raw(data)
		}
		reply, _, err := ask[stateExplain](ctx, c, client, "explain", which)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.stdout, strings.TrimRight(reply.Explain.Text, "\n"))
		return nil
	})
}

// lastLine of an explanation is the reason; what stands before it is the table's other columns.
func lastLine(text string) string {
	text = strings.TrimRight(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
