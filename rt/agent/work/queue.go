package work

import (
	"cmp"
	"slices"
)

// activate puts a class with tasks to start among those that are looked at.
func (c *Core) activate(cl *class) {
	c.restless = true
	if !cl.active {
		cl.active = true
		cl.job.active = append(cl.job.active, cl)
		c.enroll(cl)
	}
}

// dispatch gives tasks to workers: first to those that have a lease and room, then, if anything changed
// by which more could start, new leases, one for each job in turn (WORK-6).
func (c *Core) dispatch() {
	for i := 0; i < len(c.touched); i++ {
		w := c.touched[i]
		w.touched = false
		c.refill(w)
	}
	c.touched = c.touched[:0]
	if !c.restless {
		return
	}
	c.restless, c.hasty = false, false
	for _, j := range c.jobs {
		j.active = slices.DeleteFunc(j.active, func(cl *class) bool {
			cl.active = cl.queue.n > 0
			if !cl.active {
				cl.setHungry(false, 0)
				if cl.said == 0 {
					cl.unroll()
				}
			}
			return !cl.active
		})
	}
	for c.startNext() {
	}
	c.hungry = 0
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if cl.hungry {
				c.hungry++
			}
		}
	}
	c.checkStuck()
}

// startNext gives one more lease to the job that has least of what all share and can have one; of equal ones to
// the next, counted from the last that had.
func (c *Core) startNext() bool {
	order := c.order[:0]
	for k := range c.jobs {
		if j := c.jobs[(c.turn+1+k)%len(c.jobs)]; len(j.active) > 0 {
			order = append(order, j)
		}
	}
	c.order = order
	if len(order) > 1 {
		totals := c.shared()
		for _, j := range order {
			j.share = shareOf(j.held, totals)
		}
		slices.SortStableFunc(order, func(a, b *job) int { return cmp.Compare(a.share, b.share) })
	}
	for _, j := range order {
		if c.startOne(j) {
			c.turn = slices.Index(c.jobs, j)
			return true
		}
	}
	return false
}

// startOne gives one more lease to the next class of a job that can have one.
func (c *Core) startOne(j *job) bool {
	for k := range j.active {
		i := (j.turn + 1 + k) % len(j.active)
		if c.startClass(j.active[i]) {
			j.turn = i
			return true
		}
	}
	return false
}

// startClass leases what a class needs, for tasks that nobody works on yet.
func (c *Core) startClass(cl *class) bool {
	if c.follow(cl) {
		return true
	}
	// Workers that have a lease take what they can first.
	if cl.queue.n > 0 && len(cl.leased) > 0 {
		for i := len(cl.leased) - 1; i >= 0; i-- { // one that has nothing to do leaves the list
			c.refill(cl.leased[i])
		}
	}
	if cl.queue.n > cl.starting && c.soon(cl) {
		c.hasty = true
		cl.setHungry(false, 0)
		return false
	}
	if cl.queue.n <= cl.starting {
		cl.setHungry(false, 0)
		return false
	}
	c.outgrow(cl)
	c.loosen(cl)
	c.wish(cl)
	g := c.fit(cl)
	if g == nil || cl.spreads() && c.rather(cl) || c.wished(cl, g) {
		if g == nil && c.startKin(cl) {
			return true
		}
		if c.sendAway(cl, g != nil && !c.wished(cl, g), 0) {
			cl.setHungry(false, 0)
			return true
		}
		if !cl.hungry {
			c.lookForIdle(c.now + idleAfterwards)
		}
		cl.setHungry(true, c.now)
		return false
	}
	cl.setHungry(false, 0)
	return c.startOn(cl.queue.head, g, false)
}

// startOn leases what a queued task needs of a grant that has it, kin: as one of those for which it was lent, and has a worker start.
func (c *Core) startOn(t *task, g *grant, kin bool) bool {
	cl := t.class
	if t.afar && !c.lieWith(t, nil) {
		c.fetchArgs(t)
		return true
	}
	devices := g.pick(cl.need.gpu)
	if w := c.idleFor(cl, devices); w != nil {
		c.lease(w, cl, g, devices, kin)
		if t.kind == create {
			c.settleIn(t.actor, w)
			c.construct(t.actor)
		} else {
			cl.leased = append(cl.leased, w)
			c.refill(w)
		}
		return true
	}
	var a *actor
	if t.kind == create {
		a = t.actor
	}
	wait := cl.failed >= maxRestarts && c.now < cl.hireAt && cl.works() // it goes on with those that it has
	if wait {
		c.later(cl.hireAt)
	} else if c.hire(cl, g, devices, a, kin) {
		return true
	}
	for i := range g.devices { // not now
		if slices.Contains(devices, g.devices[i].id) {
			g.devices[i].free += min(cl.need.gpu, one)
		}
	}
	return false
}

// later has the queues looked at again at a time.
func (c *Core) later(at int64) {
	if c.hireAt == 0 || at < c.hireAt {
		c.hireAt = at
	}
}

func (cl *class) setHungry(hungry bool, now int64) {
	if hungry && !cl.hungry {
		cl.since = now
	}
	if !hungry {
		cl.nowhere, cl.kept, cl.toldKept = "", "", ""
	}
	cl.hungry = hungry
}

// soon tells whether what waits is so little that the workers of the class have done it before another
// process could start.
func (c *Core) soon(cl *class) bool {
	t := cl.queue.head
	if t.kind != plain || len(cl.leased) == 0 || t.function.mean == 0 || t.function.mean > shortTask {
		return false
	}
	for _, w := range cl.leased {
		if w.blocked == 0 && w.process != nil && c.now-w.since < recallAfter {
			return int64(cl.queue.n)*t.function.mean < 2*depthTime*int64(len(cl.leased))
		}
	}
	return false
}

// fit finds a grant with room for one more lease of a class, where it wishes to be before others.
func (c *Core) fit(cl *class) (fits *grant) {
	for _, g := range c.grants {
		if !cl.mayUse(g) || g.back || c.closed(g) || g.lacks(cl) >= 0 || c.before(cl, g) != nil {
			continue
		}
		if fits == nil || cl.rank(g.where) < cl.rank(fits.where) {
			fits = g
		}
		if len(cl.wishes) == 0 {
			break
		}
	}
	return fits
}

// before gives the class for which what is free of a grant is kept: one that has waited for long, needs
// something that this one needs, too, and will have it once what runs now has ended. One of another job that needs no more than
// this one takes its turn instead; one whose job would still have more than this one's waits longer, or for ever if that is its share.
func (c *Core) before(cl *class, g *grant) *class {
	if c.hungry == 0 {
		return nil
	}
	for _, j := range c.jobs {
		for _, other := range j.active {
			if other == cl || !other.hungry || other.queue.n == 0 || c.now-other.since < patience || !other.mayUse(g) {
				continue
			}
			if other.job != cl.job {
				if other.need.within(&cl.need) || c.hasMore(other.job, cl) && (c.now-other.since < starving || c.hasShare(other.job)) {
					continue
				}
			}
			if cl.hungry && cl.first(other) {
				continue
			}
			if other.contests(cl) && g.comes(&other.need) {
				return other
			}
		}
	}
	return nil
}

// first tells whether a class comes before another one: that of the job that had no lease for longer, of one job the one that has waited longer.
func (cl *class) first(other *class) bool {
	a, b := cl.job, other.job
	return cmp.Or(cmp.Compare(a.served, b.served), cmp.Compare(a.number, b.number), cmp.Compare(cl.since, other.since), cmp.Compare(cl.number, other.number)) < 0
}

// contests tells whether two classes need a resource in common.
func (cl *class) contests(other *class) bool {
	for _, p := range cl.need.parts {
		for _, q := range other.need.parts {
			if p.resource == q.resource {
				return true
			}
		}
	}
	return false
}

// comes tells whether a grant will have room for a demand without anything ending that waits or stays.
func (g *grant) comes(d *demand) bool {
	for _, p := range d.parts {
		kept := get(g.sticky, p.resource)
		if get(g.total, p.resource)-kept < p.amount {
			return false
		}
	}
	return true
}

// refill gives a worker with a lease what it may have, or ends the lease. If other classes wait for
// room, a worker gets more only when its lease is fresh: so leases go around. Of what was recalled, or is used twice, it gets no more.
func (c *Core) refill(w *worker) {
	if w.actor != nil || w.shutting || w.process == nil || !w.held || w.blocked > 0 {
		return
	}
	cl := w.class
	if !c.ceases(w) && (w.fresh || c.hungry == 0 || c.hungry == 1 && cl.hungry) {
		for t := c.nextOf(w); t != nil && t.kind != create && w.flight.n < c.depth(w, t); t = c.nextOf(w) {
			if t.afar && !c.lieWith(t, nil) {
				if !c.follow(cl) {
					c.fetchArgs(t)
				}
				continue
			}
			cl.flying++
			w.fresh = false
			c.give(t, w)
		}
		c.setDeep(w, w.flight.n > 1)
	}
	if w.flight.n == 0 {
		c.rest(w)
	}
}

// depth is how many tasks a worker may have, of which the last would be t.
func (c *Core) depth(w *worker, t *task) int {
	if t.retries == 0 || w.flight.n == 0 || w.calls > 0 || t.class.table.MaxCalls > 0 {
		return 1 // one that must not run twice, and might have begun when its worker dies
	}
	if t.parent != nil && t.parent.worker == w {
		return 1 // its parent will most likely wait for it
	}
	mean := max(t.function.mean, w.flight.tail.function.mean)
	if t.function.mean == 0 || w.flight.tail.function.mean == 0 || mean > shortTask || c.now-w.since >= recallAfter {
		return 1
	}
	share := (t.class.queue.n + t.class.flying + len(t.class.leased) - 1) / max(len(t.class.leased), 1)
	return int(min(depthTime/mean, depthMax, int64(max(share, 1))))
}
