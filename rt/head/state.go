package head

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/internal/alike"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// maxEnded is how many ended groups are remembered.
const maxEnded = 1000

// maxWithOutput is how many of them, the newest, are kept with the agents that may still hold output.
const maxWithOutput = 16

// state is all that is durable, and nothing else: what the records, applied in order, make of an
// empty one. It is changed by apply alone. Objects that came in with a record are never changed
// after it, since the record may still be on its way to the journal; they are replaced.
type state struct {
	cluster   string
	epoch     uint32
	term      uint64
	began     int64 // wall of the first term
	nextAgent uint32
	drain     *fb.RecDrainT

	members []*member // alive, by number
	nodes   []*node   // by index, dead ones too until another takes their place
	groups  []*group  // not ended, in order of creation
	ended   []*group  // in order of their ends, at most maxEnded
	byID    map[id.Task]*group
	byAgent map[id.Agent]*member
	view    placement.View
	nameTable
}

// member is an agent number that is alive.
type member struct {
	number  id.Agent
	nodeKey string
	node    *node // nil until it registered
	run     memberRun
}

// node is a keeper's node; its agents come and go.
type node struct {
	index    uint32
	name     string
	nodeKey  string
	agent    id.Agent // of the live agent, or of the last one
	dead     bool
	why      string // it is dead
	since    int64  // wall: joined, or died
	register *fb.RegisterT
	drain    *fb.RecNodeDrainT // it is being drained: by both of these
	asked    *fb.RecNodeDrainT // somebody wants that
	goes     *fb.RecNodeDrainT // it goes by itself, as its launcher has announced
}

// group is a placement group, with or without programs.
type group struct {
	id          id.Task
	create      *fb.GroupCreateT // once ended: without environment and the like
	created     int64
	owner       id.Agent
	process     id.Process
	phase       fb.GroupPhase
	since       int64 // wall of the phase
	incarnation uint32
	restarts    uint32 // of those that count
	places      []*place
	ranks       []rankEnd
	master      string
	port        uint16
	portFree    bool
	end         *fb.GroupEndT // while Stopping: what will be; wall is then when KILL is due
	last        []id.Agent    // ended: who may still have output of it, for an owner that comes back; only the newest
	run         groupRun
}

// rankEnd is what stays of the end of a rank.
type rankEnd struct {
	done   bool
	code   int32
	signal int32
	byUs   bool
}

func newState() state {
	return state{byID: map[id.Task]*group{}, nameTable: nameTable{byActor: map[id.Task]*actorName{}}, byAgent: map[id.Agent]*member{}, nextAgent: 1}
}

// apply makes one record part of the state. An error means that the record doesn't fit what is
// there; the state is then as before.
func (s *state) apply(rec Message) error {
	switch r := rec.(type) {
	case *fb.RecTermT:
		return s.applyTerm(r)
	case *fb.RecAgentT:
		return s.applyAgent(r)
	case *fb.RecAgentDeadT:
		return s.applyAgentDead(r)
	case *fb.RecGroupT:
		return s.applyGroup(r)
	case *fb.RecGroupPlacedT:
		return s.applyPlaced(r)
	case *fb.RecGroupStateT:
		return s.applyGroupState(r)
	case *fb.RecRankEndT:
		return s.applyRankEnd(r)
	case *fb.RecGroupOwnerT:
		g := s.byID[taskOf(r.Group)]
		if g == nil {
			return fmt.Errorf("owner of group %v, which is not there", taskOf(r.Group))
		}
		g.owner, g.process = id.Agent(r.Agent), id.Process(r.Process)
	case *fb.RecGroupGoneT:
		at := slices.IndexFunc(s.ended, func(g *group) bool { return g.id == taskOf(r.Group) })
		if at < 0 {
			return fmt.Errorf("group %v is forgotten, but has not ended", taskOf(r.Group))
		}
		delete(s.byID, s.ended[at].id)
		s.ended = slices.Delete(s.ended, at, at+1)
	case *fb.RecDrainT:
		s.drain = r
	case *fb.RecNodeDrainT:
		return s.applyNodeDrain(r)
	case *fb.RecNameT, *fb.RecNameFreeT, *fb.RecNameMovedT:
		return s.applyNames(rec)
	default:
		return fmt.Errorf("a record of type %T, which this version doesn't know", rec)
	}
	return nil
}

func (s *state) applyTerm(r *fb.RecTermT) error {
	switch {
	case s.cluster != "" && r.Cluster != s.cluster:
		return fmt.Errorf("a term of cluster %s in the journal of %s", r.Cluster, s.cluster)
	case r.Term <= s.term:
		return fmt.Errorf("term %d after term %d", r.Term, s.term)
	}
	if s.term == 0 {
		s.began = r.Wall
	}
	s.cluster, s.epoch, s.term = r.Cluster, r.Epoch, r.Term
	s.nextAgent = max(s.nextAgent, r.NextAgent)
	return nil
}

// applyAgent issues a number, or takes in what its agent registered.
func (s *state) applyAgent(r *fb.RecAgentT) error {
	number := id.Agent(r.Agent)
	m := s.byAgent[number]
	if r.Register == nil {
		if m != nil || r.Agent < s.nextAgent {
			return fmt.Errorf("agent number %d is issued a second time", r.Agent)
		}
		m = &member{number: number, nodeKey: r.NodeKey}
		s.byAgent[number] = m
		s.members = append(s.members, m)
		s.nextAgent = r.Agent + 1
		return nil
	}
	if m == nil {
		return fmt.Errorf("agent number %d registers without having been issued", r.Agent)
	}
	facts, err := nodeFacts(r)
	if err != nil {
		return err
	}
	n := s.nodeAt(r.Node)
	if n != nil && !n.dead && n.nodeKey != r.NodeKey {
		return fmt.Errorf("node index %d is taken by %s", r.Node, n.name)
	}
	if err := s.view.Put(facts); err != nil {
		return err
	}
	if n == nil {
		n = &node{index: r.Node}
		at, _ := s.findNode(r.Node)
		s.nodes = slices.Insert(s.nodes, at, n)
	}
	if n.nodeKey != r.NodeKey || n.dead {
		n.since, n.drain, n.asked, n.goes = r.Wall, nil, nil, nil
	}
	s.closeDrained(n)
	n.name, n.nodeKey, n.agent, n.dead, n.why, n.register = r.Name, r.NodeKey, number, false, "", r.Register
	m.node = n
	return nil
}

func (s *state) findNode(index uint32) (int, bool) {
	return slices.BinarySearchFunc(s.nodes, index, func(n *node, i uint32) int { return int(int64(n.index) - int64(i)) })
}

func (s *state) nodeAt(index uint32) *node {
	if at, found := s.findNode(index); found {
		return s.nodes[at]
	}
	return nil
}

// applyAgentDead buries a number. With a replacement, all that it held goes over to that number;
// without, its node is dead and so is what ran there.
func (s *state) applyAgentDead(r *fb.RecAgentDeadT) error {
	m := s.byAgent[id.Agent(r.Agent)]
	if m == nil {
		return fmt.Errorf("agent number %d dies, but was not alive", r.Agent)
	}
	next := s.byAgent[id.Agent(r.ReplacedBy)]
	if r.ReplacedBy != 0 && (next == nil || m.node == nil || next.node != nil) {
		return fmt.Errorf("agent number %d can't be replaced by %d", r.Agent, r.ReplacedBy)
	}
	delete(s.byAgent, m.number)
	s.members = slices.DeleteFunc(s.members, func(o *member) bool { return o == m })
	s.freeNames(m.number)
	if m.node == nil {
		return nil
	}
	for _, g := range s.groups {
		for _, p := range g.places {
			switch {
			case p.agent != m.number:
			case next != nil:
				p.agent = next.number
			default:
				p.lost = true
			}
		}
	}
	for _, g := range s.withOutput() {
		if at := slices.Index(g.last, m.number); at >= 0 && next != nil {
			g.last = slices.Clone(g.last)
			g.last[at] = next.number
		}
	}
	n := m.node
	if next != nil {
		next.node, n.agent = n, next.number
		s.view.SetAgent(int(n.index), next.number)
		return nil
	}
	n.dead, n.why, n.since, n.drain, n.asked, n.goes = true, r.Reason, r.Wall, nil, nil, nil
	s.view.Remove(int(n.index))
	return nil
}

func (s *state) applyGroup(r *fb.RecGroupT) error {
	if r.Create == nil {
		return fmt.Errorf("a group without its description")
	}
	g := &group{
		id: taskOf(r.Create.Group), create: one(r.Create), created: r.Wall, since: r.Wall, incarnation: 1,
		owner: id.Agent(r.Create.OwnerAgent), process: id.Process(r.Create.OwnerProcess),
	}
	if s.byID[g.id] != nil {
		return fmt.Errorf("group %v is created a second time", g.id)
	}
	if taskOf(r.Create.Part).IsZero() {
		r.Create.Part = nil // as it is read; a compacted journal need not have it
	}
	s.byID[g.id] = g
	s.groups = append(s.groups, g)
	return nil
}

func (s *state) live(t *fb.TaskIDT) (*group, error) {
	g := s.byID[taskOf(t)]
	if g == nil || g.phase == fb.GroupPhaseEnded {
		return nil, fmt.Errorf("group %v is not there, or has ended", taskOf(t))
	}
	return g, nil
}

func (s *state) applyPlaced(r *fb.RecGroupPlacedT) error {
	g, err := s.live(r.Group)
	if err != nil {
		return err
	}
	if g.phase != fb.GroupPhasePending {
		return fmt.Errorf("group %v is placed in phase %v", g.id, g.phase)
	}
	plan := &placement.Plan{Places: make([]placement.Place, len(g.create.Bundles))}
	places := make([]*place, 0, len(r.Places))
	world, bundles := uint32(0), 0
	var resources resourceReader
	for _, rp := range r.Places {
		p := &place{agent: id.Agent(rp.Agent), node: rp.Node, bundles: alike.Places(rp.Bundles), folded: rp.Bundles, first: world}
		p.lost = s.byAgent[p.agent] == nil
		for _, b := range p.bundles {
			if int(b.Index) >= len(plan.Places) {
				return fmt.Errorf("group %v has no bundle %d", g.id, b.Index)
			}
			res, err := resources.of(b.Resources)
			if err != nil {
				return err
			}
			plan.Places[b.Index] = placement.Place{Bundle: int(b.Index), Node: int(rp.Node), Resources: res, Devices: b.Devices, CPUs: b.Cpus}
			p.ranks += b.Ranks
			bundles++
		}
		world += p.ranks
		places = append(places, p)
	}
	if bundles != len(plan.Places) {
		return fmt.Errorf("group %v: %d of %d bundles are placed", g.id, bundles, len(plan.Places))
	}
	holder := placement.Holder{ID: g.id, Incarnation: r.Incarnation, Name: g.create.Name}
	if !taskOf(r.Part).IsZero() {
		err = s.split(holder, r, plan)
	} else {
		err = s.commit(holder, plan, places)
	}
	if err != nil {
		return err
	}
	g.incarnation, g.places, g.phase, g.since = r.Incarnation, places, fb.GroupPhaseReserving, r.Wall
	g.ranks = make([]rankEnd, world)
	return nil
}

// commit takes the plan out of the ledger. What lies on nodes that died since (only a compacted
// journal says so) isn't in the ledger any more and isn't taken.
func (s *state) commit(h placement.Holder, plan *placement.Plan, places []*place) error {
	lost := false
	for _, p := range places {
		lost = lost || p.lost
	}
	if lost {
		kept := &placement.Plan{}
		for _, pl := range plan.Places {
			at := slices.IndexFunc(places, func(p *place) bool { return int(p.node) == pl.Node })
			if !places[at].lost {
				kept.Places = append(kept.Places, pl)
			}
		}
		plan = kept
	}
	if len(plan.Places) == 0 {
		return nil
	}
	return s.view.Commit(h, plan)
}

func (s *state) applyGroupState(r *fb.RecGroupStateT) error {
	g, err := s.live(r.Group)
	if err != nil {
		return err
	}
	if r.Phase == fb.GroupPhasePending || r.Phase == fb.GroupPhaseEnded {
		s.view.Release(g.id, g.incarnation)
		g.places, g.ranks, g.master, g.port, g.end = nil, nil, "", 0, nil
	}
	g.incarnation, g.phase, g.restarts, g.since = r.Incarnation, r.Phase, r.Restarts, r.Wall
	g.portFree = r.PortFree
	if r.MasterAddr != "" {
		g.master, g.port = r.MasterAddr, r.MasterPort
	}
	if r.End != nil {
		g.end = r.End
	}
	if r.Phase == fb.GroupPhaseEnded {
		if g.end == nil {
			g.end = &fb.GroupEndT{Rank: -1}
		}
		for _, a := range r.Holders {
			g.last = append(g.last, id.Agent(a))
		}
		g.create = gist(g.create)
		s.groups = slices.DeleteFunc(s.groups, func(o *group) bool { return o == g })
		s.ended = append(s.ended, g)
		if n := len(s.ended); n > maxWithOutput {
			s.ended[n-1-maxWithOutput].last = nil
		}
	}
	return nil
}

// withOutput are the ended groups of which agents may still hold output.
func (s *state) withOutput() []*group { return s.ended[max(0, len(s.ended)-maxWithOutput):] }

// nodeName is for messages.
func (s *state) nodeName(index uint32) string {
	if n := s.nodeAt(index); n != nil {
		return n.name
	}
	return fmt.Sprintf("node %d", index)
}

func (s *state) applyRankEnd(r *fb.RecRankEndT) error {
	g, err := s.live(r.Group)
	if err != nil {
		return err
	}
	if r.State == nil || r.Incarnation != g.incarnation || int(r.State.Rank) >= len(g.ranks) {
		return fmt.Errorf("group %v: the end of a rank that it doesn't have", g.id)
	}
	g.ranks[r.State.Rank] = rankEnd{done: true, code: r.State.Code, signal: r.State.Signal, byUs: r.State.ByUs}
	return nil
}

// named is the live group of that name, if any.
func (s *state) named(name string) *group {
	for _, g := range s.groups {
		if g.create.Name == name {
			return g
		}
	}
	return nil
}

// allDone tells whether no rank runs any more.
func (g *group) allDone() bool {
	for _, p := range g.places {
		if !p.allDone(g) {
			return false
		}
	}
	return true
}

// allZero tells whether every rank ended with code 0.
func (g *group) allZero() bool {
	for i := range g.ranks {
		if r := &g.ranks[i]; !r.done || r.code != 0 || r.signal != 0 {
			return false
		}
	}
	return true
}

func (g *group) placeOf(rank uint32) *place {
	for _, p := range g.places {
		if rank >= p.first && rank < p.first+p.ranks {
			return p
		}
	}
	return nil
}

func (g *group) placeAt(agent id.Agent) *place {
	for _, p := range g.places {
		if p.agent == agent && !p.lost {
			return p
		}
	}
	return nil
}

// world is the number of ranks that the group asks for.
func (g *group) world() uint32 {
	n := uint32(0)
	for _, b := range g.create.Bundles {
		n += b.Ranks
	}
	return n
}

// title is how users know the group: `train (3.1.7)`, or the ID alone.
func (g *group) title() string {
	if g.create.Name == "" {
		return g.id.String()
	}
	return g.create.Name + " (" + g.id.String() + ")"
}
