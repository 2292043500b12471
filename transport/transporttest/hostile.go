package transporttest

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// usable asserts that the site still serves an honest dialler.
func usable(t *testing.T, w World, s *Site) {
	t.Helper()
	d := Dial(t, w, nil, nil)
	before := len(s.Inbox.Msgs)
	mustSend(t, d.Link, note(1), nil)
	s.Inbox.Wait(t, "an honest message", func() bool { return len(s.Inbox.Msgs) > before })
}

// testGarbage: proved peers that send nonsense instead of a hello, and after one.
func testGarbage(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	r := rand.New(rand.NewPCG(1, 2))
	n := 0
	for i := range 20 {
		conn, err := w.Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 { // garbage inside a session
			if _, err := transport.Greet(conn, Hello()); err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 1+r.IntN(5000))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		if i%4 == 3 { // with a header that is right
			copy(b, make([]byte, wire.HeaderSize))
			wire.PutHeader(append(b[:0], make([]byte, wire.HeaderSize)...), wire.Header{Length: 100, Body: 50, Type: fb.FrameTypeNotice, Class: wire.ClassControl, Seq: 1})
		}
		_, _ = conn.Write(b)
		if i%4 != 1 {
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := read(conn); errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		conn.Close()
		n++
	}
	s.Counts(t, n)
	usable(t, w, s)
	if got := len(s.Inbox.Msgs); got != 1 {
		t.Errorf("%d messages came out of garbage", got-1)
	}
}

// testHalfHandshake: peers that stop in the middle cost the site nothing for longer than its
// deadline.
func testHalfHandshake(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	var h [wire.HeaderSize]byte
	wire.PutHeader(h[:], wire.Header{Length: 100, Body: 100, Type: fb.FrameTypeHello, Class: wire.ClassControl})
	for _, part := range []int{0, 5, wire.HeaderSize} {
		conn, err := w.Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(h[:part]); part > 0 && err != nil {
			t.Fatal(err)
		}
	}
	if admitted, strays := s.Counts(t, 3); admitted != 0 || strays != 3 {
		t.Errorf("%d were admitted, %d were not", admitted, strays)
	}
	usable(t, w, s)
}

// testRefused: each refusal tells the dialler why, and is counted.
func testRefused(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	cases := []struct {
		name  string
		code  fb.RefuseCode
		hello func(*fb.HelloT)
	}{
		{"other cluster", fb.RefuseCodeCluster, func(h *fb.HelloT) { h.Cluster = "somebody else's" }},
		{"no cluster", fb.RefuseCodeCluster, func(h *fb.HelloT) { h.Cluster = "" }},
		{"older start of the job", fb.RefuseCodeEpoch, func(h *fb.HelloT) { h.Epoch = Epoch - 1 }},
		{"newer start of the job", fb.RefuseCodeEpoch, func(h *fb.HelloT) { h.Epoch = Epoch + 1 }},
		{"dead number", fb.RefuseCodeDead, func(h *fb.HelloT) { h.Agent = DeadOne }},
		{"another agent is meant", fb.RefuseCodeIdentity, func(h *fb.HelloT) { h.To = SiteAgent + 1 }},
	}
	for i, c := range cases {
		conn, err := w.Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		h := Hello()
		c.hello(h)
		_, err = transport.Greet(conn, h)
		conn.Close()
		var refused *transport.RefusedError
		if !errors.As(err, &refused) || refused.Code != c.code || refused.Text == "" || !refused.Final() {
			t.Errorf("%s: %v", c.name, err)
		}
		if admitted, strays := s.Counts(t, i+1); admitted != 0 || strays != i+1 {
			t.Errorf("%s: %d admitted", c.name, admitted)
		}
	}
	for code, want := range map[fb.RefuseCode]uint64{fb.RefuseCodeCluster: 2, fb.RefuseCodeEpoch: 2, fb.RefuseCodeDead: 1, fb.RefuseCodeIdentity: 1} {
		if got := s.Gate.Refused(code); got != want {
			t.Errorf("%s was counted %d times, not %d", code, got, want)
		}
	}
	// Another wire version: written by hand, for Greet fills in ours.
	conn, err := w.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h := Hello()
	h.WireVersion = wire.Version + 1
	body, err := wire.Marshal(nil, h)
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, wire.HeaderSize)
	wire.PutHeader(frame, wire.Header{Length: uint32(len(body)), Body: uint32(len(body)), Type: fb.FrameTypeHello, Class: wire.ClassControl})
	if _, err := conn.Write(append(frame, body...)); err != nil {
		t.Fatal(err)
	}
	answer, _ := read(conn)
	if len(answer) < wire.HeaderSize || binary.LittleEndian.Uint16(answer[8:]) != uint16(fb.FrameTypeRefuse) {
		t.Errorf("another wire version was answered with % x", answer)
	}
	s.Counts(t, 6)
	if got := s.Gate.Refused(fb.RefuseCodeWireVersion); got != 1 {
		t.Errorf("another wire version was counted %d times", got)
	}
	usable(t, w, s)
}

// testStrangers: whoever the carrier can't prove never comes as far as the handshake.
func testStrangers(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	n := 0
	for _, stranger := range w.Strangers {
		n++
		conn, err := stranger.Dial(context.Background())
		if err == nil { // in TLS 1.3 the client learns only when it reads
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, err = transport.Greet(conn, Hello())
			conn.Close()
		}
		if err == nil {
			t.Errorf("%s was admitted", stranger.Name)
		}
		if errors.As(err, new(*transport.RefusedError)) {
			t.Errorf("%s came as far as the handshake: %v", stranger.Name, err)
		}
	}
	if w.Raw != nil {
		for _, say := range []string{"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""} {
			n++
			conn, err := w.Raw(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte(say))
			if say == "" {
				conn.Close()
				continue
			}
			_ = conn.SetReadDeadline(time.Now().Add(patience))
			if b, _ := read(conn); len(b) > 64 {
				t.Errorf("a stranger who said %q was told %q", say, b)
			}
			conn.Close()
		}
	}
	if n == 0 {
		return
	}
	if admitted, strays := s.Counts(t, n); admitted != 0 || strays < n {
		t.Errorf("%d strangers were admitted, %d were not", admitted, strays)
	}
	usable(t, w, s)
}

// testDeadline: deadlines end reads that wait.
func testDeadline(t *testing.T, w World) {
	NewSite(t, w, nil)
	conn, err := w.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	_, err = conn.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a read past its deadline: %v", err)
	}
}
