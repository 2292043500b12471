package cli

import (
	"fmt"
	"strconv"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/slurm"
)

// idleDefault ends a cluster that nobody uses: sites cancel idle nodes, and laptops have batteries.
const idleDefault = time.Hour

func (a *app) upCommand() *urfave.Command {
	flags := append([]urfave.Flag{clusterFlag()}, nodeFlags()...)
	flags = append(flags,
		value("idle", "", "TIME", "end it after so long without use (60m), or never"),
		jsonFlag(),
	)
	for _, f := range flags {
		if s, ok := f.(*urfave.StringFlag); ok {
			s.Hidden = false
		}
	}
	return a.newCommand(&page{
		name: "up", summary: "bring up a cluster that stays",
		examples: []string{
			"maniple up\tthis machine, or all nodes of the Slurm job",
			"maniple up --fake-nodes 2 --node-gpus 4\ttwo nodes, made up",
			"maniple up --cluster b\ta second one beside the first",
			"maniple down\tend it",
		},
		flags: flags, action: (*call).up,
	})
}

func (c *call) up() error {
	if err := c.noArgs(); err != nil {
		return err
	}
	o, fake, err := c.cluster()
	if err != nil {
		return err
	}
	if o.Name = c.str("cluster"); o.Name == "" {
		o.Name = boot.DefaultName
	}
	o.Idle = idleDefault
	if v, origin, ok := c.flag("idle"); ok && v == "never" {
		o.Idle = 0
	} else if ok {
		if o.Idle, ok = spec.ParseSeconds(v); !ok || o.Idle <= 0 {
			return usage(origin, strconv.Quote(v)+" is no time", "write 90m, 2h or never")
		}
	}
	ctx, sig := watchSignals(c.ctx)
	defer sig.stop()
	cluster, err := boot.Up(ctx, o)
	if err != nil {
		if stopped := exitOf(ctx); stopped != nil {
			return stopped
		}
		return err
	}
	path, err := cluster.Publish(c.getenv)
	if err != nil {
		c.stopEmbedded(cluster)
		return err
	}
	if err := cluster.Release(); err != nil {
		return err
	}
	ep := cluster.Endpoint
	if c.on("json") {
		return c.json(struct {
			Version  int      `json:"version"`
			Cluster  string   `json:"cluster"`
			Kind     string   `json:"kind"`
			Nodes    []string `json:"nodes"`
			Endpoint string   `json:"endpoint"`
			Socket   string   `json:"socket,omitempty"`
		}{1, ep.Name, ep.Kind, ep.Nodes, path, ep.Socket})
	}
	what := "1 node"
	if fake > 0 {
		what = fmt.Sprintf("%d fake node", fake)
		if fake > 1 {
			what += "s"
		}
	}
	again := ""
	if ep.Name != boot.DefaultName {
		again = " --cluster " + ep.Name
	}
	c.say("cluster %s is up: %s (%s); end it with `maniple down%s`", ep.Name, what, slurm.FoldHosts(ep.Nodes), again)
	return nil
}
