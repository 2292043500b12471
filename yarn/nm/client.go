package nm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Config says how NodeManagers are called. Token is needed, the rest may be zero.
type Config struct {
	Token         func(yarn.NodeID) (yarn.Token, bool) // the NodeManager's, as (*am.Master).NMToken gives it
	Protection    []string                             // as in yarn.Config
	Dial          func(ctx context.Context, network, address string) (net.Conn, error)
	Timeout       time.Duration // for each answer; 0: 60 s
	RetryFor      time.Duration // how long a call goes on while the node does not answer; 0: 10 s; negative: it is asked once
	RetryInterval time.Duration // between tries, growing to 15 s; 0: 1 s
}

const containerProtocol = "org.apache.hadoop.yarn.api.ContainerManagementProtocolPB"

// Client calls NodeManagers. It may be used by many goroutines.
type Client struct {
	cfg     Config
	allowed []sasl.QOP

	mu     sync.Mutex
	nodes  map[yarn.NodeID]*rpc.Client
	closed bool
}

// New makes a client.
func New(cfg Config) (*Client, error) {
	allowed, err := sasl.Protections(cfg.Protection)
	if err != nil {
		return nil, fmt.Errorf("yarn: %w", err)
	}
	if cfg.RetryFor == 0 {
		cfg.RetryFor = 10 * time.Second
	}
	return &Client{cfg: cfg, allowed: allowed, nodes: map[yarn.NodeID]*rpc.Client{}}, nil
}

// Close ends all connections and their calls.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	nodes := c.nodes
	c.nodes = map[yarn.NodeID]*rpc.Client{}
	c.mu.Unlock()
	for _, n := range nodes {
		n.Close()
	}
	return nil
}

// node gives the client of a node.
func (c *Client) node(id yarn.NodeID) (*rpc.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, rpc.ErrClosed
	}
	if n := c.nodes[id]; n != nil {
		return n, nil
	}
	n, err := rpc.New(rpc.Config{
		Addresses: []string{id.String()}, Protocol: containerProtocol, Dial: c.cfg.Dial, Timeout: c.cfg.Timeout, Retry: rpc.Retry{For: c.cfg.RetryFor, Interval: c.cfg.RetryInterval},
		Auth: func() (rpc.Auth, error) {
			t, ok := c.cfg.Token(id)
			if !ok {
				return rpc.Auth{}, fmt.Errorf("no token for the NodeManager %s: it comes with the first container there", id)
			}
			return rpc.Auth{Token: &rpc.Token{Identifier: t.Identifier, Password: t.Password}, Allowed: c.allowed}, nil
		},
	})
	if err == nil {
		c.nodes[id] = n
	}
	return n, err
}

func (c *Client) call(ctx context.Context, op string, node yarn.NodeID, method string, req, resp any) error {
	n, err := c.node(node)
	if err == nil {
		err = n.Call(ctx, method, req, resp)
	}
	return yarn.ErrorOf(op, err)
}

type startRequest struct {
	Starts []start `pb:"1"`
}

type start struct {
	Launch yarn.LaunchContext `pb:"1"`
	Token  yarn.Token         `pb:"2"`
}

type outcome struct {
	Done   []yarn.ContainerID `pb:"1"`
	Failed []failure          `pb:"2"`
}

// startOutcome has the failures under another number.
type startOutcome struct {
	Done   []yarn.ContainerID `pb:"2"`
	Failed []failure          `pb:"3"`
}

type failure struct {
	ID        yarn.ContainerID `pb:"1"`
	Exception exception        `pb:"2"`
}

type exception struct {
	Message string `pb:"1"`
	Class   string `pb:"3"`
}

// error makes an error of a kind of a failure.
func (f failure) error(op string) error {
	e := &rpc.RemoteError{Class: f.Exception.Class, Message: f.Exception.Message}
	return yarn.ErrorOf(op, fmt.Errorf("%s: %w", f.ID, e))
}

// Start starts a container. It returns when the NodeManager has taken it: files are brought and the command is
// run after that, and that it failed is told by the container's end.
func (c *Client) Start(ctx context.Context, k yarn.Container, launch yarn.LaunchContext) error {
	const op = "start container"
	for {
		var r startOutcome
		err := c.call(ctx, op, k.Node, "startContainers", startRequest{[]start{{launch, k.Token}}}, &r)
		for _, f := range r.Failed {
			if f.ID == k.ID && !relaunch(f.Exception.Message) {
				err = f.error(op)
			}
		}
		var e *yarn.Error
		if !errors.As(err, &e) || e.Class != "NMNotYetReadyException" {
			return err
		}
		wait := c.cfg.RetryInterval
		if wait <= 0 {
			wait = time.Second
		}
		t := time.NewTimer(wait) // NM-3
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// relaunch tells whether a refusal says that the container was started before (NM-2). The NodeManager has no
// exception of its own for that.
func relaunch(message string) bool {
	return strings.Contains(message, "Attempt to relaunch the same container") || strings.Contains(message, "already is running on this node")
}

type ids struct {
	IDs []yarn.ContainerID `pb:"1"`
}

// Status tells how containers of one node are. Those of which the NodeManager knows nothing are in the error,
// which joins one for each.
func (c *Client) Status(ctx context.Context, node yarn.NodeID, of ...yarn.ContainerID) ([]yarn.ContainerStatus, error) {
	const op = "container status"
	var r struct {
		Status []yarn.ContainerStatus `pb:"1"`
		Failed []failure              `pb:"2"`
	}
	if err := c.call(ctx, op, node, "getContainerStatuses", ids{of}, &r); err != nil {
		return nil, err
	}
	return r.Status, joined(op, r.Failed)
}

// Stop stops containers of one node: SIGTERM, and SIGKILL 250 ms later, unless the NodeManager is told otherwise
// (yarn.nodemanager.sleep-delay-before-sigkill.ms). It does not wait for that. Containers that are over are no error.
func (c *Client) Stop(ctx context.Context, node yarn.NodeID, which ...yarn.ContainerID) error {
	const op = "stop container"
	var r outcome
	if err := c.call(ctx, op, node, "stopContainers", ids{which}, &r); err != nil {
		return err
	}
	return joined(op, r.Failed)
}

func joined(op string, list []failure) error {
	var errs []error
	for _, f := range list {
		errs = append(errs, f.error(op))
	}
	return errors.Join(errs...)
}
