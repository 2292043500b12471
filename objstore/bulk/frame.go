package bulk

import (
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Range is bytes of an object.
type Range struct {
	Object       id.Object
	Offset, Size int64
	Locate       bool // who asks can read them where they lie, by a fabric
}

const (
	// MaxRange is the most bytes that one range may have.
	MaxRange = 32 << 20
	// Ahead is how many ranges may be under way on one connection.
	Ahead = 16

	maxWhy    = 4 << 10 // bytes of a reason, and of where bytes lie in a fabric
	rangeSize = wire.HeaderSize + wire.RangeSize
	chunkSize = wire.HeaderSize + wire.ChunkSize
)

// appendRange appends the frame that asks for a range.
func appendRange(b []byte, r Range) []byte {
	at := len(b)
	b = append(b, make([]byte, rangeSize)...)
	kind := fb.FrameTypeRange
	if r.Locate {
		kind = fb.FrameTypeLocate // the same bytes by another name
	}
	wire.PutHeader(b[at:], wire.Header{Length: wire.RangeSize, Body: wire.RangeSize, Type: kind, Class: wire.ClassOf(kind)})
	t := r.Object.Task
	wire.PutRange(b[at+wire.HeaderSize:], &fb.RangeT{
		Object: &fb.ObjectIDT{Task: &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}, Index: r.Object.Index},
		Offset: uint64(r.Offset), Size: uint64(r.Size),
	})
	return b
}

// readAsk reads what the side that asks says: a range, or, taken, that it has copied what was handed over to it.
func readAsk(from io.Reader) (r Range, taken bool, err error) {
	var b [rangeSize]byte
	if _, err := io.ReadFull(from, b[:wire.HeaderSize]); err != nil {
		return Range{}, false, err
	}
	h, err := wire.ParseWorkHeader(b[:wire.HeaderSize])
	if err != nil {
		return Range{}, false, err
	}
	switch {
	case (h.Type == fb.FrameTypeRange || h.Type == fb.FrameTypeLocate) && h.Length == wire.RangeSize && h.Flags == 0:
		r, err = readRange(from, b[wire.HeaderSize:])
		r.Locate = h.Type == fb.FrameTypeLocate
		return r, false, err
	case h.Type == fb.FrameTypeChunk && h.Length == wire.ChunkSize && h.Flags == 0:
		var m fb.ChunkT
		if _, err := io.ReadFull(from, b[:wire.ChunkSize]); err != nil {
			return Range{}, false, noEOF(err)
		}
		if err := wire.ReadChunk(b[:wire.ChunkSize], &m); err != nil || m.State != fb.ChunkStateTaken {
			return Range{}, false, fmt.Errorf("bulk: a chunk of state %d, where a range was to be asked for", m.State)
		}
		return Range{}, true, nil
	}
	return Range{}, false, fmt.Errorf("bulk: %s of %d bytes, where a range was to be asked for", h.Type, h.Length)
}

// readRange reads a range, behind its header.
func readRange(from io.Reader, b []byte) (Range, error) {
	if _, err := io.ReadFull(from, b); err != nil {
		return Range{}, noEOF(err)
	}
	var m fb.RangeT
	if err := wire.ReadRange(b, &m); err != nil {
		return Range{}, err
	}
	if m.Size == 0 || m.Size > MaxRange || m.Offset > 1<<62 {
		return Range{}, fmt.Errorf("bulk: %d bytes at %d were asked for; one range has 1 to %d", m.Size, m.Offset, MaxRange)
	}
	t := m.Object.Task
	return Range{Object: id.Object{Task: id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}, Index: m.Object.Index}, Offset: int64(m.Offset), Size: int64(m.Size)}, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendChunk appends what comes before the payload of an answer, or of what was taken.
func appendChunk(b []byte, state fb.ChunkState, version uint32, payload int) []byte {
	at := len(b)
	b = append(b, make([]byte, chunkSize)...)
	wire.PutHeader(b[at:], wire.Header{Length: uint32(wire.ChunkSize + payload), Body: wire.ChunkSize, Type: fb.FrameTypeChunk, Class: wire.ClassOf(fb.FrameTypeChunk)})
	wire.PutChunk(b[at+wire.HeaderSize:], &fb.ChunkT{State: state, Version: version})
	return b
}

// readChunk reads what comes before the payload, and how long that is.
func readChunk(from io.Reader) (m fb.ChunkT, payload int64, err error) {
	var b [chunkSize]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return m, 0, err
	}
	h, err := wire.ParseWorkHeader(b[:])
	if err != nil {
		return m, 0, err
	}
	if h.Type != fb.FrameTypeChunk || h.Body != wire.ChunkSize || h.Flags != 0 {
		return m, 0, fmt.Errorf("bulk: %s came, where a chunk was to come", h.Type)
	}
	err = wire.ReadChunk(b[wire.HeaderSize:], &m)
	return m, int64(h.Length - h.Body), err
}
