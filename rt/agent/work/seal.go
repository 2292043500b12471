package work

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Store is where large values lie: memory that processes share, in arenas, whose numbers are not used twice. It is
// asked inside of Step, so that a place is known before anybody is told of it.
type Store interface {
	// Seal takes over what a process has written. That process holds it then, once.
	Seal(p id.Process, o id.Object, m *fb.SealT) (arena uint64, offset int64, err error)
	// Discard takes back what a process has written and nobody wants.
	Discard(p id.Process, m *fb.SealT)
	// View: a process is to hold the object, once more, and may be told where it lies; it gives the arena.
	View(p id.Process, o id.Object) (arena uint64)
	// Unview undoes one View, or Seal's.
	Unview(p id.Process, o id.Object)
	// Free: nothing names the object any more.
	Free(o id.Object)
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
	switch {
	case t != nil && t.kind == create:
		c.refuse(p, "sealed what an actor's constructor gives: that is nothing")
	case t == nil && (!c.minted(p, name.Task) || name.Index != 0):
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
		o := c.newObject(c.newEntry(name.Task), 0)
		c.hold(p, o).made = true
		c.settle(o, value)
		c.cfg.Store.Unview(p.id, name)
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

// view has a process hold what lies in the store, and meet the arena.
func (c *Core) view(p *process, o *object) {
	if p.remote() {
		return // it is sent bytes
	}
	arena := c.cfg.Store.View(p.id, o.id())
	if p.gone || p.met[arena] {
		return
	}
	if p.met == nil {
		p.met = map[uint64]bool{}
	}
	p.met[arena] = true
	c.room(p, 0)
	c.flush(p)
	c.out = append(c.out, Effect{Do: Meet, Process: p.id, Key: arena})
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
