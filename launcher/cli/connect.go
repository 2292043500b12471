package cli

import (
	"context"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/rt/gang"
	urfave "github.com/urfave/cli/v2"
)

// connectTimeout is how long a command waits for an agent that is there; its keeper starts a dead one
// again in well under that.
const connectTimeout = 10 * time.Second

func clusterFlag() urfave.Flag {
	return value("cluster", "", "NAME", "the cluster (default: the Slurm job's, or \"default\")")
}

func jsonFlag() urfave.Flag { return toggle("json", "", "as JSON, with a version field") }

// find is the cluster that the command means.
func (c *call) find() (*boot.Endpoint, error) { return boot.Find(c.getenv, c.str("cluster")) }

// connect attaches to a cluster.
func (c *call) connect(ctx context.Context, ep *boot.Endpoint) (*gang.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	to := gang.Endpoint{Name: "maniple " + c.page.name, Build: Build()}
	if ep.Here() {
		to.Socket = ep.Socket
	} else {
		to.Addresses, to.Cluster = ep.Addresses, ep.Cluster
		to.CA, to.Cert, to.Key = []byte(ep.CA), []byte(ep.Cert), []byte(ep.Key)
	}
	connect := gang.Connect
	if !ep.Here() {
		connect = func(ctx context.Context, to gang.Endpoint) (*gang.Client, error) { return c.reach(ctx, ep, to) }
	}
	client, err := connect(ctx, to)
	if err != nil {
		return nil, &Fault{Name: nameOr(err, "UNREACHABLE"), What: c.page.name, Why: "cluster " + ep.Name + ": " + plain(err), Err: err}
	}
	return client, nil
}

// nameOr classifies an error that came over a connection.
func nameOr(err error, otherwise string) string {
	if name, _ := classify(err); name != "UNREACHABLE" && name != "CANNOT_CREATE" {
		return name
	}
	return otherwise
}

// withClient finds, connects, and hands the client over.
func (c *call) withClient(do func(context.Context, *gang.Client, *boot.Endpoint) error) error {
	ep, err := c.find()
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
