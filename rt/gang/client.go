package gang

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Endpoint is where an agent can be reached: one of Socket, Addresses and Dial.
type Endpoint struct {
	Socket    string   // path of a node's unix socket
	Addresses []string // host:port of a node, for TCP with TLS
	Cluster   string   // cluster ID; needed with Addresses
	CA        []byte   // PEM: the cluster's authority
	Cert, Key []byte   // PEM: a client's credential
	// Dial opens any other stream that ends at an agent's unix socket (a bridge); called again after a break.
	Dial func(context.Context) (io.ReadWriteCloser, error)

	Name  string // of this client, in status: "maniple run"
	Build string // version of the binary
}

// Client is an attachment to an agent. It re-attaches by itself after the agent's restart.
type Client struct{}

// Connect attaches to the agent at ep. The error says why not, and what to do.
func Connect(ctx context.Context, ep Endpoint) (*Client, error) { return nil, nil }

// Close detaches. Groups of this client that are not detached are cancelled by the agent.
func (c *Client) Close() error { return nil }

// Node is the name of the node whose agent this is, Cluster its cluster's ID.
func (c *Client) Node() string { return "" }

// Cluster is the ID of the cluster.
func (c *Client) Cluster() string { return "" }

// Query asks for state; what is "nodes", "groups", "group", "explain", "cluster" or "log" (docs/spec/state.md).
func (c *Client) Query(ctx context.Context, what, id string) (json.RawMessage, error) {
	return nil, nil
}

// Drain asks the whole cluster to end: at the deadline (zero: the default grace), or now.
func (c *Client) Drain(ctx context.Context, reason string, deadline time.Time, code int, now bool) error {
	return nil
}

// Cancel ends (or signals) a group. It returns once the head has taken it up.
func (c *Client) Cancel(ctx context.Context, group id.Task, how fb.GroupCancelT) error { return nil }

// Watch waits for the end of any group; each update of it is given to see, if not nil.
func (c *Client) Watch(ctx context.Context, group id.Task, see func(*fb.GroupUpdateT)) (End, error) {
	return End{}, nil
}
