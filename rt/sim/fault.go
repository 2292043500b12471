package sim

import (
	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// CrashAgent is kill -9 of a node's agent: its keeper starts another.
func (c *Cluster) CrashAgent(n *Node) {
	if a := n.agent; a != nil && !n.dead {
		c.logf("%s: agent %d is killed", n.host.name, a.number)
		a.stop()
		n.startAgent(100e6)
	}
}

// LoseSinks makes a node's spool forget where output goes, as one does that no room was found for.
func (c *Cluster) LoseSinks(n *Node) {
	for _, p := range n.programs {
		p.sink, p.known = agent.Remember{}, false
	}
}

// CrashHead is kill -9 of the head: its keeper starts another, which reads the journal.
func (c *Cluster) CrashHead(down int64) {
	if h := c.head; h != nil {
		c.logf("head: it is killed")
		h.stop()
		c.after(down, "start head", 0, c.nodes[0].host, func() { c.startHead() })
	}
}

// CrashKeeper is kill -9 of a node's keeper: programs die with it, the agent says so and exits.
func (c *Cluster) CrashKeeper(n *Node) {
	if n.dead {
		return
	}
	c.logf("%s: the keeper is killed", n.host.name)
	n.dead, c.severedAt = true, c.now
	for _, p := range n.programs {
		p.ended, p.running = true, false
	}
	if a := n.agent; a != nil {
		c.after(localLatency, "keeper gone", uint64(n.host.index), n.host, func() { a.step(keeperGone) })
	}
}

// PowerOff takes a node from the network between two instructions: nobody is told.
func (c *Cluster) PowerOff(n *Node) {
	if n.host.dead {
		return
	}
	c.logf("%s: the power is off", n.host.name)
	n.dead, n.host.dead, c.severedAt = true, true, c.now
	for _, p := range n.programs {
		p.ended, p.running = true, false
	}
	if a := n.agent; a != nil {
		a.gone = true // nothing of it runs any more
		n.agent = nil
		for _, p := range a.procs {
			p.gone = true
		}
		a.eachSession(func(s *session) {
			if s.conn.ok() {
				s.conn.shut[s.conn.side] = true
			}
		})
	}
	for _, cl := range c.clients {
		if cl.node == n {
			cl.Gone = true
		}
	}
}

// Reboot starts a node that lost its power or its keeper, under a new keeper.
func (c *Cluster) Reboot(n *Node) {
	if n.dead {
		c.logf("%s: a new keeper starts", n.host.name)
		n.boot()
	}
}

// Partition puts nodes on a side of their own, or (side 0) back.
func (c *Cluster) Partition(side int, nodes ...*Node) {
	for _, n := range nodes {
		c.logf("%s: on side %d of the network", n.host.name, side)
		if n.host.side != side {
			n.host.side, c.severedAt = side, c.now
		}
	}
}

// SetShape changes how a node's frames travel.
func (c *Cluster) SetShape(n *Node, s Shape) {
	if s.Latency == 0 {
		s.Latency = c.cfg.Shape.Latency
	}
	n.host.shape = s
}

// Stop stops everything on a node for a while, as SIGSTOP or a starved machine does.
func (c *Cluster) Stop(n *Node, d int64) {
	c.logf("%s: stopped for %d ms", n.host.name, d/1e6)
	n.host.stopped = max(n.host.stopped, c.now+d)
}

// CutConnections breaks every connection of a node; sessions resume.
func (c *Cluster) CutConnections(n *Node) {
	if a := n.agent; a != nil {
		c.logf("%s: its connections are cut", n.host.name)
		a.eachSession(func(s *session) { s.cut(errClosed) })
	}
}

// Drain asks the cluster to end, through a node's keeper.
func (c *Cluster) Drain(n *Node, deadline int64, reason string, now bool) {
	c.logf("%s: drain is asked for: %s", n.host.name, reason)
	n.toAgent(&fb.DrainT{Deadline: c.now + deadline, Reason: reason, Now: now})
}

// DrainNode takes a node out of use, by its keeper, or, undo, back. within: the deadline; 0: there is none.
func (c *Cluster) DrainNode(n *Node, within int64, undo bool) {
	c.logf("%s: it is drained: within %d ms, undo %v", n.host.name, within/1e6, undo)
	m := &fb.NodeDrainT{Reason: "a test", Goes: true, Undo: undo}
	if within != 0 {
		m.Deadline = c.now + within
	}
	n.toAgent(m)
}

// Impostor says hello to the head with a number of the caller's choice, as an agent that was cut off
// for long would; it tells whether it was let in.
func (c *Cluster) Impostor(n *Node, number uint32, epoch uint32, answer func(admitted bool, err error)) {
	hello := &fb.HelloT{Build: "sim", Cluster: clusterID, Job: c.cfg.Head.Job, Epoch: epoch, Role: fb.RoleAgent, Agent: number, NodeKey: n.key}
	accept := func(e end) receiver {
		if c.head == nil {
			return nil
		}
		return c.head.accept(e)
	}
	c.greet(n.host, c.nodes[0].host, accept, hello, func(e end, w *fb.WelcomeT, err error) {
		if e.ok() {
			e.close()
		}
		answer(err == nil, err)
	})
}
