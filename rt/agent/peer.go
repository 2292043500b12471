package agent

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

const redialAfter = int64(1e9)

// peer is another agent.
type peer struct {
	agent       uint32
	name        string
	addresses   []string
	linked      bool // there is a session, or it is being dialled: messages may be given to it
	wanted      bool // we dialled it: dial again when it dies
	dead        bool // the head says so
	redialAt    int64
	outstanding int       // bytes of output sent to it and not acknowledged
	held        bool      // output waits because outstanding is at its bound
	pending     []ToAgent // until it is known where the peer is
}

func (p *peer) ready() bool { return p.linked && !p.dead }

// fleet is what is known of other agents, in order of their numbers.
type fleet struct {
	byAgent map[uint32]*peer
	peers   []*peer
}

func (c *Core) peer(agent uint32) *peer {
	if p := c.fleet.byAgent[agent]; p != nil {
		return p
	}
	p := &peer{agent: agent, redialAt: never}
	c.fleet.byAgent[agent] = p
	at, _ := slices.BinarySearchFunc(c.fleet.peers, agent, func(p *peer, n uint32) int { return int(int64(p.agent) - int64(n)) })
	c.fleet.peers = slices.Insert(c.fleet.peers, at, p)
	return p
}

// route gives the peer that carries messages to an agent; nil: this agent itself, or nobody.
func (c *Core) route(agent uint32) *peer {
	if agent == 0 || agent == c.agent {
		return nil
	}
	return c.peer(agent)
}

// learn takes note of where an agent is.
func (c *Core) learn(info *fb.PeerInfoT) {
	if info == nil || info.Agent == 0 || info.Agent == c.agent {
		return
	}
	p := c.peer(info.Agent)
	if info.Name != "" {
		p.name = info.Name
	}
	if len(info.Addresses) > 0 {
		p.addresses = info.Addresses
	}
	if info.Dead && !p.dead {
		c.bury(p)
	}
}

// reachPeer makes sure that messages can be sent to an agent, as soon as it is known where it is.
func (c *Core) reachPeer(agent uint32) {
	p := c.route(agent)
	if p == nil || p.dead || p.linked {
		return
	}
	p.wanted = true
	if len(p.addresses) == 0 {
		if c.known {
			c.toHead(&fb.PeerQueryT{Agent: agent})
		}
		p.redialAt = c.now + redialAfter
		return
	}
	p.linked, p.redialAt = true, never
	c.emit(PeerDial{Peer: agent, Name: p.name, Addresses: p.addresses})
}

func (c *Core) onPeerUp(agent uint32) {
	p := c.route(agent)
	if p == nil {
		return
	}
	if p.dead {
		c.emit(PeerDrop{Peer: agent})
		return
	}
	fresh := !p.linked
	p.linked, p.redialAt = true, never
	if fresh {
		c.resume(p)
	}
}

// onPeerDead: what was sent to it may be lost; all of it is sent again on the next session.
func (c *Core) onPeerDead(agent uint32) {
	p := c.fleet.byAgent[agent]
	if p == nil {
		return
	}
	p.linked = false
	p.pending = slices.DeleteFunc(p.pending, func(m ToAgent) bool { return isErrand(m.M) }) // the desk gives them up
	for _, g := range c.gangs.order {
		if g.sink.known && g.sink.agent == agent {
			p.wanted = !p.dead
			for _, k := range g.ranks {
				for i := range k.streams {
					c.rewind(k, i)
				}
			}
		}
	}
	p.outstanding, p.held = 0, false
	if p.wanted && !p.dead {
		p.redialAt = c.now + redialAfter
	}
	c.inputLost(agent)
}

// tellPeer sends a message as soon as the peer can be reached.
func (c *Core) tellPeer(agent uint32, m Message) {
	p := c.route(agent)
	if p == nil || p.dead {
		return
	}
	c.reachPeer(agent)
	if p.ready() {
		c.emit(ToPeer{Peer: agent, M: m})
	} else if len(p.pending) < maxPending {
		p.pending = append(p.pending, ToAgent{Peer: agent, M: m})
	}
}

// toAgent sends what the desk has for another agent's. The desk bounds it, and is told when it was in vain.
func (c *Core) toAgent(ev ToAgent) {
	p := c.route(ev.Peer)
	if p == nil || p.dead {
		return
	}
	c.reachPeer(ev.Peer)
	if p.ready() && len(p.pending) == 0 {
		c.emit(ToPeer{Peer: ev.Peer, M: ev.M, Payload: ev.Payload})
	} else {
		p.pending = append(p.pending, ev)
	}
}

// resume sends what waited for the peer.
func (c *Core) resume(p *peer) {
	if p.ready() {
		for _, m := range p.pending {
			c.emit(ToPeer{Peer: p.agent, M: m.M, Payload: m.Payload})
		}
		p.pending = nil
	}
	for _, g := range c.gangs.order {
		if g.sink.known && g.sink.agent == p.agent {
			c.pumpGang(g)
		}
	}
}

// unhold lets waiting output go on after half of the window is free again.
func (c *Core) unhold(p *peer) {
	if p.held && p.outstanding <= sinkWindow/2 {
		p.held = false
		c.resume(p)
	}
}

// bury: the head declared the agent dead.
func (c *Core) bury(p *peer) {
	p.dead, p.wanted, p.redialAt, p.pending = true, false, never, nil
	if p.linked {
		p.linked = false
		c.emit(PeerDrop{Peer: p.agent})
	}
}

func (c *Core) onAgentDead(m *fb.AgentDeadT) {
	if m.Agent == 0 || m.Agent == c.agent {
		return
	}
	c.bury(c.peer(m.Agent))
	c.moveGroups(m.Agent, m.ReplacedBy)
}

// onPeer takes a message of another agent.
func (c *Core) onPeer(ev FromPeer) {
	if p := c.route(ev.Peer); p == nil || p.dead {
		return
	}
	switch m := ev.M.(type) {
	case *fb.RankOutputT:
		c.forwardOutput(ev.Peer, m, ev.Payload)
	case *fb.RankOutputAckT:
		c.onOutputAck(ev.Peer, m)
	case *fb.RankInputT:
		c.onRankInput(ev.Peer, m, ev.Payload)
	case *fb.RankInputAckT:
		c.inputAcked(ev.Peer, m)
	case *fb.RankSinkT:
		if m.SinkAgent == ev.Peer {
			c.onSink(m)
		}
	}
}

// askPeers asks whether the agents that we have to do with are alive: one of them may have died while
// the head could not tell us, and another agent answers at its address.
func (c *Core) askPeers() {
	for _, p := range c.fleet.peers {
		if !p.dead && (p.linked || p.wanted) {
			c.toHead(&fb.PeerQueryT{Agent: p.agent})
		}
	}
}

func (c *Core) onPeerInfo(m *fb.PeerInfoT, corr uint64) {
	if m.Agent == 0 || m.Name == "" && !m.Dead {
		return // nobody has that number yet
	}
	c.learn(m)
	if p := c.fleet.byAgent[m.Agent]; p != nil && p.wanted {
		c.reachPeer(m.Agent)
		c.resume(p)
	}
}

func (c *Core) duePeers() {
	if c.peersDeadline() > c.now || c.gone {
		return
	}
	for _, p := range c.fleet.peers {
		if p.redialAt <= c.now {
			p.redialAt = never
			if p.wanted && !p.linked {
				c.reachPeer(p.agent)
				c.resume(p)
			}
		}
	}
}

func (c *Core) peersDeadline() int64 {
	if c.gone {
		return never
	}
	at := never
	for _, p := range c.fleet.peers {
		at = min(at, p.redialAt)
	}
	return at
}

// Dead tells whether the head declared an agent dead.
func (c *Core) Dead(agent uint32) bool {
	p := c.fleet.byAgent[agent]
	return p != nil && p.dead
}
