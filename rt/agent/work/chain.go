package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A task that waits gives its CPUs back, and nothing else. So one that waits for a task which needs
// what it, or an ancestor, holds, would wait for ever. That is looked for when a task begins to wait, when one
// is queued under it, when one of those that it may wait for ends, and when what it has asked for comes; and it is so when
// all still wait chainAfter later: what is on its way to them may be all that they wait for.
const chainAfter = int64(time.Second)

// checkChain fails what can't ever start because of up and its ancestors, all of which wait (WORK-9).
func (c *Core) checkChain(up *task) {
	if c.checking {
		return
	}
	c.checking, c.recheck = true, 0
	for first := up; up != nil && up.blocked && up.worker != nil && (up.chained || up.worker.class.need.sticks); up = up.parent {
		var stuck []*task
		for k := up.child; k != nil; k = k.elder {
			if k.state == taskQueued && k.kind != call && c.starved(k) {
				stuck = append(stuck, k)
			}
		}
		if top := eldest(up); len(stuck) == 0 || c.progress(top, top) {
			if c.recheck != 0 {
				c.watchAt(first.worker.process, c.recheck)
			}
			continue
		}
		slices.Reverse(stuck)
		for _, k := range stuck {
			c.failChain(k)
		}
	}
	c.checking = false
}

// eldest is the ancestor furthest up that waits.
func eldest(t *task) *task {
	for t.parent != nil && t.parent.blocked {
		t = t.parent
	}
	return t
}

// held is how much of a resource of a grant those ancestors of t hold that wait, up to one that does not: that goes on, and so may who waits for it.
func held(t *task, g *grant, resource int) (amount int64) {
	var seen []*worker
	for a := t.parent; a != nil && a.blocked; a = a.parent {
		if a.worker == nil || a.worker.grant != g || !a.worker.held || slices.Contains(seen, a.worker) {
			continue
		}
		seen = append(seen, a.worker)
		for _, p := range a.worker.class.need.parts {
			if p.resource == resource {
				amount += p.amount
			}
		}
	}
	return amount
}

// lackOf gives the resource of a grant that t can't have as long as its ancestors wait, and how much of
// it they hold; -1 if there is none.
func lackOf(t *task, g *grant) (resource int, amount int64) {
	for _, p := range t.class.need.parts {
		if p.resource == resCPU {
			continue
		}
		if kept := held(t, g, p.resource); kept > 0 && g.ever(p.resource)-kept < p.amount {
			return p.resource, kept
		}
	}
	return -1, 0
}

// ever is how much of a resource a grant may come to have.
func (g *grant) ever(resource int) int64 { return max(get(g.total, resource), get(g.node, resource)) }

// starved tells whether no grant can have room for t as long as its ancestors wait.
func (c *Core) starved(t *task) bool {
	if c.elsewhere(t) {
		return false
	}
	n := 0
	for _, g := range c.grants {
		if !t.class.mayUse(g) || g.tooSmall(&t.class.need) >= 0 && g.node == nil {
			continue
		}
		if r, _ := lackOf(t, g); r < 0 {
			return false
		}
		n++
	}
	return n > 0
}

// watch has what waits in a worker be looked at in a while: many that it waits for may end in a moment.
func (c *Core) watch(p *process) {
	w := p.worker
	if w != nil && !p.watched && w.blocked > 0 && (w.class.need.sticks || slices.ContainsFunc(w.waits, func(x waits) bool { return x.task.chained })) {
		c.watchAt(p, max(c.now, p.told+chainAfter))
	}
}

func (c *Core) watchAt(p *process, at int64) {
	if !p.watched {
		p.watched = true
		c.at(at, timerChain, id.Task{}, 0, p.id)
	}
}

// checkWaits looks at all that waits in a worker.
func (c *Core) checkWaits(p *process) {
	if p.worker == nil || p.worker.blocked == 0 {
		return
	}
	var waits []*task
	for t := p.worker.flight.head; t != nil; t = t.listed {
		if t.blocked {
			waits = append(waits, t)
		}
	}
	for _, t := range waits { // one that fails ends another
		if t.blocked && t.entry != nil && t.entry.task == t {
			c.checkChain(t)
		}
	}
}

// elsewhere tells whether a task may run on another node that has enough for it, be it that others use that now.
func (c *Core) elsewhere(t *task) bool {
	cl := t.class
	switch {
	case t.owner.kind == Owner:
		return false
	case slices.ContainsFunc(c.places, func(p *place) bool { return cl.mayGo(p) && cl.need.fits(p.total) }):
		return true
	case cl.group != (id.Task{}) || cl.home:
		return false
	case cl.where != "" && !cl.spreads():
		return true // more may be lent to it; where nothing ever fits, the head says so
	}
	return slices.ContainsFunc(c.others, func(has []Amount) bool {
		return !slices.ContainsFunc(cl.lease, func(a Amount) bool {
			return !slices.ContainsFunc(has, func(b Amount) bool { return b.Name == a.Name && b.Amount >= a.Amount })
		})
	})
}

// progress tells whether anything below t, which is top or below it, may still happen by itself, or comes from what is not below top.
func (c *Core) progress(t, top *task) bool {
	if c.hears(t) || c.expects(t, top) {
		return true
	}
	for k := t.child; k != nil; k = k.elder {
		switch k.state {
		case taskGiven:
			if !k.blocked || c.progress(k, top) {
				return true
			}
		case taskQueued:
			if k.kind == call {
				if m := k.actor.create; m == nil || m.state != taskQueued || !c.starved(m) {
					return true
				}
			} else if !c.starved(k) {
				return true
			}
		case taskWaiting:
			if k.rests != 0 || k.kind == create && k.actor.naming {
				return true
			}
			for i := range int(k.deps) {
				if o := c.lookup(objectAt(k.args(), i)); o != nil && comes(o, top) {
					return true
				}
			}
		}
	}
	return false
}

// comes tells whether the value of an object is on its way, or to be made by what is not below top.
func comes(o *object, top *task) bool {
	return !o.here() && (o.entry.task == nil || !below(o.entry.task, top))
}

// hears tells whether a task that waits may be about to go on with what its process was told.
func (c *Core) hears(t *task) bool {
	if !t.blocked {
		return false
	}
	at := t.worker.process.told + chainAfter
	if x := t.waitsOf(); t.cancelled || x.timed || c.opened(x) {
		return true
	}
	if c.now >= at {
		return false
	}
	if c.recheck == 0 || at < c.recheck {
		c.recheck = at
	}
	return true
}

// expects tells whether the process of a task that waits has asked for something that does not come from below it.
func (c *Core) expects(t, top *task) bool {
	if !t.blocked {
		return false
	}
	p := t.worker.process
	for h := p.held; h != nil; h = h.after {
		if h.object.waitedBy(p) && comes(h.object, top) {
			return true
		}
	}
	return false
}

func below(t, top *task) bool {
	for ; t != nil; t = t.parent {
		if t == top {
			return true
		}
	}
	return false
}

func (c *Core) failChain(t *task) {
	text := "it can never start: "
	for _, g := range c.grants {
		if r, amount := lackOf(t, g); t.class.mayUse(g) && r >= 0 {
			text += fmt.Sprintf("it needs %s, and of %s its ancestors, which wait, hold %s; ", amountOf(t.class.need.get(r), c.names[r]), amountOf(g.ever(r), c.names[r]), amountOf(amount, c.names[r]))
			break
		}
	}
	text += "the chain is " + chainOf(t) + "; ask for less, or get results before asking for more"
	if t.kind == create {
		c.endActor(t.actor, text, false)
		return
	}
	c.fail(t, codeDeadlock, text)
}

// chainOf names a task's ancestors and itself, the first one first.
func chainOf(t *task) string {
	var names []string
	for a := t; a != nil; a = a.parent {
		names = append(names, a.name())
	}
	slices.Reverse(names)
	return shorten(names)
}

func (d *demand) get(resource int) int64 {
	for _, p := range d.parts {
		if p.resource == resource {
			return p.amount
		}
	}
	return 0
}

// checkStuck fails what waits for a process when there can be no more, and all that there are wait or
// belong to actors.
func (c *Core) checkStuck() {
	if len(c.workers) < c.cfg.Processes || c.checking {
		return
	}
	blocked := 0
	for _, w := range c.workers {
		switch {
		case slices.ContainsFunc(w.waits, func(x waits) bool { return x.task.cancelled || x.timed || c.opened(&x) }):
			return // one goes on
		case w.blocked > 0:
			blocked++
		case w.actor == nil, w.flight.n > 0, w.process == nil, w.shutting:
			return // something is going on
		}
	}
	if blocked == 0 || slices.ContainsFunc(c.hosts, func(h *host) bool { return h.tasks.flight.n > 0 }) {
		return // or what is at other nodes goes on
	}
	c.checking = true
	for _, j := range c.jobs {
		for _, cl := range j.active {
			for t := cl.queue.head; t != nil; {
				next := t.listed
				if t.parent != nil && t.parent.blocked && t.kind == plain && !c.elsewhere(t) {
					c.fail(t, codeDeadlock, fmt.Sprintf("it can never start: the node may have %d workers, and all of them wait or are actors; the chain is %s; recurse less deeply, or let the node have more", c.cfg.Processes, chainOf(t)))
				}
				t = next
			}
		}
	}
	c.checking = false
}
