package head

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Bounds of the names that the head keeps, so that its memory stays small.
const (
	maxNames   = 100_000
	maxNameLen = 1024 // namespace and name together, bytes
)

// actorName is the name of an actor. The agent that asked for it, whose actor it is, has it until it gives it back or is dead.
type actorName struct {
	claim *fb.NameClaimT
	actor id.Task
	agent id.Agent
	since int64 // wall
}

func compareNames(n *actorName, m *fb.NameClaimT) int {
	if d := strings.Compare(n.claim.Namespace_, m.Namespace_); d != 0 {
		return d
	}
	return strings.Compare(n.claim.Name, m.Name)
}

// findName finds a name among all, which are in order.
func (s *state) findName(m *fb.NameClaimT) (int, bool) {
	return slices.BinarySearchFunc(s.names, m, compareNames)
}

func (s *state) applyName(r *fb.RecNameT) error {
	if r.Claim == nil {
		return fmt.Errorf("a name that is none")
	}
	n := &actorName{claim: r.Claim, actor: taskOf(r.Claim.Actor), agent: id.Agent(r.Agent), since: r.Wall}
	at, taken := s.findName(r.Claim)
	switch {
	case taken:
		return fmt.Errorf("actor %v gets the name %q, which %v has", n.actor, r.Claim.Name, s.names[at].actor)
	case s.byActor[n.actor] != nil:
		return fmt.Errorf("actor %v gets a second name", n.actor)
	case s.byAgent[n.agent] == nil:
		return fmt.Errorf("actor %v of agent %d, which is not alive, gets a name", n.actor, r.Agent)
	}
	s.names = slices.Insert(s.names, at, n)
	s.byActor[n.actor] = n
	return nil
}

func (s *state) applyNameFree(r *fb.RecNameFreeT) error {
	n := s.byActor[taskOf(r.Actor)]
	if n == nil {
		return fmt.Errorf("actor %v gives back a name that it doesn't have", taskOf(r.Actor))
	}
	at, _ := s.findName(n.claim)
	s.names = slices.Delete(s.names, at, at+1)
	delete(s.byActor, n.actor)
	return nil
}

// freeNames gives back the names of an agent that is dead.
func (s *state) freeNames(agent id.Agent) {
	s.names = slices.DeleteFunc(s.names, func(n *actorName) bool {
		if n.agent == agent {
			delete(s.byActor, n.actor)
		}
		return n.agent == agent
	})
}

// claim gives an actor its name, if nobody has it. An agent that does not know whether its question came asks again.
func (c *Core) claim(m *member, q *fb.NameClaimT) {
	c.idleSince = c.now
	r := &fb.NameClaimedT{Actor: q.Actor, Holder: q.Actor, Agent: uint32(m.number), Node: m.node.name}
	at, taken := c.state.findName(q)
	has := c.state.byActor[taskOf(q.Actor)]
	switch {
	case taken:
		n := c.state.names[at]
		r.Holder, r.Agent, r.Node = wireTask(n.actor), uint32(n.agent), c.nodeOf(n.agent)
	case has != nil:
		r.Error = fmt.Sprintf("the actor has the name %q", has.claim.Name)
	case q.Name == "" || len(q.Name)+len(q.Namespace_) > maxNameLen:
		r.Error = fmt.Sprintf("a name and its namespace have 1 to %d bytes together", maxNameLen)
	case c.short != "":
		r.Error = "no new names for now: " + c.short
	case len(c.state.names) >= maxNames:
		r.Error = fmt.Sprintf("%d actors have names, which is all that a cluster can have", maxNames)
	case !c.must(&fb.RecNameT{Claim: q, Agent: uint32(m.number), Wall: c.now}):
		r.Error = "the head could not keep the name"
	}
	c.send(m.number, r)
}

// freeName takes a name back. Of one that is another agent's by now the agent before it has nothing to say.
func (c *Core) freeName(m *member, q *fb.NameFreeT) {
	if n := c.state.byActor[taskOf(q.Actor)]; n != nil && n.agent == m.number {
		c.must(&fb.RecNameFreeT{Actor: q.Actor})
	}
}

// syncNames makes the names of an agent those that it tells of when it registers: what it said before may be lost.
func (c *Core) syncNames(m *member, told []*fb.NameClaimT) {
	asks := map[id.Task]bool{}
	for _, q := range told {
		asks[taskOf(q.Actor)] = true
	}
	for _, n := range slices.Clone(c.state.names) {
		if n.agent == m.number && !asks[n.actor] {
			c.must(&fb.RecNameFreeT{Actor: wireTask(n.actor)})
		}
	}
	for _, q := range told {
		c.claim(m, q)
	}
}

func (c *Core) nodeOf(agent id.Agent) string {
	if m := c.state.byAgent[agent]; m != nil && m.node != nil {
		return m.node.name
	}
	return fmt.Sprintf("of agent %d", agent)
}

type jsonName struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Actor     string `json:"actor"`
	Agent     uint32 `json:"agent"`
	Node      string `json:"node"`
	Detached  bool   `json:"detached,omitempty"`
	Since     string `json:"since"`
}

func (c *Core) jsonName(n *actorName) jsonName {
	return jsonName{Name: n.claim.Name, Namespace: n.claim.Namespace_, Actor: n.actor.String(), Agent: uint32(n.agent),
		Node: c.nodeOf(n.agent), Detached: n.claim.Detached, Since: stamp(n.since)}
}

// jsonNames are all names, or with NAMESPACE/NAME as ref that one.
func (c *Core) jsonNames(ref string) []jsonName {
	list := []jsonName{}
	if ref == "" {
		for _, n := range c.state.names {
			list = append(list, c.jsonName(n))
		}
		return list
	}
	space, name, _ := strings.Cut(ref, "/")
	if at, found := c.state.findName(&fb.NameClaimT{Namespace_: space, Name: name}); found {
		list = append(list, c.jsonName(c.state.names[at]))
	}
	return list
}
