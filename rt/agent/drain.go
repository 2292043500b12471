package agent

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// A node that is being drained takes nothing new, and what it has moves away (docs/adr/0043). The head says which those are, to all agents; a keeper
// that learns that its node goes says so here. The keeper's word is passed on to each head anew, which takes it once.

// sayGoing passes on the keeper's word that this node goes.
func (c *Core) sayGoing() {
	if c.going != nil && c.known {
		c.toHead(c.drainByHeadsClock(c.going))
	}
}

// drainByHeadsClock says the deadline of a node's drain in the head's time.
func (c *Core) drainByHeadsClock(m *fb.NodeDrainT) *fb.NodeDrainT {
	d := *m
	if d.Deadline != 0 {
		d.Deadline += c.skew
	}
	return &d
}

// onNodeDrain: a node is being drained, or not any more.
func (c *Core) onNodeDrain(m *fb.NodeDrainT) {
	if m.Undo && m.Agent == c.agent {
		c.going = nil
	}
	c.draining = slices.DeleteFunc(c.draining, func(d *fb.NodeDrainT) bool { return d.Agent == m.Agent || d.Node == m.Node })
	local := *m
	if !m.Undo {
		c.draining = append(c.draining, m)
		if local.Deadline != 0 {
			local.Deadline -= c.skew
		}
	}
	c.emit(NodeDrain{&local})
}

// allDrains takes in what a head says that has just taken this agent in: all that there are.
func (c *Core) allDrains(all []*fb.NodeDrainT) {
	for _, d := range slices.Clone(c.draining) {
		if !slices.ContainsFunc(all, func(m *fb.NodeDrainT) bool { return m.Agent == d.Agent }) {
			c.onNodeDrain(&fb.NodeDrainT{Node: d.Node, Agent: d.Agent, Undo: true})
		}
	}
	for _, m := range all {
		c.onNodeDrain(m)
	}
}
