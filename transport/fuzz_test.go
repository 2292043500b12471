package transport

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// tape is a connection that says what is on it, then ends.
type tape struct {
	*bytes.Reader
	wrote bytes.Buffer
}

func (t *tape) Write(b []byte) (int, error)      { return t.wrote.Write(b) }
func (t *tape) Close() error                     { t.Reader = bytes.NewReader(nil); return nil }
func (t *tape) LocalAddr() net.Addr              { return nil }
func (t *tape) RemoteAddr() net.Addr             { return nil }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }
func (t *tape) Peer() Peer                       { return Peer{UID: -1} }

func FuzzPreamble(f *testing.F) {
	f.Add([]byte("MNPL\x01\x01\x00\x00"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		p, err := ReadPreamble(r)
		if err != nil {
			if len(b) >= PreambleSize && !errors.Is(err, ErrNotOurs) {
				t.Errorf("%v", err)
			}
			return
		}
		var w bytes.Buffer
		if err := WritePreamble(&w, p); err != nil || !bytes.Equal(w.Bytes(), b[:PreambleSize]) {
			t.Errorf("% x was read as %+v, which is written as % x", b, p, w.Bytes())
		}
		if r.Len() != len(b)-PreambleSize {
			t.Errorf("%d bytes behind the preamble were read", len(b)-PreambleSize-r.Len())
		}
	})
}

func FuzzHandshake(f *testing.F) {
	for _, m := range []wire.Message{
		&fb.HelloT{WireVersion: wire.Version, Cluster: "c", Role: fb.RoleAgent}, &fb.WelcomeT{WireVersion: wire.Version},
		&fb.RefuseT{Code: fb.RefuseCodeBusy}, &fb.PingT{},
	} {
		b, err := appendFrame(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		gate := Gate{Cluster: "c"}
		admitted := false
		conn := &tape{Reader: bytes.NewReader(b)}
		_, _, err := Answer(conn, func(h *fb.HelloT, p Peer) (*fb.WelcomeT, *fb.RefuseT) {
			if r := gate.Check(h, p); r != nil {
				return nil, r
			}
			admitted = true
			if h.Cluster != "c" || h.WireVersion != wire.Version {
				t.Errorf("admitted %+v", h)
			}
			return &fb.WelcomeT{}, nil
		})
		if (err == nil) != admitted {
			t.Errorf("admitted %v, error %v", admitted, err)
		}
		conn = &tape{Reader: bytes.NewReader(b)}
		if w, err := Greet(conn, &fb.HelloT{}); err == nil && w.WireVersion != wire.Version {
			t.Errorf("took %+v", w)
		}
	})
}

// FuzzLink reads any bytes as the frames of a session: nothing may panic or hang, bounds hold, and
// the link is usable afterwards or dead.
func FuzzLink(f *testing.F) {
	core := NewLinkCore(LinkCoreConfig{})
	core.Step(1, &LinkEvent{Kind: LinkAttach, Session: 1}, nil)
	var stream []byte
	add := func(ev LinkEvent) {
		for _, e := range core.Step(1, &ev, nil) {
			if e.Kind == LinkWrite {
				stream = appendWrite(stream, &e)
			}
		}
	}
	send := func(m wire.Message, payload []byte) { add(LinkEvent{Kind: LinkSend, Msg: Msg{M: m, Payload: payload}}) }
	send(note(1), nil)
	send(output(1), make([]byte, 3000))
	send(output(2), make([]byte, 70000))
	add(LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
	f.Add(stream, 7)
	add(LinkEvent{Kind: LinkClose, Reason: "end"})
	add(LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
	f.Add(stream, 1000)
	f.Fuzz(func(t *testing.T, b []byte, chunk int) {
		cfg := LinkCoreConfig{}
		for i := range cfg.Window {
			cfg.Window[i] = 64 << 10
		}
		delivered := 0
		l := NewLink(LinkConfig{Core: cfg, Manual: true, OnMessage: func(m Msg) {
			delivered += len(m.Payload)
			if m.M == nil {
				t.Error("a message without content")
			}
		}})
		r := &linkReader{link: l, conn: &tape{Reader: bytes.NewReader(b)}, done: make(chan struct{})}
		l.mu.Lock()
		l.ev = LinkEvent{Kind: LinkAttach, Session: 1}
		_ = l.stepLocked()
		l.conn, l.reader = r.conn, r
		l.mu.Unlock()
		go r.loop()
		select {
		case <-r.done:
		case <-time.After(20 * time.Second):
			t.Fatal("the reader does not end")
		}
		if limit := int(wire.NumClasses) * (64<<10 + len(b)); delivered > limit {
			t.Errorf("LINK-4: %d bytes were delivered without credit", delivered)
		}
		l.Kill(nil)
		<-l.Done()
	})
}

// FuzzCore gives a core single frames with any header.
func FuzzCore(f *testing.F) {
	f.Add(uint16(fb.FrameTypeNotice), uint8(1), uint8(0), uint32(1), uint64(1), uint32(8), []byte("12345678"))
	f.Add(uint16(fb.FrameTypeAck), uint8(0), uint8(0), uint32(0), uint64(0), uint32(8), []byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, typ uint16, class, flags uint8, msg uint32, seq uint64, body uint32, data []byte) {
		c := NewLinkCore(LinkCoreConfig{})
		c.Step(1, &LinkEvent{Kind: LinkAttach, Session: 1}, nil)
		c.Step(1, &LinkEvent{Kind: LinkSend, Msg: Msg{M: note(1)}}, nil)
		c.Step(1, &LinkEvent{Kind: LinkRoom, Bytes: 1000}, nil)
		h := wire.Header{Length: uint32(len(data)), Body: body, Type: wire.Type(typ), Class: wire.Class(class), Flags: flags, Message: msg, Seq: seq}
		for i := range 3 {
			c.Step(int64(i), &LinkEvent{Kind: LinkFrame, Header: h, Data: data}, nil)
			c.Step(int64(i), &LinkEvent{Kind: LinkRoom, Bytes: 1000}, nil)
		}
	})
}
