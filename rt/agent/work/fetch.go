package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A value that lies in a node's memory goes to another node beside the frames. Who has it tells of it: by a Result that is
// located and names no place, which counts as one delivery of the object. Who wants it has its bytes fetched into its own
// memory, and goes on as if the Result came only then: what comes for the same task behind it waits.

// fetches are values on their way from one agent, of which there may be thousands.
type fetches struct {
	list []*fetch
	of   map[id.Object]*fetch
}

// fetch is a value on its way here.
type fetch struct {
	object id.Object
	frame  []byte // the Result that told of it, and pins what it names
	again  bool   // it was told of once more
	void   bool   // the task that gave it is tried again, and may give another value under that name

	urgency Urgency
	at      int // in its agent's fetches
}

// add begins a fetch.
func (l *fetches) add(k *fetch) {
	if l.of == nil {
		l.of = map[id.Object]*fetch{}
	}
	k.at = len(l.list)
	l.list, l.of[k.object] = append(l.list, k), k
}

// remove ends one.
func (l *fetches) remove(k *fetch) {
	n := len(l.list) - 1
	last := l.list[n]
	l.list[k.at], last.at = last, k.at
	l.list[n] = nil
	l.list = l.list[:n]
	delete(l.of, k.object)
}

// tellOf tells another agent of a value that lies here.
func (c *Core) tellOf(p *process, frame []byte) {
	m, payload := c.readResult(frame)
	name, size, names := id.Object{Task: taskOf(m.Task), Index: m.Index}, m.Size, payload[:m.Refs*objectSize]
	head := c.resultFrame(name, m.Attempt, fb.ResultFlag(m.Flags), m.Format, m.Refs, names)
	c.setSize(head, size)
	for i := range len(names) / objectSize {
		c.deliver(p, objectAt(names, i))
	}
	c.deliver(p, name)
	c.forward(p, slices.Clone(head))
	c.memory.give(head)
}

// setSize says in a Result how large its value is, wherever that lies.
func (c *Core) setSize(frame []byte, size uint64) {
	m, _ := c.readResult(frame)
	m.Size = size
	wire.PutResult(frame[wire.HeaderSize:], m)
}

// fetch has a value brought of which another agent has told, with refs that are held.
func (c *Core) fetch(p *process, f frame, m *fb.ResultT) *fetch {
	name := id.Object{Task: taskOf(m.Task), Index: m.Index}
	if k := p.fetching(name); k != nil {
		k.again = true
		if old := k.frame; k.void {
			k.frame = slices.Clone(f.whole)
			c.pinNames(k.frame)
			c.unpinNames(old)
		}
		return k
	}
	k := &fetch{object: name, frame: slices.Clone(f.whole), urgency: c.urgency(name)}
	c.pinNames(k.frame)
	p.fetches.add(k)
	c.out = append(c.out, Effect{Do: Fetch, Process: p.id, Object: name, Key: m.Size, Urgency: k.urgency})
	return k
}

// urgency tells for what an object is wanted that is not here.
func (c *Core) urgency(name id.Object) Urgency {
	o, most := c.lookup(name), Unasked
	if o == nil || o.waiting == nil {
		return most
	}
	for w := o.waiting.next; ; w = w.next {
		if most = min(most, w.urgency()); w == o.waiting || most == Awaited {
			return most
		}
	}
}

// urgency is that of what somebody waits for.
func (w *waiter) urgency() Urgency {
	switch {
	case w.task != nil:
		return Argument
	case w.want == fb.WantReadiness:
		return Unasked
	}
	return Awaited
}

// hasten has a value that is on its way here come sooner, if it is more urgent to who waits for it now than it was.
func (c *Core) hasten(o *object, u Urgency) {
	p := c.home(o)
	if t := o.entry.task; p == nil && t != nil && t.fetching != nil && t.worker != nil {
		p = t.worker.process
	}
	if p == nil {
		return
	}
	if k := p.fetching(o.id()); k != nil && u < k.urgency {
		k.urgency = u
		c.out = append(c.out, Effect{Do: Hasten, Process: p.id, Object: k.object, Urgency: u})
	}
}

// fetching gives the fetch of an object from an agent; nil: there is none.
func (p *process) fetching(name id.Object) *fetch { return p.fetches.of[name] }

// pinNames keeps what a Result names while it is neither a value yet nor dropped.
func (c *Core) pinNames(frame []byte) {
	m, payload := c.readResult(frame)
	for i := range int(m.Refs) {
		c.lookup(objectAt(payload, i)).pins++
	}
}

func (c *Core) unpinNames(frame []byte) {
	m, payload := c.readResult(frame)
	for i := range int(m.Refs) {
		c.unpin(c.lookup(objectAt(payload, i)))
	}
}

// onFetched: a value is here, or can't be had.
func (c *Core) onFetched(ev Fetched) {
	if c.onSliced(ev) {
		return
	}
	p := c.byProcess[ev.Process]
	var k *fetch
	if p != nil {
		k = p.fetching(ev.Object)
	}
	if k == nil { // its agent is lost
		if ev.Why == "" {
			c.cfg.Store.Free(ev.Object)
		}
		return
	}
	if ev.Anew || k.again && (k.void || ev.Why != "") {
		if ev.Why == "" {
			c.cfg.Store.Free(ev.Object)
		}
		if k.again {
			k.again, k.void = false, false
		}
		m, _ := c.readResult(k.frame)
		c.out = append(c.out, Effect{Do: Fetch, Process: p.id, Object: ev.Object, Key: m.Size, Urgency: k.urgency})
		return
	}
	p.fetches.remove(k)
	if ev.Why != "" {
		c.missed(p, k, ev)
	} else {
		c.came(p, k, ev)
	}
	c.unpinNames(k.frame)
	c.move(c.lookup(ev.Object))
	if p.kind == Host && !p.early { // what an owner sent may be for a frame that is still to come
		c.settleLent(p)
	}
}

// came gives a value that is here to whom it is for.
func (c *Core) came(p *process, k *fetch, ev Fetched) {
	value := c.fetched(k, ev)
	if t := c.runningAt(p, ev.Object.Task); t != nil && t.fetching == k {
		c.resume(p, t, value)
		c.releaseTo(p, ev.Object, 1)
	} else if o := c.lookup(ev.Object); o != nil && c.home(o) == p && o.state == objectPending {
		m, _ := c.readResult(value)
		m.Flags = m.Flags&uint32(fb.ResultFlagError|fb.ResultFlagLocated) | uint32(fb.ResultFlagNotTask|fb.ResultFlagLast)
		m.Attempt = 0
		wire.PutResult(value[wire.HeaderSize:], m)
		c.settle(o, value)
		c.copied(o)
	} else if o != nil && c.home(o) == p && o.state == objectAway {
		c.arriveHome(o, value)
	}
	if o := c.lookup(ev.Object); o == nil || !o.placed { // nobody wants it any more
		c.cfg.Store.Free(ev.Object)
	}
}

// fetched makes the Result of a value that lies here now.
func (c *Core) fetched(k *fetch, ev Fetched) []byte {
	m, names := c.readResult(k.frame)
	attempt, flags, format, refs, size := m.Attempt, fb.ResultFlag(m.Flags), m.Format, m.Refs, m.Size
	return c.locatedFrame(k.object, attempt, flags, format, refs, names[:refs*objectSize], ev.Arena, ev.Offset, size)
}

// locatedFrame makes the Result of a value that lies in this node's memory.
func (c *Core) locatedFrame(name id.Object, attempt uint32, flags fb.ResultFlag, format fb.Format, refs uint32, names []byte, arena uint64, offset int64, size uint64) []byte {
	var place [wire.LocationSize]byte
	wire.PutLocation(place[:], &fb.LocationT{Kind: fb.LocationKindMemory, Agent: uint32(c.cfg.Agent), Arena: arena, Offset: uint64(offset), Size: size})
	value := c.resultFrame(name, attempt, flags|fb.ResultFlagLocated, format, refs, append(slices.Clip(names), place[:]...))
	c.setSize(value, size)
	return value
}

// toldOf takes in that a task of ours at another agent has given a value that lies there. true: it is fetched; else it
// stays there, or nobody wants it, and what remains of the Result is in f.
func (c *Core) toldOf(p *process, t *task, m *fb.ResultT, f *frame) bool {
	o := t.entry.object(m.Index)
	if o != nil && o.missing() && t.remakable() {
		return false // it may stay there
	}
	if t.streams() && m.Index == t.items && m.Flags&uint32(fb.ResultFlagLast) == 0 || o != nil && o.missing() {
		t.fetching = c.fetch(p, *f, m)
		return true
	}
	name := id.Object{Task: taskOf(m.Task), Index: m.Index}
	c.releaseTo(p, name, 1)
	c.unlocated(m, f)
	return false
}

// unlocated leaves of a Result that nobody wants the value of that it came.
func (c *Core) unlocated(m *fb.ResultT, f *frame) {
	name, flags := id.Object{Task: taskOf(m.Task), Index: m.Index}, fb.ResultFlag(m.Flags)&^fb.ResultFlagLocated
	*f, _, _ = cut(c.resultFrame(name, m.Attempt, flags, m.Format, 0, nil))
	_ = wire.ReadResult(f.body, m)
}

// resume takes in a Result whose value was fetched, and those that came behind it.
func (c *Core) resume(p *process, t *task, value []byte) {
	name, behind := t.id(), t.behind
	t.fetching, t.behind = nil, nil
	f, _, _ := cut(value)
	m := c.read.result
	_ = wire.ReadResult(f.body, m)
	m.Attempt = t.attempt
	c.outcome(p, t, m, f)
	c.memory.give(value)
	for i, whole := range behind {
		c.frameBehind(p, whole)
		if u := c.runningAt(p, name); u != nil && u.fetching != nil { // the next one
			u.behind = append(u.behind, behind[i+1:]...)
			return
		}
	}
}

// frameBehind takes in what waited: a Result, or the end of the task's actor.
func (c *Core) frameBehind(p *process, whole []byte) {
	f, _, _ := cut(whole)
	if f.kind == fb.FrameTypeActorState {
		c.hostFrame(p, f)
		return
	}
	c.onResult(p, f)
}

// endBehind has the end of an actor wait for a value that it has given; false: none is on its way.
func (c *Core) endBehind(w *worker, whole []byte) bool {
	for t := w.flight.head; t != nil; t = t.listed {
		if t.fetching != nil {
			t.behind = append(t.behind, slices.Clone(whole))
			return true
		}
	}
	return false
}

// dropBehind lets go of Results of a task that is not at its agent any more, and of what they name.
func (c *Core) dropBehind(p *process, t *task) {
	k, behind := t.fetching, t.behind
	t.fetching, t.behind = nil, nil
	k.void = true
	c.releaseTo(p, k.object, 1)
	for i := 0; i < len(behind) && !p.gone; i++ {
		f, _, _ := cut(behind[i])
		if f.kind == fb.FrameTypeActorState {
			c.hostFrame(p, f)
			continue
		}
		m := c.read.write
		if wire.ReadResult(f.body, m) != nil || uint64(m.Refs)*objectSize > uint64(len(f.payload)) {
			continue
		}
		located, name := m.Flags&uint32(fb.ResultFlagLocated) != 0, id.Object{Task: taskOf(m.Task), Index: m.Index}
		for i := range int(m.Refs) {
			c.receive(p, objectAt(f.payload, i))
		}
		if located {
			c.releaseTo(p, name, 1)
		}
	}
	if p.kind == Host {
		c.settleLent(p)
	}
}

// forgetFetches: an agent is lost, and with it what was on its way from there.
func (c *Core) forgetFetches(p *process) {
	for _, k := range p.fetches.list {
		c.unpinNames(k.frame)
	}
	p.fetches = fetches{}
	c.forgetSlices(p)
}
