package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// memory is the node's shared memory as this session uses it: large values are written there, and looked at where they
// lie. Who holds what is counted by the session alone, so the client's own releases go nowhere.
//
// Locks: the session's comes before the client's. What the client says is only appended.
type memory struct {
	s      *Session
	client *client.Client
	told   sync.Map // id.Object to Around: of its Seal
	// The session's lock guards what follows.
	parked   map[uint64][]func()  // by arena: places in it that were told of before it
	seen     map[id.Object]uint32 // places that the agent told, and own Seals, of what may be looked at
	recalled map[id.Object]bool   // of those: the agent wants to hear when they are not looked at any more
}

// view is a place that is looked at.
type view struct {
	*client.View
	object id.Object
	own    *Hold // of an argument, which nobody else holds
}

func newMemory(s *Session) *memory {
	m := &memory{s: s, parked: map[uint64][]func(){}, seen: map[id.Object]uint32{}, recalled: map[id.Object]bool{}}
	m.client = client.New(m)
	return m
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

// takes tells whether frames of a type are about memory.
func (m *memory) takes(t wire.Type) bool {
	switch t {
	case fb.FrameTypeSlab, fb.FrameTypeSlabRecall, fb.FrameTypeArena, fb.FrameTypeArenaGone, fb.FrameTypeViewRecall:
		return true
	}
	return false
}

// frame takes in one of these; file is the descriptor that came along, or nil.
func (m *memory) frame(f work.Frame, file *os.File) error {
	msg, err := f.Message()
	if err != nil {
		closeFile(file)
		return err
	}
	defer m.s.Flush()
	switch msg := msg.(type) {
	case *fb.SlabT:
		if msg.Error != "" {
			closeFile(file)
			code := CodeFull
			if msg.Code != "" {
				code = msg.Code
			}
			return m.client.Refused(&Fault{Code: code, Message: msg.Error})
		}
		return m.client.Lent(client.Lease{
			Slab: msg.Slab, Arena: msg.Arena, Start: int64(msg.Start), Size: int64(msg.Size), From: int64(msg.From), To: int64(msg.To),
		}, file)
	case *fb.ArenaT:
		if file == nil {
			return errors.New("an arena without its descriptor")
		}
		err := m.client.Arena(msg.Arena, file)
		parked := m.parked[msg.Arena]
		delete(m.parked, msg.Arena)
		for _, look := range parked {
			look()
		}
		return err
	}
	closeFile(file)
	switch msg := msg.(type) {
	case *fb.SlabRecallT:
		return m.client.Recall(msg.Slab)
	case *fb.ArenaGoneT:
		return m.client.Gone(msg.Arena)
	case *fb.ViewRecallT:
		m.recall(id.Object{Task: TaskOf(msg.Task), Index: msg.Index})
	}
	return nil
}

// recall hears that the agent wants to move an object. A value that was read is not kept for that.
func (m *memory) recall(name id.Object) {
	if m.seen[name] == 0 {
		return // it was let go of, which is on its way
	}
	m.recalled[name] = true
	if o := m.s.objects[name]; o != nil {
		m.s.forgoLocked(o)
	}
	if !m.left(name) {
		m.sayEnd(name, 0)
	}
}

// left tells the agent of an object for which it asked that nobody here looks at it; false: somebody does.
func (m *memory) left(name id.Object) bool {
	if !m.recalled[name] {
		return true
	}
	if m.client.Viewed(name) {
		return false
	}
	m.sayEnd(name, m.seen[name])
	m.forget(name)
	return true
}

func (m *memory) sayEnd(name id.Object, seen uint32) {
	_ = m.say(&fb.ViewEndT{Task: TaskT(name.Task), Index: name.Index, Seen: seen}) // fails with the connection
}

func (m *memory) forget(name id.Object) {
	delete(m.seen, name)
	delete(m.recalled, name)
}

// forgoLocked lets go of a value that was read and whose place the agent wants; a Get brings it again.
func (s *Session) forgoLocked(o *object) {
	if v := o.value; v != nil && v.view != nil && v.read && v.readers == 0 {
		o.state, o.value = there, nil
		v.drop(s)
	}
}

// leave ends writing.
func (m *memory) leave() { _ = m.client.Close() } // what can't be unmapped goes with the process

// The client's words to the agent.

func (m *memory) say(msg wire.Message) error { return m.s.Say(msg, 0, nil) }

func (m *memory) WantSlab(size int64) error { return m.say(&fb.SlabWantedT{Size: uint64(size)}) }

func (m *memory) Withdraw() error { return m.say(&fb.SlabWantedT{}) }

func (m *memory) Forgo(slab uint64, offset, size int64) error {
	return m.say(&fb.SlabForgoT{Slab: slab, Offset: uint64(offset), Size: uint64(size)})
}

func (m *memory) ReturnSlab(slab uint64) error { return m.say(&fb.SlabReturnT{Slab: slab}) }

func (m *memory) Release(id.Object, uint32) error { return nil }

func (m *memory) Seal(object id.Object, slab uint64, offset, size int64, meta client.Meta) error {
	f := work.Seal(begin(fb.FrameTypeSeal, len(meta.Refs)*work.ObjectSize))
	f.SetObject(object)
	f.SetSlab(slab)
	f.SetOffset(uint64(offset))
	f.SetSize(uint64(size))
	f.SetFormat(fb.Format(meta.Format))
	f.SetRefs(uint32(len(meta.Refs)))
	refs := make([]byte, len(meta.Refs)*work.ObjectSize)
	for i, r := range meta.Refs {
		work.PutObject(refs[i*work.ObjectSize:], r)
	}
	told, _ := m.told.LoadAndDelete(object)
	around, _ := told.(Around)
	if around.Before != nil {
		m.s.Send(around.Before())
	}
	m.s.Send(f, refs, around.Behind)
	m.s.Flush()
	return nil
}

// Shared tells whether a value of so many bytes goes through shared memory.
func (s *Session) Shared(size int) bool { return s.memory != nil && size > s.limit }

// Around are frames around a Seal: what Before gives, made at that moment, and Behind, right behind it.
type Around struct {
	Before func() []byte
	Behind []byte
}

// Seal writes a value into shared memory, with other frames around what tells of it. It waits for room, and fails if there is none.
func (s *Session) Seal(ctx context.Context, object id.Object, v Encoded, around Around) error {
	m := s.memory
	meta := client.Meta{Format: uint32(v.Format)}
	for _, h := range v.Refs {
		meta.Refs = append(meta.Refs, h.o.id)
	}
	if around.Behind != nil {
		m.told.Store(object, around)
		defer m.told.Delete(object)
	}
	defer s.unblock(s.block(ctx, nil, 0))
	var err error
	if v.room != nil {
		err = v.room.Seal(object, meta)
	} else {
		err = m.client.Put(ctx, object, meta, v.Bytes)
	}
	if err == nil {
		return m.client.Drop(object) // the session counts
	}
	return s.noRoom(ctx, err)
}

// Alloc gives a raw value of so many bytes that are to be written: if it is large in shared memory, for which it waits, and fails if there is none.
func (s *Session) Alloc(ctx context.Context, size int) (Encoded, error) {
	if !s.Shared(size) {
		return Encoded{Format: fb.FormatRaw, Bytes: make([]byte, size)}, nil
	}
	defer s.unblock(s.block(ctx, nil, 0))
	b, err := s.memory.client.Alloc(ctx, int64(size))
	if err != nil {
		return Encoded{}, s.noRoom(ctx, err)
	}
	return Encoded{Format: fb.FormatRaw, Bytes: b.Bytes(), room: b}, nil
}

// noRoom says why a value has not come into shared memory.
func (s *Session) noRoom(ctx context.Context, err error) error {
	var full *Fault
	switch {
	case errors.As(err, &full):
		return full
	case s.Err() != nil:
		return s.Err()
	}
	return &Fault{Code: CodeFull, Message: err.Error(), Err: ctx.Err()}
}

// putShared makes an object of a large value.
func (s *Session) putShared(ctx context.Context, name id.Object, v Encoded) (*Hold, error) {
	if err := s.usable(v.Refs); err != nil {
		return nil, err
	}
	if err := s.spend(ctx, len(v.Refs)*work.ObjectSize); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.memory.seen[name]++ // before the agent may ask for it
	s.mu.Unlock()
	err := s.Seal(ctx, name, v, Around{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.memory.forget(name)
		return nil, err
	}
	return s.newLocked(name, there), nil
}

// located takes in a value by its place, which counts as a delivery of the object itself. Without a place it says only
// that there is a value; who waits for that has it asked for. o: its entry, or nil.
func (s *Session) located(name id.Object, o *object, v *Value, payload []byte) {
	if len(payload) < wire.LocationSize {
		switch {
		case o == nil: // an argument
			v.Away = true
			s.arrive(name, o, v)
			return
		case o.state < there:
			s.there(o)
		}
		v.drop(s)
		return
	}
	if s.memory != nil {
		s.memory.seen[name]++
	}
	place := work.Location(append([]byte(nil), payload[:wire.LocationSize]...))
	var own *Hold
	if o != nil {
		o.delivered++
	} else {
		own = s.DeliveredLocked(name)
	}
	look := func() error {
		bytes, err := s.look(name, place)
		if err == nil {
			v.view, v.Bytes = &view{bytes, name, own}, bytes.Bytes()
			s.arrive(name, o, v)
		}
		return err
	}
	fail := func(err error) {
		v.drop(s)
		if own != nil {
			own.releaseLocked()
		}
		if o != nil && o.state < here {
			s.settle(o, nil, &Fault{Code: CodeLost, Message: fmt.Sprintf("the value of %s can't be reached here: %v", Name(name), err), Task: name.Task})
		}
	}
	switch err := look(); {
	case err == nil:
	case o != nil && errors.Is(err, client.ErrUnknown): // the result of one's own task may overtake its arena
		s.memory.parked[place.Arena()] = append(s.memory.parked[place.Arena()], func() {
			if err := look(); err != nil {
				fail(err)
			}
		})
	default:
		fail(err)
	}
}

// look opens a view of a place.
func (s *Session) look(name id.Object, place work.Location) (*client.View, error) {
	if s.memory == nil || place.Kind() != fb.LocationKindMemory || id.Agent(place.Agent()) != s.Agent {
		return nil, errors.New("it lies where this process can't look")
	}
	err := s.memory.client.Located(name, client.Location{Arena: place.Arena(), Offset: int64(place.Offset()), Size: int64(place.Size())})
	if err != nil {
		return nil, err
	}
	return s.memory.client.View(name)
}

// end closes a view.
func (v *view) end(s *Session) {
	_ = s.memory.client.Drop(v.object) // dropped by another view of it, which is as well
	_ = v.Release()                    // unmaps an arena that is gone; what can't be unmapped stays
	s.memory.left(v.object)
	if v.own != nil {
		v.own.releaseLocked()
	}
}

// HoldArgument gives a hold on an argument of a task that runs here, which the agent takes down when it is asked for the value.
func (s *Session) HoldArgument(name id.Object) *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.AgainLocked(name); h != nil {
		return h
	}
	return s.newLocked(name, remote)
}

// Read has read a value: one that is large is not kept, since the agent has it.
func (h *Hold) Read(v *Value) {
	s := h.s
	s.mu.Lock()
	if h.o.value == v && len(v.Bytes) > s.limit && !v.Failed && v.view == nil && len(v.refs) == 0 {
		h.o.state, h.o.value = there, nil
	}
	before := len(v.over)
	v.read = true
	v.unread()
	recalled := s.memory != nil && s.memory.recalled[h.o.id]
	if recalled {
		s.forgoLocked(h.o)
	}
	s.mu.Unlock()
	if before > 0 || recalled {
		s.Flush()
	}
}
