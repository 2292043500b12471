package session

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// state is how far an object is, as this process knows.
type state uint8

const (
	pending  state = iota // the result of a call from here: it comes without a question
	remote                // another process's; nobody has asked
	checked               // asked whether it is there
	asked                 // asked for
	there                 // it is there, and its value is not here
	fetching              // it is there, and asked for
	here                  // its value is, or why it never will be
)

// object is what is known of one, from the first hold to the last.
type object struct {
	id        id.Object
	state     state
	holds     int
	delivered uint32 // times that the agent sent a reference
	value     *Value
	fault     error
	gates     []*gate
}

// Value is an object's bytes.
type Value struct {
	Failed bool // they are a Failure
	Format fb.Format
	Bytes  []byte
	Away   bool // of an argument: it is to be asked for, with HoldArgument

	notTask bool
	read    bool    // by somebody
	refs    []*Hold // inside of it
	view    *view   // that Bytes are; nil: they are the garbage collector's
	readers int     // who look at it
	over    []func()
}

// drop lets go of what a value names, and of the memory that it lies in, once nobody looks at it.
func (v *Value) drop(s *Session) {
	v.whenUnread(func() {
		for _, h := range v.refs {
			h.releaseLocked()
		}
		v.refs = nil
		if v.view != nil {
			v.view.end(s)
			v.view, v.Bytes = nil, nil
		}
	})
}

// whenUnread does something now, or when the last reader has done. With the session locked.
func (v *Value) whenUnread(do func()) {
	if v.readers > 0 {
		v.over = append(v.over, do)
		return
	}
	do()
}

// unread ends one look at a value.
func (v *Value) unread() {
	if v.readers--; v.readers > 0 {
		return
	}
	over := v.over
	v.over = nil
	for _, do := range over {
		do()
	}
}

// Hold is one reference of this process to an object.
type Hold struct {
	s        *Session
	o        *object
	released atomic.Bool
}

// ID names the object.
func (h *Hold) ID() id.Object { return h.o.id }

// Session is the one that the hold belongs to.
func (h *Hold) Session() *Session { return h.s }

// Released tells whether Release was called.
func (h *Hold) Released() bool { return h.released.Load() }

// Release ends the hold. A second one does nothing.
func (h *Hold) Release() {
	if h == nil || h.released.Load() {
		return
	}
	h.s.mu.Lock()
	h.releaseLocked()
	h.s.mu.Unlock()
	h.s.Flush()
}

func (h *Hold) releaseLocked() {
	if h.released.Swap(true) {
		return
	}
	s, o := h.s, h.o
	if o.holds--; o.holds > 0 || s.why != nil {
		return
	}
	delete(s.objects, o.id)
	if o.id.Index == 0 {
		delete(s.actors, o.id.Task) // if it is one
	}
	if o.value == nil {
		s.tellReleased(o)
		return
	}
	o.value.drop(s)
	o.value.whenUnread(func() { s.tellReleased(o) })
}

// tellReleased tells the agent that nothing here needs an object (SES-1).
func (s *Session) tellReleased(o *object) {
	if s.memory != nil {
		s.memory.forget(o.id)
	}
	_, f := work.Extend(nil, fb.FrameTypeRelease, 0)
	work.Release(f).SetObject(o.id)
	work.Release(f).SetDeliveries(o.delivered)
	s.Send(f)
}

// newLocked makes an object that this process is the first to know.
func (s *Session) newLocked(name id.Object, at state) *Hold {
	o := &object{id: name, state: at, holds: 1}
	s.objects[name] = o
	return &Hold{s: s, o: o}
}

// Again gives one more hold on an object that is held here; nil: it is not.
func (s *Session) Again(name id.Object) *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.AgainLocked(name)
}

// AgainLocked is Again with the session locked.
func (s *Session) AgainLocked(name id.Object) *Hold {
	o := s.objects[name]
	if o == nil {
		return nil
	}
	o.holds++
	return &Hold{s: s, o: o}
}

// DeliveredLocked notes a reference that the agent sent.
func (s *Session) DeliveredLocked(name id.Object) *Hold {
	h := s.AgainLocked(name)
	if h == nil {
		h = s.newLocked(name, remote)
	}
	h.o.delivered++
	return h
}

// ReferencesLocked takes the references that a payload begins with, and gives the rest of it.
func (s *Session) ReferencesLocked(n int, payload []byte) ([]*Hold, []byte) {
	if n == 0 {
		return nil, payload
	}
	holds := make([]*Hold, n)
	for i := range holds {
		holds[i] = s.DeliveredLocked(work.ObjectAt(payload[i*work.ObjectSize:]))
	}
	return holds, payload[n*work.ObjectSize:]
}

// ReleaseLocked ends holds with the session locked.
func ReleaseLocked(holds []*Hold) {
	for _, h := range holds {
		h.releaseLocked()
	}
}

// HoldsLocked tells whether this process holds any object.
func (s *Session) HoldsLocked() bool { return len(s.objects) > 0 }

// ValueLocked gives the value of a held object, nil if it is not here.
func (h *Hold) ValueLocked() *Value { return h.o.value }

// DropLocked lets go of an argument's value.
func (v *Value) DropLocked(s *Session) { v.drop(s) }

// result takes in a Result frame.
func (s *Session) result(f work.Result, payload []byte) {
	name := id.Object{Task: f.Task(), Index: f.Index()}
	flags := fb.ResultFlag(f.Flags())
	refs, payload := s.ReferencesLocked(int(f.Refs()), payload)
	o := s.objects[name]
	v := &Value{Failed: flags&fb.ResultFlagError != 0, Format: f.Format(), notTask: flags&fb.ResultFlagNotTask != 0, refs: refs}
	if !s.ofMany(name, o, v, flags, payload) {
		s.take(name, o, v, flags, payload)
	}
}

// take takes in a value, or where it is. o: the object's entry, or nil.
func (s *Session) take(name id.Object, o *object, v *Value, flags fb.ResultFlag, payload []byte) {
	if flags&fb.ResultFlagLocated != 0 {
		s.located(name, o, v, payload)
		return
	}
	v.Bytes = append([]byte(nil), payload...)
	s.arrive(name, o, v)
}

// arrive takes in a value whose bytes are here. o: the object's entry when it came, or nil.
func (s *Session) arrive(name id.Object, o *object, v *Value) {
	switch {
	case o == nil:
		if s.hooks.Work == nil || !s.hooks.Work.Argument(name, v) {
			v.drop(s)
		}
	case o.state == here || s.objects[name] != o:
		v.drop(s)
	default:
		s.settle(o, v, nil)
	}
}

// ready takes in the answer to a question whether an object is there.
func (s *Session) ready(f work.Ready) {
	o := s.objects[f.Object()]
	if o == nil || o.state == pending || o.state == here {
		return
	}
	switch st := f.State(); {
	case st == fb.ObjectStateThere, st == fb.ObjectStateError && o.state == checked:
		if o.state == checked {
			s.there(o)
			return
		}
		s.passGates(o)
	default:
		s.settle(o, nil, &Fault{Code: CodeLost, Message: fmt.Sprintf("the value of %s is lost: make it again", Name(o.id)), Task: o.id.Task})
	}
}

// gate waits for objects.
type gate struct {
	missing int
	exist   bool // that they exist is enough
	early   bool // one that failed opens it
	open    bool
	ch      chan struct{}
}

func (g *gate) arrived(failed bool) {
	g.missing--
	if (g.missing <= 0 || failed && g.early) && !g.open {
		g.open = true
		close(g.ch)
	}
}

// waitsAt has a gate hear of an object; false: once more.
func (o *object) waitsAt(g *gate) bool {
	n := len(o.gates)
	o.gates = append(o.gates, g)
	return n == 0 || o.gates[n-1] != g
}

// settle gives an object its value, or says why there will never be one.
func (s *Session) settle(o *object, v *Value, fault error) {
	o.state, o.value, o.fault = here, v, fault
	gates := o.gates
	o.gates = nil
	for _, g := range gates {
		g.arrived(fault != nil || v.Failed)
	}
}

// there notes that an object exists; who waits for its value has it asked for.
func (s *Session) there(o *object) {
	o.state = there
	s.passGates(o)
	if len(o.gates) > 0 {
		s.ask(o)
	}
}

// passGates tells those who wait only for an object's being.
func (s *Session) passGates(o *object) {
	kept := o.gates[:0]
	for _, g := range o.gates {
		if g.exist {
			g.arrived(false)
		} else {
			kept = append(kept, g)
		}
	}
	clear(o.gates[len(kept):])
	o.gates = kept
}

// ask has the agent send an object's value, unless it is coming.
func (s *Session) ask(o *object) {
	switch o.state {
	case remote, checked:
		o.state = asked
	case there:
		o.state = fetching
	default:
		return
	}
	s.question(o, fb.WantValue)
}

func (s *Session) question(o *object, want fb.Want) {
	_, f := work.Extend(nil, fb.FrameTypeGet, 0)
	work.Get(f).SetObject(o.id)
	work.Get(f).SetWant(want)
	s.Send(f)
	s.Flush()
}

// Get waits until all values are here, or one is an error.
func (s *Session) Get(ctx context.Context, holds []*Hold) error {
	s.mu.Lock()
	g := &gate{early: true, ch: make(chan struct{})}
	failed := false
	for _, h := range holds {
		if h.released.Load() {
			s.mu.Unlock()
			return &Fault{Code: CodeLost, Message: "the reference to " + Name(h.o.id) + " was released", Task: h.o.id.Task}
		}
		if h.o.state == here {
			failed = failed || h.o.fault != nil || h.o.value.Failed
		}
	}
	var missing []id.Object
	if !failed {
		for _, h := range holds {
			if h.o.state != here {
				s.ask(h.o)
				g.missing++
				if h.o.waitsAt(g) && len(missing) <= maxNamed {
					missing = append(missing, h.o.id)
				}
			}
		}
	}
	waits := g.missing > 0
	s.mu.Unlock()
	if !waits {
		return nil
	}
	return s.wait(ctx, g, holds, missing, len(missing))
}

// Wait waits until n of the objects exist, with a value or an error, and tells which do.
func (s *Session) Wait(ctx context.Context, holds []*Hold, n int) ([]bool, error) {
	if err := s.usable(holds); err != nil {
		return nil, err
	}
	s.mu.Lock()
	g := &gate{missing: n, exist: true, ch: make(chan struct{})}
	for _, h := range holds {
		if h.o.state >= there {
			g.missing--
		}
	}
	waits, need := g.missing > 0, g.missing
	var missing []id.Object
	if waits {
		for _, h := range holds {
			if h.o.state >= there {
				continue
			}
			if h.o.state == remote {
				h.o.state = checked
				s.question(h.o, fb.WantReadiness)
			}
			if !h.o.waitsAt(g) {
				need = max(need-1, 1) // it comes twice at once
			} else if len(missing) <= maxNamed {
				missing = append(missing, h.o.id)
			}
		}
	}
	s.mu.Unlock()
	var err error
	if waits {
		err = s.wait(ctx, g, holds, missing, need)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]bool, len(holds))
	for i, h := range holds {
		out[i] = h.o.state >= there
	}
	return out, err
}

// wait waits at a gate (SES-2) for need of the objects that are missing.
func (s *Session) wait(ctx context.Context, g *gate, holds []*Hold, missing []id.Object, need int) error {
	defer s.unblock(s.block(ctx, missing, need))
	s.Flush()
	var err error
	select {
	case <-g.ch:
		return nil
	case <-s.ended:
		err = s.Err()
	case <-ctx.Done():
		err = ctx.Err()
	}
	var left []id.Object
	s.mu.Lock()
	for _, h := range holds {
		o := h.o
		for i := 0; i < len(o.gates); i++ {
			if o.gates[i] == g {
				o.gates = append(o.gates[:i], o.gates[i+1:]...)
				left = append(left, o.id)
				break
			}
		}
	}
	s.mu.Unlock()
	if err == ctx.Err() && len(left) > 0 {
		return &Fault{Code: "TIMEOUT", Message: s.waited(left, len(holds)) + ": " + err.Error(), Task: left[0].Task, Err: err}
	}
	return err
}

// Block waits until ch is closed; a task frees its CPU meanwhile.
func (s *Session) Block(ctx context.Context, ch <-chan struct{}) error {
	defer s.unblock(s.block(ctx, nil, 0))
	s.Flush()
	select {
	case <-ch:
		return nil
	case <-s.ended:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waited says in explain's words what was waited for.
func (s *Session) waited(left []id.Object, of int) string {
	var b strings.Builder
	if of > 1 {
		fmt.Fprintf(&b, "%d of %d objects are not there, of them ", len(left), of)
	}
	b.WriteString(s.Explain(Name(left[0])))
	return b.String()
}

// Outcome is the value of an object that is here, or what there is in its place; neither if it is not here. A value is to be
// given to Read.
func (h *Hold) Outcome() (*Value, error) {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o := h.o; {
	case o.fault != nil:
		return nil, o.fault
	case o.value != nil && o.value.Failed:
		return nil, FaultOf(o.value.Bytes)
	case o.value != nil:
		o.value.readers++
		return o.value, nil
	case s.why != nil:
		return nil, s.why
	}
	return nil, nil
}
