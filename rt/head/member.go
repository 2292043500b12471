package head

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// memberRun is what a member's connections say at the moment.
type memberRun struct {
	linked   bool  // its control link has a connection
	synced   bool  // it registered in this term and session: it can be given work
	greeted  bool  // it registered in this term
	deadline int64 // wall: it is dead then; 0: none runs
	servedAt int64 // wall: it had its last lease
}

// deadAgent answers peers that ask for a number that is gone.
type deadAgent struct {
	number     id.Agent
	name       string
	replacedBy id.Agent
	reason     string
}

const maxDead = 1000

// admit decides whether a connection belongs here. What is stale is refused, and why is said.
func (c *Core) admit(e Admit) {
	refuse := func(code fb.RefuseCode, format string, args ...any) {
		c.refusals++
		c.out = append(c.out, Refused{e.Conn, &fb.RefuseT{Code: code, Text: fmt.Sprintf(format, args...)}})
	}
	h := e.Hello
	switch {
	case h.WireVersion != wire.Version:
		refuse(fb.RefuseCodeWireVersion, "the head (%s) speaks wire version %d, you (%s) %d: use the same maniple on all nodes", c.cfg.Build, wire.Version, h.Build, h.WireVersion)
		return
	case h.Cluster != c.cfg.Cluster:
		refuse(fb.RefuseCodeCluster, "this is cluster %s, not %s", c.cfg.Cluster, h.Cluster)
		return
	case h.Epoch < c.cfg.Epoch || h.Job != c.cfg.Job:
		refuse(fb.RefuseCodeEpoch, "this is restart %d of job %q, you belong to restart %d of %q: your run is over", c.cfg.Epoch, c.cfg.Job, h.Epoch, h.Job)
		return
	case h.Epoch > c.cfg.Epoch:
		refuse(fb.RefuseCodeEpoch, "this head belongs to restart %d of job %q, you to %d: this head is a leftover", c.cfg.Epoch, c.cfg.Job, h.Epoch)
		return
	case h.Role != fb.RoleAgent || h.NodeKey == "" || len(h.NodeKey) > 64:
		refuse(fb.RefuseCodeIdentity, "only agents, each with the key of its node, connect to the head; clients connect to their node's agent")
		return
	case h.To != 0:
		refuse(fb.RefuseCodeIdentity, "agent %d is meant, and this is the head", h.To)
		return
	case h.Term > c.state.term:
		refuse(fb.RefuseCodeTerm, "this head's term is %d and you have seen %d: it lost its journal or is a leftover", c.state.term, h.Term)
		return
	case h.Purpose == fb.PurposeBulk || h.Purpose == fb.PurposeProbe || h.Purpose == fb.PurposeLiveness && h.Agent == 0:
		refuse(fb.RefuseCodeMalformed, "the head takes control connections, and liveness connections of agents that have a number")
		return
	case c.full || c.leaving:
		refuse(fb.RefuseCodeDraining, "the cluster is shutting down")
		return
	}
	welcome := &fb.WelcomeT{WireVersion: wire.Version, Build: c.cfg.Build, Term: c.state.term}
	if h.Agent != 0 {
		m := c.state.byAgent[id.Agent(h.Agent)]
		switch {
		case m == nil && h.Agent >= c.state.nextAgent:
			refuse(fb.RefuseCodeDead, "agent number %d was never issued here", h.Agent)
		case m == nil:
			refuse(fb.RefuseCodeDead, "agent number %d was declared dead%s: start anew with number 0", h.Agent, c.causeOfDeath(id.Agent(h.Agent)))
		case m.nodeKey != h.NodeKey:
			refuse(fb.RefuseCodeIdentity, "agent number %d belongs to another node", h.Agent)
		default:
			c.out = append(c.out, Admitted{e.Conn, m.number, welcome})
		}
		return
	}
	// A node that is here already may restart its agent whenever it must.
	known := slices.ContainsFunc(c.state.members, func(m *member) bool { return m.nodeKey == h.NodeKey && m.node != nil })
	switch {
	case known:
	case c.state.drain != nil:
		refuse(fb.RefuseCodeDraining, "the cluster is shutting down: %s", c.state.drain.Reason)
		return
	case c.short != "":
		refuse(fb.RefuseCodeBusy, "no new agents for now: %s", c.short)
		return
	}
	// One node has one agent that is about to register; an earlier one that never did is over. One
	// that did is given time: the newcomer will say that it takes its place.
	for _, m := range slices.Clone(c.state.members) {
		switch {
		case m.nodeKey != h.NodeKey:
		case m.node == nil:
			c.bury(m, "its node started another agent", nil)
		default:
			c.expect(m, returnGrace)
		}
	}
	number := id.Agent(c.state.nextAgent)
	if !c.must(&fb.RecAgentT{Agent: uint32(number), NodeKey: h.NodeKey, Wall: c.now}) {
		refuse(fb.RefuseCodeBusy, "the head could not issue a number")
		return
	}
	c.expect(c.state.byAgent[number], returnGrace)
	welcome.Assigned = uint32(number)
	c.out = append(c.out, Admitted{e.Conn, number, welcome})
}

// expect gives a member so long to do what it has to do next.
func (c *Core) expect(m *member, within int64) {
	m.run.deadline = c.now + within
	c.timers.add(m.run.deadline, timerMember, uint64(m.number))
}

func (c *Core) linkUp(e LinkUp) {
	m := c.state.byAgent[e.Agent]
	if m == nil {
		c.out = append(c.out, Bury{e.Agent, "this number is dead"})
		return
	}
	m.run.linked = true
	if e.Resumed && m.run.synced {
		m.run.deadline = 0
		c.unpause(m)
		return
	}
	m.run.synced = false
	c.expect(m, returnGrace)
}

func (c *Core) linkDown(e LinkDown) {
	m := c.state.byAgent[e.Agent]
	if m == nil || !m.run.linked {
		return
	}
	m.run.linked = false
	within := linkGrace
	for _, o := range c.state.members { // a successor is here already: let it take over
		if o != m && o.node == nil && o.nodeKey == m.nodeKey {
			within = returnGrace
		}
	}
	if c.leaving {
		c.memberGone(m.number, "left")
		return
	}
	c.expect(m, within)
	c.pause(m, "its connection to the head broke")
}

func (c *Core) memberDue(m *member) {
	if m.run.deadline == 0 || c.now < m.run.deadline {
		return
	}
	switch {
	case m.node == nil:
		c.bury(m, "it joined and did not register", nil)
	case !m.run.linked && !m.run.synced:
		c.bury(m, "it did not come back within 10 s after the head restarted", nil)
	case !m.run.linked:
		c.bury(m, "its connection broke and did not come back within 2 s", nil)
	default:
		c.bury(m, "it came back and did not register", nil)
	}
}

func (c *Core) memberGone(number id.Agent, reason string) {
	m := c.state.byAgent[number]
	switch {
	case c.full:
		c.out = append(c.out, Bury{number, reason})
		if m != nil {
			m.run.linked, m.run.synced = false, false
			c.leaveIfAlone()
		}
	case m != nil:
		c.bury(m, reason, nil)
	}
}

// pause keeps new bundles off a node that can't be told of them now.
func (c *Core) pause(m *member, why string) {
	if m.node != nil && m.node.drain == nil {
		c.state.view.SetState(int(m.node.index), placement.Paused, why)
	}
}

func (c *Core) unpause(m *member) {
	if n := c.state.view.Node(int(m.node.index)); n != nil && n.State == placement.Paused {
		c.state.view.SetState(int(m.node.index), placement.Open, "")
		c.changed()
	}
}

// register takes in all that an agent is and holds.
func (c *Core) register(m *member, reg *fb.RegisterT) {
	held, ranks := reg.Bundles, reg.Ranks
	if reg.NodeKey != m.nodeKey || reg.Name == "" {
		c.bury(m, "it registered with another node's key or without a name", nil)
		return
	}
	previous := c.state.byAgent[id.Agent(reg.Previous)]
	if previous == m || previous != nil && previous.nodeKey != m.nodeKey {
		previous = nil
	}
	facts := c.recAgent(m, reg, previous)
	joined, late := m.node == nil, c.formed()
	if m.node == nil {
		if _, err := nodeFacts(facts); err != nil {
			c.bury(m, fmt.Sprintf("what it says of itself makes no sense: %v", err), nil)
			return
		}
		if previous != nil {
			c.bury(previous, "its node started another agent", m)
			joined = false
		}
		for _, o := range slices.Clone(c.state.members) {
			if o != m && o.nodeKey == m.nodeKey {
				c.bury(o, "its node started another agent, which knows nothing of it", nil)
			}
		}
	}
	if m.node == nil || !sameFacts(m.node.register, facts.Register) || m.node.agent != m.number || previous != nil {
		if err := c.record(facts); err != nil {
			// Either it makes no sense, or it has less than before, so that what runs there no longer
			// fits: then it is another node now.
			why := fmt.Sprintf("what it says of itself makes no sense: %v", err)
			if m.node != nil {
				why = "it came back with less than what is placed on it needs"
			}
			c.bury(m, why, nil)
			return
		}
	}
	c.shrinks++ // it may have less than before
	m.run.linked, m.run.synced, m.run.deadline = true, true, 0
	c.unpause(m)
	c.changed()
	// Who claimed a gang from a head that came in another's place may have done so before this agent was back.
	c.sinks(m, reg.Previous != 0 || c.cfg.Instead != "" && !m.run.greeted)
	r := &fb.RegisteredT{Node: m.node.index, Term: c.state.term, Clock: c.now, Draining: c.drains()}
	if d := c.state.drain; d != nil {
		r.DrainDeadline, r.DrainReason = d.Deadline, d.Reason
	}
	c.send(m.number, r)
	if c.restarted != nil && !m.run.greeted && slices.ContainsFunc(c.state.groups, func(g *group) bool { return g.owner == m.number }) {
		c.send(m.number, c.restarted)
	}
	m.run.greeted = true
	if previous != nil && m.node.drain != nil {
		c.tellDrain(m.node, false) // it has another agent now
	}
	if joined {
		c.isBack(m.node)
	}
	if ahead := reg.Clock - c.now; joined && reg.Clock != 0 && (ahead > maxSkew || ahead < -maxSkew) {
		way := "ahead of"
		if ahead < 0 {
			way, ahead = "behind", -ahead
		}
		c.notice(fb.LevelWarning, "CLOCK_SKEW", fmt.Sprintf("the clock of %s is %s %s the head's: nothing here minds, but times in its programs' logs and files do not compare; ask the administrator for NTP",
			m.node.name, time.Duration(ahead).Round(time.Second), way), nil)
	}
	if joined && late {
		c.notice(fb.LevelInfo, "NODE_JOINED", fmt.Sprintf("%s joined (%s)", m.node.name, reg.Grant), nil)
	}
	c.syncNames(m, reg.Names)
	c.reconcile(m, held, ranks)
}

// recAgent is the record of a registration: index and name of the node decided, what only this
// session needs left out.
func (c *Core) recAgent(m *member, reg *fb.RegisterT, previous *member) *fb.RecAgentT {
	kept := *reg
	kept.Bundles, kept.Ranks, kept.Names, kept.Previous, kept.Clock = nil, nil, nil, 0, 0
	rec := &fb.RecAgentT{Agent: uint32(m.number), NodeKey: m.nodeKey, Register: &kept, Wall: c.now}
	switch {
	case m.node != nil:
		rec.Node, rec.Name = m.node.index, m.node.name
	case previous != nil:
		rec.Node, rec.Name = previous.node.index, previous.node.name
	default:
		rec.Node, rec.Name = c.newNode(reg.Name)
	}
	return rec
}

// newNode picks index and name of a node that joins: its place in Expect, the place of a dead node
// of that name, or the next free one behind.
func (c *Core) newNode(name string) (uint32, string) {
	want := name
	for i := 2; c.liveNode(want); i++ {
		want = fmt.Sprintf("%s~%d", name, i)
	}
	for _, n := range c.state.nodes {
		if n.dead && n.name == want {
			return n.index, want
		}
	}
	if at := slices.Index(c.cfg.Expect, want); at >= 0 && c.state.nodeAt(uint32(at)) == nil {
		return uint32(at), want
	}
	next := uint32(len(c.cfg.Expect))
	for c.state.nodeAt(next) != nil {
		next++
	}
	return next, want
}

func (c *Core) liveNode(name string) bool {
	return slices.ContainsFunc(c.state.nodes, func(n *node) bool { return !n.dead && n.name == name })
}

// bury declares a number dead. With next, that number has taken its place and nothing else died.
func (c *Core) bury(m *member, reason string, next *member) {
	rec := &fb.RecAgentDeadT{Agent: uint32(m.number), Reason: reason, Wall: c.now}
	if next != nil {
		rec.ReplacedBy = uint32(next.number)
	}
	n := m.node
	ended := n != nil && next == nil && n.drain != nil
	if !c.must(rec) {
		return
	}
	c.out = append(c.out, Bury{m.number, reason})
	gone := deadAgent{number: m.number, replacedBy: id.Agent(rec.ReplacedBy), reason: reason}
	if n != nil {
		gone.name = n.name
	}
	if len(c.dead) == maxDead {
		c.dead = slices.Delete(c.dead, 0, maxDead/4)
	}
	c.dead = append(c.dead, gone)
	if n == nil {
		return
	}
	if ended {
		c.endDrained(n.name)
	}
	for _, o := range c.state.members {
		if o.run.synced && o != next && !c.leaving {
			c.send(o.number, &fb.AgentDeadT{Agent: uint32(m.number), Name: n.name, Reason: reason, ReplacedBy: rec.ReplacedBy})
		}
	}
	for _, g := range slices.Clone(c.state.groups) {
		g.run.unwatch(m.number)
		if g.owner == m.number && !g.create.Detached {
			c.ownerLost(g)
		}
		if next == nil {
			c.nodeLost(g, m.number, n)
		}
	}
	if c.leaving {
		c.leaveIfAlone()
		return
	}
	c.shrinks++
	if next == nil {
		c.notice(fb.LevelWarning, "NODE_DIED", fmt.Sprintf("%s died: %s", n.name, reason), nil)
	} else {
		c.notice(fb.LevelWarning, "AGENT_RESTARTED", fmt.Sprintf("the agent of %s restarted; its programs run on", n.name), nil)
	}
	c.changed()
}

func (c *Core) causeOfDeath(number id.Agent) string {
	for i := len(c.dead) - 1; i >= 0; i-- {
		if c.dead[i].number == number {
			return " (" + c.dead[i].reason + ")"
		}
	}
	return ""
}

// peer is where an agent can be reached.
func (c *Core) peer(number id.Agent) *fb.PeerInfoT {
	if m := c.state.byAgent[number]; m != nil && m.node != nil {
		return &fb.PeerInfoT{Agent: uint32(number), Name: m.node.name, Addresses: m.node.register.Addresses}
	}
	// A number that was never issued is nobody yet: the agent that asked may be the first to join.
	p := &fb.PeerInfoT{Agent: uint32(number), Dead: c.state.byAgent[number] == nil && uint32(number) < c.state.nextAgent}
	for i := range c.dead {
		if c.dead[i].number == number {
			p.Name = c.dead[i].name
		}
	}
	return p
}

// missing are the expected nodes that never joined.
func (c *Core) missing() []string {
	var out []string
	for i, name := range c.cfg.Expect {
		if c.state.nodeAt(uint32(i)) == nil {
			out = append(out, name)
		}
	}
	return out
}

// formed tells whether enough nodes have joined, once, or the time for that is over.
func (c *Core) formed() bool { return c.joinOver || len(c.state.nodes) >= c.cfg.minNodes() }

// joinLeft is how long missing nodes still have.
func (c *Core) joinLeft() time.Duration {
	return time.Duration(max(0, c.state.began+c.cfg.joinTimeout()-c.now)).Round(time.Second)
}

func sameFacts(a, b *fb.RegisterT) bool {
	return a != nil && a.Name == b.Name && a.Grant == b.Grant && a.Build == b.Build &&
		slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Cpus, b.Cpus) && slices.Equal(a.Topology, b.Topology) &&
		slices.EqualFunc(a.Resources, b.Resources, func(x, y *fb.ResourceT) bool { return *x == *y }) &&
		slices.EqualFunc(a.Labels, b.Labels, func(x, y *fb.LabelT) bool { return *x == *y }) &&
		slices.EqualFunc(a.Devices, b.Devices, func(x, y *fb.DeviceT) bool { return *x == *y })
}
