package work

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Frame is one whole frame that Check let through, or that Extend or AppendMessage made.
type Frame []byte

// Type is the type of the frame's message.
func (f Frame) Type() wire.Type { return wire.Type(binary.LittleEndian.Uint16(f[8:])) }

// Corr ties a reply to its query, 0: none.
func (f Frame) Corr() uint64 { return binary.LittleEndian.Uint64(f[24:]) }

// Body is the bytes of the message.
func (f Frame) Body() []byte {
	end := wire.HeaderSize + binary.LittleEndian.Uint32(f[4:])
	return f[wire.HeaderSize:end:end]
}

// Payload is what follows the body: objects, then a value.
func (f Frame) Payload() []byte { return f[wire.HeaderSize+binary.LittleEndian.Uint32(f[4:]):] }

// HasDescriptor tells whether a descriptor comes along.
func (f Frame) HasDescriptor() bool { return f[11]&wire.FlagDescriptor != 0 }

// Message is the message as a value of its own; the way for all that is not hot.
func (f Frame) Message() (wire.Message, error) { return wire.Unmarshal(f.Type(), f.Body()) }

// Frames goes over the frames of bytes that Check found whole.
func Frames(b []byte) iter.Seq[Frame] {
	return func(yield func(Frame) bool) {
		for len(b) >= wire.HeaderSize {
			n := wire.HeaderSize + int(binary.LittleEndian.Uint32(b))
			if !yield(Frame(b[:n:n])) {
				return
			}
			b = b[n:]
		}
	}
}

// Check tells how many bytes at the start of b are whole frames of a work connection, and refuses the first
// that is none, even if it is not all there yet. Nothing is read beyond the bytes that it lets through.
func Check(b []byte) (whole int, err error) {
	whole, _, err = cut(b, math.MaxInt)
	return whole, err
}

// cut is Check with so many descriptors at hand, and tells how many of them the whole frames have.
func cut(b []byte, descriptors int) (whole, taken int, err error) {
	for len(b)-whole >= wire.HeaderSize {
		h, err := wire.ParseWorkHeader(b[whole:])
		if err != nil {
			return whole, taken, fmt.Errorf("work: %w: %w", transport.ErrProtocol, err)
		}
		n := wire.HeaderSize + int(h.Length)
		if n > len(b)-whole {
			break
		}
		if want := objects(Frame(b[whole:whole+n]), h.Type); want*ObjectSize > uint64(h.Length-h.Body) { // BATCH-2
			return whole, taken, fmt.Errorf("work: %w: %s with a payload of %d bytes names %d objects", transport.ErrProtocol, h.Type, h.Length-h.Body, want)
		}
		if h.Flags&wire.FlagDescriptor != 0 {
			if taken++; taken > descriptors {
				return whole, descriptors, fmt.Errorf("work: %w: %s without its descriptor", transport.ErrProtocol, h.Type)
			}
		}
		whole += n
	}
	return whole, taken, nil
}

// objects is how many ObjectIDs the payload of a hot frame begins with.
func objects(f Frame, t wire.Type) uint64 {
	switch t {
	case fb.FrameTypeSubmit:
		return uint64(Submit(f).Deps()) + uint64(Submit(f).Refs())
	case fb.FrameTypeCall:
		return uint64(Call(f).Deps()) + uint64(Call(f).Refs())
	case fb.FrameTypeResult:
		return uint64(Result(f).Refs())
	case fb.FrameTypePut:
		return uint64(Put(f).Refs())
	case fb.FrameTypeSeal:
		return uint64(Seal(f).Refs())
	}
	return 0
}

// Extend appends a frame whose body is a struct to dst, all zero, with room for a payload. The view of it is
// good until dst grows again.
//
//	dst, f := work.Extend(dst, fb.FrameTypeReady, 0)
//	work.Ready(f).SetObject(o)
func Extend(dst []byte, t wire.Type, payload int) ([]byte, Frame) {
	body := wire.StructSize(t)
	at, n := len(dst), wire.HeaderSize+body+payload
	if cap(dst)-at < n {
		dst = append(dst, make([]byte, n)...)
	} else {
		dst = dst[:at+n]
		clear(dst[at:])
	}
	wire.PutHeader(dst[at:], wire.Header{Length: uint32(body + payload), Body: uint32(body), Type: t, Class: wire.ClassOf(t)})
	return dst, Frame(dst[at : at+n : at+n])
}

// AppendMessage appends a frame of any type to dst.
func AppendMessage(dst []byte, m wire.Message, corr uint64, payload []byte) ([]byte, error) {
	body, err := wire.Marshal(nil, m)
	if err != nil {
		return dst, fmt.Errorf("work: %w", err)
	}
	t := wire.TypeOf(m)
	if len(body)+len(payload) > wire.MaxMessage {
		return dst, fmt.Errorf("work: %s of %d bytes: %w", t, len(body)+len(payload), transport.ErrTooLarge)
	}
	var h [wire.HeaderSize]byte
	wire.PutHeader(h[:], wire.Header{Length: uint32(len(body) + len(payload)), Body: uint32(len(body)), Type: t, Class: wire.ClassOf(t), Corr: corr})
	return append(append(append(dst, h[:]...), body...), payload...), nil
}

// Sizes of identities in bodies and payloads.
const (
	TaskSize   = wire.TaskIDSize
	ObjectSize = wire.ObjectIDSize
)

// TaskAt reads the task at the start of b.
func TaskAt(b []byte) id.Task {
	_ = b[TaskSize-1]
	return id.Task{
		Agent:   id.Agent(binary.LittleEndian.Uint32(b)),
		Process: id.Process(binary.LittleEndian.Uint32(b[4:])),
		Counter: binary.LittleEndian.Uint64(b[8:]),
	}
}

// PutTask writes t to the start of b.
func PutTask(b []byte, t id.Task) {
	_ = b[TaskSize-1]
	binary.LittleEndian.PutUint32(b, uint32(t.Agent))
	binary.LittleEndian.PutUint32(b[4:], uint32(t.Process))
	binary.LittleEndian.PutUint64(b[8:], t.Counter)
}

// ObjectAt reads the object at the start of b; the i-th of a payload begins at i*ObjectSize.
func ObjectAt(b []byte) id.Object {
	return id.Object{Task: TaskAt(b), Index: binary.LittleEndian.Uint32(b[TaskSize:])}
}

// PutObject writes o to the start of b.
func PutObject(b []byte, o id.Object) {
	_ = b[ObjectSize-1]
	PutTask(b, o.Task)
	binary.LittleEndian.PutUint32(b[TaskSize:], o.Index)
	binary.LittleEndian.PutUint32(b[TaskSize+4:], 0)
}
