package head

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A lease is a group that an agent has for tasks that belong to none: of its own node or of another one. When a group waits that
// leases keep from being placed, as many of them as it needs are recalled: nothing new starts on them, and they
// come back as what runs on them ends. A group that somebody asked for by name or from a program takes any lease. A lease takes those of
// agents that have more than its own would have then, so that all who want more come to have equal shares; who has
// nothing gets one after leaseLife, so that nobody starves where there are fewer leases than agents (docs/adr/0014).
const (
	leaseLife   = int64(200 * time.Millisecond) // so long a lease lives at least when one who has none waits
	leaseLarge  = int64(time.Second)            // one that needs more than a lease has gets several after so long, whoever has more
	leaseSlow   = int64(2 * time.Second)        // one that was recalled so long ago is not counted on, where others do as well
	recallEvery = int64(10 * time.Millisecond)  // it is looked at most so often what is to be recalled,
	recallNode  = int64(100 * time.Microsecond) // and for each node so much less often: a plan costs more
	maxRecalls  = 16                            // for so many groups at a time
)

// leased tells whether a group is a lease that an agent has.
func (g *group) leased() bool {
	return g.create.Lease && len(g.places) > 0 && (g.phase == fb.GroupPhaseCreated || g.phase == fb.GroupPhaseReserving)
}

// stays tells whether an actor lives on a recalled lease.
func (g *group) stays() bool { return g.run.held != nil && g.run.held.Stays }

// recalls are what one look at the waiting groups works with.
type recalls struct {
	leases []*group
	coming *placement.View // the ledger as it will be when what was recalled is back
	shares shares
	again  int64 // when it may be otherwise
}

// settleRecalls recalls what the groups that wait need, if anything changed; not too often.
func (c *Core) settleRecalls() {
	if c.recallAt != 0 && c.now >= c.recallAt {
		c.recallAt, c.recallDue = 0, true
	}
	if !c.recallDue {
		return
	}
	if !slices.ContainsFunc(c.state.groups, (*group).leased) {
		c.recallDue, c.claims = false, c.claims[:0]
		return
	}
	if next := c.recalledAt + recallEvery + recallNode*int64(len(c.state.nodes)); c.now < next {
		c.recallBy(next)
		return
	}
	c.recallDue, c.recalledAt = false, c.now
	c.claims = c.claims[:0]
	r := recalls{again: math.MaxInt64}
	for _, g := range c.state.groups {
		if g.leased() {
			r.leases = append(r.leases, g)
		}
	}
	waiting := c.waiting()
	if len(waiting) == 0 {
		return
	}
	r.shares = c.sharesOf(r.leases)
	r.coming = c.state.view.Clone()
	for _, l := range r.leases {
		switch {
		case l.run.recall != fb.LeaseRecallNow || l.stays():
		case r.aged(c.now, l.run.recalledAt+leaseSlow):
		default:
			r.coming.Release(l.id, l.incarnation)
		}
	}
	for _, g := range waiting {
		c.recallFor(g, &r)
	}
	if r.again != math.MaxInt64 {
		c.recallBy(r.again)
	}
}

// recallBy has it looked at by a time what is to be recalled.
func (c *Core) recallBy(at int64) {
	if c.recallAt == 0 || at < c.recallAt {
		c.recallAt = at
		c.timers.add(at, timerRecall, 0)
	}
}

// waiting lists the groups that could be placed if others gave something back, in the order in which they are tried.
func (c *Core) waiting() (out []*group) {
	for turn := range turns {
		for _, g := range c.inTurn(turn) {
			if u := g.run.unplaced; u != nil && u.Verdict != placement.Infeasible && len(out) < maxRecalls {
				out = append(out, g)
			}
		}
	}
	return out
}

// Those that are to start again are tried first, then what was asked for, then leases.
const (
	turnAgain = iota
	turnAsked
	turnLeases
	turns
)

// inTurn lists the pending groups of a turn in order of arrival, leases by what their owners have. The list is good until the next call.
func (c *Core) inTurn(turn int) []*group {
	list := c.turn[:0]
	for _, g := range c.state.groups {
		of := turnAsked
		if g.incarnation > 1 {
			of = turnAgain
		} else if g.create.Lease {
			of = turnLeases
		}
		if g.phase == fb.GroupPhasePending && of == turn {
			list = append(list, g)
		}
	}
	c.turn = list
	if turn != turnLeases || !slices.ContainsFunc(list, func(g *group) bool { return g.owner != list[0].owner }) {
		return list
	}
	var leases []*group
	for _, g := range c.state.groups {
		if g.leased() {
			leases = append(leases, g)
		}
	}
	s := c.sharesOf(leases)
	for _, g := range list { // of two that an agent asks for the second counts the first
		g.run.order = s.of(g.owner)
		s.add(g.owner, g.has(), 1)
	}
	slices.SortStableFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.run.order, b.run.order), cmp.Compare(c.servedAt(a.owner), c.servedAt(b.owner)))
	})
	return list
}

// servedAt is when an agent had its last lease.
func (c *Core) servedAt(agent id.Agent) int64 {
	if m := c.state.byAgent[agent]; m != nil {
		return m.run.servedAt
	}
	return 0
}

// recallFor recalls leases for one group.
func (c *Core) recallFor(g *group, r *recalls) {
	plan, _ := placement.Solve(r.coming, g.run.request)
	if plan == nil {
		plan = c.choose(g, r)
	}
	if plan == nil {
		return
	}
	holder := placement.Holder{ID: g.id, Incarnation: g.incarnation, Name: g.create.Name}
	if r.coming.Commit(holder, plan) != nil {
		return
	}
	if g.create.Lease {
		r.shares.add(g.owner, g.has(), 1)
	} else {
		c.claims = append(c.claims, claim{g, plan})
	}
	g.run.comes = g.run.comes[:0]
	need := needs(plan)
	for _, l := range r.leases {
		if l.run.recall == fb.LeaseRecallNow && !l.stays() && on(l, need) {
			g.run.comes = append(g.run.comes, l.id)
		}
	}
	c.tellWait(g)
}

// choose recalls what a group needs beside what is coming, and returns the plan for it; nil: leases would not help, or are not its to take.
func (c *Core) choose(g *group, r *recalls) *placement.Plan {
	for _, late := range []bool{false, true} { // first without those that take long to come back
		var list []*group
		for _, l := range r.leases {
			now := l.run.recall == fb.LeaseRecallNow
			if !l.stays() && (!now || late && c.now >= l.run.recalledAt+leaseSlow) && (now || c.mayTake(g, l, &r.shares, r)) {
				list = append(list, l)
			}
		}
		slices.SortStableFunc(list, func(a, b *group) int {
			return cmp.Or(cmp.Compare(r.shares.of(b.owner), r.shares.of(a.owner)), cmp.Compare(a.since, b.since))
		})
		after := r.coming.Clone()
		for _, l := range list {
			after.Release(l.id, l.incarnation)
		}
		goal, _ := placement.Solve(after, g.run.request)
		if goal == nil {
			continue
		}
		need := needs(goal)
		try, shares := r.coming.Clone(), r.shares.clone()
		var chosen []*group
		taken := map[id.Task]bool{}
		for _, exact := range []bool{true, false} { // then all on these nodes, where parts of devices lie in one another's way
			for _, l := range list {
				if taken[l.id] || !on(l, need) || exact && !short(try, need, l) || l.run.recall != fb.LeaseRecallNow && !c.mayTake(g, l, &shares, r) {
					continue
				}
				try.Release(l.id, l.incarnation)
				shares.add(l.owner, l.has(), -1)
				chosen, taken[l.id] = append(chosen, l), true
			}
			if plan, _ := placement.Solve(try, g.run.request); plan != nil {
				r.coming, r.shares = try, shares
				for _, l := range chosen {
					c.recall(l, fb.LeaseRecallNow, g)
				}
				return plan
			}
		}
	}
	c.hint(g, r)
	return nil
}

// hint has agents give back what they do not use, of leases that a group may not take from them; its own agent, too, which has them for other tasks.
func (c *Core) hint(g *group, r *recalls) {
	if !g.create.Lease {
		return
	}
	after := r.coming.Clone()
	for _, own := range []bool{false, true} {
		for _, l := range r.leases {
			if !l.stays() && (l.owner == g.owner) == own {
				after.Release(l.id, l.incarnation)
			}
		}
		goal, _ := placement.Solve(after, g.run.request)
		if goal == nil {
			continue
		}
		need := needs(goal)
		for _, l := range r.leases {
			if short(r.coming, need, l) && (own || l.owner != g.owner) {
				c.recall(l, fb.LeaseRecallIdle, g)
			}
		}
		return
	}
}

// mayTake tells whether a lease is recalled for a group that waits.
func (c *Core) mayTake(g, l *group, s *shares, r *recalls) bool {
	if !g.create.Lease {
		return true
	}
	if g.owner == l.owner {
		return false
	}
	mine, theirs := s.of(g.owner), s.of(l.owner)
	need, gives := s.most(g.has()), s.most(l.has())
	switch {
	case theirs-gives >= mine+need-1e-9:
		return true
	case mine == 0 && theirs > 0:
		return r.aged(c.now, l.since+leaseLife)
	case need > gives && theirs > mine:
		return r.aged(c.now, max(l.since+leaseLife, g.since+leaseLarge))
	}
	return false
}

// aged tells whether a time has come; if not, it is looked at again then.
func (r *recalls) aged(now, at int64) bool {
	if now < at {
		r.again = min(r.again, at)
	}
	return now >= at
}

// needs is what a plan takes of each of its nodes.
func needs(plan *placement.Plan) map[int]placement.Resources {
	out := make(map[int]placement.Resources, len(plan.Places))
	for i := range plan.Places {
		p := &plan.Places[i]
		sum := out[p.Node]
		for _, r := range p.Resources {
			sum = sum.With(r.Name, sum.Get(r.Name)+r.Amount)
		}
		out[p.Node] = sum
	}
	return out
}

// on tells whether a lease has, of a node of a plan, something that the plan needs there.
func on(l *group, plan map[int]placement.Resources) bool {
	return short(nil, plan, l)
}

// short tells whether one of a lease's nodes has too little free for its share of a plan, of something that the lease has.
func short(v *placement.View, plan map[int]placement.Resources, l *group) bool {
	for _, p := range l.places {
		if p.lost {
			continue
		}
		for _, b := range p.bundles {
			for _, r := range b.Resources {
				free := placement.Amount(0)
				if v != nil && v.Node(int(p.node)) != nil {
					free = v.Node(int(p.node)).Free.Get(r.Name)
				}
				if plan[int(p.node)].Get(r.Name) > free {
					return true
				}
			}
		}
	}
	return false
}

// recall tells the owner of a lease that a group waits for it.
func (c *Core) recall(l *group, how fb.LeaseRecall, g *group) { c.recallFrom(l, how, g.title()) }

// recallFrom tells the owner of a lease what waits for it.
func (c *Core) recallFrom(l *group, how fb.LeaseRecall, title string) {
	if l.run.recall >= how {
		return
	}
	l.run.recall, l.run.recalledAt, l.run.recalledFor = how, c.now, title
	c.recallBy(c.now + leaseSlow) // one that is slow by then is not counted on
	c.tell(l)
}

// held takes in what an agent says of a lease that was recalled and is in use.
func (c *Core) held(m *member, h *fb.GroupHeldT) {
	g := c.state.byID[taskOf(h.Group)]
	if g == nil || g.owner != m.number || !g.leased() {
		return
	}
	g.run.held = h
	c.recallDue = true
}

// claim is what a group that waits will have when leases are back. No lease gets of it what is free already.
type claim struct {
	group *group
	plan  *placement.Plan
}

// forLeases is the ledger as leases see it.
func (c *Core) forLeases() *placement.View {
	v, n := &c.state.view, uint32(1<<16)
	for _, k := range c.claims {
		if k.group.phase != fb.GroupPhasePending {
			continue
		}
		if v == &c.state.view {
			v = v.Clone()
		}
		for _, p := range k.plan.Places {
			n++
			_ = v.Commit(placement.Holder{ID: k.group.id, Incarnation: n}, &placement.Plan{Places: []placement.Place{freePart(v, &p)}}) // it is free
		}
	}
	return v
}

// freePart is what of a place is free.
func freePart(v *placement.View, p *placement.Place) placement.Place {
	out := placement.Place{Bundle: p.Bundle, Node: p.Node}
	n := v.Node(p.Node)
	if n == nil {
		return out
	}
	for _, r := range p.Resources {
		amount := min(r.Amount, n.Free.Get(r.Name))
		var devices []string
		for _, d := range n.Devices {
			if d.Resource == r.Name && slices.Contains(p.Devices, d.ID) && d.Free >= min(r.Amount, placement.One) {
				devices = append(devices, d.ID)
			}
		}
		if slices.ContainsFunc(n.Devices, func(d placement.Device) bool { return d.Resource == r.Name }) {
			amount = min(r.Amount, placement.Whole(int64(len(devices))))
		}
		out.Devices = append(out.Devices, devices...)
		if amount > 0 {
			out.Resources = out.Resources.With(r.Name, amount)
		}
	}
	return out
}

// explainRecalled says of the leases that a group waits for who has them, since when, and when they come back.
func (c *Core) explainRecalled(g *group) string {
	var lines []string
	n := 0
	for _, t := range g.run.comes {
		l := c.state.byID[t]
		if l == nil || !l.leased() || l.run.recall != fb.LeaseRecallNow {
			continue
		}
		if n++; n <= 4 {
			lines = append(lines, "\ncomes back: "+c.explainLease(l))
		}
	}
	if n > 4 {
		lines = append(lines, fmt.Sprintf("\nand %d more", n-4))
	}
	return strings.Join(lines, "")
}

// explainLease says who has a lease and what is to become of it.
func (c *Core) explainLease(l *group) string {
	var parts []string
	for _, p := range l.places {
		if !p.lost {
			parts = append(parts, c.share(p)+" of "+c.state.nodeName(p.node))
		}
	}
	owner := "agent " + fmt.Sprint(l.owner)
	if m := c.state.byAgent[l.owner]; m != nil && m.node != nil {
		owner = "node " + m.node.name
	}
	ago := func(at int64) time.Duration { return time.Duration(c.now - at).Round(time.Millisecond) }
	text := fmt.Sprintf("%s, lent to tasks of %s %v ago", strings.Join(parts, ", "), owner, ago(l.since))
	switch h := l.run.held; {
	case l.run.recall == fb.LeaseRecallNone:
		return text
	case l.run.recall == fb.LeaseRecallIdle:
		return text + fmt.Sprintf(", goes back when nothing uses it: %s waits", l.run.recalledFor)
	case h == nil:
		return text + fmt.Sprintf(", recalled %v ago for %s", ago(l.run.recalledAt), l.run.recalledFor)
	case h.Stays:
		return text + fmt.Sprintf(", recalled %v ago for %s, but %s lives on it", ago(l.run.recalledAt), l.run.recalledFor, h.By)
	default:
		return text + fmt.Sprintf(", recalled %v ago for %s: back when %s ends, which runs since %v", ago(l.run.recalledAt), l.run.recalledFor, h.By, ago(h.Since))
	}
}
