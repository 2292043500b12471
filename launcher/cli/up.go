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
		rare(toggle("with-stdin", "", "stay, and end it when standard input ends")),
		rare(toggle("or-join", "", "no error if it is up: wait until it can be used")),
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
	name, err := c.clusterName()
	if err != nil {
		return err
	}
	switch {
	case name != "" && o.Job != "" && name != o.Name:
		return usage("--cluster", "inside a Slurm job the cluster is called by the job's ID, "+o.Name, "leave it away, or add --fake-nodes N")
	case name != "":
		o.Name = name
	case o.Name == "":
		o.Name = boot.DefaultName
	}
	join := c.Bool("or-join")
	if o.Job != "" && !join { // before Slurm is asked for a step
		if ep, err := boot.Find(c.getenv, o.Name); err == nil {
			return fmt.Errorf("boot: %s: %w (%s)", ep.Name, boot.ErrUp, slurm.FoldHosts(ep.Nodes))
		}
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
	if c.Bool("with-stdin") {
		ctx = c.whileInput(ctx)
	}
	var cluster *boot.Cluster
	if join {
		var up *upRecord
		if cluster, up, err = c.upOrJoin(ctx, o); up != nil {
			return c.joined(up)
		}
	} else {
		cluster, err = c.bringUp(ctx, o)
	}
	if err != nil {
		return err
	}
	path, err := cluster.Publish(c.getenv)
	if err != nil {
		c.stopEmbedded(cluster)
		return err
	}
	ep := cluster.Endpoint
	grants := c.grantsOf(ctx, &ep)
	if err := cluster.Release(); err != nil {
		return err
	}
	if c.on("json") {
		err = c.json(upRecord{Version: 1, Cluster: ep.Name, ID: ep.Cluster, Kind: ep.Kind, Nodes: ep.Nodes, Endpoint: path, Socket: ep.Socket})
	} else {
		c.sayUp(&ep, fake, grants)
	}
	if c.Bool("with-stdin") {
		return c.guard(&ep)
	}
	return err
}

// upRecord is what --json says of the cluster.
type upRecord struct {
	Version  int      `json:"version"`
	Cluster  string   `json:"cluster"`
	ID       string   `json:"id"`
	Kind     string   `json:"kind"`
	Nodes    []string `json:"nodes"`
	Endpoint string   `json:"endpoint,omitempty"`
	Socket   string   `json:"socket,omitempty"`
	Joined   bool     `json:"joined,omitempty"` // it was up
}

func (c *call) sayUp(ep *boot.Endpoint, fake int, grants string) {
	what := map[bool]string{true: "fake node", false: "node"}[fake > 0]
	if len(ep.Nodes) != 1 {
		what += "s"
	}
	what = fmt.Sprintf("%d %s", len(ep.Nodes), what)
	again := ""
	if ep.Name != boot.DefaultName && ep.Kind != "slurm" {
		again = " --cluster " + ep.Name
	}
	if ep.Kind == "slurm" && !ep.Here() {
		c.say("up: an srun stays here until the cluster ends")
	}
	if grants != "" {
		c.say("%s", grants)
	}
	c.say("cluster %s is up: %s (%s); end it with `maniple down%s`", ep.Name, what, slurm.FoldHosts(ep.Nodes), again)
}
