package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Store is where large values lie: memory that processes share, in arenas, whose numbers are not used twice. It is
// asked inside of Step, so that a place is known before anybody is told of it.
type Store interface {
	// Seal takes over what a process has written. That process has been told the place by that, once.
	Seal(p id.Process, o id.Object, m *fb.SealT) (arena uint64, offset int64, err error)
	// Discard takes back what a process has written and nobody wants.
	Discard(p id.Process, m *fb.SealT)
	// View: a process is to be told where the object lies, once more, and keeps it there by that. false: it lies in a
	// file, and Bring has it come back; or it is a copy that is gone, of which Evicted is about to tell.
	View(p id.Process, o id.Object) (arena uint64, offset int64, there bool)
	// Unview undoes one View, or Seal's.
	Unview(p id.Process, o id.Object)
	// Seen: a process, asked whether it looks at the object, says that it was told so many places and looks there no more; 0: it does look, and
	// will say when it does not. An error says that it may not say so.
	Seen(p id.Process, o id.Object, places uint32) error
	// Leave: a process does not hold the object any more, so it looks at it no more, however often it was told the place.
	Leave(p id.Process, o id.Object)
	// Bring has an object come into memory, and stay there until Brought is done; answered by the event of that name.
	Bring(o id.Object)
	// Done: the event Brought was taken in, or the object is about to be freed.
	Done(o id.Object)
	// Free: nothing names the object any more.
	Free(o id.Object)
	// Rest: nobody needs the object, which can be made again. It stays until memory is wanted, and then goes: the event Evicted tells. false: it can't, and is
	// as it was.
	Rest(o id.Object) bool
	// Loosen: the object is a copy of what can be had elsewhere. It stays until memory is wanted and nobody looks at it, and then goes: the event Evicted tells.
	Loosen(o id.Object)
	// Reuse: what rested is needed again, or a copy is to stay; false: it is gone.
	Reuse(o id.Object) bool
}

// sealed is a result that a worker has sealed, until the Result that comes next tells of it.
type sealed struct {
	is     bool
	there  bool // it lies in the store; else nobody wanted it
	object id.Object
	frame  []byte // Result, as it is to be kept
}

// onSeal takes in a value that a process has written: one that it made itself, as by Put, or a result of a task
// that runs in it.
func (c *Core) onSeal(p *process, f frame) {
	m := c.read.seal
	if c.cfg.Store == nil || wire.ReadSeal(f.body, m) != nil {
		c.refuse(p, "sent a Seal that can't be read")
		return
	}
	name := objectOf(m.Object)
	t := c.running(p.worker, name.Task)
	cached := t == nil && c.makes(p, name)
	switch {
	case t != nil && t.kind == create:
		c.refuse(p, "sealed what an actor's constructor gives: that is nothing")
	case t == nil && c.strayDirect(p, name.Task):
		c.cfg.Store.Discard(p.id, m)
		p.sealed = sealed{is: true, object: name}
	case cached && m.Refs > 0:
		c.refuse(p, "sealed a cached value that has references in it")
	case t == nil && !cached && (!c.minted(p, name.Task) || name.Index != 0):
		c.refuse(p, "sealed an object under an ID that is not its own, or is used")
	case !c.holdsAll(p, f.payload, 0, m.Refs):
	case t != nil:
		c.sealResult(p, t, name, m, f)
	case c.spend(p, uint32(len(f.payload))):
		c.giveBack(p, uint32(len(f.payload)))
		value, ok := c.intoStore(p, name, m, f, fb.ResultFlagNotTask|fb.ResultFlagLast)
		if !ok {
			return
		}
		if cached {
			c.cachedMade(name, value)
			return
		}
		o := c.newObject(c.newEntry(name.Task), 0)
		c.hold(p, o).made = true
		c.settle(o, value)
	}
}

// sealResult notes a result. One that came of an attempt before, or whose references are all gone, is not kept.
func (c *Core) sealResult(p *process, t *task, name id.Object, m *fb.SealT, f frame) {
	o := t.entry.object(name.Index)
	if o != nil && !o.missing() || o == nil && !(t.streams() && name.Index == t.items) {
		c.cfg.Store.Discard(p.id, m)
		p.sealed = sealed{is: true, object: name}
		return
	}
	if value, ok := c.intoStore(p, name, m, f, 0); ok {
		p.sealed = sealed{true, true, name, value}
	}
}

// intoStore has the store take over what p has sealed, and makes the frame that tells where it is.
func (c *Core) intoStore(p *process, name id.Object, m *fb.SealT, f frame, flags fb.ResultFlag) ([]byte, bool) {
	arena, offset, err := c.cfg.Store.Seal(p.id, name, m)
	if err != nil {
		c.refuse(p, "sealed what it was not lent: "+err.Error())
		return nil, false
	}
	return c.locatedFrame(name, 0, flags, m.Format, m.Refs, f.payload[:m.Refs*objectSize], arena, offset, m.Size), true
}

// onViewEnd takes in what a process says of what it looks at. It is taken in at once: what comes next, a release or another place, counts after it.
func (c *Core) onViewEnd(p *process, f frame) {
	m, err := wire.Unmarshal(f.kind, f.body)
	if err != nil || c.cfg.Store == nil {
		c.refuse(p, "sent a ViewEnd that can't be read")
		return
	}
	v := m.(*fb.ViewEndT)
	if err := c.cfg.Store.Seen(p.id, id.Object{Task: taskOf(v.Task), Index: v.Index}, v.Seen); err != nil {
		c.refuse(p, "says of views what is not so: "+err.Error())
	}
}

// view has a process look at what lies in the store. The object's value says where that is now; false: it lies in no memory.
func (c *Core) view(p *process, o *object) bool {
	arena, offset, there := c.look(p, o.id())
	if there {
		c.moved(o, arena, offset)
	}
	return there
}

// look counts that a process is told a place, and has it meet the arena.
func (c *Core) look(p *process, name id.Object) (arena uint64, offset int64, there bool) {
	arena, offset, there = c.cfg.Store.View(p.id, name)
	if !there || p.gone || p.met[arena] {
		return arena, offset, there
	}
	if p.met == nil {
		p.met = map[uint64]bool{}
	}
	p.met[arena] = true
	c.room(p, 0)
	c.flush(p)
	c.out = append(c.out, Effect{Do: Meet, Process: p.id, Key: arena})
	return arena, offset, there
}

// moved writes the place where an object lies now into its value.
func (c *Core) moved(o *object, arena uint64, offset int64) {
	at := len(o.value) - wire.LocationSize
	var l fb.LocationT
	if at < 0 || wire.ReadLocation(o.value[at:], &l) != nil || l.Arena == arena && l.Offset == uint64(offset) {
		return
	}
	l.Arena, l.Offset = arena, uint64(offset)
	old := o.value
	o.value = c.memory.copy(old) // the old one may be on its way
	wire.PutLocation(o.value[at:], &l)
	c.memory.give(old)
}

// restore has an object that lies in a file come back for somebody.
func (c *Core) restore(o *object, w waiter) {
	x := c.waitRec.take()
	*x = w
	o.line(x)
	if !o.has(markComing) {
		o.set(markComing, true)
		c.cfg.Store.Bring(o.id())
	}
}

// onBrought: an object has come back from a file, or can't. What is lost here another agent may still have.
func (c *Core) onBrought(ev Brought) {
	o := c.lookup(ev.Object)
	if o == nil || !o.has(markComing) {
		return
	}
	o.set(markComing, false)
	defer c.cfg.Store.Done(ev.Object)
	switch {
	case !o.here():
	case ev.Why == "" || !o.placed: // or it was made anew meanwhile
		c.wake(o)
	case ev.Full:
		var tasks []id.Task // that waited until it was made anew
		c.unwait(o, func(w *waiter) bool {
			switch {
			case w.task != nil:
				tasks = append(tasks, w.task.id())
			case w.process.gone:
			case w.want == fb.WantReadiness:
				c.answer(o, *w)
			default:
				c.forward(w.process, slices.Clone(c.resultFrame(ev.Object, 0, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatError, 0,
					c.failure(codeFull, "object "+objectName(ev.Object)+" lies in a file, and there is no memory to read it: "+ev.Why, o.entry.id))))
			}
			return true
		})
		for _, name := range tasks {
			if e := c.entries[name]; e != nil && e.task != nil && e.task.state == taskWaiting {
				c.arrived(e.task, o) // its worker asks for the value
			}
		}
	default:
		c.unreadable(o, ev.Why)
	}
}

// needs tells whether a task that a process runs has an object for an argument.
func (c *Core) needs(p *process, name id.Object) bool {
	if p.worker == nil {
		return false
	}
	for t := p.worker.flight.head; t != nil; t = t.listed {
		for i := range int(t.deps) {
			if objectAt(t.args(), i) == name {
				return true
			}
		}
	}
	return false
}

// tellElsewhere tells a process that an object has a value, which a Get brings.
func (c *Core) tellElsewhere(p *process, o *object) {
	b := c.start(p, fb.FrameTypeResult, wire.ResultSize, 0)
	w := c.read.write
	task := w.Task
	*w = fb.ResultT{Task: task, Index: o.index, Flags: uint32(fb.ResultFlagLocated | fb.ResultFlagNotTask | fb.ResultFlagLast)}
	setTask(task, o.entry.id)
	wire.PutResult(b, w)
}

// placed puts together the Result of a worker and the Seal before it. Without a message it was refused.
func (c *Core) placed(p *process, t *task, m *fb.ResultT, f frame) (frame, *fb.ResultT) {
	s, name := p.sealed, id.Object{Task: taskOf(m.Task), Index: m.Index}
	switch {
	case !s.is || s.object != name || m.Flags&uint32(fb.ResultFlagLocated) == 0:
		c.refuse(p, "told of a place without having sealed it")
		return f, nil
	case t.streams() && m.Flags&uint32(fb.ResultFlagLast) != 0:
		c.refuse(p, "ended a stream with a place")
		return f, nil
	case len(f.payload) != 0 || m.Refs != 0 || m.Flags&uint32(fb.ResultFlagError) != 0:
		c.refuse(p, "sent a value and its place, or an error as a place")
		return f, nil
	case !s.there:
		p.sealed = sealed{}
		return f, m
	}
	w, _ := c.readResult(s.frame)
	m.Format, m.Refs, m.Size = w.Format, w.Refs, w.Size
	whole, _, _ := cut(s.frame)
	return whole, m
}

// unseal ends what placed began: the object has its value, or the process is gone or refused before it told of it.
func (c *Core) unseal(p *process) {
	s := p.sealed
	p.sealed = sealed{}
	if !s.there {
		return
	}
	c.memory.give(s.frame)
	c.cfg.Store.Unview(p.id, s.object)
	if o := c.lookup(s.object); o == nil || !o.placed {
		c.cfg.Store.Free(s.object)
	}
}
