package agent

import (
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// forwardOutput passes a rank's output, which runs on another node, to its client here.
func (c *Core) forwardOutput(from uint32, m *fb.RankOutputT, data []byte) {
	if c.relay.client(m.Process) == nil {
		return // it is unacknowledged, and sent again when the head names another sink
	}
	if k := c.relay.byGroup[taskOf(m.Group)]; k != nil && int(m.Rank) < len(k.agents) && k.last != nil && k.last.Incarnation == m.Incarnation {
		k.agents[m.Rank] = from
	}
	c.emit(ToClient{Process: m.Process, M: m, Payload: data})
}

// agentOf is where a rank of a claimed group runs, 0: not known.
func (k *claim) agentOf(rank uint32) uint32 {
	if int(rank) < len(k.agents) {
		return k.agents[rank]
	}
	return 0
}

func (c *Core) forwardOutputAck(cl *client, m *fb.RankOutputAckT) {
	k := c.relay.byGroup[taskOf(m.Group)]
	if k == nil || k.owner != cl.process {
		return
	}
	agent := k.agentOf(m.Rank)
	if agent == c.agent {
		c.onOutputAck(c.agent, m)
		return
	}
	if p := c.route(agent); p != nil {
		c.reachPeer(agent)
		if p.ready() {
			c.emit(ToPeer{Peer: agent, M: m})
		}
	}
}

// forwardInput sends input to every agent that has programs which read it.
func (c *Core) forwardInput(cl *client, m *fb.RankInputT, data []byte) {
	k := c.relay.byGroup[taskOf(m.Group)]
	if k == nil || k.owner != cl.process || k.last == nil || k.last.Incarnation != m.Incarnation {
		return
	}
	c.inputAgents(k, func(agent uint32) {
		if agent == c.agent {
			c.onRankInput(c.agent, m, data)
			return
		}
		if p := c.route(agent); p != nil {
			c.reachPeer(agent)
			if p.ready() {
				c.emit(ToPeer{Peer: agent, M: m, Payload: data})
			}
		}
	})
}

// inputAgents calls f for each agent that input goes to, in order of ranks.
func (c *Core) inputAgents(k *claim, f func(agent uint32)) {
	if len(k.agents) == 0 {
		return
	}
	if !k.stdinAll {
		f(k.agents[0])
		return
	}
	for i, a := range k.agents {
		first := true
		for _, b := range k.agents[:i] {
			first = first && a != b
		}
		if first {
			f(a)
		}
	}
}

// inputAcked gathers how far the programs have read, and tells the client the least.
func (c *Core) inputAcked(from uint32, m *fb.RankInputAckT) {
	k := c.relay.byGroup[taskOf(m.Group)]
	if k == nil || k.owner == 0 || k.last == nil || k.last.Incarnation != m.Incarnation {
		return
	}
	if len(k.inputAcks) > 0 && k.inputAcks[0].incarnation != m.Incarnation {
		k.inputAcks = k.inputAcks[:0]
	}
	found := false
	for i := range k.inputAcks {
		if k.inputAcks[i].agent == from {
			k.inputAcks[i].offset, found = max(k.inputAcks[i].offset, m.Offset), true
		}
	}
	if !found {
		k.inputAcks = append(k.inputAcks, inputAck{from, m.Incarnation, m.Offset})
	}
	least := uint64(never)
	c.inputAgents(k, func(agent uint32) {
		var at uint64
		for _, a := range k.inputAcks {
			if a.agent == agent {
				at = a.offset
			}
		}
		least = min(least, at)
	})
	c.toClient(k.owner, &fb.RankInputAckT{Group: m.Group, Incarnation: m.Incarnation, Offset: least})
}

// inputLost: input on its way to that agent may be lost; the client, told the group's state again,
// sends what was not acknowledged.
func (c *Core) inputLost(agent uint32) {
	for _, k := range c.relay.claims {
		hit := false
		if k.owner != 0 && k.last != nil && !k.end {
			c.inputAgents(k, func(a uint32) { hit = hit || a == agent })
		}
		if hit {
			c.toClient(k.owner, k.last)
		}
	}
}

// tellSink tells an agent that took over a group's programs where their output goes: the head told the
// one before it.
func (c *Core) tellSink(k *claim, agent uint32) {
	if k.owner == 0 || k.end || agent == c.agent {
		return
	}
	c.tellPeer(agent, &fb.RankSinkT{
		Group: taskT(k.group), SinkAgent: c.agent, SinkProcess: k.owner,
		Sink: &fb.PeerInfoT{Agent: c.agent, Name: c.cfg.Name, Addresses: c.cfg.Addresses},
	})
}

// moveGroups: programs of an agent that died live on under the one that its keeper started next.
func (c *Core) moveGroups(old, now uint32) {
	if now == 0 {
		return
	}
	for _, k := range c.relay.claims {
		c.tellSink(k, now)
		hit := false
		for i, a := range k.agents {
			if a == old {
				k.agents[i], hit = now, true
			}
		}
		for i := range k.inputAcks {
			if k.inputAcks[i].agent == old {
				k.inputAcks[i].agent = now
			}
		}
		if !hit || k.last == nil || k.end || k.owner == 0 {
			continue
		}
		u := *k.last
		u.Ranks = make([]*fb.RankPlaceT, len(k.last.Ranks))
		for i, r := range k.last.Ranks {
			moved := *r
			if moved.Agent == old {
				moved.Agent = now
			}
			u.Ranks[i] = &moved
		}
		k.last = &u
		c.toClient(k.owner, k.last)
	}
}
