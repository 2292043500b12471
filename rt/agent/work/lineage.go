package work

import (
	"fmt"
	"unsafe"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// taskSize is what the record of a task takes.
const taskSize = uint64(unsafe.Sizeof(task{}))

// The lineage of a value is how it was made: its task, with what that was given. It is kept when the task has its outcome, as long as a
// result in memory, or what was made from one, may be needed again. A large result that can be made again stays at the agent where it was
// made until somebody wants it (objectAway); if that agent is lost, or nothing but lineage names the value, it is gone (objectGone), and
// the task runs again once somebody wants it. Of the arguments a lineage keeps what is small; large ones go, and are made again in turn.

// remakable tells whether the task may run once more after its outcome.
func (t *task) remakable() bool {
	return t.kind != create && !t.streams() && !t.owner.remote() && !t.cancelled && (t.retries < 0 || t.tried < t.retries)
}

// remembers tells whether a task that has its outcome is kept as the lineage of its results.
func (t *task) remembers() bool {
	if !t.remakable() {
		return false
	}
	for i := range t.count() {
		if o := t.entry.object(i); o != nil && (o.placed || o.state == objectAway || o.state == objectGone) {
			return true
		}
	}
	return false
}

// remember keeps a task that is finished but for its record. Its arguments have it as kin.
func (c *Core) remember(t *task) {
	size := uint64(cap(t.frame)) + taskSize
	for i := range int(t.deps) {
		if o := c.lookup(objectAt(t.args(), i)); !o.placed {
			size += uint64(cap(o.value))
		}
	}
	t.cost, t.owner = uint32(min(size, 1<<32-1)), nil
	t.entry.made = t
	c.lineage.push(t)
	c.lineageBytes += int(t.cost)
	for c.lineageBytes > c.cfg.Lineage {
		c.evictLineage(c.lineage.head.entry)
	}
}

// evictLineage drops the oldest lineage to make room. What it could have made again comes home, now that it can't be.
func (c *Core) evictLineage(e *entry) {
	c.forgetLineage(e)
	e.dropped = true
	for i := range len(e.others()) + 1 {
		if o := e.object(uint32(i)); o != nil && o.state == objectAway {
			c.bring(o)
		}
	}
}

// forgetLineage drops how the objects of an entry were made, and what was kept for that.
func (c *Core) forgetLineage(e *entry) {
	t := e.made
	c.unlist(t)
	for i := range int(t.deps + t.refs) {
		o := c.lookup(objectAt(t.args(), i))
		o.kin--
		c.drop(o)
	}
	c.memory.give(t.frame)
	c.taskRec.give(t)
}

func (c *Core) unlist(t *task) {
	t.entry.made = nil
	c.lineage.remove(t)
	c.lineageBytes -= int(t.cost)
}

// stayAway takes in that a task has given a value which lies at the agent that ran it, and stays there until it is wanted here.
func (c *Core) stayAway(p *process, o *object, told []byte) {
	c.unlend(o)
	c.lend(p, o)
	c.lent[o].owed = 1
	o.value, o.state = c.memory.copy(told), objectAway
	c.pinNames(o.value)
	c.wakeAway(o)
	if c.drainOf(p.agent) != nil && o.state == objectAway && (o.holders != nil || o.pins > 0) {
		c.bring(o)
	}
}

// wakeAway answers those who wait for an object and can do with its value being away. For the others it is brought.
func (c *Core) wakeAway(o *object) {
	if o.waiting == nil {
		return
	}
	var tasks []id.Task
	c.unwait(o, func(w *waiter) bool {
		switch {
		case w.task != nil && w.task.follows():
			tasks = append(tasks, w.task.id())
			return true
		case w.process != nil:
			return c.answerAway(o, w)
		}
		return false
	})
	if o.waiting != nil {
		c.bring(o)
	}
	for _, name := range tasks { // one may end another
		if e := c.entries[name]; e != nil && e.task != nil && e.task.state == taskWaiting {
			e.task.afar = true
			c.arrived(e.task, o)
		}
	}
}

// follows tells whether a task may go where its arguments lie.
func (t *task) follows() bool { return t.kind == plain && t.owner.kind != Owner }

// placeless tells whether a Result says that there is a value, and neither what nor where.
func placeless(m *fb.ResultT, payload []byte) bool {
	return m.Flags&uint32(fb.ResultFlagLocated) != 0 && uint64(len(payload)) == uint64(m.Refs)*objectSize
}

// bring has a value fetched that stayed away.
func (c *Core) bring(o *object) {
	p := c.home(o)
	if p.fetching(o.id()) != nil {
		return
	}
	f, _, _ := cut(o.value)
	m, _ := c.readResult(o.value)
	c.fetch(p, f, m)
}

// arriveHome gives an object the value that stayed away and was fetched, or an error in its stead, and gives the delivery back.
func (c *Core) arriveHome(o *object, value []byte) {
	told := o.value
	c.settle(o, value)
	c.unpinNames(told)
	c.memory.give(told)
	c.unlend(o)
}

// bringHome has what stayed away at an agent fetched that somebody here needs; false: there is nothing of it.
func (c *Core) bringHome(p *process) bool {
	some := false
	for _, o := range p.lends {
		if o.state == objectAway && (o.holders != nil || o.pins > 0) {
			c.bring(o)
			some = true
		}
	}
	return some
}

// mislay takes in that the value of an object is gone. It is made again once somebody wants it.
func (c *Core) mislay(o *object, why string) {
	c.empty(o)
	c.unlend(o)
	switch e := o.entry; {
	case e.gives(): // it runs again, and will give it, or has to once more
		o.state, e.task.gone = objectGone, why
	case e.made == nil && (o.holders != nil || o.pins > 0):
		c.lose(o, o.entry.lostCode(), why+"; "+c.unmakable(o))
		o.set(markLost, o.owner() != c.cfg.Agent) // which may have it made again, and send it anew
	default:
		o.state = objectGone
		if e.made != nil {
			e.made.gone = why
		}
		if o.waiting != nil {
			c.sought = append(c.sought, o.id())
		}
	}
}

// setAside lets go of the value of an object that only lineage names, unless that is small, this agent's, and names nothing: else
// lineage might keep what keeps it.
func (c *Core) setAside(o *object) {
	a := o.entry.actor
	handle := a != nil && o.index == 0
	if o.foreign || !handle && (o.placed || o.value != nil && c.contains(o)) {
		c.mislay(o, "nobody had a reference to it any more")
	}
	if handle {
		c.unnamed(a) // lineage keeps no actor
	}
}

// gives tells whether a task is under way that will give the entry's objects. What it has given of a stream it does not give again.
func (e *entry) gives() bool { return e.task != nil && e.task.kind != create && !e.task.streams() }

// contains tells whether an object's value names others.
func (c *Core) contains(o *object) bool {
	m, _ := c.readResult(o.value)
	return m.Refs > 0
}

// unmakable says why the value of an object can't be made again; "": it can.
func (c *Core) unmakable(o *object) string {
	e := o.entry
	t := e.made
	switch {
	case e.dropped:
		return fmt.Sprintf("how it was made is forgotten, because what this node keeps of that has reached %d MiB", c.cfg.Lineage>>20)
	case t == nil:
		return "it can't be made again: it was put, or its task may not run once more (max_retries, max_task_retries)"
	case t.class.job.over:
		return "it can't be made again: the driver of its job ended"
	case t.kind == call && (t.actor.phase == fb.ActorPhaseDead || t.actor.ending || t.actor.entry.actor != t.actor || t.actor.entry.first == nil):
		return "it can't be made again: its actor is dead"
	}
	return ""
}

// whyGone says where the value of an object was lost, and why it can't be made again, if so.
func (c *Core) whyGone(o *object) string {
	if t := o.entry.made; t != nil && t.gone != "" {
		return t.gone + "; " + c.unmakable(o)
	}
	return c.unmakable(o)
}

// lostCode is that of the error of an object that is gone and can't be made again.
func (e *entry) lostCode() string {
	if e.made == nil && !e.dropped {
		return codeLost
	}
	return codeRemake
}

// remakeSought has those values made again that are gone and wanted.
func (c *Core) remakeSought() {
	for len(c.sought) > 0 {
		last := len(c.sought) - 1
		o := c.lookup(c.sought[last])
		switch c.sought = c.sought[:last]; {
		case o == nil || o.waiting == nil:
		case o.state != objectGone:
			c.ask(o) // its agent sent it anew
		case o.entry.gives():
		case c.unmakable(o) == "":
			c.remake(o.entry)
		default:
			c.lose(o, o.entry.lostCode(), c.whyGone(o))
		}
	}
}

// remake has a task run again whose results are gone. Those that are here stay as they are.
func (c *Core) remake(e *entry) {
	t := e.made
	c.remade++
	c.unlist(t)
	e.task = t
	t.tried++
	t.attempt++
	t.owner, t.state, t.since, t.deadline, t.cost = t.class.job.home, taskWaiting, c.now, 0, 0
	t.recalled, t.spent, t.remade, t.missing = false, false, true, 0
	t.owner.tasks.add(t)
	for i := range int(t.deps + t.refs) {
		o := c.lookup(objectAt(t.args(), i))
		o.pins++
		o.kin--
	}
	if t.kind == call {
		t.actor.entry.first.pins++
		t.stamped = t.actor.incarnation
		t.lane = t.actor.laneOf(t.owner, t.method)
		t.lane.n++
	}
	c.stamp(t)
	if up := c.waiterOf(e); up != nil { // which lends it what it would lend a child, or is told that it keeps it from ever starting
		c.adopt(up, t)
		t.recursive = false
	}
	c.begin(t)
}

// waiterOf finds a task that waits for one of the entry's objects, or that has started one which does; nil: none of this node's.
func (c *Core) waiterOf(e *entry) *task {
	for i := range len(e.others()) + 1 {
		o := e.object(uint32(i))
		if o == nil {
			continue
		}
		for w := o.waiting; w != nil; {
			if w = w.next; w.task != nil && w.task.parent != nil {
				return w.task.parent
			}
			if p := w.process; p != nil && p.worker != nil {
				for t := p.worker.flight.head; t != nil; t = t.listed {
					if t.blocked || p.worker.actor == nil { // it may be about to say so
						return t
					}
				}
			}
			if w == o.waiting {
				break
			}
		}
	}
	return nil
}

// lieWith tells whether all arguments of a task are here or, p, with the agent at the other end.
func (c *Core) lieWith(t *task, p *process) bool {
	for i := range int(t.deps) {
		if o := c.lookup(objectAt(t.args(), i)); o.state != objectThere && (o.state != objectAway || c.home(o) != p) {
			return false
		}
	}
	return true
}

// follow gives the next task of a class to the agent with which its large arguments lie, if that has room for it.
func (c *Core) follow(cl *class) bool {
	t := cl.queue.head
	if t == nil || !t.afar {
		return false
	}
	for i := range int(t.deps) {
		if o := c.lookup(objectAt(t.args(), i)); o.state == objectAway {
			return c.lieWith(t, c.home(o)) && c.sendAway(cl, false, c.home(o).agent)
		}
	}
	return false
}

// fetchArgs takes a task from its queue until its arguments are here. A call keeps its place.
func (c *Core) fetchArgs(t *task) {
	if t.kind != call || !t.actor.ordered() {
		t.in.remove(t)
	}
	t.state, t.since = taskWaiting, c.now
	for i := range int(t.deps) {
		switch o := c.lookup(objectAt(t.args(), i)); o.state {
		case objectThere:
		case objectFailed:
			c.failing = append(c.failing, t.id())
		default:
			if l := c.lent[o]; l != nil {
				l.stays = true
			}
			t.missing++
			c.await(o, waiter{task: t})
		}
	}
}

// ask has the value of an object brought or made that is not here: another agent has it, or it is gone.
func (c *Core) ask(o *object) {
	switch {
	case o.state == objectAway:
		c.bring(o)
	case o.state == objectGone:
		c.sought = append(c.sought, o.id())
	case o.foreign && o.state == objectPending:
		c.askFor(o)
	}
}

// explainObject says what is known of an object whose task has its outcome.
func (c *Core) explainObject(ref string, o *object) string {
	if why := c.explainCached(o.id()); why != "" {
		return "object " + ref + " is not there: it is to be " + why
	}
	switch o.state {
	case objectFailed:
		return "object " + ref + " is there: an error"
	case objectAway:
		return "object " + ref + " is there: it lies at node " + c.home(o).node + ", where it was made, until somebody here wants it"
	case objectGone:
		why := c.whyGone(o)
		if c.unmakable(o) == "" {
			why += "it is made again once somebody wants it"
		}
		return "object " + ref + " is gone: " + why
	}
	if o.entry.dropped {
		return "object " + ref + " is there; if it were lost: " + c.unmakable(o)
	}
	return "object " + ref + " is there"
}
