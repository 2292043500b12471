package agent

import (
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// member is the agent's place in the cluster: its number, whether the head knows it, how it leaves.
type member struct {
	agent, node uint32
	term        uint64
	skew        int64 // what the head's clock is ahead of ours
	session     bool  // there was a HeadUp
	headUp      bool  // there is a connection
	known       bool  // Registered came in this session
	told        bool  // Registered came once: previous is done with
	downSince   int64 // no head since then; never: it is there, or was never yet

	going    *fb.NodeDrainT   // this node is to be drained, as its keeper has said
	draining []*fb.NodeDrainT // nodes that are, as the head has said

	drain   *fb.DrainT // asked for by the keeper, not yet passed on
	drainAt int64      // when we end without the head, if it can't be asked
	leaving *fb.DrainT // everything ends now
	leaveAt int64
	gone    bool
}

func (c *Core) onHeadUp(ev HeadUp) {
	first := c.agent == 0
	if ev.Agent != 0 {
		c.agent = ev.Agent
	}
	c.term = max(c.term, ev.Term)
	c.session, c.headUp, c.downSince = true, true, never
	if ev.Resumed && !first {
		return
	}
	c.known = false
	c.toHead(c.register())
	c.claimAgain()
}

// register tells all that the head can't know from its journal.
func (c *Core) register() *fb.RegisterT {
	r := &fb.RegisterT{
		Name: c.cfg.Name, NodeKey: c.cfg.NodeKey, Addresses: c.cfg.Addresses, Resources: c.cfg.Resources,
		Labels: c.cfg.Labels, Devices: c.cfg.Devices, Cpus: c.cfg.CPUs, Topology: c.cfg.Topology,
		Grant: c.cfg.Grant, Build: c.cfg.Build, Clock: c.now,
	}
	if !c.told {
		r.Previous = c.cfg.Previous
	}
	for _, g := range c.gangs.order {
		if g.bundles != nil && !g.portPending {
			r.Bundles = append(r.Bundles, g.reserved())
		}
		for _, k := range g.ranks {
			if k.launched && !k.acked {
				r.Ranks = append(r.Ranks, k.tell(c.now))
			}
		}
	}
	r.Names = c.relay.namesHeld()
	return r
}

func (c *Core) onRegistered(m *fb.RegisteredT) {
	c.node, c.term = m.Node, max(c.term, m.Term)
	c.skew = 0
	if m.Clock != 0 {
		c.skew = m.Clock - c.now
	}
	c.known, c.told = true, true
	c.toKeeper(&fb.KeeperReadyT{Role: fb.RoleAgent, Agent: c.agent, Text: c.cfg.Grant})
	c.attachWaiting()
	for _, g := range c.gangs.order {
		c.pumpGang(g)
	}
	c.repeatAsked()
	c.askPeers()
	if c.drain != nil {
		c.toHead(c.byHeadsClock(c.drain))
	}
	c.allDrains(m.Draining)
	c.sayGoing()
}

func (c *Core) onHeadDown() {
	if !c.headUp {
		return
	}
	c.headUp, c.downSince = false, c.now
}

// onHeadRefused: a number that is dead stays dead, and what runs here is not the cluster's any more: the
// keeper starts another agent, which gets a new number and is told what to stop. Any other refusal would
// only come again.
func (c *Core) onHeadRefused(ev HeadRefused) {
	if c.leaving != nil {
		return
	}
	reason := fmt.Sprintf("the head refused node %s (%s): %s", c.cfg.Name, ev.Code, ev.Text)
	if ev.Code == fb.RefuseCodeDead {
		c.exit(ExitRefused, reason)
		return
	}
	c.toKeeper(&fb.KeeperStopT{Code: 77, Reason: reason})
	c.exit(0, reason)
}

// Exit codes of the agent, for the keeper's log. Any but 0 makes the keeper start it again.
const (
	ExitRefused    = 3
	ExitKeeperGone = 4
)

// codeNodeLost is the exit code of what ends with a node that is lost.
const codeNodeLost = 137

func (c *Core) exit(code int, reason string) {
	if c.gone {
		return
	}
	c.gone = true
	c.emit(Exit{Code: code, Reason: reason})
}

// askDrain passes on the keeper's wish that everything ends.
func (c *Core) askDrain(m *fb.DrainT) {
	c.drain = m
	if c.known {
		c.toHead(c.byHeadsClock(m))
	}
	// The head answers a wish for "now" at once, any other by its deadline. Without an answer we end alone.
	c.drainAt = c.now + 2*leaveAfter
	if !m.Now {
		c.drainAt = max(c.drainAt, m.Deadline+2*leaveAfter)
	}
}

// byHeadsClock says the deadline of this node's drain in the head's time.
func (c *Core) byHeadsClock(m *fb.DrainT) *fb.DrainT {
	if m.Deadline == 0 {
		return m
	}
	d := *m
	d.Deadline += c.skew
	return &d
}

// onDrain: the head tells what is going to happen (clients are told), or that it happens now.
func (c *Core) onDrain(m *fb.DrainT) {
	if !m.Now {
		local := *m
		if local.Deadline != 0 {
			local.Deadline -= c.skew
		}
		for _, cl := range c.relay.clients {
			if cl.attached {
				c.toClient(cl.process, &local)
			}
		}
		return
	}
	c.leave(m)
}

// leave ends everything here and then the node.
func (c *Core) leave(m *fb.DrainT) {
	if c.leaving != nil {
		return
	}
	c.leaving, c.leaveAt, c.drain = m, c.now+leaveAfter, nil
	for _, g := range c.gangs.order {
		for _, k := range g.ranks {
			c.kill(k)
		}
	}
	for _, cl := range c.relay.clients {
		c.toClient(cl.process, &fb.DrainT{Reason: m.Reason, ExitCode: m.ExitCode, Now: true}) // with the code of what has no end of its own
		c.toClient(cl.process, &fb.ShutdownT{Reason: m.Reason})
	}
}

// onKeeperGone: nothing is left that could start, reap or sweep.
func (c *Core) onKeeperGone() {
	if c.gone {
		return
	}
	reason := "its keeper was killed"
	for _, cl := range c.relay.clients { // first: their end must not wait for a head that hangs
		c.toClient(cl.process, &fb.NodeLeavingT{Agent: c.agent, Reason: reason})
		c.emit(CloseClient{Process: cl.process, Reason: reason})
	}
	if c.agent != 0 {
		c.toHead(&fb.NodeLeavingT{Agent: c.agent, Reason: reason})
		c.emit(Leave{Reason: reason})
	}
	c.emit(Sweep{})
	c.exit(ExitKeeperGone, reason)
}

func (c *Core) dueMember() {
	if c.gone {
		return
	}
	if c.drain != nil && c.drainAt <= c.now && c.leaving == nil {
		c.leave(c.drain)
	}
	if c.fenceAt() <= c.now {
		c.leave(&fb.DrainT{Now: true, ExitCode: codeNodeLost, Reason: fmt.Sprintf("node %s reached no head for %v", c.cfg.Name, time.Duration(c.patience()))})
	}
	if c.leaving != nil && (c.leaveAt <= c.now || c.idle()) {
		m := c.leaving
		for _, cl := range c.relay.clients {
			c.emit(CloseClient{Process: cl.process, Reason: m.Reason})
		}
		c.emit(Leave{Reason: m.Reason})
		c.toKeeper(&fb.KeeperStopT{Code: m.ExitCode, Reason: m.Reason})
		c.exit(0, m.Reason)
		return
	}
}

// idle: no program runs and no client is attached.
func (c *Core) idle() bool { return !c.running() && len(c.relay.clients) == 0 }

// fenceAt is when the node ends because the head was not reached: it takes the node for dead, or is so
// itself, with its keeper. Other agents in reach are no reason to stay: they have no head either, or one
// that starts anew what runs here. The head's own keeper starts it again, however often it dies.
func (c *Core) fenceAt() int64 {
	if c.leaving != nil || c.cfg.HeadLocal || c.downSince == never {
		return never
	}
	return c.downSince + c.patience()
}

func (c *Core) patience() int64 {
	if c.cfg.Patience > 0 {
		return c.cfg.Patience
	}
	return fenceAfter
}

func (c *Core) memberDeadline() int64 {
	if c.gone {
		return never
	}
	at := c.fenceAt()
	if c.drain != nil && c.leaving == nil {
		at = min(at, c.drainAt)
	}
	if c.leaving != nil {
		at = min(at, c.leaveAt)
	}
	return at
}
