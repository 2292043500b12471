package yarntest

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/internal/rpc"
)

// Cluster is a ResourceManager and its nodes.
type Cluster struct {
	t                 testing.TB
	client, scheduler *rpc.Server
	clientAt          net.Listener
	schedulerAt       net.Listener

	mu       sync.Mutex
	born     int64
	nodes    []*Node
	apps     []*app
	calls    map[string]int // by method
	standby  bool
	alone    bool            // memory is counted, and nothing else
	loseNext map[string]bool // methods whose next answer is lost
}

// Node is a NodeManager.
type Node struct {
	ID       yarn.NodeID
	Size     yarn.Resource
	cluster  *Cluster
	server   *rpc.Server
	used     yarn.Resource
	starting bool
	refusing bool
	away     bool
}

// app is an application and its attempt.
type app struct {
	yarn.Submission
	report     yarn.Report
	attempt    yarn.AttemptID
	key        int // of its AMRM token, which counts how often it was rolled
	registered bool
	response   int32
	last       allocateResponse
	asks       []resourceRequest
	containers []*container
	next       int64
	news       allocateResponse // for the next heartbeat
	told       map[yarn.NodeID]bool
	ends       map[yarn.AttemptID]string
}

// container is one that was granted.
type container struct {
	yarn.Container
	node   *Node
	launch yarn.LaunchContext
	status yarn.ContainerStatus
}

// Queue is the one queue.
const Queue = "default"

// New starts a cluster whose nodes are of the given sizes.
func New(t testing.TB, sizes ...yarn.Resource) *Cluster {
	t.Helper()
	c := &Cluster{t: t, born: time.Now().UnixMilli(), calls: map[string]int{}, loseNext: map[string]bool{}}
	c.client = &rpc.Server{Handle: c.handler(clientMethods)}
	c.scheduler = &rpc.Server{Handle: c.handler(masterMethods), Password: c.masterPassword}
	c.clientAt, c.schedulerAt = c.listen(), c.listen()
	c.client.Serve(c.clientAt)
	c.scheduler.Serve(c.schedulerAt)
	for _, s := range sizes {
		l := c.listen()
		n := &Node{Size: s, cluster: c, ID: yarn.NodeID{Host: "127.0.0.1", Port: int32(l.Addr().(*net.TCPAddr).Port)}}
		n.server = &rpc.Server{Handle: c.handler(n.methods()), Password: n.password}
		n.server.Serve(l)
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(func() {
		c.client.Close()
		c.scheduler.Close()
		for _, n := range c.nodes {
			n.server.Close()
		}
	})
	return c
}

func (c *Cluster) listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// ResourceManager is the address for clients.
func (c *Cluster) ResourceManager() string { return c.clientAt.Addr().String() }

// Scheduler is the address for ApplicationMasters.
func (c *Cluster) Scheduler() string { return c.schedulerAt.Addr().String() }

// Nodes are the NodeManagers.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Calls is how often a method was called.
func (c *Cluster) Calls(method string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[method]
}

// LoseAnswer makes the next call of a method happen, and breaks the connection instead of answering.
func (c *Cluster) LoseAnswer(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loseNext[method] = true
}

// SetStandby makes the ResourceManager say that another one is active.
func (c *Cluster) SetStandby(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.standby = on
}

// SetMemoryAlone makes the scheduler count memory and nothing else, in steps of 1024 MiB, as Hadoop's does where a site says nothing: of cores
// each grant says one, whatever was asked for.
func (c *Cluster) SetMemoryAlone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone = true
}

// Restart is a ResourceManager that dies and comes back, with recovery: it knows applications and
// containers, and has forgotten who is registered and what was asked for.
func (c *Cluster) Restart() {
	c.mu.Lock()
	for _, a := range c.apps {
		a.registered, a.response, a.asks, a.news, a.last = false, 0, nil, allocateResponse{}, allocateResponse{}
	}
	c.mu.Unlock()
	c.client.Drop()
	c.scheduler.Drop()
}

// Roll gives every master a new token with its next heartbeat; from then on the old one is of no use.
func (c *Cluster) Roll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.apps {
		a.key++
		t := c.masterToken(a)
		a.news.Token = &t
	}
}

// Preempt warns a container's master that the container will be taken.
func (c *Cluster) Preempt(id yarn.ContainerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, _ := c.find(id); a != nil {
		p := &preemption{}
		p.Strict.Containers = append(p.Strict.Containers, preempted{id})
		a.news.Preempt = p
	}
}

// ChangeNode tells all masters that a node is in another state.
func (c *Cluster) ChangeNode(n *Node, s yarn.NodeState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.apps {
		a.news.Nodes = append(a.news.Nodes, yarn.Node{ID: n.ID, Rack: "/default-rack", State: s, Capability: n.Size})
	}
}

// End ends a container as if its process had ended with the code.
func (c *Cluster) End(id yarn.ContainerID, code yarn.ExitCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, k := c.find(id); k != nil {
		c.end(a, k, code)
	}
}

// Launched is what was started in a container, and whether it was.
func (c *Cluster) Launched(id yarn.ContainerID) (yarn.LaunchContext, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, k := c.find(id)
	if k == nil {
		return yarn.LaunchContext{}, false
	}
	return k.launch, k.status.State >= yarn.ContainerRunning
}

// Ended tells whether a container is over.
func (c *Cluster) Ended(id yarn.ContainerID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, k := c.find(id)
	return k != nil && k.status.State == yarn.ContainerComplete
}

func (c *Cluster) find(id yarn.ContainerID) (*app, *container) {
	for _, a := range c.apps {
		for _, k := range a.containers {
			if k.ID == id {
				return a, k
			}
		}
	}
	return nil, nil
}

func (c *Cluster) end(a *app, k *container, code yarn.ExitCode) {
	if k.status.State == yarn.ContainerComplete {
		return
	}
	k.status.State, k.status.ExitCode = yarn.ContainerComplete, code
	k.node.used.MemoryMB -= k.Resource.MemoryMB
	k.node.used.VCores -= k.Resource.VCores
	a.news.Ended = append(a.news.Ended, k.status)
}

// thrown is a Java exception of YARN's.
func thrown(class, format string, args ...any) error {
	return &rpc.RemoteError{Class: "org.apache.hadoop.yarn.exceptions." + class, Message: fmt.Sprintf(format, args...)}
}

// method answers one method, under the cluster's lock.
type method func(*Cluster, rpc.Request) (any, error)

// handler makes a server's handler of methods.
func (c *Cluster) handler(methods map[string]method) func(rpc.Request) (any, error) {
	return func(r rpc.Request) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls[r.Method]++
		if c.standby {
			return nil, &rpc.RemoteError{Class: "org.apache.hadoop.ipc.StandbyException", Message: "ResourceManager rm1 is not Active!"}
		}
		f := methods[r.Method]
		if f == nil {
			return nil, &rpc.RemoteError{Class: "org.apache.hadoop.ipc.RpcNoSuchMethodException", Message: "Unknown method " + r.Method, Detail: rpc.DetailNoMethod}
		}
		resp, err := f(c, r)
		if c.loseNext[r.Method] {
			delete(c.loseNext, r.Method)
			c.client.Drop()
			c.scheduler.Drop()
			for _, n := range c.nodes {
				n.server.Drop()
			}
		}
		return resp, err
	}
}

// app gives an application by its ID.
func (c *Cluster) app(id yarn.ApplicationID) (*app, error) {
	i := slices.IndexFunc(c.apps, func(a *app) bool { return a.ID == id })
	if i < 0 {
		return nil, thrown("ApplicationNotFoundException", "Application with id '%s' doesn't exist in RM.", id)
	}
	return c.apps[i], nil
}
