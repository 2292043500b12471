package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	urfave "github.com/urfave/cli/v2"
)

// connectTimeout is how long a command waits for an agent that is there; its keeper starts a dead one
// again in well under that.
const connectTimeout = 10 * time.Second

// An agent of this node that is there and says nothing has much to do, or it was stopped: that is said after busyAfter
// and waited for up to busyLimit.
const (
	busyAfter = 5 * time.Second
	busyLimit = 60 * time.Second
)

func clusterFlag() urfave.Flag {
	return value("cluster", "", "NAME", "the cluster (default: the Slurm job's, or \"default\")")
}

func jsonFlag() urfave.Flag { return toggle("json", "", "as JSON, with a version field") }

// find is the cluster that the command means.
func (c *call) find() (*boot.Endpoint, error) {
	name, err := c.clusterName()
	if err != nil {
		return nil, err
	}
	ep, err := boot.Find(c.getenv, name)
	address := c.getenv("MANIPLE_ADDRESS")
	if name == "" && boot.CheckName(address) == nil {
		name = address
	}
	if errors.Is(err, boot.ErrNone) && (name != "" || address == "") {
		return nil, c.noCluster(name, err)
	}
	return ep, err
}

// findAny is find for commands that look at what is up: where none is named and only one is up, they mean it.
func (c *call) findAny() (*boot.Endpoint, error) {
	ep, err := c.find()
	if _, _, named := c.flag("cluster"); named || !errors.Is(err, boot.ErrNone) || c.getenv("MANIPLE_ADDRESS") != "" || boot.JobName(c.getenv) != "" {
		return ep, err
	}
	if list := boot.List(c.getenv); len(list) == 1 {
		return list[0], nil
	}
	return nil, err
}

// clusterName is what --cluster says.
func (c *call) clusterName() (string, error) {
	name, origin, ok := c.flag("cluster")
	if !ok {
		return "", nil
	}
	if err := boot.CheckName(name); err != nil {
		return "", usage(origin, plain(err), "write for instance train-2")
	}
	return name, nil
}

// noCluster names the clusters that are up, where the one that is meant is not.
func (c *call) noCluster(name string, err error) error {
	f := &Fault{Name: "NO_CLUSTER", What: c.page.name, Why: plain(err), Do: "start one with `maniple up`, or name it with --cluster", Err: err}
	start := "start one with `maniple up`"
	var up []string
	for _, ep := range boot.List(c.getenv) {
		up = append(up, ep.Name)
	}
	if name != "" {
		start = "start it with `maniple up --cluster " + name + "`"
		f.Do = start
	}
	switch near := nearest(name, slices.Clone(up)); {
	case len(up) == 0:
		return f
	case name != "" && near != "":
		f.Do = "did you mean --cluster " + near + "?"
	default:
		f.Do = "name one with --cluster, or " + start
	}
	if name == "" {
		name = boot.DefaultName
		if job := boot.JobName(c.getenv); job != "" {
			name = job
		}
	}
	f.Why = "no cluster " + name + " is up, only " + strings.Join(up, ", ")
	return f
}

// connect attaches to a cluster.
func (c *call) connect(ctx context.Context, ep *boot.Endpoint) (*gang.Client, error) {
	limit := connectTimeout
	if ep.Here() {
		limit = busyLimit
		note := time.AfterFunc(busyAfter, func() {
			fmt.Fprintf(c.stderr, "maniple: %s: the agent of cluster %s is there and has not answered for %v: this node is busy, or that process was stopped; waiting for it, %v at most\n",
				c.page.name, ep.Name, busyAfter, busyLimit)
		})
		defer note.Stop()
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	to := c.address(ep)
	connect := gang.Connect
	if !ep.Here() {
		connect = func(ctx context.Context, to gang.Endpoint) (*gang.Client, error) { return c.reach(ctx, ep, to) }
	}
	client, err := connect(ctx, to)
	if err != nil {
		return nil, overWire(c.page.name, "cluster "+ep.Name+": ", err)
	}
	return client, nil
}

// address is how this process reaches a cluster.
func (c *call) address(ep *boot.Endpoint) gang.Endpoint {
	to := gang.Endpoint{Name: "maniple " + c.page.name, Build: Build()}
	if ep.Here() {
		to.Socket = ep.Socket
		return to
	}
	to.Addresses, to.Cluster = ep.Addresses, ep.Cluster
	to.CA, to.Cert, to.Key = []byte(ep.CA), []byte(ep.Cert), []byte(ep.Key)
	return to
}

// withClient finds, connects, and hands the client over.
func (c *call) withClient(do func(context.Context, *gang.Client, *boot.Endpoint) error) error {
	ep, err := c.findAny()
	if err != nil {
		return err
	}
	client, err := c.connect(c.ctx, ep)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(c.ctx, client, ep)
}
