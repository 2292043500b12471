package work

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// maxAttach bounds an Attach, which may bring a driver's environment, and the agent's answer.
const maxAttach = 4 << 20

// RefusedError is the agent's answer to an Attach that it does not take.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "work: the agent refused: " + e.Reason }

// Attach is a process's side of how a work connection begins: hello (purpose and role are filled in), then
// attach. Nothing behind the answer is read, so New comes next. Give the connection a deadline first, and
// clear it afterwards.
func Attach(conn transport.Conn, hello *fb.HelloT, attach *fb.AttachT) (*fb.AttachedT, error) {
	hello.Role, hello.Purpose, hello.Session = fb.RoleClient, fb.PurposeWork, 0
	if _, err := transport.Greet(conn, hello); err != nil {
		return nil, fmt.Errorf("work: attach: %w", err)
	}
	frame, err := AppendMessage(nil, attach, 0, nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(frame); err != nil {
		return nil, fmt.Errorf("work: attach: %w", err)
	}
	m, err := one(conn)
	if err != nil {
		return nil, fmt.Errorf("work: attach: %w", err)
	}
	switch m := m.(type) {
	case *fb.AttachedT:
		return m, nil
	case *fb.GoodbyeT:
		return nil, &RefusedError{m.Reason}
	}
	return nil, fmt.Errorf("work: attach: %w: answered with %s", transport.ErrProtocol, wire.TypeOf(m))
}

// Attaching is the agent's side, after transport.Answer: what the process says of itself. The answer, Attached or a
// Goodbye with the reason, is the first frame of the Conn that New makes.
func Attaching(conn io.Reader) (*fb.AttachT, error) {
	m, err := one(conn)
	if err != nil {
		return nil, fmt.Errorf("work: attach: %w", err)
	}
	attach, ok := m.(*fb.AttachT)
	if !ok {
		return nil, fmt.Errorf("work: attach: %w: began with %s", transport.ErrProtocol, wire.TypeOf(m))
	}
	return attach, nil
}

// one reads one frame without payload, and nothing behind it.
func one(r io.Reader) (wire.Message, error) {
	frame := make([]byte, wire.HeaderSize, 512)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	if n := binary.LittleEndian.Uint32(frame); n <= maxAttach {
		frame = append(frame, make([]byte, n)...)
	}
	h, err := wire.ParseWorkHeader(frame)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrProtocol, err)
	}
	if int(h.Length) != len(frame)-wire.HeaderSize || h.Body != h.Length || h.Flags != 0 {
		return nil, fmt.Errorf("%w: %s of %d bytes is no answer", transport.ErrProtocol, h.Type, h.Length)
	}
	if _, err := io.ReadFull(r, frame[wire.HeaderSize:]); err != nil {
		return nil, err
	}
	m, err := Frame(frame).Message()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrProtocol, err)
	}
	return m, nil
}
