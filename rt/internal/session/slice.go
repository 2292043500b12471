package session

import (
	"context"
	"encoding/binary"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// What is what the agent says of a value that lies at another node.
type What struct {
	Size    uint64
	Format  fb.Format
	Version uint32 // of ranges that are asked for next
}

const whatSize = 16

// Here tells whether an object's value, or an error in its place, is in this process.
func (h *Hold) Here() bool {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return h.o.state == here
}

// Slice is a range that was asked for and is on its way. It is read once.
type Slice struct {
	h    *Hold // on the object that the range becomes
	of   *Hold
	size uint64
}

// Measure asks what the value of an object is of which ranges are wanted.
func (s *Session) Measure(of *Hold) *Slice { return s.Slice(of, 0, 0, 0) }

// What is the answer to Measure. false: all of the value is to be got, since it lies at this node, or nobody knows.
func (x *Slice) What(ctx context.Context) (w What, ok bool, err error) {
	err = x.read(ctx, func(b []byte) {
		if ok = len(b) == whatSize; ok {
			w = What{binary.LittleEndian.Uint64(b), fb.Format(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint32(b[12:])}
		}
	})
	return w, ok, err
}

// Slice asks for size bytes of an object's value from offset on, which the agent begins to bring at once.
func (s *Session) Slice(of *Hold, offset, size uint64, version uint32) *Slice {
	name := id.Object{Task: s.Mint()}
	s.mu.Lock()
	h := s.newLocked(name, remote)
	s.mu.Unlock()
	_, f := work.Extend(nil, fb.FrameTypeSlice, 0)
	m := work.Slice(f)
	m.SetObject(name)
	m.SetOf(of.o.id)
	m.SetOffset(offset)
	m.SetSize(size)
	m.SetVersion(version)
	s.Send(f)
	s.Flush()
	return &Slice{h, of, size}
}

// Read waits for the range and copies it. false: it can't be had alone, and all of the value is to be got.
func (x *Slice) Read(ctx context.Context, into []byte) (ok bool, err error) {
	err = x.read(ctx, func(b []byte) {
		if ok = uint64(len(b)) == x.size; ok {
			copy(into, b)
		}
	})
	return ok, err
}

// Release gives up a range that nobody reads any more.
func (x *Slice) Release() { x.h.Release() }

func (x *Slice) read(ctx context.Context, look func([]byte)) error {
	defer x.h.Release()
	return x.h.Look(ctx, func(v *Value) { look(v.Bytes) })
}

// Look waits for an object's value and looks at it, which it does not after an error.
func (h *Hold) Look(ctx context.Context, look func(*Value)) error {
	for {
		if err := h.s.Get(ctx, []*Hold{h}); err != nil {
			return err
		}
		v, err := h.Outcome()
		if err != nil {
			return err
		}
		if v != nil { // else it was here, and has to be asked for anew
			defer h.Read(v)
			look(v)
			return nil
		}
	}
}
