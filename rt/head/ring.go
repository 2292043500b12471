package head

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	flatbuffers "github.com/google/flatbuffers/go"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/mapped"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// RingName is the file in the node's directory that holds the last events of the head's core; the ones
// before lie in a second file with ".1" behind its name.
const RingName = "head.ring"

const ringMax = 512 << 10

// ring writes down what the core was told, so that a crash can be replayed. It is an aid: when the disk
// takes nothing it stops, and the head goes on. The file is mapped: what is noted is the file's when the process dies,
// however it does, and costs no call of the kernel.
//
//	file:   record | record | ... | zeros
//	record: length u32 | kind u8 | now i64 | agent u32 | number u64 | type u16 | message or text
//
// number is Corr, Conn, or 1 for a session that was resumed.
type ring struct {
	path string
	file []byte // nil: it stays quiet
	size int    // of all records in it
	buf  []byte // the record that is being made
	b    *flatbuffers.Builder
}

// Kinds of events in a ring. Never reused.
const (
	ringAdmit byte = iota + 1
	ringFromAgent
	ringLinkUp
	ringLinkDown
	ringSilent
	ringLeft
	ringShort
	ringFull
	ringTick
)

func openRing(path string) *ring {
	r := &ring{path: path, b: flatbuffers.NewBuilder(1024)}
	r.rotate(ringMax)
	return r
}

// rotate puts the file aside and begins another, of that size.
func (r *ring) rotate(size int) {
	r.close()
	_ = os.Rename(r.path, r.path+".1")
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil { // to touch what has no place on the disk would end this process
		return
	}
	r.file, _ = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// note writes an event down. An error is the last one: from then on nothing is noted.
func (r *ring) note(now int64, ev Event) error {
	if r == nil || r.file == nil {
		return nil
	}
	kind, agent, number, msg, text := ringTick, id.Agent(0), uint64(0), Message(nil), ""
	var body []byte
	switch e := ev.(type) {
	case Admit:
		kind, number, msg = ringAdmit, uint64(e.Conn), e.Hello
	case FromAgent:
		kind, agent, number, msg, body = ringFromAgent, e.Agent, e.Corr, e.Msg, e.Body
	case LinkUp:
		kind, agent = ringLinkUp, e.Agent
		if e.Resumed {
			number = 1
		}
	case LinkDown:
		kind, agent, text = ringLinkDown, e.Agent, e.Reason
	case Silent:
		kind, agent, text = ringSilent, e.Agent, e.Reason
	case Left:
		kind, agent, text = ringLeft, e.Agent, e.Reason
	case Short:
		kind, text = ringShort, e.Reason
	case Full:
		kind, text = ringFull, e.Reason
	}
	typ := wire.Type(0)
	switch {
	case msg == nil:
		body = []byte(text)
	case body == nil:
		var err error
		if body, err = wire.Marshal(r.b, msg); err != nil {
			return nil
		}
		fallthrough
	default:
		typ = wire.TypeOf(msg)
	}
	r.buf = binary.LittleEndian.AppendUint32(r.buf[:0], uint32(ringHead+len(body)))
	r.buf = append(r.buf, kind)
	r.buf = binary.LittleEndian.AppendUint64(r.buf, uint64(now))
	r.buf = binary.LittleEndian.AppendUint32(r.buf, uint32(agent))
	r.buf = binary.LittleEndian.AppendUint64(r.buf, number)
	r.buf = binary.LittleEndian.AppendUint16(r.buf, uint16(typ))
	r.buf = append(r.buf, body...)
	if r.size+len(r.buf) > len(r.file) {
		r.rotate(max(ringMax, len(r.buf)))
	}
	err := mapped.Touch(func() { r.size += copy(r.file[r.size:], r.buf) })
	if err != nil {
		r.close()
	}
	if cap(r.buf)+cap(r.b.Bytes) > 256<<10 {
		r.buf, r.b = nil, flatbuffers.NewBuilder(1024)
	}
	return err
}

const ringHead = 1 + 8 + 4 + 8 + 2

func (r *ring) close() {
	if r != nil && r.file != nil {
		_ = unix.Munmap(r.file)
		r.file, r.size = nil, 0
	}
}

// ReadEvents gives the events of a ring file to fn, in order. A torn end is no error.
func ReadEvents(r io.Reader, fn func(now int64, ev Event) error) error {
	var size [4]byte
	for n := 1; ; n++ {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return tornIsEnd(err)
		}
		length := binary.LittleEndian.Uint32(size[:])
		if length == 0 { // nothing was written from here on
			return nil
		}
		if length < ringHead || length > wire.MaxMessage {
			return fmt.Errorf("head: ring: event %d has %d bytes: not a ring, or damaged", n, length)
		}
		b, err := io.ReadAll(io.LimitReader(r, int64(length))) // grows with what is there
		if err != nil {
			return fmt.Errorf("head: ring: %w", err)
		}
		if len(b) < int(length) {
			return nil
		}
		ev, err := parseEvent(b)
		if err != nil {
			return fmt.Errorf("head: ring: event %d: %w", n, err)
		}
		if err := fn(int64(binary.LittleEndian.Uint64(b[1:])), ev); err != nil {
			return err
		}
	}
}

func tornIsEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("head: ring: %w", err)
}

func parseEvent(b []byte) (Event, error) {
	agent := id.Agent(binary.LittleEndian.Uint32(b[9:]))
	number := binary.LittleEndian.Uint64(b[13:])
	typ, body := wire.Type(binary.LittleEndian.Uint16(b[21:])), b[ringHead:]
	var msg Message
	if typ != 0 {
		var err error
		if msg, err = wire.Unmarshal(typ, body); err != nil {
			return nil, err
		}
	}
	switch b[0] {
	case ringAdmit:
		h, ok := msg.(*fb.HelloT)
		if !ok {
			return nil, fmt.Errorf("an admission with %s", typ)
		}
		return Admit{Conn(number), h}, nil
	case ringFromAgent:
		if msg == nil {
			return nil, errors.New("a message that is none")
		}
		return FromAgent{Agent: agent, Msg: msg, Corr: number}, nil
	case ringLinkUp:
		return LinkUp{agent, number == 1}, nil
	case ringLinkDown:
		return LinkDown{agent, string(body)}, nil
	case ringSilent:
		return Silent{agent, string(body)}, nil
	case ringLeft:
		return Left{agent, string(body)}, nil
	case ringShort:
		return Short{string(body)}, nil
	case ringFull:
		return Full{string(body)}, nil
	case ringTick:
		return Tick{}, nil
	}
	return nil, fmt.Errorf("kind %d is unknown to this version", b[0])
}
