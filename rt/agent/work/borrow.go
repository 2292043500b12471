package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A reference that came from an agent which does not own the object is borrowed: it would be lost with that agent, and keeps the object there. So this
// one has the owner, which the object's name tells, list it as a holder, by the way between the two that belongs to no job. Once
// that has said that it does, the reference comes from there, and what brought it is given back. As long as calls or bytes are on
// their way by the old home, both have it.

// borrowAfter is how long a reference lasts that a task brought before its owner is asked: most are gone by then, and the rest of them go with the
// task's job.
const borrowAfter = int64(200 * time.Millisecond)

// owner is the agent whose process made an object, or submitted the task that gives it.
func (o *object) owner() id.Agent { return o.entry.id.Agent }

// borrowed tells whether an object is here because one sent it that does not own it.
func (c *Core) borrowed(o *object) bool {
	return o.foreign && o.owner() != c.cfg.Agent && o.owner() != c.home(o).agent
}

// borrow has the owner of an object asked that has just come from another agent.
func (c *Core) borrow(o *object) {
	if p := c.home(o); c.borrowed(o) && p.kind == Host {
		c.at(c.now, timerBorrow, o.entry.id, o.index, p.id)
	} else if c.borrowed(o) {
		c.at(c.now+borrowAfter, timerBorrow, o.entry.id, o.index, p.id)
	}
}

// enlist asks the owner of an object to list this agent, if that came from who and is borrowed still.
func (c *Core) enlist(o *object, who id.Process) {
	if l := c.lent[o]; c.borrowed(o) && l.home.id == who && !l.listing {
		l.listing = true
		c.askListing(o.id())
	}
}

func (c *Core) askListing(name id.Object) {
	h := c.wayTo(name.Task.Agent, fmt.Sprintf("of agent %d", name.Task.Agent))
	if h.process == nil || h.process.closing {
		h.lists = append(h.lists, name)
		return
	}
	c.sendListing(h.process, name)
}

func (c *Core) sendListing(p *process, name id.Object) {
	p.listings = append(p.listings, name)
	wire.PutGet(c.start(p, fb.FrameTypeGet, wire.GetSize, 0), &fb.GetT{Object: &fb.ObjectIDT{Task: taskT(name.Task), Index: name.Index}, Want: fb.WantListing})
}

// list takes in that another agent wants to be listed as a holder of an object, and tells whether it is. That counts as one delivery.
func (c *Core) list(p *process, name id.Object) {
	m := fb.ReadyT{Object: &fb.ObjectIDT{Task: taskT(name.Task), Index: name.Index}, State: fb.ObjectStateUnlisted}
	// Of one that is lost another agent may have the value; and of one that came back from another agent after this one had forgotten it that may be by way of who asks.
	if o := c.lookup(name); o != nil && !o.has(markLost) && (!o.foreign || o.state == objectAway) {
		c.deliver(p, name)
		m.State = fb.ObjectStateListed
		if o.state == objectThere || o.state == objectAway {
			m.Size = c.size(o)
		}
	}
	if !p.gone {
		b := c.start(p, fb.FrameTypeReady, wire.ReadySize, 0)
		wire.PutReady(b, &m)
	}
}

// onListed: the owner of an object has said whether it lists this agent. Owners answer in the order in which they are asked.
func (c *Core) onListed(p *process, m *fb.ReadyT) {
	if len(p.listings) == 0 || p.listings[0] != objectOf(m.Object) {
		c.refuse(p, "answered a question that was not asked")
		return
	}
	name := p.listings[0]
	p.listings = p.listings[1:]
	o := c.lookup(name)
	if m.State == fb.ObjectStateUnlisted { // it has it no more, but who sent it may
		if l := c.lent[o]; l != nil {
			l.listing = false
		}
		c.adrift(o, codeLost, "node "+p.node+", its owner, has it no more", "")
		return
	}
	if o != nil && o.has(markLost) {
		c.regain(p, o)
	}
	switch l := c.lent[o]; {
	case l == nil || l.spare != nil || l.home != p && l.home.agent == p.agent:
		c.releaseTo(p, name, 1) // nobody needs it any more, or it is here by another way
	case l.home == p:
		l.owed++
	default:
		if m.Size == 0 { // it has the value no more, or not yet
			l.stays = true // what is on its way here from the old home, too
			if c.secure(o); o.waiting != nil {
				c.ask(o)
			}
		}
		l.spare, l.spareAt = p, len(p.spares)
		p.spares = append(p.spares, o)
		c.move(o)
	}
}

// unspare takes the owner of an object from its place beside the home, and gives it.
func (c *Core) unspare(o *object) *process {
	l := c.lent[o]
	p := l.spare
	if p == nil {
		return nil
	}
	last := len(p.spares) - 1
	p.spares[l.spareAt] = p.spares[last]
	c.lent[p.spares[l.spareAt]].spareAt = l.spareAt
	p.spares[last] = nil
	p.spares, l.spare = p.spares[:last], nil
	return p
}

// move has an object come from its owner alone from now on, if nothing is on its way from where it came before.
func (c *Core) move(o *object) {
	l := c.lent[o]
	if l == nil || l.spare == nil || l.home.fetching(o.id()) != nil || slices.Contains(l.home.lent, o.id()) {
		return
	}
	if a := o.entry.actor; a != nil && o.index == 0 && !o.hosted() { // calls of one that lives here go no other way
		if !a.quiet() {
			return
		}
		c.endProxy(a)
	}
	c.relend(o, c.unspare(o))
}

// relend gives an object back to where it came from, and has it come from its owner, which has delivered it once.
func (c *Core) relend(o *object, p *process) {
	there, copied := c.lent[o].there, o.has(markCopy)
	o.set(markCopy, false) // it is one of the owner's, then
	c.unlend(o)
	c.lend(p, o)
	c.lent[o].there = there // who waits for it has been told
	o.set(markCopy, copied)
	p.lent = p.lent[:len(p.lent)-1] // no frame of its brought it
	c.lent[o].owed = 1
	if o.waiting != nil {
		c.ask(o)
	}
	c.drop(o) // it may be here for nobody but its owner
}

// quiet tells whether no call is on its way to an actor of another agent, so that those to come may take another way.
func (a *actor) quiet() bool {
	return a.proxy && a.worker.flight.n == 0 && !slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.n > 0 })
}

// adrift loses an object, if the agent is gone by which it came, and that its owner had it was the last hope.
func (c *Core) adrift(o *object, code, why, advice string) {
	if o != nil && o.has(markLost) && !o.foreign && o.state == objectPending {
		c.lose(o, code, why+", and the node by way of which it came is gone"+advice)
	}
}

// unanswered: the way to the owner of objects is lost before that has said whether it lists this agent.
func (c *Core) unanswered(p *process, why string) {
	for _, name := range p.listings {
		o := c.lookup(name)
		if l := c.lent[o]; l != nil {
			l.listing = false
		}
		c.adrift(o, codeOwner, "node "+p.node+", its owner, which put it or submitted its task, can't be reached: "+why, outlives)
	}
	p.listings = nil
}

// sparesGone: the way to the owner of objects is lost; they come by their old home only.
func (c *Core) sparesGone(p *process) {
	for len(p.spares) > 0 {
		o := p.spares[len(p.spares)-1]
		c.unspare(o)
		c.lent[o].listing = false // it lists nothing for this agent any more
	}
}

// spared has the handle of an actor come from its owner, as the agent is gone by which it came, with the calls that are not on their way. false: its
// owner does not list this agent.
func (c *Core) spared(a *actor, why string) bool {
	o := a.entry.first
	if a.entry.actor != a || o == nil || c.lent[o] == nil || c.lent[o].spare == nil {
		return false
	}
	a.phase, a.code, a.reason = fb.ActorPhaseDead, codeActorAway, why
	a.entry.actor = nil
	c.relend(o, c.unspare(o))
	c.proxy(a.entry)
	c.wayLost(a, true, why, "the way to actor "+a.title()+" was lost ("+why+"); the call may have run")
	for _, l := range slices.Clone(a.lanes) {
		for t := l.queue.head; t != nil; t = l.queue.head {
			c.redirect(t)
		}
	}
	return true
}
