package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A task that waits lends its CPUs. Where nothing new may start they are for its kin: its descendants, and what it has asked for, so that it can go on. That is on what
// was recalled, which would not go back before it ends anyway, and on what another agent has of this node. That one sends no more than it knows to fit, so it is told
// what waits there of what it sent, and what runs there that it did not send; it gives nothing back on which something is.

// maxKin is how many of those that wait for results of queued tasks are looked at to find kin.
const maxKin = 100_000

// lendAfter is for how long something waits before the agent that sent it may send something else.
const lendAfter = int64(50 * time.Millisecond)

// kinOnly tells whether what those that wait have lent of a grant is for kin of theirs of a class, and for no other of its tasks.
func (g *grant) kinOnly(cl *class) bool {
	switch {
	case g.lease:
		only := len(cl.need.parts) == 1 // of anything else its agent would have to know
		return only && cl.group == (id.Task{}) && !cl.wishing() && (cl.where == "" || cl.spreads())
	case g.back || g.kept > 0:
		return cl.mayUse(g)
	}
	return false
}

// lends is how much of a grant's CPUs those that wait have lent and no kin of theirs uses. Kin that waits in turn passes on what was lent to it, and
// has it for its own when who lent it is over.
func (c *Core) lends(g *grant) (n int64) {
	for _, w := range c.workers {
		if !w.held || w.grant != g || !w.lent && !w.kin {
			continue
		}
		switch owes := w.kin && c.owesCPU(w); {
		case w.lent && !owes:
			n += w.class.need.cpu
		case !w.lent && owes:
			n -= w.class.need.cpu
		}
	}
	return n
}

// owesCPU tells whether somebody waits who has lent a worker its CPUs.
func (c *Core) owesCPU(w *worker) bool {
	t, steps := w.flight.head, maxKin
	if w.actor != nil {
		t = w.actor.create
	}
	return t == nil || c.kinTo(t, func(g *grant) bool { return g == w.grant }, &steps) != nil
}

// kinRoom is how much of a grant's CPUs there is for kin of those that wait there.
func (c *Core) kinRoom(g *grant) int64 { return min(get(g.free, resCPU)+g.kept, c.lends(g)) }

// takesKin tells whether a grant has room for one more task of a class that is kin of one that waits there.
func (c *Core) takesKin(cl *class, g *grant) bool {
	if cl.need.cpu == 0 || !g.kinOnly(cl) || c.kinRoom(g) < cl.need.cpu {
		return false
	}
	return g.hasDevices(cl.need.gpu) && !slices.ContainsFunc(cl.need.parts, func(p part) bool { return p.resource != resCPU && get(g.free, p.resource) < p.amount })
}

// kinOf finds the next task of a class that is kin of one which waits on such a grant, and the grant.
func (c *Core) kinOf(cl *class, on func(*grant) bool) (*task, *grant) {
	steps := maxKin
	for t := cl.queue.head; t != nil; t = t.listed {
		if g := c.kinTo(t, on, &steps); g != nil {
			return t, g
		}
	}
	return nil, nil
}

// kinTo finds a grant on which an ancestor of a task waits, or one that has asked for a result of it, or of what waits for that in turn.
func (c *Core) kinTo(t *task, on func(*grant) bool, steps *int) *grant {
	for a := t.parent; a != nil; a = a.parent {
		if w := a.worker; a.blocked && w != nil && w.held && w.lent && on(w.grant) {
			return w.grant
		}
	}
	for i := range t.count() {
		o := t.entry.object(i)
		if o == nil || o.waiting == nil {
			continue
		}
		for x := o.waiting.next; *steps > 0; x = x.next {
			*steps--
			if x.process != nil && x.process.worker != nil {
				if w := x.process.worker; w.held && w.lent && on(w.grant) {
					return w.grant
				}
			}
			if x.task != nil {
				if g := c.kinTo(x.task, on, steps); g != nil {
					return g
				}
			}
			if x == o.waiting {
				break
			}
		}
	}
	return nil
}

// seekKin has queues looked through once a task that was queued may be kin of one that waits.
func (c *Core) seekKin(t *task) {
	if c.lenders > 0 && (t.parent != nil || t.entry.first != nil && t.entry.first.waiting != nil || len(t.entry.others()) > 0) {
		c.kinAt++
	}
}

// startKin leases, for a task of a class whose next one finds no room, what its kin lend where nothing else may start. A queue without
// any is not looked through again before one may have come.
func (c *Core) startKin(cl *class) bool {
	if c.lenders == 0 || cl.noKin == c.kinAt || !slices.ContainsFunc(c.grants, func(g *grant) bool { return c.takesKin(cl, g) }) {
		return false
	}
	some := false
	t, g := c.kinOf(cl, func(g *grant) bool {
		some = some || g.kinOnly(cl)
		return c.takesKin(cl, g)
	})
	if !some {
		cl.noKin = c.kinAt
	}
	return t != nil && c.startOn(t, g, true)
}

// explainKin says what keeps a task from starting on what an ancestor of its has lent where nothing else starts; "": there is nothing of that.
func (c *Core) explainKin(t *task) string {
	for a := t.parent; a != nil && t.class.need.cpu > 0; a = a.parent {
		if w := a.worker; a.blocked && w != nil && w.held && w.lent && w.grant.kinOnly(t.class) && !c.takesKin(t.class, w.grant) {
			return fmt.Sprintf("%s: of what %s and others lend while they wait %s are free", amountOf(t.class.need.cpu, "CPU"), a.name(), placement.Amount(max(c.kinRoom(w.grant), 0)))
		}
	}
	return ""
}

// nextOf is the task that a worker with a lease would be given next.
func (c *Core) nextOf(w *worker) *task {
	if !w.kin {
		return w.class.queue.head
	}
	t, _ := c.kinOf(w.class, func(g *grant) bool { return g == w.grant })
	return t
}

// ceases tells whether a worker is to get no further task that needs what it has: that was recalled, or more of it is used than there is.
func (c *Core) ceases(w *worker) bool {
	switch {
	case w.kin:
		return c.kinRoom(w.grant) < 0
	case w.grant.lease && w.fresh: // it was sent
		return false
	case c.closed(w.grant):
		return true
	}
	return w.grant.overdrawn(&w.class.need)
}

// leaseUse is what the count of another agent does not know of a lease that it has on this agent's node.
type leaseUse struct {
	grant *grant
	cpu   int64  // of what it sent and waits, less what runs that it did not send
	tasks uint32 // which are here
	since int64  // more waits since than it was told
}

// usesOf counts what there is to tell the owner of a job of its leases here.
func (c *Core) usesOf(j *job) (list []leaseUse) {
	for _, w := range c.workers {
		if w.job != j || !w.held || !w.grant.lease || !w.kin && !w.lent || !slices.Contains(c.grants, w.grant) {
			continue
		}
		i := slices.IndexFunc(list, func(u leaseUse) bool { return u.grant == w.grant })
		if i < 0 {
			i = len(list)
			list = append(list, leaseUse{grant: w.grant})
		}
		u := &list[i]
		switch {
		case !w.kin:
			u.cpu += w.class.need.cpu
		case !w.lent:
			u.cpu -= w.class.need.cpu
			fallthrough
		default:
			u.tasks++
		}
	}
	return list
}

// useOf finds what is said of a lease.
func useOf(list []leaseUse, g *grant) leaseUse {
	if i := slices.IndexFunc(list, func(u leaseUse) bool { return u.grant == g }); i >= 0 {
		return list[i]
	}
	return leaseUse{grant: g}
}

// tellUses tells other agents what has changed of the leases that they have on this node. That something waits they hear
// when it has for a moment: mostly it goes on before anything else could come.
func (c *Core) tellUses() {
	if !c.usesChanged {
		return
	}
	c.usesChanged = false
	for _, p := range c.processes {
		if p.kind != Owner {
			continue
		}
		uses := c.usesOf(p.job)
		for i := range uses {
			u, was := &uses[i], useOf(p.uses, uses[i].grant)
			if most := max(was.cpu, 0); u.cpu > most {
				if u.since = was.since; u.since == 0 {
					u.since = c.now
				}
				if c.now < u.since+lendAfter {
					u.cpu, c.usesChanged = most, true
					c.later(u.since + lendAfter)
				} else {
					u.since = 0
				}
			}
			if u.cpu != was.cpu || u.tasks != was.tasks {
				c.tellUse(p, *u)
			}
		}
		for _, was := range p.uses {
			over := !slices.ContainsFunc(uses, func(u leaseUse) bool { return u.grant == was.grant })
			if over && (was.cpu != 0 || was.tasks != 0) {
				c.tellUse(p, leaseUse{grant: was.grant})
			}
		}
		p.uses = uses
	}
}

func (c *Core) tellUse(p *process, u leaseUse) {
	c.table(p, &fb.LeaseUseT{Group: taskT(u.grant.group), Bundle: u.grant.bundle, Cpu: u.cpu, Tasks: u.tasks}, 0, nil)
}

// hostUse is the same at the agent that has the lease.
type hostUse struct {
	host  *host
	cpu   int64
	tasks uint32
}

// hostUses takes in what another agent says of a lease that this one has there.
func (c *Core) hostUses(p *process, m *fb.LeaseUseT) {
	h := c.hostOfProcess(p)
	i := slices.IndexFunc(c.places, func(k *place) bool { return k.agent == p.agent && k.group == taskOf(m.Group) && k.bundle == m.Bundle })
	if h == nil || i < 0 {
		c.strays++
		return
	}
	c.places[i].note(hostUse{h, m.Cpu, m.Tasks})
	c.restless = true
}

// note takes what a host says of a place instead of what it said before.
func (p *place) note(u hostUse) {
	if i := slices.IndexFunc(p.uses, func(k hostUse) bool { return k.host == u.host }); i >= 0 {
		p.free = add(p.free, resCPU, -p.uses[i].cpu)
		p.uses = slices.Delete(p.uses, i, i+1)
	}
	if u.cpu != 0 || u.tasks != 0 {
		p.free = add(p.free, resCPU, u.cpu)
		p.uses = append(p.uses, u)
	}
}

// others is how many tasks run or wait at a place that this agent did not send there.
func (p *place) others() (n int) {
	for _, u := range p.uses {
		n += int(u.tasks)
	}
	return n
}
