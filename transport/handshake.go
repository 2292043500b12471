package transport

import (
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// maxHandshake bounds what either side reads before the other is admitted.
const maxHandshake = 16 << 10

// Greet is the dialler's side of the handshake: it sends hello (WireVersion is filled in) and
// returns what the other side answered, or a *RefusedError. Give the connection a deadline first.
func Greet(conn Conn, hello *fb.HelloT) (*fb.WelcomeT, error) {
	hello.WireVersion = wire.Version
	if err := writeFrame(conn, hello); err != nil {
		return nil, fmt.Errorf("transport: greet: %w", err)
	}
	m, err := readFrame(conn)
	if err != nil {
		return nil, fmt.Errorf("transport: greet: %w", err)
	}
	switch m := m.(type) {
	case *fb.WelcomeT:
		if m.WireVersion != wire.Version {
			return nil, &RefusedError{fb.RefuseCodeWireVersion, fmt.Sprintf("the peer (%s) speaks wire version %d, this build %d: use the same maniple on all nodes", m.Build, m.WireVersion, wire.Version)}
		}
		return m, nil
	case *fb.RefuseT:
		return nil, &RefusedError{m.Code, m.Text}
	}
	return nil, fmt.Errorf("transport: greet: %w: answered with %s", ErrProtocol, wire.TypeOf(m))
}

// Answer is the other side: it reads a Hello, asks admit, and sends what admit returned. admit may
// block (it usually asks its owner's loop); exactly one of its results is not nil. The connection
// is admitted if the error is nil; otherwise the caller closes it. Give the connection a deadline.
func Answer(conn Conn, admit func(*fb.HelloT, Peer) (*fb.WelcomeT, *fb.RefuseT)) (*fb.HelloT, *fb.WelcomeT, error) {
	m, err := readFrame(conn)
	if err != nil {
		return nil, nil, fmt.Errorf("transport: answer: %w", err)
	}
	hello, ok := m.(*fb.HelloT)
	if !ok {
		return nil, nil, fmt.Errorf("transport: answer: %w: began with %s", ErrProtocol, wire.TypeOf(m))
	}
	welcome, refuse := admit(hello, conn.Peer())
	if refuse != nil {
		_ = writeFrame(conn, refuse) // best effort: the connection is closed either way
		return hello, nil, &RefusedError{refuse.Code, refuse.Text}
	}
	welcome.WireVersion = wire.Version
	if err := writeFrame(conn, welcome); err != nil {
		return hello, nil, fmt.Errorf("transport: answer: %w", err)
	}
	return hello, welcome, nil
}

// writeFrame writes m as one frame that belongs to no session, in one call of Write.
func writeFrame(w io.Writer, m wire.Message) error {
	b, err := appendFrame(nil, m)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func appendFrame(b []byte, m wire.Message) ([]byte, error) {
	body, err := wire.Marshal(nil, m)
	if err != nil {
		return b, err
	}
	if len(body) > maxHandshake {
		return b, fmt.Errorf("transport: %s of %d bytes: %w", wire.TypeOf(m), len(body), ErrTooLarge)
	}
	t := wire.TypeOf(m)
	at := len(b)
	b = append(b, make([]byte, wire.HeaderSize)...)
	wire.PutHeader(b[at:], wire.Header{Length: uint32(len(body)), Body: uint32(len(body)), Type: t, Class: wire.ClassOf(t)})
	return append(b, body...), nil
}

// readFrame reads one frame that belongs to no session, and nothing behind it.
func readFrame(r io.Reader) (wire.Message, error) {
	var hb [wire.HeaderSize]byte
	if _, err := io.ReadFull(r, hb[:]); err != nil {
		return nil, err
	}
	h, err := wire.ParseHeader(hb[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if h.Length > maxHandshake || h.Seq != 0 || h.More() || h.Body != h.Length {
		return nil, fmt.Errorf("%w: %s of %d bytes, sequence %d, is no frame of a handshake", ErrProtocol, h.Type, h.Length, h.Seq)
	}
	body := make([]byte, h.Length)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	m, err := wire.Unmarshal(h.Type, body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}
