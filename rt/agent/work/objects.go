package work

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// entry is what is known under one minted ID. It is there while its task, its actor or one of its objects is.
type entry struct {
	id    id.Task
	task  *task  // without outcome yet
	actor *actor // alive or to be, or dead and still named by a handle
	made  *task  // with its outcome, by which the objects can be made again
	first *object
	more  *[]*object // index 1 and on; nil: there were none
	live  uint32     // objects

	dropped bool // there was such a task, and no room to remember it
}

type objectState uint8

const (
	objectPending objectState = iota
	objectThere
	objectFailed
	objectAway // it came, and its value lies at the agent that ran its task
	objectGone // its value was here, or away, and can be had only by making it again
)

// objectMarks is what is seldom so of an object, in a byte: of a million objects each byte counts.
type objectMarks uint8

const (
	markDying  objectMarks = 1 << iota // it is looked at whether anybody has it
	markComing                         // from a file, because somebody waits for it
	markLost                           // it came from an agent that is out of reach
	markCached                         // it has a key in the cache
	markVoid                           // it was made here for the agent by which it came now, and can't be read any more
	markCopy                           // its value is a copy of what its home has, and the Store may let go of it
)

func (o *object) has(m objectMarks) bool { return o.marks&m != 0 }

func (o *object) set(m objectMarks, on bool) {
	if o.marks &^= m; on {
		o.marks |= m
	}
}

// object is one result or one put.
type object struct {
	entry   *entry
	index   uint32
	state   objectState
	placed  bool // its value lies in the Store
	foreign bool // another agent sent it
	marks   objectMarks
	pins    uint32  // tasks that wait for it or run with it, objects that contain it
	kin     uint32  // tasks that are kept to be run again, and would need it
	value   []byte  // its Result frame
	holders *holder // processes that have a reference
	waiting *waiter // who asked for it last; behind that one comes the first
}

// waiter is a task whose argument an object is, or a process that asked for it.
type waiter struct {
	task    *task
	process *process
	corr    uint64
	want    fb.Want
	told    bool  // that it is elsewhere
	until   int64 // 0: for ever
	next    *waiter
}

// here tells whether an object has a value, or an error, that can be sent at once.
func (o *object) here() bool { return o.state == objectThere || o.state == objectFailed }

// missing tells whether an object has to be given its value by a task, for the first time or again.
func (o *object) missing() bool { return o.state == objectPending || o.state == objectGone }

func (o *object) id() id.Object { return id.Object{Task: o.entry.id, Index: o.index} }

func (e *entry) object(index uint32) *object {
	switch {
	case index == 0:
		return e.first
	case int64(index) <= int64(len(e.others())):
		return (*e.more)[index-1]
	}
	return nil
}

// others are the objects of index 1 and on, nil among them.
func (e *entry) others() []*object {
	if e.more == nil {
		return nil
	}
	return *e.more
}

// lookup finds an object, nil if it is not there.
func (c *Core) lookup(o id.Object) *object {
	if e := c.entryOf(o.Task); e != nil {
		return e.object(o.Index)
	}
	return nil
}

func (c *Core) newEntry(t id.Task) *entry {
	e := c.entRec.take()
	e.id = t
	c.entries[t] = e
	return e
}

func (c *Core) newObject(e *entry, index uint32) *object {
	o := c.objRec.take()
	o.entry, o.index = e, index
	if index == 0 {
		e.first = o
	} else {
		if e.more == nil {
			e.more = new([]*object)
		}
		for len(*e.more) < int(index) {
			*e.more = append(*e.more, nil)
		}
		(*e.more)[index-1] = o
	}
	e.live++
	return o
}

// tidy forgets an entry of which nothing is left.
func (c *Core) tidy(e *entry) {
	if e.live == 0 && e.task == nil && e.actor == nil {
		delete(c.entries, e.id)
		c.entRec.give(e)
	}
}

// minted tells whether an ID is one that p may mint, and a new one.
func (c *Core) minted(p *process, t id.Task) bool {
	if p.remote() { // of which references may be here, or an actor's life before this one
		e := c.entries[t]
		return t.Agent != c.cfg.Agent && (e == nil || e.task == nil && (e.actor == nil || e.actor.proxy || e.actor.phase == fb.ActorPhaseDead))
	}
	return t.Agent == c.cfg.Agent && t.Process == p.id && c.entryOf(t) == nil
}

// renewed gives an object to a task that begins. An error that one before it left goes; a value stays if somebody has use for it, and
// is what this task will have given, too (sendAgain).
func (c *Core) renewed(t *task, index uint32) *object {
	o := t.entry.object(index)
	if o == nil {
		return c.newObject(t.entry, index)
	}
	if o.state == objectFailed || o.holders == nil && o.pins == 0 {
		c.empty(o)
	}
	return o
}

func (c *Core) onPut(p *process, f frame) {
	m := c.read.put
	if wire.ReadPut(f.body, m) != nil {
		c.refuse(p, "sent a Put that can't be read")
		return
	}
	o := objectOf(m.Object)
	if !c.minted(p, o.Task) || o.Index != 0 {
		c.refuse(p, "put an object under an ID that is not its own, or is used")
		return
	}
	if !c.holdsAll(p, f.payload, 0, m.Refs) || !c.spend(p, uint32(len(f.payload))) {
		return
	}
	made := c.newObject(c.newEntry(o.Task), 0)
	c.hold(p, made).made = true
	c.keep(made, fb.ResultFlagNotTask|fb.ResultFlagLast, m.Format, m.Refs, f.payload)
	c.giveBack(p, uint32(len(f.payload)))
}

// keep makes a value of payload and gives it to an object.
func (c *Core) keep(o *object, flags fb.ResultFlag, format fb.Format, refs uint32, payload []byte) {
	c.settle(o, c.resultFrame(o.id(), 0, flags, format, refs, payload))
}

// settle gives an object its value, a Result frame that is the core's own. What the value names is held
// by the object from now on. Whoever waits for it is told.
func (c *Core) settle(o *object, value []byte) {
	m, payload := c.readResult(value)
	o.value, o.state = value, objectThere
	if m.Flags&uint32(fb.ResultFlagError) != 0 {
		o.state = objectFailed
	}
	o.placed = m.Flags&uint32(fb.ResultFlagLocated) != 0
	for i := range int(m.Refs) {
		if in := c.lookup(objectAt(payload, i)); in != nil {
			in.pins++
		}
	}
	c.wake(o)
	if o.kin > 0 {
		c.drop(o)
	}
}

// wake answers all who wait for an object.
func (c *Core) wake(o *object) {
	for o.waiting != nil && !o.has(markComing) {
		w := o.waiting.next
		if w == o.waiting {
			o.waiting = nil
		} else {
			o.waiting.next = w.next
		}
		x := *w
		c.waitRec.give(w)
		if x.task != nil {
			c.arrived(x.task, o)
		} else {
			c.answer(o, x)
			c.watch(x.process)
		}
	}
}

func (c *Core) await(o *object, w waiter) {
	x := c.waitRec.take()
	*x = w
	o.line(x)
	if c.lenders > 0 {
		c.kinAt++
	}
	c.ask(o)
	if u := w.urgency(); u < Unasked {
		c.hasten(o, u)
	}
}

// line puts somebody behind all who wait for an object.
func (o *object) line(w *waiter) {
	if o.waiting == nil {
		w.next = w
	} else {
		w.next, o.waiting.next = o.waiting.next, w
	}
	o.waiting = w
}

// waitedBy tells whether a process waits for an object.
func (o *object) waitedBy(p *process) bool {
	for w := o.waiting; w != nil; {
		if w = w.next; w.process == p {
			return true
		}
		if w == o.waiting {
			break
		}
	}
	return false
}

// unwait removes those for which gone is true from who waits for an object.
func (c *Core) unwait(o *object, gone func(*waiter) bool) {
	last := o.waiting
	if last == nil {
		return
	}
	w := last.next
	last.next, o.waiting = nil, nil
	for w != nil {
		next := w.next
		if gone(w) {
			c.waitRec.give(w)
		} else {
			o.line(w)
		}
		w = next
	}
}

func (c *Core) onGet(p *process, f frame) {
	m := c.read.get
	if wire.ReadGet(f.body, m) != nil || m.Want < fb.WantValue || m.Want > fb.WantHere && m.Want != fb.WantTaken && m.Want != aloneOrListing(p) {
		c.refuse(p, "sent a Get that can't be read")
		return
	}
	name := objectOf(m.Object)
	switch m.Want {
	case fb.WantListing:
		c.list(p, name)
		return
	case fb.WantAlone:
		c.watchAlone(p, name)
		return
	case fb.WantTaken:
		c.onTaken(p, name)
		return
	}
	o := c.lookup(name)
	if o != nil && c.holderOf(p, o) == nil && c.needs(p, name) { // an argument that was not sent along
		c.hold(p, o).made = true
	}
	if o == nil || c.holderOf(p, o) == nil {
		c.getUnheld(p, name)
		return
	}
	until := int64(min(m.Deadline, 1<<62))
	w := waiter{process: p, corr: f.corr, want: m.Want, until: until}
	exists := c.exists(o)
	if exists && m.Want == fb.WantHere {
		c.ready(p, o, fb.ObjectStateThere, f.corr)
		w.told = true
	}
	switch {
	case exists && m.Want == fb.WantReadiness:
		c.ready(p, o, fb.ObjectStateThere, f.corr)
		return
	case !o.here():
		c.await(o, w)
	case c.answer(o, w):
		return
	}
	if until != 0 {
		c.at(until, timerGet, name.Task, name.Index, p.id)
	}
}

// aloneOrListing is what only an agent may ask of an object, or only a process of this one.
func aloneOrListing(p *process) fb.Want {
	if p.remote() {
		return fb.WantListing
	}
	return fb.WantAlone
}

// getUnheld is a Get of what p has no reference to, which is an error of p's (REF-3).
func (c *Core) getUnheld(p *process, name id.Object) {
	if p.remote() {
		c.forward(p, c.resultFrame(name, 0, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatError, 0,
			c.failure(codeLost, "object "+objectName(name)+" is not at node "+c.cfg.Node+" any more", name.Task)))
		return
	}
	c.refuse(p, "asked for an object that it has no reference to")
}

// stopWaiting answers those of p who wait for o past their deadline: not there.
func (c *Core) stopWaiting(o *object, who id.Process) {
	c.unwait(o, func(w *waiter) bool {
		if w.process == nil || w.process.id != who || w.until == 0 || w.until > c.now {
			return false
		}
		c.ready(w.process, o, fb.ObjectStateNone, w.corr)
		return true
	})
}

// answer tells who asked for it of an object that has a value or failed. false: that comes from a file first.
func (c *Core) answer(o *object, w waiter) bool {
	p := w.process
	if p.gone {
		return true
	}
	if w.want != fb.WantValue {
		state := fb.ObjectStateThere
		switch {
		case o.state == objectFailed:
			state = fb.ObjectStateError
		case w.want == fb.WantHere:
			state = fb.ObjectStateHere
		}
		c.ready(p, o, state, w.corr)
		return true
	}
	if c.sendValue(p, o) {
		return true
	}
	c.restore(o, w)
	return false
}

func (c *Core) ready(p *process, o *object, state fb.ObjectState, corr uint64) {
	if p.gone {
		return
	}
	m := c.read.ready
	*m = fb.ReadyT{Object: m.Object, State: state, Size: c.size(o)}
	setTask(m.Object.Task, o.entry.id)
	m.Object.Index = o.index
	b := c.start(p, fb.FrameTypeReady, wire.ReadySize, 0)
	wire.PutReady(b, m)
}

// size is how many bytes an object's value has, wherever they are.
func (c *Core) size(o *object) uint64 {
	if o.value == nil {
		return 0
	}
	m, payload := c.readResult(o.value)
	if o.placed || o.state == objectAway {
		return m.Size
	}
	return uint64(len(payload))
}

// sendValue sends an object's value, or its place. What it names is thereby delivered; so is, with its
// place, the object itself. false: it lies in a file, so that there is nothing to be told.
func (c *Core) sendValue(p *process, o *object) bool {
	if p.remote() && (o.placed || o.state == objectAway) {
		c.tellOf(p, o.value)
		return true
	}
	if o.placed && !c.view(p, o) {
		return false
	}
	value := o.value
	m, payload := c.readResult(value)
	refs := int(m.Refs)
	for i := range refs {
		c.deliver(p, objectAt(payload, i))
	}
	if o.placed {
		c.deliver(p, o.id())
	}
	c.forward(p, value)
	return true
}
