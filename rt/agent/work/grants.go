package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Indices of the resources that mean something here. All others are counted and no more.
const (
	resCPU = iota
	resGPU
	resMemory
)

// one is one CPU or one GPU.
const one = 10_000

// grant is what may be used, of the node or of one bundle of a group.
type grant struct {
	group   id.Task
	bundle  int32
	open    bool    // for tasks of no group,
	where   string  // that are to run there
	back    bool    // it was recalled: nothing new starts on it
	kept    int64   // CPUs that were recalled, and are in use
	lease   bool    // another agent has it for tasks of no group
	total   []int64 // by index of the resource
	node    []int64 // the same, of all that may come
	free    []int64 // less than zero: processes woke up from waiting and run beside others
	sticky  []int64 // of what is leased: held by actors and by workers that wait
	devices []device
}

type device struct {
	id    string
	total int64 // of it
	free  int64
	whole bool // it is for who needs whole ones
}

// demand is what a class needs.
type demand struct {
	parts  []part // sorted by resource
	cpu    int64
	gpu    int64
	sticks bool // it needs what waiting does not give back
	named  bool // CPUs were asked for, be it none
}

type part struct {
	resource int
	amount   int64
}

// index gives the number of a resource's name.
func (c *Core) index(name string) int {
	if i := slices.Index(c.names, name); i >= 0 {
		return i
	}
	c.names = append(c.names, name)
	return len(c.names) - 1
}

func (c *Core) demand(resources []*fb.ResourceT) demand {
	var d demand
	for _, r := range resources {
		i := c.index(r.Name)
		if i == resCPU {
			d.named = true
		}
		if r.Amount == 0 {
			continue
		}
		at := slices.IndexFunc(d.parts, func(p part) bool { return p.resource == i })
		if at < 0 {
			d.parts = append(d.parts, part{i, r.Amount})
		} else {
			d.parts[at].amount = addUp(d.parts[at].amount, r.Amount)
		}
	}
	slices.SortFunc(d.parts, func(a, b part) int { return a.resource - b.resource })
	for _, p := range d.parts {
		switch p.resource {
		case resCPU:
			d.cpu = p.amount
		case resGPU:
			d.gpu = p.amount
			d.sticks = true
		default:
			d.sticks = true
		}
	}
	return d
}

// addUp adds and saturates.
func addUp(a, b int64) int64 {
	if a > never-b {
		return never
	}
	return a + b
}

func get(v []int64, i int) int64 {
	if i < len(v) {
		return v[i]
	}
	return 0
}

func add(v []int64, i int, n int64) []int64 {
	for len(v) <= i {
		v = append(v, 0)
	}
	v[i] += n
	return v
}

// onGrant takes what may be used from now on. What leases hold stays theirs, unless it was taken; if less was
// granted, it is free again only when they end.
func (c *Core) onGrant(ev Grant) {
	c.restless = true
	c.kinAt++
	if ev.Gone {
		c.endGroup(ev.Group)
		return
	}
	if ev.Recalled {
		for _, g := range c.grants {
			g.back = g.back || g.group == ev.Group
		}
		return
	}
	at := slices.IndexFunc(c.grants, func(g *grant) bool { return g.group == ev.Group && g.bundle == ev.Bundle })
	if len(ev.Resources) == 0 {
		if at >= 0 {
			g := c.grants[at]
			c.grants = slices.Delete(c.grants, at, at+1)
			c.usesChanged = c.usesChanged || g.lease
			if ev.Lost {
				c.vacate(g)
			} else {
				c.evict(g)
			}
			c.watchLeft(ev.Group)
		}
		return
	}
	if at < 0 {
		at = len(c.grants)
		c.grants = append(c.grants, &grant{group: ev.Group, bundle: ev.Bundle})
	}
	g := c.grants[at]
	g.open, g.where, g.kept = ev.Open, ev.Where, 0
	for _, r := range ev.Kept {
		if c.index(r.Name) == resCPU {
			g.kept += r.Amount
		}
	}
	total := make([]int64, len(c.names))
	for _, r := range ev.Resources {
		total = add(total, c.index(r.Name), r.Amount)
	}
	for i := range max(len(total), len(g.total)) {
		g.free = add(g.free, i, get(total, i)-get(g.total, i))
	}
	g.total, g.node = total, nil
	for _, r := range ev.Node {
		g.node = add(g.node, c.index(r.Name), r.Amount)
	}
	old := g.devices
	g.devices = nil
	for i, name := range ev.Devices {
		d := device{id: name, total: one}
		if len(ev.Shares) > i {
			if d.total = ev.Shares[i]; d.total == 0 {
				d.total, d.whole = one, true
			}
		}
		d.free = d.total
		if k := slices.IndexFunc(old, func(o device) bool { return o.id == name }); k >= 0 {
			d.free += old[k].free - old[k].total
		} else {
			for _, w := range c.workers { // a device that went and came back while it was used
				if w.held && w.grant == g && slices.Contains(w.devices, name) {
					d.free -= w.share()
				}
			}
		}
		g.devices = append(g.devices, d)
	}
	if ev.Taken {
		c.takeBack(g)
	}
}

// takeBack ends what runs on devices that were taken away, and then the workers that came last until the others fit.
func (c *Core) takeBack(g *grant) {
	over := make([]int64, len(g.free))
	for i, n := range g.free {
		over[i] = -n
	}
	overOf := map[string]int64{} // the same, of each device
	for _, d := range g.devices {
		overOf[d.id] = -d.free
	}
	for _, last := range []bool{false, true} {
		for i := len(c.workers) - 1; i >= 0; i-- {
			w := c.workers[i]
			if !w.held || w.grant != g || last && w.killed != "" {
				continue
			}
			ends := w.killed != "" || slices.ContainsFunc(w.devices, func(name string) bool {
				return overOf[name] > 0 || !slices.ContainsFunc(g.devices, func(d device) bool { return d.id == name })
			})
			parts := slices.DeleteFunc(slices.Clone(w.class.need.parts), func(p part) bool { return p.resource == resCPU && w.lent })
			for _, p := range parts {
				ends = ends || last && over[p.resource] > 0
			}
			if !ends {
				continue
			}
			for _, p := range parts {
				over[p.resource] -= p.amount
			}
			for _, name := range w.devices {
				overOf[name] -= w.share()
			}
			if w.killed == "" {
				c.kill(w, "what it ran on was taken back from this node's tasks")
			}
		}
	}
}

// vacate ends what runs on a bundle whose group is placed anew, so that it is tried again there.
func (c *Core) vacate(g *grant) {
	for _, w := range slices.Clone(c.workers) {
		if w.held && w.grant == g && w.killed == "" {
			w.moved = true
			if w.actor != nil {
				w.actor.moved = true
			}
			c.kill(w, "the group that it ran in lost a node and is placed anew")
		}
	}
}

// evict ends what runs on a grant that was taken back.
func (c *Core) evict(g *grant) {
	for _, w := range slices.Clone(c.workers) {
		if w.held && w.grant == g {
			if w.kin && g.lease {
				c.kill(w, "the CPU on which it ran was taken back from the task that lent it")
			} else if w.actor != nil {
				c.endActor(w.actor, "the group that it lived in was removed", true)
			} else {
				w.evicted = true
				c.kill(w, "the group that it ran in was removed")
			}
		}
	}
	if g.group != (id.Task{}) {
		c.failGroup(g.group)
	}
}

// watchLeft has a group's places told of which the last bundle that tasks here may use went: its tasks may be under way from
// another agent, and wait for what never comes again.
func (c *Core) watchLeft(group id.Task) {
	for _, j := range c.jobs {
		for _, cl := range j.grouped {
			if cl.group == group && c.grantsOf(cl) == 0 && !slices.ContainsFunc(c.places, cl.mayGo) {
				c.out = append(c.out, Effect{Do: Watch, Group: group})
				return
			}
		}
	}
}

// failGroup fails what waits for a group of which it may use no bundle any more.
func (c *Core) failGroup(group id.Task) {
	for _, j := range slices.Clone(c.jobs) { // one may end with its last actor
		for _, cl := range slices.Clone(j.active) {
			if cl.group != group || c.grantsOf(cl) > 0 {
				continue
			}
			for t := cl.queue.head; t != nil; t = cl.queue.head {
				c.removed(t)
			}
		}
	}
}

// endGroup takes a group back for good, be it that nothing of it was ever granted.
func (c *Core) endGroup(group id.Task) {
	if len(c.ended) == endedKept {
		c.ended = slices.Delete(c.ended, 0, 1)
	}
	c.ended = append(c.ended, group)
	for _, j := range c.jobs {
		j.grouped = slices.DeleteFunc(j.grouped, func(cl *class) bool {
			cl.over = cl.group == group
			return cl.over
		})
	}
	for i := len(c.grants) - 1; i >= 0; i-- {
		if g := c.grants[i]; g.group == group {
			c.grants = slices.Delete(c.grants, i, i+1)
			c.usesChanged = c.usesChanged || g.lease
			c.evict(g)
		}
	}
	c.failGroup(group)
}

// over tells whether the group of a class is gone.
func (c *Core) over(cl *class) bool {
	return cl.over || cl.group != (id.Task{}) && slices.Contains(c.ended, cl.group)
}

// removed fails a task whose group is gone.
func (c *Core) removed(t *task) {
	code := codeGroupRemoved
	if t.kind == create {
		code = codeActorGroup
	}
	c.unschedulable(t, code, "the group that it was to run in was removed")
}

// onGrants tells whether a class may use a grant.
func (cl *class) mayUse(g *grant) bool {
	if g.open {
		return cl.group == (id.Task{}) && !cl.home && (cl.where == g.where && !cl.wishing() || cl.meets(g.where))
	}
	if cl.wishing() {
		return false
	}
	if cl.where != "" && !cl.spreads() && g.group == (id.Task{}) {
		return false
	}
	return g.group == cl.group && (g.group == (id.Task{}) || cl.table.Bundle < 0 || cl.table.Bundle == g.bundle)
}

func (c *Core) grantsOf(cl *class) (n int) {
	for _, g := range c.grants {
		if cl.mayUse(g) {
			n++
		}
	}
	return n
}

// lacks gives the first resource of which a grant has too little free for a class, -1 if none (WORK-10:
// explain asks here, too). What the agent that has a lease sends to it had room there when it was sent.
func (g *grant) lacks(cl *class) int {
	for _, p := range cl.need.parts {
		if get(g.free, p.resource) < p.amount && !(p.resource == resCPU && g.lease && cl.group == g.group) {
			return p.resource
		}
	}
	if cl.need.gpu > 0 && !g.hasDevices(cl.need.gpu) {
		return resGPU
	}
	return -1
}

// tooSmall gives the first resource of which a grant could never have enough, -1 if none.
func (g *grant) tooSmall(d *demand) int {
	for _, p := range d.parts {
		if get(g.total, p.resource) < p.amount {
			return p.resource
		}
	}
	return -1
}

// hasDevices tells whether there are devices for an amount: one with such a part free, or as many whole ones.
func (g *grant) hasDevices(amount int64) bool {
	if len(g.devices) == 0 {
		return true // devices without identity: counted only
	}
	whole := int64(0)
	for _, d := range g.devices {
		if amount < one && !d.whole && d.free >= amount {
			return true
		}
		if d.free == one {
			whole++
		}
	}
	return amount >= one && whole*one >= amount
}

// pick takes devices for an amount: a part of the fullest that has it, or whole ones in their order.
func (g *grant) pick(amount int64) []string {
	if amount == 0 || len(g.devices) == 0 {
		return nil
	}
	if amount < one {
		best := -1
		for i, d := range g.devices {
			if !d.whole && d.free >= amount && (best < 0 || d.free < g.devices[best].free) {
				best = i
			}
		}
		g.devices[best].free -= amount
		return []string{g.devices[best].id}
	}
	var out []string
	for i := range g.devices {
		if d := &g.devices[i]; d.free == one && int64(len(out))*one < amount {
			d.free = 0
			out = append(out, d.id)
		}
	}
	return out
}

// lease gives a worker what its class needs of a grant.
func (c *Core) lease(w *worker, cl *class, g *grant, devices []string, kin bool) {
	w.class, w.grant, w.held, w.devices, w.fresh, w.kin = cl, g, true, devices, true, kin
	g.lease = g.lease || cl.table.Lent
	c.usesChanged = c.usesChanged || g.lease
	cl.job.served = c.now
	c.owe(w, resAll, 1)
	for _, p := range cl.need.parts {
		g.free = add(g.free, p.resource, -p.amount)
	}
}

// share is the part of each of its devices that a worker has.
func (w *worker) share() int64 { return min(w.class.need.gpu, one) }

// release gives back what a worker held.
func (c *Core) release(w *worker) {
	if !w.held {
		return
	}
	if w.lent {
		c.takeCPU(w)
	}
	g := w.grant
	if w.actor != nil {
		c.stick(w, -1)
	}
	c.owe(w, resAll, -1)
	for _, p := range w.class.need.parts {
		g.free = add(g.free, p.resource, p.amount)
	}
	for i := range g.devices {
		if slices.Contains(w.devices, g.devices[i].id) {
			g.devices[i].free += w.share()
		}
	}
	w.held = false
	c.restless = true
	c.usesChanged = c.usesChanged || g.lease
}

// stick counts what a worker holds for as long as it lives, or waits.
func (c *Core) stick(w *worker, sign int64) {
	for _, p := range w.class.need.parts {
		w.grant.sticky = add(w.grant.sticky, p.resource, sign*p.amount)
	}
}

// lendCPU frees the CPUs of a worker that waits. What else it holds it keeps.
func (c *Core) lendCPU(w *worker) {
	if w.lent || !w.held {
		return
	}
	w.lent = true
	if w.actor == nil {
		c.stick(w, 1)
	}
	w.grant.free = add(w.grant.free, resCPU, w.class.need.cpu)
	c.owe(w, resCPU, -1)
	c.lenders++
	c.restless, c.usesChanged = true, c.usesChanged || w.grant.lease
}

// takeCPU takes them again, at once, be they free or not.
func (c *Core) takeCPU(w *worker) {
	if !w.lent {
		return
	}
	w.lent = false
	if w.actor == nil {
		c.stick(w, -1)
	}
	w.grant.free = add(w.grant.free, resCPU, -w.class.need.cpu)
	c.owe(w, resCPU, 1)
	c.lenders--
	c.usesChanged = c.usesChanged || w.grant.lease
}
