package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/launcher/backend/local"
	slurmbackend "github.com/maniple-hpc/maniple/launcher/backend/slurm"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
	"github.com/maniple-hpc/maniple/slurm"
)

// stopTimeout is how long an embedded cluster may take to end after its gang did.
const stopTimeout = 5 * time.Second

// nodeFlags declare what the nodes of a cluster on this machine have.
func nodeFlags() []urfave.Flag {
	return append([]urfave.Flag{
		value("fake-nodes", "", "N", "fake nodes on this machine (auto: if needed)"),
		rare(value("cpus", "", "N", "cores that each node has (default: this machine's)")),
		rare(value("node-gpus", "", "N", "GPUs that each fake node has")),
		rare(value("node-mem", "", "SIZE", "memory that each node has")),
		rare(value("node-resources", "", "NAME=N,...", "custom resources that each node has")),
		rare(value("node-labels", "", "KEY=VALUE,...", "labels that each node has")),
		rare(value("port-range", "", "LOW-HIGH", "ports for nodes and for MASTER_PORT")),
		rare(value("interface", "", "NAME,...", "networks by which nodes reach each other, such as ib0 or en*")),
		rare(value("join-timeout", "", "SECONDS", "how long to wait for nodes (300)")),
	}, valueFlags()...)
}

// cluster describes a cluster on this machine as the node flags want it.
func (c *call) cluster() (o boot.Options, fake int, err error) {
	o = boot.Options{Backend: c.localBackend(), Progress: c.stderr, Getenv: c.getenv, Loopback: true}
	auto := c.str("fake-nodes") == "auto"
	if !auto {
		fake, err = c.number("fake-nodes", 1, 1000)
	}
	if err != nil {
		return o, 0, err
	}
	if v, origin, ok := c.flag("join-timeout"); ok {
		if o.JoinTimeout, ok = spec.ParseSeconds(v); !ok || o.JoinTimeout <= 0 {
			return o, 0, usage(origin, strconv.Quote(v)+" is no time", "write seconds, or 500ms, 2m")
		}
	}
	if err = c.network(&o); err != nil {
		return o, 0, err
	}
	if o.Store, o.Spill, o.SpillLimit, err = values(c.flag); err != nil {
		return o, 0, err
	}
	fabric := c.flag
	if c.page.name == "doctor" { // whose own --fabric measures
		fabric = func(name string) (string, string, bool) {
			v := c.getenv(envName(name))
			return v, envName(name), v != ""
		}
	}
	if o.Fabric, err = fabricOf(fabric); err != nil {
		return o, 0, err
	}
	if o.Clear, err = clearOf(c.flag); err != nil {
		return o, 0, err
	}
	o.NoHandover = c.on("no-same-host-handover")
	if job := c.jobEnv(); fake == 0 && !auto && job("SLURM_JOB_ID") != "" {
		return o, 0, c.inSlurm(&o)
	}
	// Nodes on this machine talk over its loopback whatever the networks. A site's setting is for the machines
	// that have them; who types one is told that it is not here.
	if c.IsSet("interface") {
		if _, err := device.Addresses(device.Options{Interfaces: o.Interfaces}, 0); err != nil {
			why, do, _ := strings.Cut(strings.TrimPrefix(err.Error(), "device: "), "; ")
			return o, 0, usage("--interface", why, do)
		}
	}
	node, err := c.declared()
	if err != nil {
		return o, 0, err
	}
	if auto {
		if fake, err = fakes(&node); err != nil {
			return o, 0, err
		}
	}
	o.Nodes = []bootdoc.Node{node}
	if fake > 0 {
		if node.CPUs == 0 && !node.NoCPUs {
			node.CPUs = cpusHere()
		}
		o.Nodes = boot.FakeNodes(fake, node)
	} else if !auto && (node.GPUs > 0 || node.CPUs > cpusHere()) {
		return o, 0, usage("--cpus, --node-gpus", "this machine has what it has", "add --fake-nodes 1 to declare more")
	} else if node.Name, err = (&bootdoc.Doc{}).NodeName(); err != nil {
		return o, 0, err
	} else {
		o.Nodes[0].Name = node.Name
	}
	return o, fake, nil
}

// fakes gives how many fake nodes one has to be that is said to have so much: none if this machine has it, or all of it but the cores, which its
// programs then share.
func fakes(node *bootdoc.Node) (int, error) {
	has, err := device.Has(device.Options{Node: *node, Loopback: true}) // in this environment, which the agent has too
	if has || err != nil {
		return 0, err
	}
	rest := *node
	rest.CPUs = 0
	if has, err = device.Has(device.Options{Node: rest, Loopback: true}); has {
		rest.MinCPUs = node.CPUs
		*node = rest
		return 0, err
	}
	return 1, err
}

// declared reads what a node is said to have.
func (c *call) declared() (node bootdoc.Node, err error) {
	if node.CPUs, err = c.number("cpus", 0, 1<<20); err != nil {
		return node, err
	}
	if node.GPUs, err = c.number("node-gpus", 0, 1<<16); err != nil {
		return node, err
	}
	node.NoCPUs, node.NoGPUs = node.CPUs == 0 && c.str("cpus") != "", node.GPUs == 0 && c.str("node-gpus") != ""
	if v, origin, ok := c.flag("node-mem"); ok {
		if node.Memory, err = slurm.ParseMemory(v); err != nil {
			return node, usage(origin, strconv.Quote(v)+" is no size", "write megabytes, or a number with K, M, G or T")
		}
	}
	if v, origin, ok := c.flag("node-resources"); ok {
		list, why := spec.ParseResources(v)
		if why != "" {
			return node, usage(origin, why, "write for instance bandwidth=2,license=1")
		}
		node.Resources = map[string]float64{}
		for _, r := range list {
			node.Resources[r.Name] = r.Amount
		}
	}
	if v, origin, ok := c.flag("node-labels"); ok {
		node.Labels, err = parseLabels(origin, v)
	}
	return node, err
}

// network reads which ports and interfaces nodes may use.
func (c *call) network(o *boot.Options) error {
	if v, origin, ok := c.flag("port-range"); ok {
		low, high, _ := strings.Cut(v, "-")
		a, errLow := strconv.Atoi(low)
		b, errHigh := strconv.Atoi(high)
		if errLow != nil || errHigh != nil || a < 1 || b > 65535 || a > b {
			return usage(origin, strconv.Quote(v)+" is no range of ports", "write for instance 20000-29999")
		}
		o.PortRange = [2]int{a, b}
	}
	if v, origin, ok := c.flag("interface"); ok {
		o.Interfaces = strings.Split(v, ",")
		for _, pattern := range o.Interfaces {
			if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
				return usage(origin, strconv.Quote(v)+" is no list of interfaces", "write for instance ib0, or ib*,en*; `ip link` lists them")
			}
		}
	}
	return nil
}

// valueFlags are those that say where a node's values may lie.
func valueFlags() []urfave.Flag {
	return []urfave.Flag{
		rare(value("object-store-memory", "", "SIZE", "memory for values on each node (30% of it; at most 80%)")),
		rare(value("object-spilling-directory", "", "DIR,...", "for values when memory is full; shared:DIR: all see it")),
		rare(value("object-spilling-limit", "", "SIZE", "bytes that each node may have on disk for that")),
		rare(value("fabric", "", "NAME", "what large values go by: off, verbs, cxi, efa, opx, tcp, shm")),
		rare(toggle("no-same-host-handover", "", "nodes of one machine send values by the network, too")),
		rare(value("clear-values", "", "NETWORK,...", "values go unencrypted within these, such as 10.1.0.0/16")),
	}
}

// values reads them: the memory of each node, and the directories that it has for more, up to a limit.
func values(flag func(name string) (text, origin string, ok bool)) (store int64, spill []string, limit int64, err error) {
	for _, size := range []struct {
		name string
		to   *int64
	}{{"object-store-memory", &store}, {"object-spilling-limit", &limit}} {
		v, origin, ok := flag(size.name)
		if !ok {
			continue
		}
		if *size.to, err = slurm.ParseMemory(v); err != nil || *size.to == 0 {
			return 0, nil, 0, usage(origin, strconv.Quote(v)+" is no size", "write megabytes, or a number with K, M, G or T")
		}
	}
	if v, origin, ok := flag("object-spilling-directory"); ok {
		if spill = strings.Split(v, ","); v != "none" && slices.ContainsFunc(spill, func(dir string) bool { return !bootdoc.SpillDirectory(dir) }) {
			return 0, nil, 0, usage(origin, strconv.Quote(v)+" are no directories", "write paths that begin with a slash, shared: before one that all nodes see, hdfs://NAMENODE/PATH or s3://BUCKET/PREFIX, divided by commas, or none")
		}
	}
	return store, spill, limit, nil
}

// fabricOf reads by which fabric values are to go.
func fabricOf(flag func(name string) (text, origin string, ok bool)) (string, error) {
	v, origin, ok := flag("fabric")
	if ok && v != "auto" && !slices.Contains(bootdoc.Fabrics, v) {
		return "", usage(origin, strconv.Quote(v)+" is no fabric", "write auto, "+strings.Join(bootdoc.Fabrics, ", "))
	}
	return strings.TrimPrefix(v, "auto"), nil
}

// clearOf reads the networks within which values go unencrypted.
func clearOf(flag func(name string) (text, origin string, ok bool)) ([]string, error) {
	v, origin, ok := flag("clear-values")
	if !ok {
		return nil, nil
	}
	networks := strings.Split(v, ",")
	if _, err := bootdoc.Networks(networks); err != nil {
		return nil, usage(origin, strings.TrimPrefix(err.Error(), "bootdoc: "), "write networks that only your nodes and those whom you trust reach, divided by commas: within them who is on the way can read and change values")
	}
	return networks, nil
}

// inSlurm makes the cluster that of the Slurm job this runs in: a keeper on each of its nodes, by one step. They have what Slurm granted. A
// setting for other machines is not for them; who types one is told so.
func (c *call) inSlurm(o *boot.Options) error {
	for _, name := range []string{"cpus", "node-gpus", "node-mem", "node-resources", "node-labels"} {
		if c.IsSet(name) {
			return usage("--"+name, "the nodes of a Slurm job have what Slurm granted", "leave it away, or add --fake-nodes auto for a cluster of this machine alone")
		}
	}
	b := &slurmbackend.Backend{Environ: c.environ}
	job, err := b.Job()
	if err != nil {
		return err
	}
	o.Backend, o.Loopback = b, false
	o.Name, o.Job, o.Epoch = boot.JobName(c.getenv), boot.JobName(c.getenv), uint32(job.Restarts)
	return nil
}

// localBackend is the backend of this machine. MANIPLE_DEBUG_SILENT_NODE names a node that never joins.
func (c *call) localBackend() *local.Backend {
	b := &local.Backend{}
	if name := c.getenv("MANIPLE_DEBUG_SILENT_NODE"); name != "" {
		b.Silent = []string{name}
	}
	return b
}

// number reads a flag that is a whole number.
func (c *call) number(flag string, least, most int) (int, error) {
	v, origin, ok := c.flag(flag)
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, usage(origin, strconv.Quote(v)+" is not a number", fmt.Sprintf("write one from %d to %d", least, most))
	}
	return n, nil
}

// embed starts a cluster that ends with this command. The nodes are large enough for what the request
// implies without naming it: one core per rank is a default, and a laptop with two may run four ranks.
func (c *call) embed(ctx context.Context, s *spec.Spec) (*boot.Cluster, error) {
	if c.master != nil {
		return c.bringUp(ctx, c.application())
	}
	o, fake, err := c.cluster()
	if err != nil {
		return nil, err
	}
	o.Embedded = true
	if o.Job != "" {
		return c.bringUp(ctx, o)
	}
	if o.Name = c.str("cluster"); o.Name == "" {
		o.Name = c.page.name + "-" + strconv.Itoa(os.Getpid())
	}
	nodes := len(o.Nodes)
	shape, err := s.Shape(nodes)
	if err != nil {
		return nil, err
	}
	if need, here := cpusOnOneNode(shape, nodes), cpusHere(); need > here && s.CPUsPerTask == 0 && !s.Bind && c.str("cpus") == "" {
		stretch(o.Nodes, fake, need)
		if fake == 0 && !shape.Driver {
			what := map[bool]string{true: "rank shares", false: "ranks share"}[shape.Ranks == 1]
			c.say("%s: %d %s the %d cores of this machine", c.page.name, shape.Ranks, what, here)
		}
	}
	return c.bringUp(ctx, o)
}

// stretch has each node count so many cores at least, which programs share where there are fewer. What else a real one has stays real: its GPUs and its memory.
func stretch(nodes []bootdoc.Node, fake, cpus int) {
	for i := range nodes {
		if n := &nodes[i]; fake > 0 {
			n.CPUs = max(cpus, n.CPUs)
		} else {
			n.MinCPUs = cpus
		}
	}
}

// bringUp is boot.Up, with a signal told as such.
func (c *call) bringUp(ctx context.Context, o boot.Options) (*boot.Cluster, error) {
	cluster, err := boot.Up(ctx, o)
	if err != nil && ctx.Err() != nil {
		if stopped := exitOf(ctx); stopped != nil {
			return nil, stopped
		}
	}
	if err == nil && o.Embedded {
		cluster.Watch(func(ev backend.Event) {
			switch {
			case ev.Kind == backend.KindStopping && c.site != nil:
				c.site.step(ev.Reason)
			case ev.Kind == backend.KindLost && ev.Text != "" || ev.Kind == backend.KindWarning || ev.Kind == backend.KindStopping:
				what := ""
				if ev.Node != "" {
					what = "node " + ev.Node + ": "
				}
				c.say("%s: %s%s", c.page.name, what, ev.Text)
			}
		})
	}
	return cluster, err
}

// cpusOnOneNode is what a node needs for its part of the shape, if it is spread evenly.
func cpusOnOneNode(sh *spec.Shape, nodes int) int {
	total, most := 0, 0
	for _, b := range sh.Bundles {
		total += b.CPUs
		most = max(most, b.CPUs)
	}
	per := (len(sh.Bundles) + nodes - 1) / nodes
	if sh.Strategy == spec.Pack || sh.Strategy == spec.StrictPack {
		return total
	}
	return most * per
}

// stopEmbedded ends the cluster; what it says is only worth a line when the command went well.
func (c *call) stopEmbedded(cluster *boot.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), stopTimeout)
	defer cancel()
	if err := cluster.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		c.say("%s: %v", c.page.name, err)
	}
}
