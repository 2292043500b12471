package head

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/internal/alike"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// groupRun is what of a group is not durable: agents and clients tell it again after a restart.
type groupRun struct {
	request   *placement.Request
	tried     uint64 // generation of the last try to place it; 0: none
	unplaced  *placement.Unplaced
	shrinks   uint64 // Core.shrinks at the last search
	explain   string // why it waits, as last told to its owner
	explainAt int64  // wall: not told again before
	ownerDue  int64  // wall: its owner must be back; 0: it is there
	watchers  []id.Agent
	running   []bool // by rank
	nRunning  int
	claim     *fb.RankSinkT // ended: its owner came back for its output, and wants it here

	recall      fb.LeaseRecall // of a lease
	recalledAt  int64
	recalledFor string
	held        *fb.GroupHeldT // by what, as its owner says
	comes       []id.Task      // leases that it waits for
	order       float64        // among leases that wait

	moved uint64 // generation of the last try to place it elsewhere, since a node of its is being drained; 0: none
}

// placeRun is what an agent has confirmed of its place.
type placeRun struct {
	reserved bool
	port     uint16
}

func (r *groupRun) unwatch(a id.Agent) {
	if at := slices.Index(r.watchers, a); at >= 0 {
		r.watchers = slices.Delete(r.watchers, at, at+1)
	}
}

// create takes in a group. Asked again for one that it knows (the agent repeats until it hears of
// it), it only answers.
func (c *Core) create(m *member, q *fb.GroupCreateT) {
	c.idleSince = c.now
	task := taskOf(q.Group)
	if g := c.state.byID[task]; g != nil {
		c.send(m.number, c.update(g))
		return
	}
	if task.IsZero() {
		return // nobody to answer to
	}
	if c.short != "" && c.state.drain == nil {
		// Nothing can be written down now, so this end is told and not kept.
		c.send(m.number, &fb.GroupUpdateT{Group: q.Group, Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{
			Code: codeCannotCreate, Cause: causeStart, Rank: -1, Wall: c.now, Reason: "no new groups for now: " + c.short}})
		return
	}
	if q.OwnerAgent == 0 {
		q.OwnerAgent = uint32(m.number)
	}
	clash := c.state.named(q.Name)
	if !c.must(&fb.RecGroupT{Create: q, Wall: c.now}) {
		return
	}
	if len(c.early) > 0 {
		defer c.watchEarly()
	}
	g := c.state.byID[task]
	request, err := checkCreate(g.create)
	switch {
	case err != nil:
		c.finish(g, c.ending(codeInfeasible, causeInfeasible, err.Error()))
	case c.state.drain != nil:
		c.finish(g, c.drained("the cluster is shutting down: "+c.state.drain.Reason))
	case q.Program == nil && q.Name != "" && clash != nil: // a gang of programs is not looked up by name: it may share one
		c.finish(g, c.ending(codeCannotCreate, causeInfeasible, fmt.Sprintf("the name %s is taken by group %v: choose another, or cancel that one", q.Name, clash.id)))
	default:
		g.run.request = request
		c.waitTimer(g)
		c.dirty = true
	}
}

// checkCreate says what is wrong with a description, or what it asks of placement.
func checkCreate(q *fb.GroupCreateT) (*placement.Request, error) {
	if len(q.Bundles) == 0 {
		return nil, fmt.Errorf("the group has no bundles")
	}
	ranks := uint64(0)
	for _, b := range q.Bundles {
		if b.Times > 1 {
			return nil, fmt.Errorf("there are more bundles than a group may have (%d)", alike.Most)
		}
		ranks += uint64(b.Ranks)
	}
	switch p := q.Program; {
	case ranks > maxGroupRanks:
		return nil, fmt.Errorf("%d ranks are more than a group may have (%d)", ranks, maxGroupRanks)
	case p != nil && ranks == 0:
		return nil, fmt.Errorf("the gang has a program and no ranks to run it")
	case p == nil && ranks != 0:
		return nil, fmt.Errorf("the group has ranks and no program for them")
	case p != nil && len(p.Argv) == 0:
		return nil, fmt.Errorf("the program has no name")
	case p != nil && (p.Pty || p.Driver) && ranks != 1:
		return nil, fmt.Errorf("a driver, or a program on a terminal, is a single rank, not %d", ranks)
	}
	return request(q)
}

func (c *Core) waitTimer(g *group) {
	if g.create.Wait > 0 {
		c.timers.addGroup(g.since+g.create.Wait, g.id)
	}
}

// resume finds again what a group needs after a restart of the head. What its agents hold they say
// when they register.
func (c *Core) resume(g *group) {
	g.run.request, _ = checkCreate(g.create)
	g.run.running = make([]bool, len(g.ranks))
	if c.state.byAgent[g.owner] == nil && !g.create.Detached {
		c.ownerLost(g)
	}
	switch g.phase {
	case fb.GroupPhasePending:
		c.waitTimer(g)
	case fb.GroupPhaseReserving, fb.GroupPhaseCreated:
		// A crash may have come between the records of one step.
		for _, p := range g.places {
			if p.lost {
				c.finish(g, c.lostEnd(g, c.state.nodeName(p.node), ""))
				return
			}
		}
	case fb.GroupPhaseStarting, fb.GroupPhaseRunning:
		for _, p := range g.places {
			if p.lost && !p.ended(g) {
				c.stop(g, c.lostEnd(g, c.state.nodeName(p.node), ""), failureGrace)
				return
			}
		}
		for r := range g.ranks {
			if e := &g.ranks[r]; e.done && !e.byUs && (e.code != 0 || e.signal != 0) {
				c.rankFailed(g, &fb.RankStateT{Rank: uint32(r), Code: e.code, Signal: e.signal})
				return
			}
		}
		c.advance(g)
	case fb.GroupPhaseStopping:
		c.advance(g)
	}
}

// groupDue looks at a group's deadlines.
func (c *Core) groupDue(g *group) {
	if g.run.ownerDue != 0 && c.now >= g.run.ownerDue {
		g.run.ownerDue = 0
		c.cancelGroup(g, &fb.GroupCancelT{Mode: fb.CancelModeStop, Grace: failureGrace, ExitCode: codeCancelled,
			Reason: "whoever started it is gone and did not come back within 10 s"})
		return
	}
	if g.phase != fb.GroupPhasePending {
		return
	}
	if g.create.Wait > 0 && c.now >= g.since+g.create.Wait {
		why := c.explainPending(g)
		c.finish(g, c.ending(codeTryAgain, causeTimeout, fmt.Sprintf("not placed within %v: %s", time.Duration(g.create.Wait), why)))
		return
	}
	if u := g.run.unplaced; u != nil && u.Verdict == placement.Infeasible && c.now >= g.since+returnGrace {
		g.run.tried, c.dirty = 0, true
	}
	if g.run.explainAt != 0 && c.now >= g.run.explainAt {
		g.run.explainAt = 0
		c.tellWait(g)
	}
}

// placePending tries to place every group that waits, in turn. One that doesn't fit holds up nobody behind it.
func (c *Core) placePending() {
	var free placement.Resources
	known, bounded := false, false
	if c.short != "" {
		return // what is placed must be written down
	}
	for turn := range turns {
		for _, g := range c.inTurn(turn) {
			if !known && c.formed() {
				free, bounded = c.free()
				known = true
			}
			c.place(g, free, bounded)
		}
	}
}

// free adds up what open nodes have free: an upper bound that spares most searches. False: the sum is
// too large to be said.
func (c *Core) free() (placement.Resources, bool) {
	list := c.sum[:0]
	for _, n := range c.state.view.Nodes() {
		if n.State == placement.Open {
			list = append(list, n.Free...)
		}
	}
	c.sum = list
	out, err := placement.Make(list...)
	return out, err == nil
}

// fits tells whether the sum of the request is within free.
func fits(q *placement.Request, free placement.Resources) bool {
	for _, f := range q.Bundles {
		for _, r := range f.Resources {
			left := free.Get(r.Name)
			for i := range q.Bundles {
				if left -= q.Bundles[i].Resources.Get(r.Name); left < 0 {
					return false
				}
			}
		}
		if len(q.Bundles) > 1 && equalBundles(q) {
			break // the first stands for all
		}
	}
	return true
}

func equalBundles(q *placement.Request) bool {
	for i := 1; i < len(q.Bundles); i++ {
		if !q.Bundles[i].Resources.Equal(q.Bundles[0].Resources) {
			return false
		}
	}
	return true
}

// place tries one group and returns the phase that it is in then.
func (c *Core) place(g *group, free placement.Resources, bounded bool) fb.GroupPhase {
	if g.run.request == nil {
		q, err := checkCreate(g.create)
		if err != nil {
			c.finish(g, c.ending(codeInfeasible, causeInfeasible, err.Error()))
			return g.phase
		}
		g.run.request = q
	}
	if g.run.tried == c.gen+1 {
		return g.phase
	}
	g.run.tried = c.gen + 1
	if !c.formed() || len(c.state.nodes) == 0 {
		g.run.unplaced = nil
		c.tellWait(g)
		return g.phase
	}
	// What the sum already forbids needs no search, once it is known not to be infeasible.
	if u := g.run.unplaced; u != nil && u.Verdict == placement.NotNow && bounded && !fits(g.run.request, free) && g.run.shrinks == c.shrinks {
		c.tellWait(g)
		return g.phase
	}
	g.run.shrinks = c.shrinks
	if g.incarnation == 1 && !taskOf(g.create.Part).IsZero() {
		return c.placePiece(g)
	}
	view := &c.state.view
	if g.create.Lease {
		view = c.forLeases()
	}
	plan, unplaced := placement.Solve(view, g.run.request)
	if plan == nil {
		g.run.unplaced = unplaced
		if unplaced.Verdict == placement.Infeasible {
			c.infeasible(g)
		} else {
			c.tellWait(g)
		}
		return g.phase
	}
	if c.must(c.recPlaced(g, plan)) {
		c.placed(g)
	}
	return g.phase
}

// placed says so to who has to know.
func (c *Core) placed(g *group) {
	g.run.unplaced, g.run.explain, g.run.explainAt = nil, "", 0
	g.run.running, g.run.nRunning = make([]bool, len(g.ranks)), 0
	if m := c.state.byAgent[g.owner]; m != nil && g.create.Lease {
		m.run.servedAt = c.now
	}
	if g.create.Program != nil || g.incarnation > 1 || len(g.run.watchers) > 0 {
		if g.create.Program == nil && g.incarnation == 1 {
			c.commit(g)
		}
		for _, p := range g.places {
			c.reserve(g, p, false)
		}
		c.tell(g)
		return
	}
	// Who waits for it is told first: with many nodes the last of them hears of it much later. Tasks go to a lease at once.
	c.commit(g)
	own := g.placeAt(g.owner)
	if own != nil {
		c.reserve(g, own, false)
	}
	c.tell(g)
	for _, p := range g.places {
		if p != own {
			c.reserve(g, p, !g.create.Lease)
		}
	}
}

// commit makes a group without programs be there, with its agents still to hear of it: the ledger is the head's, so an
// agent has nothing to say but that a device is not what it said before (reserved). What goes to an agent comes in order,
// its share before word that the group is there. One that is placed anew waits until all have answered, and so have let go
// of what they had of the incarnation before: another agent's task may be faster than the head's word to do so.
func (c *Core) commit(g *group) {
	if !c.phase(g, fb.GroupPhaseCreated, nil) {
		return
	}
	for _, p := range g.places {
		p.run.reserved = true
	}
}

// infeasible ends a group that no amount of waiting would place. One that ran before lost a node,
// which may come back.
func (c *Core) infeasible(g *group) {
	if due := g.since + returnGrace; g.incarnation > 1 && c.now < due {
		c.timers.addGroup(due, g.id)
		c.tellWait(g)
		return
	}
	if len(c.replaced()) > 0 {
		c.tellWait(g)
		return
	}
	why := "no node can ever take it"
	if e := placement.Explain(&c.state.view, g.run.request); e != nil {
		why = e.Text()
	}
	end := c.ending(codeInfeasible, causeInfeasible, "")
	if m := c.missing(); len(m) > 0 {
		end.Code = codeTryAgain // with them it might have been feasible
		why = fmt.Sprintf("%s\n%d of %d nodes joined, missing %s", why, len(c.cfg.Expect)-len(m), len(c.cfg.Expect), placement.FoldNames(m))
	}
	if d := c.deadNodes(); len(d) > 0 {
		why += "\n" + placement.FoldNames(d) + " died"
	}
	end.Reason = why
	if g.incarnation > 1 {
		end.Code, end.Cause, end.Reason = codeNodeLost, causeNode, "a node was lost, and the gang does not fit on those that are left: "+why
	}
	c.conclude(g, end, false, false)
}

func (c *Core) deadNodes() []string {
	var out []string
	for _, n := range c.state.nodes {
		if n.dead {
			out = append(out, n.name)
		}
	}
	return out
}

// replaced names the nodes in whose place others come, for as long as that takes. Of one that never came where fewer are enough nobody knows: it may
// have been given up.
func (c *Core) replaced() (out []string) {
	if !c.cfg.Replaced {
		return nil
	}
	for i, name := range c.cfg.Expect {
		n := c.state.nodeAt(uint32(i))
		came := slices.ContainsFunc(c.state.nodes, func(o *node) bool {
			return !o.dead && (o.name == name || strings.HasPrefix(o.name, name+"~")) // it came before its forerunner was given up
		})
		if !came && (n != nil || c.cfg.MinNodes == 0) {
			out = append(out, name)
		}
	}
	return out
}

// recPlaced turns a plan into its record: nodes by index, their bundles by index, and ranks counted
// in that order.
func (c *Core) recPlaced(g *group, plan *placement.Plan) *fb.RecGroupPlacedT {
	list := slices.Clone(plan.Places)
	slices.SortFunc(list, func(a, b placement.Place) int {
		if a.Node != b.Node {
			return a.Node - b.Node
		}
		return a.Bundle - b.Bundle
	})
	rec := &fb.RecGroupPlacedT{Group: wireTask(g.id), Incarnation: g.incarnation, Wall: c.now}
	rank := uint32(0)
	bundles, all := make([]fb.BundlePlaceT, len(list)), make([]*fb.BundlePlaceT, len(list))
	var resources []*fb.ResourceT
	for i := range list {
		pl := &list[i]
		if i == 0 || !pl.Resources.Is(list[i-1].Resources) {
			resources = wireResources(pl.Resources)
		}
		bundles[i] = fb.BundlePlaceT{Index: uint32(pl.Bundle), Resources: resources, Devices: pl.Devices, Cpus: pl.CPUs,
			Ranks: g.create.Bundles[pl.Bundle].Ranks, FirstRank: rank}
		rank += bundles[i].Ranks
		all[i] = &bundles[i]
	}
	for lo := 0; lo < len(list); {
		node, hi := list[lo].Node, lo+1
		for hi < len(list) && list[hi].Node == node {
			hi++
		}
		same := func(a, b *fb.BundlePlaceT) bool {
			return len(a.Resources) == len(b.Resources) && (len(a.Resources) == 0 || &a.Resources[0] == &b.Resources[0])
		}
		rec.Places = append(rec.Places, &fb.RecPlaceT{Agent: uint32(c.state.nodeAt(uint32(node)).agent), Node: uint32(node), Bundles: alike.Fold(all[lo:hi], same)})
		lo = hi
	}
	return rec
}

// reserve asks an agent for the bundles of a place. It may ask again. Of a place that counts as reserved already it hears
// only if it can't be.
func (c *Core) reserve(g *group, p *place, calm bool) {
	pr := g.create.Program
	c.out = append(c.out, Send{Agent: p.agent, Calm: calm, Msg: &fb.BundleReserveT{Group: wireTask(g.id), Incarnation: g.incarnation, Bundles: p.told(),
		HoldPort: pr != nil && pr.MasterPort && !pr.Driver && p.first == 0 && p.ranks > 0, PortFree: g.portFree, Quiet: p.run.reserved}})
}

// reserved takes in that an agent holds, or can't hold, its bundles.
func (c *Core) reserved(m *member, r *fb.BundleReservedT) {
	g := c.state.byID[taskOf(r.Group)]
	if g == nil || g.phase != fb.GroupPhaseReserving && g.phase != fb.GroupPhaseCreated || g.incarnation != r.Incarnation {
		return
	}
	p := g.placeAt(m.number)
	if p == nil || r.Error == "" && p.run.reserved {
		return
	}
	if r.Error != "" {
		c.finish(g, c.ending(codeCannotCreate, causeStart, fmt.Sprintf("%s could not set its share aside: %s", m.node.name, r.Error)))
		return
	}
	p.run.reserved, p.run.port = true, r.MasterPort
	if g.phase == fb.GroupPhaseCreated { // by the agent after the one that it was first reserved by
		c.tell(g)
		return
	}
	for _, p := range g.places {
		if !p.run.reserved {
			return
		}
	}
	if g.create.Program == nil { // a later incarnation, or the head before this one died between placing it and this
		c.phase(g, fb.GroupPhaseCreated, nil)
		c.tell(g)
		return
	}
	c.start(g)
}

// phase records a step of a group's life that keeps incarnation and count of restarts.
func (c *Core) phase(g *group, phase fb.GroupPhase, end *fb.GroupEndT) bool {
	return c.must(&fb.RecGroupStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Phase: phase, Restarts: g.restarts,
		End: end, PortFree: g.portFree, Wall: c.now})
}
