package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// check recounts all that a core counts, and tells what does not agree.
func check(c *Core) error {
	if len(c.dying)+len(c.failing)+len(c.sought)+len(c.touched)+len(c.pumping)+len(c.dirty) > 0 {
		return fmt.Errorf("the turn left work: %d dying, %d failing, %d touched, %d to pump", len(c.dying), len(c.failing), len(c.touched), len(c.pumping))
	}
	if err := checkObjects(c); err != nil {
		return err
	}
	if err := checkTasks(c); err != nil {
		return err
	}
	if err := checkPlaces(c); err != nil {
		return err
	}
	if err := checkSpares(c); err != nil {
		return err
	}
	if err := checkPiles(c); err != nil {
		return err
	}
	if err := checkShares(c); err != nil {
		return err
	}
	if err := checkCache(c); err != nil {
		return err
	}
	if err := checkClasses(c); err != nil {
		return err
	}
	return checkGrants(c)
}

// checkClasses: a class that no process says is known to a worker only as long as it has a lease or a task of it, or is an actor of it.
func checkClasses(c *Core) error {
	for _, w := range c.workers {
		if w.process == nil || w.process.gone || w.shutting || w.killed != "" {
			continue
		}
		for cl := range w.shapes {
			if own := w.class == cl && (w.held || w.actor != nil); cl.said == 0 && !own && !slices.ContainsFunc(w.flight.all(), func(t *task) bool { return t.class == cl }) {
				return fmt.Errorf("WORK-15: worker %d knows class %d, which is over", w.process.id, cl.number)
			}
		}
	}
	return nil
}

// checkShares: what each job has of what all share adds up.
func checkShares(c *Core) error {
	held := map[*job][]int64{}
	count := func(j *job, d *demand, lent bool) {
		for _, p := range d.parts {
			if p.resource != resCPU || !lent {
				held[j] = add(held[j], p.resource, p.amount)
			}
		}
	}
	for _, w := range c.workers {
		if w.held && (w.grant.group == (id.Task{}) || w.grant.open) {
			count(w.job, &w.class.need, w.lent)
		}
	}
	for _, h := range c.hosts {
		for _, w := range h.actors {
			if w.place.open {
				count(h.job, w.need, false)
			}
		}
		for _, t := range tasksOf(h) {
			if t.place != nil && t.place.open {
				count(h.job, &t.class.need, false)
			}
		}
	}
	for _, j := range c.jobs {
		for i := range c.names {
			if get(held[j], i) != get(j.held, i) {
				return fmt.Errorf("WORK-6: job %d has %d of %s, counts %d", j.number, get(held[j], i), c.names[i], get(j.held, i))
			}
		}
	}
	return nil
}

// checkPiles: what lies on piles is in order, counted, known by nothing else, and there only behind a queue that is deep.
func checkPiles(c *Core) error {
	bytes := 0
	for _, p := range c.processes {
		for _, x := range p.piles {
			n, last := 0, uint64(0)
			for _, b := range x.blocks {
				bytes += cap(b.frames)
				here := 0
				for _, k := range b.tasks {
					name := id.Task{Agent: c.cfg.Agent, Process: p.id, Counter: k.counter}
					if k.counter <= last {
						return fmt.Errorf("task %v lies on a pile behind %d", name, last)
					}
					if last = k.counter; k.gone {
						continue
					}
					if here++; c.entries[name] != nil {
						return fmt.Errorf("task %v lies on a pile and is an entry", name)
					}
				}
				if n += here; here != b.n || here == 0 {
					return fmt.Errorf("%d tasks of a pile's block are here, counts %d", here, b.n)
				}
			}
			if n != x.n || n > 0 && x.class.queue.n < c.cfg.Deep {
				return fmt.Errorf("%d tasks lie on a pile, counts %d, behind %d of %d", n, x.n, x.class.queue.n, c.cfg.Deep)
			}
		}
	}
	if bytes != c.piled {
		return fmt.Errorf("piles have %d bytes, counts %d", bytes, c.piled)
	}
	return nil
}

func tasksOf(h *host) (list []*task) {
	if h.tasks != nil {
		for t := h.tasks.flight.head; t != nil; t = t.listed {
			list = append(list, t)
		}
	}
	return list
}

func checkObjects(c *Core) error {
	pins, kin := map[*object]uint32{}, map[*object]uint32{}
	pin := func(name id.Object) error {
		o := c.lookup(name)
		if o == nil {
			return fmt.Errorf("REF-1: object %v is needed and gone", name)
		}
		pins[o]++
		return nil
	}
	objects, holders, waiters := 0, 0, 0
	for name, e := range c.entries {
		if e.id != name || e.live == 0 && e.task == nil && e.actor == nil {
			return fmt.Errorf("entry %v is empty", name)
		}
		live := 0
		for i := range len(e.others()) + 1 {
			o := e.object(uint32(i))
			if o == nil {
				continue
			}
			live++
			if o.entry != e || int(o.index) != i {
				return fmt.Errorf("object %v[%d] does not know its place", name, i)
			}
			if o.here() && o.waiting != nil && !o.has(markComing) {
				return fmt.Errorf("object %v[%d] is there and waited for", name, i)
			}
			if err := checkWhere(c, o); err != nil {
				return err
			}
			if o.value != nil {
				m, payload := c.readResult(o.value)
				for k := range int(m.Refs) {
					if err := pin(objectAt(payload, k)); err != nil {
						return err
					}
				}
			}
			for h := o.holders; h != nil; h = h.next {
				holders++
				if h.process.gone {
					return fmt.Errorf("REF-4: process %d is gone and holds %v[%d]", h.process.id, name, i)
				}
				if h.object != o || !h.made && h.deliveries == 0 {
					return fmt.Errorf("REF-2: a hold of nothing on %v[%d]", name, i)
				}
			}
			for x := o.waiting; x != nil; {
				waiters++
				if x = x.next; x == nil {
					return fmt.Errorf("the waiters of %v[%d] are no ring", name, i)
				}
				if x.process != nil && (x.process.gone || c.holderOf(x.process, o) == nil) {
					return fmt.Errorf("REF-3: %v[%d] is waited for by who does not hold it", name, i)
				}
				if x == o.waiting {
					break
				}
			}
		}
		if live != int(e.live) {
			return fmt.Errorf("entry %v has %d objects and counts %d", name, live, e.live)
		}
		objects += live
		if t := e.task; t != nil {
			for k := range int(t.deps + t.refs) {
				if err := pin(objectAt(t.args(), k)); err != nil {
					return err
				}
			}
			if t.kind == call {
				pins[t.actor.entry.first]++
			}
		}
		if e.actor != nil && e.actor.kept > 0 {
			pins[e.first] += uint32(e.actor.kept)
		}
		if e.actor != nil && e.actor.pinned {
			pins[e.first]++
		}
		if t := e.made; t != nil {
			for k := range int(t.deps + t.refs) {
				kin[c.lookup(objectAt(t.args(), k))]++
			}
		}
	}
	for _, s := range c.slices {
		if err := pin(s.of); err != nil {
			return err
		}
	}
	for _, p := range c.processes {
		for _, k := range p.fetches.list {
			m, payload := c.readResult(k.frame)
			for i := range int(m.Refs) {
				if err := pin(objectAt(payload, i)); err != nil {
					return err
				}
			}
		}
	}
	for name, e := range c.entries {
		for i := range len(e.others()) + 1 {
			o := e.object(uint32(i))
			if o == nil {
				continue
			}
			if o.pins != pins[o] {
				return fmt.Errorf("REF-1: object %v[%d] has %d pins and counts %d", name, i, pins[o], o.pins)
			}
			if o.kin != kin[o] {
				return fmt.Errorf("LIN-1: object %v[%d] is kin to %d lineages and counts %d", name, i, kin[o], o.kin)
			}
			if o.foreign && o.pins == 0 && o.holders != nil && e.task == nil && c.heldBack(o) && !slices.ContainsFunc(c.processes, func(p *process) bool { return slices.Contains(p.lent, o.id()) }) {
				return fmt.Errorf("REF-1: object %v[%d] is here for nobody but who sent it", name, i)
			}
			if o.holders == nil && o.pins == 0 && o.kin > 0 && (o.placed || o.state == objectAway) {
				return fmt.Errorf("LIN-2: the value of %v[%d] is kept for lineage alone", name, i)
			}
			if o.holders == nil && o.pins == 0 && o.kin == 0 && !slices.ContainsFunc(c.processes, func(p *process) bool { return slices.Contains(p.lent, o.id()) }) {
				return fmt.Errorf("REF-1: object %v[%d] is of no use and there", name, i)
			}
			if o.lonely() && o.pins == 0 {
				return fmt.Errorf("REF-7: who alone holds object %v[%d] was not told", name, i)
			}
		}
	}
	listed := 0
	for _, p := range c.processes {
		var before *holder
		for h := p.held; h != nil; h = h.after {
			listed++
			if h.process != p || h.before != before {
				return fmt.Errorf("the holds of process %d are no list", p.id)
			}
			before = h
		}
	}
	if listed != holders || c.holdRec.used != holders || c.objRec.used != objects || c.waitRec.used != waiters || c.entRec.used != len(c.entries) {
		return fmt.Errorf("records: %d/%d/%d holders, %d/%d objects, %d/%d waiters, %d/%d entries", listed, holders, c.holdRec.used, objects, c.objRec.used,
			waiters, c.waitRec.used, len(c.entries), c.entRec.used)
	}
	return nil
}

func checkTasks(c *Core) error {
	seen := map[*task]bool{}
	for _, p := range c.submitters() {
		n := 0
		for t := p.tasks.head; t != nil; t = t.ownedAfter {
			n++
			if seen[t] || t.owner != p || t.entry.task != t {
				return fmt.Errorf("WORK-1: task %v is listed twice, or elsewhere", t.id())
			}
			seen[t] = true
			switch {
			case (t.state == taskGiven) != (t.worker != nil) && t.kind != create:
				return fmt.Errorf("WORK-3: task %v, state %d, has worker %v", t.id(), t.state, t.worker != nil)
			case t.worker != nil && t.in != &t.worker.flight:
				return fmt.Errorf("WORK-3: task %v has a worker and is elsewhere", t.id())
			case t.worker == nil && t.in != nil && t.kind == plain && t.in != &t.class.queue:
				return fmt.Errorf("task %v is in a strange list", t.id())
			case t.state == taskQueued && t.in == nil:
				return fmt.Errorf("WORK-4: task %v is queued nowhere", t.id())
			case t.fetching != nil && (t.worker == nil || t.worker.host == nil) || len(t.behind) > 0 && t.fetching == nil:
				return fmt.Errorf("task %v waits for a value from nowhere", t.id())
			case t.state == taskWaiting && t.missing == 0:
				return fmt.Errorf("task %v waits for nothing", t.id())
			}
		}
		if n != p.tasks.n {
			return fmt.Errorf("process %d has %d tasks and counts %d", p.id, n, p.tasks.n)
		}
	}
	if c.taskRec.used != len(seen)+c.lineage.n {
		return fmt.Errorf("%d records of %d tasks and %d lineages", c.taskRec.used, len(seen), c.lineage.n)
	}
	if err := checkLineage(c, seen); err != nil {
		return err
	}
	flying := map[*class]int{}
	deep := 0
	all := slices.Clone(c.workers)
	for _, h := range c.hosts {
		all = append(all, h.actors...)
		if h.tasks != nil {
			all = append(all, h.tasks)
		}
	}
	for _, w := range all {
		n, blocked := 0, 0
		for t := w.flight.head; t != nil; t = t.listed {
			n++
			if t.worker != w || t.in != &w.flight || !seen[t] {
				return fmt.Errorf("WORK-3: worker %d has task %v, which is elsewhere", w.key, t.id())
			}
			if t.blocked {
				blocked++
			}
			if w.actor == nil {
				flying[t.class]++
			}
		}
		if n != w.flight.n || blocked != w.blocked {
			return fmt.Errorf("worker %d: %d tasks, counts %d; %d wait, counts %d", w.key, n, w.flight.n, blocked, w.blocked)
		}
		if w.deep {
			deep++
		}
		if idle := slices.Contains(w.job.idle, w); idle && (w.held || w.flight.n > 0 || w.shutting) {
			return fmt.Errorf("worker %d is idle and is not", w.key)
		}
		if w.actor == nil && w.held && !w.shutting && !slices.Contains(w.class.leased, w) {
			return fmt.Errorf("worker %d has a lease that its class does not know", w.key)
		}
		if w.actor == nil && w.held && !w.shutting && w.process != nil && w.flight.n == 0 {
			return fmt.Errorf("WORK-2: worker %d has a lease and nothing to do", w.key)
		}
	}
	if deep != c.deep {
		return fmt.Errorf("%d deep workers, counts %d", deep, c.deep)
	}
	for _, j := range c.jobs {
		for _, cl := range j.classes {
			starting := 0
			for _, w := range cl.leased {
				if w.class != cl || !w.held || w.shutting {
					return fmt.Errorf("class %d lists worker %d, which has no lease for it", cl.number, w.key)
				}
				if w.process == nil {
					starting++
				}
			}
			if cl.flying != flying[cl] || cl.starting != starting {
				return fmt.Errorf("class %d: %d tasks flying, counts %d; %d starting, counts %d", cl.number, flying[cl], cl.flying, starting, cl.starting)
			}
			if cl.queue.n > 0 && !cl.active {
				return fmt.Errorf("class %d has tasks and is not looked at", cl.number)
			}
		}
	}
	for _, a := range c.actors {
		n := 0
		for _, l := range a.lanes {
			n += l.n
			if l.queue.n > l.n {
				return fmt.Errorf("a lane of %v has more than it counts", a.id())
			}
		}
		sum := 0
		for _, g := range a.groups {
			sum += g.flying
		}
		if sum != a.flying || a.flying > n {
			return fmt.Errorf("actor %v: %d calls flying, counts %d, of %d", a.id(), sum, a.flying, n)
		}
	}
	return nil
}

// checkLineage: what is kept to be run again has its outcome, is known by its entry, and is counted.
func checkLineage(c *Core, running map[*task]bool) error {
	n, bytes := 0, 0
	for t := c.lineage.head; t != nil; t = t.listed {
		n, bytes = n+1, bytes+int(t.cost)
		if running[t] || t.entry.made != t || t.entry.task != nil || t.entry.live == 0 || t.worker != nil {
			return fmt.Errorf("LIN-3: task %v is kept to be run again, and runs, or is of no use", t.id())
		}
	}
	if n != c.lineage.n || bytes != c.lineageBytes || bytes > c.cfg.Lineage {
		return fmt.Errorf("LIN-4: %d lineages have %d bytes, counts %d and %d, of %d", n, bytes, c.lineage.n, c.lineageBytes, c.cfg.Lineage)
	}
	for name, e := range c.entries {
		if e.made != nil && (e.made.in != &c.lineage || e.made.entry != e) {
			return fmt.Errorf("LIN-3: entry %v has a lineage that is not listed", name)
		}
	}
	return nil
}

// checkWhere: a value that stayed away has an agent that has it, and is fetched if somebody waits; one that is gone is not waited for.
func checkWhere(c *Core, o *object) error {
	switch o.state {
	case objectAway:
		if !o.foreign || o.placed || o.value == nil || c.lent[o].owed == 0 {
			return fmt.Errorf("LIN-5: object %v stayed at no agent", o.id())
		}
		if k := c.home(o).fetching(o.id()); o.waiting != nil && k == nil {
			return fmt.Errorf("LIN-5: object %v is waited for, and not fetched", o.id())
		}
	case objectGone:
		if o.foreign || o.placed || o.value != nil || o.waiting != nil && o.entry.task == nil {
			return fmt.Errorf("LIN-6: object %v is gone, and is not", o.id())
		}
	}
	return nil
}
