package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var keeperGone = agent.KeeperGone{}

// ledger is what the journal says, kept by the simulation itself, beside the head.
type ledger struct {
	issued  uint32
	members int
	alive   map[uint32]bool
	dead    map[uint32]bool
	groups  []*groupSeen // in order of creation
	byID    map[id.Task]*groupSeen
}

type groupSeen struct {
	id     id.Task
	places []*fb.RecPlaceT // as of now; empty: nothing is held
	lost   []bool
	end    *fb.GroupEndT
	ends   int
	gone   bool
}

func (l *ledger) init() {
	l.dead = map[uint32]bool{}
	l.alive = map[uint32]bool{}
	l.byID = map[id.Task]*groupSeen{}
}

// record takes in a record as it goes to the journal.
func (c *Cluster) record(rec wire.Message) {
	l := &c.seen
	switch r := rec.(type) {
	case *fb.RecTermT:
	case *fb.RecAgentT:
		if r.Register == nil {
			if r.Agent <= l.issued {
				c.fault("ID-1: agent number %d is issued, and %d was before", r.Agent, l.issued)
			}
			l.issued = r.Agent
			return
		}
		c.logf("head: %s is agent %d, node %d", r.Name, r.Agent, r.Node)
		l.alive[r.Agent] = true
		l.members = len(l.alive)
		if old := c.seen.dead[r.Agent]; old {
			c.fault("HEAD-5: the dead number %d registers", r.Agent)
		}
	case *fb.RecAgentDeadT:
		l.dead[r.Agent] = true
		delete(l.alive, r.Agent)
		l.members = len(l.alive)
		if r.ReplacedBy != 0 {
			c.logf("head: agent %d is dead, %d takes its place", r.Agent, r.ReplacedBy)
		} else {
			c.logf("head: agent %d is dead: %s", r.Agent, r.Reason)
		}
		for _, g := range l.groups {
			for i, p := range g.places {
				if p.Agent != r.Agent {
					continue
				}
				if r.ReplacedBy != 0 {
					moved := *p
					moved.Agent = r.ReplacedBy
					g.places[i] = &moved
				} else {
					g.lost[i] = true
				}
			}
		}
	case *fb.RecGroupT:
		g := &groupSeen{id: task(r.Create.Group)}
		if l.byID[g.id] != nil {
			c.fault("group %v is created twice", g.id)
		}
		l.byID[g.id] = g
		l.groups = append(l.groups, g)
	case *fb.RecGroupPlacedT:
		if g := l.byID[task(r.Group)]; g != nil {
			if len(g.places) > 0 {
				c.fault("HEAD-3: %v is placed and holds something already", g.id)
			}
			g.places, g.lost = slices.Clone(r.Places), make([]bool, len(r.Places))
		}
	case *fb.RecGroupStateT:
		g := l.byID[task(r.Group)]
		if g == nil {
			return
		}
		switch r.Phase {
		case fb.GroupPhasePending:
			g.places, g.lost = nil, nil
			c.logf("head: %v starts again as #%d", g.id, r.Incarnation)
		case fb.GroupPhaseEnded:
			g.places, g.lost, g.end = nil, nil, r.End
			if g.ends++; g.ends > 1 {
				c.fault("HEAD-2: %v ended %d times", g.id, g.ends)
			}
			c.logf("head: %v ended%s", g.id, endText(r.End))
		}
	case *fb.RecGroupGoneT:
		if g := l.byID[task(r.Group)]; g != nil {
			g.gone = true
		}
	}
}

func endText(e *fb.GroupEndT) string {
	s := fmt.Sprintf(": code %d, %s", e.Code, e.Cause)
	if e.Rank >= 0 {
		s += fmt.Sprintf(", rank %d on %s", e.Rank, e.Node)
	}
	if e.Reason != "" {
		s += ", " + e.Reason
	}
	return s
}

// admission is told of every connection that the head lets in.
func (c *Cluster) admission(agent id.Agent, h *fb.HelloT) {
	if c.seen.dead[uint32(agent)] {
		c.fault("HEAD-5: the dead number %d is let in", agent)
	}
}

// crowded looks whether a program starts on CPUs that another gang's program uses.
func (c *Cluster) crowded(n *Node, p *program) {
	for _, o := range n.programs {
		if o == p || o.ended || o.key.Group == p.key.Group && o.key.Incarnation == p.key.Incarnation {
			continue
		}
		for _, cpu := range p.cpus {
			if slices.Contains(o.cpus, cpu) {
				c.fault("HEAD-1: %s runs %v and %v on CPU %d", n.host.name, o.key, p.key, cpu)
				return
			}
		}
	}
	if len(p.cpus) == 0 {
		c.fault("%s runs %v without CPUs", n.host.name, p.key)
	}
}

// severed tells whether a node was lost or cut off since a moment: then output may be lost with it.
func (c *Cluster) severed(since int64) bool {
	return c.severedAt >= since || slices.ContainsFunc(c.nodes, func(n *Node) bool { return n.dead || n.host.side != 0 })
}

const auditCorr = math.MaxUint64

// Check looks at the whole cluster and returns what is wrong with it, and was since it began.
func (c *Cluster) Check() []string {
	c.checkLedger()
	for _, cl := range c.clients {
		g := c.seen.byID[cl.Group]
		if cl.End != nil && cl.End.Cause != "lost" && g != nil && (g.end == nil || g.end.Code != cl.End.Code || g.end.Cause != cl.End.Cause) {
			c.fault("HEAD-2: client %d was told%s, the journal says %+v", cl.index, endText(cl.End), g.end)
		}
	}
	return c.faults
}

// checkLedger asks the head, as a client would, what is free on each node, and compares that with
// what the journal says is held (HEAD-1).
func (c *Cluster) checkLedger() {
	h := c.head
	if h == nil {
		return
	}
	at := slices.IndexFunc(h.links, func(l *headLink) bool { return c.seen.alive[uint32(l.agent)] })
	if at < 0 {
		return // nobody could ask
	}
	var answer head.Send
	h.audit = &answer
	h.step(head.FromAgent{Agent: h.links[at].agent, Msg: &fb.StateQueryT{What: "nodes"}, Corr: auditCorr})
	h.audit = nil
	var reply struct {
		Nodes []struct {
			Name        string
			Agent       uint32
			State       string
			Total, Free map[string]float64
		}
	}
	if err := json.Unmarshal(answer.Payload, &reply); err != nil {
		c.fault("the head's answer about nodes: %v: %.200q", err, answer.Payload)
		return
	}
	held := map[uint32]float64{}
	for _, g := range c.seen.groups {
		for i, p := range g.places {
			for _, b := range p.Bundles {
				for _, r := range b.Resources {
					if r.Name == "CPU" && !g.lost[i] {
						held[p.Agent] += float64(r.Amount) / 10000
					}
				}
			}
		}
	}
	for _, n := range reply.Nodes {
		if n.State == "dead" {
			continue
		}
		if n.Free["CPU"]+held[n.Agent] != n.Total["CPU"] || n.Free["CPU"] < 0 {
			c.fault("HEAD-1: %s: %v CPUs free, %v held, %v in all", n.Name, n.Free["CPU"], held[n.Agent], n.Total["CPU"])
		}
	}
}

// Idle tells whether nothing is left.
func (c *Cluster) Idle() bool {
	for _, g := range c.seen.groups {
		if g.end == nil {
			return false
		}
	}
	return !slices.ContainsFunc(c.clients, func(cl *Client) bool { return !cl.Gone }) &&
		!slices.ContainsFunc(c.nodes, func(n *Node) bool { return !n.dead && len(n.programs) > 0 })
}

// Left tells what is left of gangs: empty when all ended, and neither a program nor a client remains.
func (c *Cluster) Left() []string {
	var left []string
	for _, g := range c.seen.groups {
		if g.end == nil {
			left = append(left, fmt.Sprintf("%v has not ended", g.id))
		}
	}
	for _, cl := range c.clients {
		if !cl.Gone {
			left = append(left, fmt.Sprintf("client %d of %v waits in phase %s: %s", cl.index, cl.Group, cl.Phase, cl.Explain))
		}
	}
	for _, n := range c.nodes {
		for _, p := range n.programs {
			if !n.dead {
				left = append(left, fmt.Sprintf("%s has %v: ended %v", n.host.name, p.key, p.ended))
			}
		}
	}
	return left
}

// Ends gives the ends of all groups, in order of their names.
func (c *Cluster) Ends() []*fb.GroupEndT {
	list := slices.Clone(c.seen.groups)
	slices.SortFunc(list, func(a, b *groupSeen) int {
		return cmp.Or(cmp.Compare(a.id.Counter, b.id.Counter), a.id.Compare(b.id))
	})
	var out []*fb.GroupEndT
	for _, g := range list {
		out = append(out, g.end)
	}
	return out
}

// Members is how many agents have registered and are alive.
func (c *Cluster) Members() int { return c.seen.members }

// Up tells whether the node's keeper and power are there.
func (n *Node) Up() bool { return !n.dead && !n.host.dead }
