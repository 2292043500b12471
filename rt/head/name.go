package head

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Bounds of the names that the head keeps, so that its memory stays small.
const (
	maxNames   = 100_000
	maxNameLen = 1024     // namespace and name together, bytes
	maxSpec    = 64 << 10 // of what it takes to make an actor again
	maxSpecs   = 64 << 20 // of all of them
)

// actorName is the name of an actor. The agent that asked for it, whose actor it is, has it until it gives it back or is dead.
type actorName struct {
	claim *fb.NameClaimT
	actor id.Task
	agent id.Agent // 0: nobody is there to have it
	since int64    // wall

	restarts int32 // of the actor
	coming   bool  // its agent was told to make the actor again, and has not said that it does
}

// nameTable is all of them.
type nameTable struct {
	names   []*actorName // by namespace and name
	byActor map[id.Task]*actorName
	specs   int // bytes that it takes to make their actors again
	adrift  int // names of no agent: their actors wait for one that makes them again
}

func (s *state) applyNames(rec Message) error {
	switch r := rec.(type) {
	case *fb.RecNameT:
		return s.applyName(r)
	case *fb.RecNameFreeT:
		return s.applyNameFree(r)
	case *fb.RecNameMovedT:
		return s.applyNameMoved(r)
	}
	return fmt.Errorf("a record of type %T is about no name", rec)
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
	claim := *r.Claim
	claim.Spec = slices.Clone(claim.Spec) // it lies in what the record was read from
	n := &actorName{claim: &claim, actor: taskOf(claim.Actor), agent: id.Agent(r.Agent), since: r.Wall, restarts: claim.Restarts}
	at, taken := s.findName(r.Claim)
	switch {
	case taken:
		return fmt.Errorf("actor %v gets the name %q, which %v has", n.actor, r.Claim.Name, s.names[at].actor)
	case s.byActor[n.actor] != nil:
		return fmt.Errorf("actor %v gets a second name", n.actor)
	case r.Agent != 0 && s.byAgent[n.agent] == nil:
		return fmt.Errorf("actor %v of agent %d, which is not alive, gets a name", n.actor, r.Agent)
	}
	s.names = slices.Insert(s.names, at, n)
	s.specs += n.size()
	s.byActor[n.actor] = n
	if n.agent == 0 {
		s.adrift++
	}
	return nil
}

func (s *state) applyNameFree(r *fb.RecNameFreeT) error {
	n := s.byActor[taskOf(r.Actor)]
	if n == nil {
		return fmt.Errorf("actor %v gives back a name that it doesn't have", taskOf(r.Actor))
	}
	at, _ := s.findName(n.claim)
	s.names = slices.Delete(s.names, at, at+1)
	s.drop(n)
	return nil
}

// drop forgets what was counted of a name.
func (s *state) drop(n *actorName) {
	if n.agent == 0 {
		s.adrift--
	}
	s.specs -= n.size()
	delete(s.byActor, n.actor)
}

// freeNames gives back the names of an agent that is dead, but for those of actors that are made again elsewhere.
func (s *state) freeNames(agent id.Agent) {
	s.names = slices.DeleteFunc(s.names, func(n *actorName) bool {
		switch {
		case n.agent != agent:
			return false
		case n.returns():
			n.agent, n.coming = 0, true
			s.adrift++
			return false
		}
		s.drop(n)
		return true
	})
}

// returns tells whether the actor is made again by another agent if its own dies.
func (n *actorName) returns() bool {
	return len(n.claim.Spec) > 0 && (n.claim.MaxRestarts < 0 || n.restarts < n.claim.MaxRestarts)
}

// size is what the head keeps of an actor to have it made again.
func (n *actorName) size() int { return len(n.claim.Spec) + len(n.claim.JobConfig) }

func (s *state) applyNameMoved(r *fb.RecNameMovedT) error {
	n := s.byActor[taskOf(r.Actor)]
	switch {
	case n == nil:
		return fmt.Errorf("actor %v, which has no name, goes to agent %d", taskOf(r.Actor), r.Agent)
	case r.Agent != 0 && s.byAgent[id.Agent(r.Agent)] == nil:
		return fmt.Errorf("actor %v goes to agent %d, which is not alive", n.actor, r.Agent)
	}
	if n.agent == 0 {
		s.adrift--
	}
	if n.agent = id.Agent(r.Agent); n.agent == 0 {
		s.adrift++
	}
	n.restarts, n.coming = r.Restarts, !r.Settled
	return nil
}

// placeNames has actors whose agents are dead made again by those that are there. What finds none waits until one comes, or takes something new again.
func (c *Core) placeNames() {
	if c.state.adrift == 0 || c.state.drain != nil || c.short != "" || c.leaving {
		return
	}
	has := map[id.Agent]int{}
	for _, n := range c.state.names {
		has[n.agent]++
	}
	for _, n := range c.state.names {
		if n.agent != 0 {
			continue
		}
		m := c.fewestNames(has)
		if m == nil {
			return
		}
		if c.must(&fb.RecNameMovedT{Actor: n.claim.Actor, Agent: uint32(m.number), Restarts: n.restarts + 1}) {
			has[m.number]++
			c.adopt(m, n)
		}
	}
}

func (c *Core) adopt(m *member, n *actorName) {
	claim := *n.claim
	claim.Restarts = n.restarts
	c.send(m.number, &fb.NameAdoptT{Claim: &claim})
}

// fewestNames is the agent that has the fewest actors with names, of those that take something new.
func (c *Core) fewestNames(has map[id.Agent]int) (best *member) {
	for _, m := range c.state.members {
		if v := c.state.view.Node(m.index()); m.run.synced && v != nil && v.State == placement.Open && (best == nil || has[m.number] < has[best.number]) {
			best = m
		}
	}
	return best
}

func (m *member) index() int {
	if m.node == nil {
		return -1
	}
	return int(m.node.index)
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
		if has == n && n.agent == m.number && (n.coming || q.Restarts > n.restarts) {
			c.must(&fb.RecNameMovedT{Actor: q.Actor, Agent: uint32(m.number), Restarts: max(q.Restarts, n.restarts), Settled: true})
		}
		r.Holder, r.Agent, r.Node = wireTask(n.actor), uint32(n.agent), c.nodeOf(n.agent)
	case has != nil:
		r.Error = fmt.Sprintf("the actor has the name %q", has.claim.Name)
	case q.Name == "" || len(q.Name)+len(q.Namespace_) > maxNameLen:
		r.Error = fmt.Sprintf("a name and its namespace have 1 to %d bytes together", maxNameLen)
	case c.short != "":
		r.Error = "no new names for now: " + c.short
	case len(c.state.names) >= maxNames:
		r.Error = fmt.Sprintf("%d actors have names, which is all that a cluster can have", maxNames)
	case !c.must(&fb.RecNameT{Claim: c.fitting(q), Agent: uint32(m.number), Wall: c.now}):
		r.Error = "the head could not keep the name"
	}
	c.send(m.number, r)
}

// fitting is a claim without what there is no room for: then the actor ends with its agent.
func (c *Core) fitting(q *fb.NameClaimT) *fb.NameClaimT {
	if n := len(q.Spec) + len(q.JobConfig); n <= maxSpec && c.state.specs+n <= maxSpecs {
		return q
	}
	k := *q
	k.Spec, k.JobConfig = nil, ""
	return &k
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
		switch {
		case n.agent != m.number || asks[n.actor]:
		case n.coming: // it may not have heard of it
			c.adopt(m, n)
		default:
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
	if agent == 0 {
		return "that has yet to come"
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
