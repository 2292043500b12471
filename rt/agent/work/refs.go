package work

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// holder is a process that has references to an object.
type holder struct {
	object     *object
	process    *process
	deliveries uint32 // times that a reference was sent to it
	made       bool   // it made one itself: of its own call or put
	alone      bool   // it wants to be told once it is the only one, and nothing contains the object
	next       *holder
	before     *holder // of the process
	after      *holder
}

func (c *Core) holderOf(p *process, o *object) *holder {
	for h := o.holders; h != nil; h = h.next {
		if h.process == p {
			return h
		}
	}
	return nil
}

// mayName tells whether p may name an object: it holds it, or is the actor that it stands for, which does not keep itself alive.
func (c *Core) mayName(p *process, o *object) bool {
	if p.remote() {
		return true // it was listed when it was sent
	}
	own := o.index == 0 && p.worker != nil && p.worker.actor != nil && p.worker.actor.entry == o.entry
	return own || c.holderOf(p, o) != nil
}

// hold gives p's hold on o, a new one if there is none.
func (c *Core) hold(p *process, o *object) *holder {
	if h := c.holderOf(p, o); h != nil {
		return h
	}
	h := c.holdRec.take()
	h.object, h.process = o, p
	h.next, o.holders = o.holders, h
	if p.remote() && o.has(markCopy) {
		c.cfg.Store.Reuse(o.id())
	}
	h.after = p.held
	if p.held != nil {
		p.held.before = h
	}
	p.held = h
	return h
}

// unhold ends a hold.
func (c *Core) unhold(h *holder) {
	o, p := h.object, h.process
	for at := &o.holders; *at != nil; at = &(*at).next {
		if *at == h {
			*at = h.next
			break
		}
	}
	if h.before == nil {
		p.held = h.after
	} else {
		h.before.after = h.after
	}
	if h.after != nil {
		h.after.before = h.before
	}
	c.holdRec.give(h)
	if p.remote() {
		c.offer(o)
	} else if o.placed {
		c.cfg.Store.Leave(p.id, o.id())
	}
	if o.waiting != nil {
		c.unwait(o, func(w *waiter) bool { return w.process == p })
	}
	if o.has(markCached) && c.makes(p, o.id()) {
		c.unmade(o.id(), "did not")
	}
	c.drop(o)
}

// deliver counts a reference that is being sent to p.
func (c *Core) deliver(p *process, name id.Object) {
	o := c.lookup(name)
	if o == nil || p.gone {
		return
	}
	h := c.holderOf(p, o)
	if h == nil {
		h = c.hold(p, o)
		if a := o.entry.actor; a != nil && o.index == 0 {
			c.tellOne(a, p) // before the first call that it may send
		}
	}
	h.deliveries++
}

// onRelease ends p's hold on an object, if the release has seen all that was delivered (REF-2). Else one
// is under way, and p will release that, too.
func (c *Core) onRelease(p *process, f frame) {
	m := c.read.release
	if wire.ReadRelease(f.body, m) != nil {
		c.refuse(p, "sent a Release that can't be read")
		return
	}
	if c.releasePiled(p, m) {
		return
	}
	name := objectOf(m.Object)
	o := c.lookup(name)
	var h *holder
	if o != nil {
		h = c.holderOf(p, o)
	}
	switch {
	case p.remote() && (h == nil || m.Deliveries > h.deliveries):
		c.strays++
		return
	case h == nil && name.Task.Agent == c.cfg.Agent && name.Task.Process == p.id && m.Deliveries == 0:
		c.strays++ // of a stream's item that never came
		return
	case h == nil:
		c.refuse(p, "released an object that it does not hold")
		return
	case m.Deliveries > h.deliveries:
		c.refuse(p, "released more references than it was sent")
		return
	}
	if !p.remote() { // another agent has what it made as long as its task or actor is here (sentHome)
		h.made = false
	}
	h.deliveries -= m.Deliveries
	if h.deliveries == 0 && !h.made {
		c.unhold(h)
	}
}

// drop looks whether an object is still of use. It goes at the end of the turn, in reap, so that nobody
// who works with it loses it.
func (c *Core) drop(o *object) {
	if o.foreign && o.pins == 0 && o.holders != nil && c.heldBack(o) {
		// Nobody here has a handle of the actor, or reference, which would live for ever for the sake of the one that it lives for.
		c.unlend(o)
		if o.has(markVoid) && o.state == objectPending { // that one has it made again
			c.lose(o, codeLost, "node "+c.cfg.Node+" had written it to a file, and can't read that any more")
			o.set(markLost, true)
		}
	}
	if (o.holders == nil || o.lonely()) && o.pins == 0 && !o.has(markDying) {
		o.set(markDying, true)
		c.dying = append(c.dying, o)
	}
}

// heldBy tells whether another agent holds an object, by any way.
func (o *object) heldBy(agent id.Agent) bool {
	for h := o.holders; h != nil; h = h.next {
		if h.process.remote() && h.process.agent == agent {
			return true
		}
	}
	return false
}

// heldBack tells whether an object is here for nobody but the agent by which it came, whose job's actor or value it is. That may have several
// ways to this one, of which one brought the reference and another one has the hold.
func (c *Core) heldBack(o *object) bool {
	for h := o.holders; h != nil; h = h.next {
		if !o.hosts(h.process) && !((o.placed || o.has(markVoid)) && h.process.remote() && h.process.agent == c.home(o).agent) {
			return false
		}
	}
	return true
}

func (c *Core) unpin(o *object) {
	if o != nil && o.pins > 0 {
		o.pins--
		c.drop(o)
	}
}

// lonely tells whether all that is left of an object's holders is one that wants to know it.
func (o *object) lonely() bool { return o.holders != nil && o.holders.alone && o.holders.next == nil }

// watchAlone has a process told once nobody and nothing but it holds an object (REF-7): by then it may let go of what only it has, and which the object
// stands for.
func (c *Core) watchAlone(p *process, name id.Object) {
	o := c.lookup(name)
	if o == nil || c.holderOf(p, o) == nil {
		c.refuse(p, "asked to be told of an object that it has no reference to")
		return
	}
	c.holderOf(p, o).alone = true
	c.drop(o)
}

// reap frees what nobody needs, and what that alone contained (REF-1).
func (c *Core) reap() {
	for len(c.dying) > 0 {
		last := len(c.dying) - 1
		o := c.dying[last]
		c.dying = c.dying[:last]
		o.set(markDying, false)
		switch {
		case o.lonely() && o.pins == 0:
			o.holders.alone = false
			c.ready(o.holders.process, o, fb.ObjectStateAlone, 0)
		case o.holders != nil || o.pins > 0:
		case o.has(markCached) && c.rests(o):
		case o.kin > 0:
			c.setAside(o)
		default:
			c.free(o)
		}
	}
}

func (c *Core) free(o *object) {
	if len(c.slices) > 0 {
		c.unslice(o.id())
	}
	c.empty(o)
	c.unlend(o)
	e := o.entry
	if o.index == 0 {
		e.first = nil
	} else {
		(*e.more)[o.index-1] = nil
	}
	e.live--
	c.objRec.give(o)
	if e.live == 0 && e.made != nil {
		c.forgetLineage(e)
	}
	if a := e.actor; a != nil && e.first == nil {
		c.unnamed(a)
		return
	}
	c.tidy(e)
}

// empty takes an object's value away, and what that held.
func (c *Core) empty(o *object) {
	if o.value != nil {
		m, payload := c.readResult(o.value)
		for i := range int(m.Refs) {
			c.unpin(c.lookup(objectAt(payload, i)))
		}
		c.memory.give(o.value)
	}
	if o.has(markComing) { // for nobody any more
		c.cfg.Store.Done(o.id())
	}
	if o.placed {
		c.cfg.Store.Free(o.id())
	}
	o.value, o.placed, o.state = nil, false, objectPending
	o.set(markComing|markCopy, false)
}

// holdsAll looks whether p may name the objects at the beginning of a payload, deps and refs together.
// If not, its connection ends (REF-3).
func (c *Core) holdsAll(p *process, payload []byte, deps, refs uint32) bool {
	n := uint64(deps) + uint64(refs)
	if n*objectSize > uint64(len(payload)) {
		c.refuse(p, "named more objects than its frame has")
		return false
	}
	for i := int(deps); i < int(n) && p.remote(); i++ {
		c.receive(p, objectAt(payload, i))
	}
	for i := range int(n) {
		o := c.lookup(objectAt(payload, i))
		if o == nil || !c.mayName(p, o) {
			c.refuse(p, "named an object that it has no reference to")
			return false
		}
	}
	return true
}

// push tells the submitter of a result that it has come, with the value if that is small.
func (c *Core) push(p *process, whole []byte, m *fb.ResultT, payload []byte) {
	if p.gone {
		return
	}
	if p.remote() {
		c.sendHome(p, whole)
		return
	}
	placed := m.Flags&uint32(fb.ResultFlagLocated) != 0
	if m.Flags&uint32(fb.ResultFlagError) != 0 || len(payload) <= int(c.cfg.InlineLimit) && !placeless(m, payload) {
		for i := range int(m.Refs) {
			c.deliver(p, objectAt(payload, i))
		}
		if placed && len(payload) > 0 {
			name := id.Object{Task: taskOf(m.Task), Index: m.Index}
			c.look(p, name) // it came just now, so it lies where the result says
			c.deliver(p, name)
		}
		copy(c.room(p, len(whole)), whole)
		return
	}
	b := c.start(p, fb.FrameTypeResult, wire.ResultSize, 0)
	w := c.read.write
	task := w.Task
	*w = *m
	w.Task = task
	setTask(task, taskOf(m.Task))
	w.Flags |= uint32(fb.ResultFlagLocated) // in the agent: a get brings it
	w.Refs = 0
	wire.PutResult(b, w)
}
