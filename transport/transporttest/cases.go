package transporttest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var cases = []testCase{
	{"Order", testOrder},
	{"Flush", testFlush},
	{"Large", testLarge},
	{"Interleaving", testInterleaving},
	{"Resume", testResume},
	{"BackPressure", testBackPressure},
	{"Close", testClose},
	{"CloseTwice", testCloseBothSides},
	{"Kill", testKill},
	{"Lost", testLost},
	{"PeerForgot", testPeerForgot},
	{"Replaced", testReplaced},
	{"Garbage", testGarbage},
	{"HalfHandshake", testHalfHandshake},
	{"Refused", testRefused},
	{"Strangers", testStrangers},
	{"Deadline", testDeadline},
	{"Liveness", testLiveness},
}

func fill(n, size int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 99))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func mustSend(t *testing.T, l *transport.Link, m wire.Message, payload []byte) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := l.Send(m, 0, payload)
		if err == nil {
			return
		}
		if !errors.Is(err, transport.ErrBudget) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		pause()
	}
}

// pause lets others run; the suite's only waits without an event.
func pause() { <-time.After(time.Millisecond) }

func testOrder(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	const n = 2000
	for i := range uint64(n) {
		mustSend(t, d.Link, note(i), nil)
		mustSend(t, s.Link, note(i), fill(int(i), int(i%50)))
	}
	for i, m := range s.Inbox.Take(t, n) {
		if m.M.(*fb.RankInputAckT).Offset != uint64(i) {
			t.Fatalf("LINK-1: message %d is %+v", i, m.M)
		}
	}
	for i, m := range d.Inbox.Take(t, n) {
		if m.M.(*fb.RankInputAckT).Offset != uint64(i) || string(m.Payload) != string(fill(i, i%50)) {
			t.Fatalf("LINK-1: message %d is %+v with %d bytes", i, m.M, len(m.Payload))
		}
	}
	if err := d.Link.Send(note(0), 77, nil); err != nil {
		t.Fatal(err)
	}
	if m := s.Inbox.Take(t, 1)[0]; m.Corr != 77 {
		t.Errorf("correlation %d came, not 77", m.Corr)
	}
}

// testFlush: what its caller writes himself and what the writer does come in one order, also to a peer that reads nothing for a while.
func testFlush(t *testing.T, w World) {
	wide := func(c *transport.LinkConfig) {
		for i := range c.Core.Budget {
			c.Core.Budget[i], c.Core.Window[i] = 64<<20, 64<<20
		}
	}
	s, d := NewSite(t, w, wide), Dial(t, w, wide, nil)
	s.Inbox.Block(true)
	const n = 600
	size := func(i int) int { return (i * i * 37) % 60_000 }
	for i := range n {
		queue := d.Link.Queue
		if i%7 == 0 {
			queue = d.Link.Send
		}
		if err := queue(output(uint64(i)), 0, fill(i, size(i))); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			d.Link.Flush()
		}
	}
	d.Link.Flush()
	s.Inbox.Block(false)
	for i, m := range s.Inbox.Take(t, n) {
		if m.M.(*fb.RankOutputT).Offset != uint64(i) || string(m.Payload) != string(fill(i, size(i))) {
			t.Fatalf("LINK-1: message %d is %+v with %d bytes", i, m.M, len(m.Payload))
		}
	}
	for i := range uint64(100) { // one after the other, with nothing else under way
		if err := d.Link.Queue(note(i), 0, nil); err != nil {
			t.Fatal(err)
		}
		d.Link.Flush()
		if got := s.Inbox.Take(t, 1)[0].M.(*fb.RankInputAckT).Offset; got != i {
			t.Fatalf("LINK-1: message %d is %d", i, got)
		}
	}
}

func testLarge(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	for _, size := range []int{wire.MaxFragment - 1, wire.MaxFragment, wire.MaxFragment + 1, 3 << 20, 20 << 20} {
		mustSend(t, d.Link, output(uint64(size)), fill(size, size))
		if m := s.Inbox.Take(t, 1)[0]; string(m.Payload) != string(fill(size, size)) {
			t.Fatalf("a payload of %d bytes came as %d other bytes", size, len(m.Payload))
		}
	}
	if err := d.Link.Send(output(0), 0, make([]byte, wire.MaxMessage+1)); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("a message over the limit: %v", err)
	}
}

func testInterleaving(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	d.Inbox.Wait(t, "a connection", func() bool { return len(d.Inbox.Ups) > 0 })
	if err := d.Link.Send(output(0), 0, fill(0, 32<<20)); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10) {
		if err := d.Link.Send(note(i), 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range s.Inbox.Take(t, 11) {
		if _, ok := m.M.(*fb.RankOutputT); ok != (i == 10) {
			t.Fatalf("message %d of 11 is %T: control messages must not wait for 32 MiB of data", i, m.M)
		}
	}
}

// breaker closes the connection after so many bytes in either direction.
type breaker struct {
	transport.Conn
	left *atomic.Int64
}

func (b breaker) spend(n int) {
	if b.left.Add(-int64(n)) < 0 {
		b.Conn.Close()
	}
}

func (b breaker) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.spend(n)
	return n, err
}

func (b breaker) Write(p []byte) (int, error) {
	if left := b.left.Load(); left >= 0 && int64(len(p)) > left { // break in the middle
		n, _ := b.Conn.Write(p[:left])
		b.spend(len(p))
		return n, net.ErrClosed
	}
	n, err := b.Conn.Write(p)
	b.spend(n)
	return n, err
}

// testResume sends in both directions while each connection breaks after a random number of bytes.
func testResume(t *testing.T, w World) {
	r := rand.New(rand.NewPCG(5, 6))
	s := NewSite(t, w, nil)
	var breaks atomic.Int64
	d := Dial(t, w, nil, func(c transport.Conn) transport.Conn {
		left := new(atomic.Int64)
		left.Store(1 << 62)
		if breaks.Add(1) < 60 {
			left.Store(2000 + r.Int64N(100<<10))
		}
		return breaker{c, left}
	})
	const n = 1500
	for i := range uint64(n) {
		mustSend(t, d.Link, output(i), fill(int(i), 1000))
		mustSend(t, s.Link, output(i), fill(int(i), 500))
	}
	for i, m := range s.Inbox.Take(t, n) {
		if m.M.(*fb.RankOutputT).Offset != uint64(i) || string(m.Payload) != string(fill(i, 1000)) {
			t.Fatalf("LINK-2: message %d to the site is %d", i, m.M.(*fb.RankOutputT).Offset)
		}
	}
	for i, m := range d.Inbox.Take(t, n) {
		if m.M.(*fb.RankOutputT).Offset != uint64(i) || string(m.Payload) != string(fill(i, 500)) {
			t.Fatalf("LINK-2: message %d from the site is %d", i, m.M.(*fb.RankOutputT).Offset)
		}
	}
	if got := d.Link.Stats().Resumed; got < 5 {
		t.Errorf("the session was resumed %d times: nothing was tested", got)
	}
	d.Inbox.Wait(t, "one new session", func() bool {
		fresh := 0
		for _, resumed := range d.Inbox.Ups {
			if !resumed {
				fresh++
			}
		}
		return fresh == 1
	})
}

// testBackPressure: an owner that takes nothing stops the sender's class at the window, and the
// sender's Send says so at its budget.
func testBackPressure(t *testing.T, w World) {
	small := func(c *transport.LinkConfig) {
		for i := range c.Core.Budget {
			c.Core.Budget[i], c.Core.Window[i] = 1<<20, 256<<10
		}
	}
	room := make(chan wire.Class, 100)
	s := NewSite(t, w, small)
	d := Dial(t, w, func(c *transport.LinkConfig) {
		small(c)
		c.OnRoom = func(class wire.Class) { room <- class }
	}, nil)
	s.Inbox.Block(true)
	sent := 0
	for {
		err := d.Link.Send(output(uint64(sent)), 0, make([]byte, 10000))
		if errors.Is(err, transport.ErrBudget) {
			if sent > 50 {
				break
			}
			pause()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if sent++; sent > 1000 {
			t.Fatal("LINK-4: 10 MB were taken for a peer that reads nothing")
		}
	}
	s.Inbox.Block(false)
	select {
	case class := <-room:
		if class != wire.ClassData {
			t.Errorf("room for %s", class)
		}
	case <-time.After(patience):
		t.Fatal("no word of room")
	}
	mustSend(t, d.Link, output(uint64(sent)), nil)
	s.Inbox.Take(t, sent+1)
}

func testClose(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	for i := range uint64(500) {
		mustSend(t, d.Link, output(i), fill(int(i), 10000))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.Link.Close(ctx, "done here"); err != nil {
		t.Fatal(err)
	}
	if err := d.Link.Send(note(0), 0, nil); !errors.Is(err, transport.ErrDead) {
		t.Errorf("send after close: %v", err)
	}
	s.Inbox.Wait(t, "the goodbye", func() bool { return s.Inbox.Dead != nil })
	s.Inbox.Take(t, 500) // all of them before
	var bye *transport.GoodbyeError
	if !errors.As(s.Inbox.Dead, &bye) || bye.Reason != "done here" {
		t.Errorf("the other side ended with %v", s.Inbox.Dead)
	}
	if err := s.Link.Send(note(0), 0, nil); !errors.Is(err, transport.ErrDead) {
		t.Errorf("LINK-3: send after the peer's goodbye: %v", err)
	}
	if err := <-d.Err; !errors.Is(err, transport.ErrDead) {
		t.Errorf("the dialer ended with %v", err)
	}
	d.Err <- nil // for the cleanup
}

func testCloseBothSides(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	mustSend(t, d.Link, note(0), nil)
	s.Inbox.Take(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make(chan error, 2)
	go func() { errs <- s.Link.Close(ctx, "both") }()
	go func() { errs <- d.Link.Close(ctx, "both") }()
	for range 2 {
		if err := <-errs; err != nil && !errors.Is(err, transport.ErrDead) {
			t.Error(err)
		}
	}
}

func testKill(t *testing.T, w World) {
	s, d := NewSite(t, w, nil), Dial(t, w, nil, nil)
	mustSend(t, d.Link, note(0), nil)
	s.Inbox.Take(t, 1)
	why := errors.New("declared dead")
	s.Link.Kill(why)
	<-s.Link.Done()
	if s.Inbox.Dead != why {
		t.Errorf("ended with %v", s.Inbox.Dead)
	}
	s.Inbox.Wait(t, "nothing", func() bool { return true })
	n := len(s.Inbox.Msgs)
	_ = d.Link.Send(note(1), 0, nil)
	d.Inbox.Wait(t, "the connection to break", func() bool { return len(d.Inbox.Downs) > 0 })
	if len(s.Inbox.Msgs) != n {
		t.Error("LINK-3: a message came after the session was dead")
	}
}

func testLost(t *testing.T, w World) {
	s := NewSite(t, w, func(c *transport.LinkConfig) { c.LostAfter = 50 * time.Millisecond })
	conn, err := w.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.Greet(conn, Hello()); err != nil {
		t.Fatal(err)
	}
	s.Inbox.Wait(t, "a connection", func() bool { return len(s.Inbox.Ups) == 1 })
	conn.Close()
	s.Inbox.Wait(t, "the session's end", func() bool { return s.Inbox.Dead != nil })
	if !errors.Is(s.Inbox.Dead, transport.ErrLost) {
		t.Errorf("ended with %v", s.Inbox.Dead)
	}
}

// testPeerForgot: the site's process starts again; the dialler is told that its session is new.
func testPeerForgot(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	var last atomic.Pointer[transport.Conn]
	d := Dial(t, w, nil, func(c transport.Conn) transport.Conn { last.Store(&c); return c })
	mustSend(t, d.Link, note(0), nil)
	s.Inbox.Take(t, 1)
	old := s.Link
	inbox := NewInbox()
	s.link(transport.NewLink(inbox.Config("dialler"))) // before the dialler can come back
	old.Kill(nil)
	<-old.Done()
	d.Inbox.Wait(t, "a new session", func() bool { return len(d.Inbox.Ups) == 2 })
	if d.Inbox.Ups[1] {
		t.Error("told that the session was resumed")
	}
	mustSend(t, d.Link, note(1), nil)
	if got := inbox.Take(t, 1)[0].M.(*fb.RankInputAckT).Offset; got != 1 {
		t.Errorf("message %d came", got)
	}
}

// testReplaced: the dialler comes again while the site still believes in the old connection.
func testReplaced(t *testing.T, w World) {
	s := NewSite(t, w, nil)
	link := transport.NewLink(transport.LinkConfig{})
	defer func() { link.Kill(nil); <-link.Done() }()
	for i := range 3 {
		conn, err := w.Dial(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		h := Hello()
		h.Session, h.Received = link.Session()
		welcome, err := transport.Greet(conn, h)
		if err != nil {
			t.Fatal(err)
		}
		if welcome.Resumed != (i > 0) {
			t.Fatalf("connection %d: resumed %v", i, welcome.Resumed)
		}
		mustSend(t, link, note(uint64(i)), nil)
		if err := link.Attach(conn, welcome, welcome.Received); err != nil {
			t.Fatal(err)
		}
		s.Inbox.Wait(t, "the message", func() bool { return len(s.Inbox.Msgs) == i+1 })
	}
	s.Inbox.Wait(t, "three connections", func() bool { return len(s.Inbox.Ups) == 3 && len(s.Inbox.Downs) == 2 })
}
