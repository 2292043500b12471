package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Node is a machine: a keeper, what it starts, and its programs.
type Node struct {
	c        *Cluster
	host     *host
	key      string
	agent    *agentProc // nil: not running
	number   uint32     // of its last agent
	programs []*program // that the keeper has, in order of launch
	dead     bool       // no keeper
	pids     uint32
	port     uint16
	up, down pipe // between agent and keeper
}

// AddNode starts a keeper on a new machine.
func (c *Cluster) AddNode() *Node {
	i := len(c.nodes)
	n := &Node{c: c, host: &host{index: i, name: fmt.Sprintf("n%d", i), shape: c.cfg.Shape}, port: 20000}
	c.nodes = append(c.nodes, n)
	n.boot()
	return n
}

// Node gives the i-th node.
func (c *Cluster) Node(i int) *Node { return c.nodes[i] }

func (n *Node) boot() {
	c := n.c
	c.conns++
	n.key = fmt.Sprintf("%032x", c.conns)
	n.dead, n.host.dead, n.number, n.programs = false, false, 0, nil
	wait := int64(5e6)
	if n.host.index == 0 {
		c.after(2e6, "start head", 0, n.host, func() { c.startHead() })
	} else {
		wait += c.rng.Int64N(100e6)
	}
	n.startAgent(wait)
}

// startAgent is what the keeper does at its start and after an agent died.
func (n *Node) startAgent(wait int64) {
	c, key := n.c, n.key
	c.after(wait, "start agent", uint64(n.host.index), n.host, func() {
		if n.dead || n.agent != nil || n.key != key {
			return
		}
		cfg := agent.Config{
			Name: n.host.name, NodeKey: n.key, Cluster: clusterID, Build: "sim",
			Grant:     fmt.Sprintf("%d cores", c.cfg.CPUs),
			Addresses: []string{n.host.name + ":7000"},
			Resources: []*fb.ResourceT{{Name: "CPU", Amount: int64(c.cfg.CPUs) * 10000}, {Name: "memory", Amount: 64 << 30 * 10000}},
			Previous:  n.number, HeadLocal: n.host.index == 0, Bind: true,
		}
		for i := range c.cfg.GPUs {
			cfg.Devices = append(cfg.Devices, &fb.DeviceT{Id: fmt.Sprintf("%s-gpu-%d", n.host.name, i), Kind: "nvidia"})
		}
		if c.cfg.GPUs > 0 {
			cfg.Resources = append(cfg.Resources, &fb.ResourceT{Name: "GPU", Amount: int64(c.cfg.GPUs) * 10000})
		}
		for i := range c.cfg.CPUs {
			cfg.CPUs = append(cfg.CPUs, uint32(i))
		}
		for _, p := range n.programs {
			cfg.Programs = append(cfg.Programs, p.state())
		}
		a := n.newAgent(cfg)
		n.agent = a
		n.up, n.down = pipe{}, pipe{}
		for _, p := range n.programs {
			for i := range p.out {
				a.step(p.restored(i))
			}
			n.toAgent(p.state())
		}
		a.dialHead()
		a.pings()
	})
}

func (n *Node) heard(number uint32, turn uint64) {
	if a := n.agent; a != nil && a.number == number && a.pulse != nil {
		a.pulse.Heard(turn)
	}
}

func (n *Node) toAgent(m wire.Message) {
	a := n.agent
	if a == nil {
		return
	}
	m = n.c.copied(m)
	n.up.do(n.c, "keeper says", uint64(n.host.index), n.host, func() { a.step(agent.FromKeeper{M: m}) })
}

// fromAgent is the keeper's side of their socket.
func (n *Node) fromAgent(m wire.Message) {
	m = n.c.copied(m)
	n.down.do(n.c, "agent says", uint64(n.host.index), n.host, func() {
		if !n.dead {
			n.keeper(m)
		}
	})
}

func (n *Node) keeper(m wire.Message) {
	switch m := m.(type) {
	case *fb.KeeperReadyT:
		n.number = m.Agent
	case *fb.ProgramLaunchT:
		n.launch(m)
	case *fb.ProgramSignalT:
		if p := n.program(agent.Key{Group: task(m.Group), Incarnation: m.Incarnation, Rank: m.Rank}); p != nil && m.Signal != 0 {
			p.signal(m.Signal)
		}
	case *fb.ProgramForgetT:
		k := agent.Key{Group: task(m.Group), Incarnation: m.Incarnation, Rank: m.Rank}
		n.programs = slices.DeleteFunc(n.programs, func(p *program) bool { return p.key == k && p.ended })
	case *fb.PortHoldT:
		n.port++
		n.toAgent(&fb.PortHeldT{Group: m.Group, Incarnation: m.Incarnation, Port: n.port})
	case *fb.KeeperStopT:
		n.c.logf("%s: the keeper stops: %s", n.host.name, m.Reason)
		n.end()
	}
}

// agentExited: a keeper starts a dead agent again, unless it is to stop.
func (n *Node) agentExited(code int) {
	if n.agent == nil && !n.dead && code != 0 {
		n.startAgent(100e6)
	}
}

// end is the keeper's end in order: its programs end with it.
func (n *Node) end() {
	n.dead = true
	for _, p := range n.programs {
		p.end(0, 9)
	}
	if n.host.index == 0 && n.c.head != nil && n.c.exited == nil {
		return // the keeper of the head waits for it
	}
}

func (n *Node) program(k agent.Key) *program {
	for _, p := range n.programs {
		if p.key == k {
			return p
		}
	}
	return nil
}

// nodeOf finds the node that has one of these addresses.
func (c *Cluster) nodeOf(addresses []string) *Node {
	for _, a := range addresses {
		name, _, _ := strings.Cut(a, ":")
		if i, err := strconv.Atoi(strings.TrimPrefix(name, "n")); err == nil && i >= 0 && i < len(c.nodes) {
			return c.nodes[i]
		}
	}
	return nil
}

// of names whoever says hello.
func (c *Cluster) of(h *fb.HelloT) string {
	for _, n := range c.nodes {
		if h != nil && n.key == h.NodeKey {
			return n.host.name
		}
	}
	return "a stranger"
}

func task(t *fb.TaskIDT) id.Task {
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

func taskT(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}

func agentID(n uint32) id.Agent { return id.Agent(n) }
