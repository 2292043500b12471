package transport

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestCoreControlOvertakesData(t *testing.T) {
	p := newCorePair(t, LinkCoreConfig{})
	p.attach()
	if err := p.send(0, output(0), pattern(0, 20*wire.MaxFragment)); err != nil {
		t.Fatal(err)
	}
	_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 3 * wire.MaxFragment})
	before := len(p.way[0])
	if err := p.send(0, note(0), nil); err != nil {
		t.Fatal(err)
	}
	_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 30})
	if got := p.way[0][before].h; got.Class != wire.ClassControl {
		t.Fatalf("after a control message was queued, the next frame is %s of class %s", got.Type, got.Class)
	}
	for _, f := range p.way[0] {
		if f.h.Length > wire.MaxFragment {
			t.Fatalf("a fragment of %d bytes", f.h.Length)
		}
	}
	p.settle()
	if len(p.got[1]) != 2 {
		t.Fatalf("%d messages came, not 2", len(p.got[1]))
	}
	if class, _ := numberOf(t, p.got[1][0]); class != wire.ClassControl {
		t.Errorf("the large message came first")
	}
	if string(p.got[1][1].Payload) != string(pattern(0, 20*wire.MaxFragment)) {
		t.Errorf("the large message is not what was sent")
	}
}

func TestCoreBudget(t *testing.T) {
	cfg := LinkCoreConfig{}
	cfg.Budget[wire.ClassControl] = 1000
	p := newCorePair(t, cfg)
	n := 0
	for p.send(0, note(uint64(n)), nil) == nil {
		if n++; n > 100 {
			t.Fatal("LINK-4: no budget")
		}
	}
	if err := p.send(0, note(0), nil); !errors.Is(err, ErrBudget) {
		t.Fatalf("a message over the budget: %v", err)
	}
	if err := p.send(0, output(0), nil); err != nil {
		t.Fatalf("another class has its own budget: %v", err)
	}
	p.attach()
	p.settle()
	if p.room[0] != 1 {
		t.Errorf("the sender was told of room %d times, not once", p.room[0])
	}
	if err := p.send(0, note(0), nil); err != nil {
		t.Errorf("after all was acknowledged: %v", err)
	}
	if len(p.got[1]) != n+1 {
		t.Errorf("%d messages came of %d sent before there was a connection", len(p.got[1]), n+1)
	}
}

func TestCoreCredit(t *testing.T) {
	cfg := LinkCoreConfig{}
	cfg.Window[wire.ClassData] = 1000
	p := newCorePair(t, cfg)
	p.attach()
	for i := range uint64(50) {
		if err := p.send(0, output(i), pattern(i, 100)); err != nil {
			t.Fatal(err)
		}
	}
	p.settle()
	n := len(p.got[1])
	if n == 0 || n > 10 {
		t.Fatalf("LINK-4: %d messages came for a window of 1000 bytes", n)
	}
	if err := p.send(0, note(0), nil); err != nil {
		t.Fatal(err)
	}
	p.settle()
	if len(p.got[1]) != n+1 {
		t.Fatalf("a control message waits for the credit of data")
	}
	for len(p.got[1]) < 51 {
		before := len(p.got[1])
		for _, m := range p.got[1] {
			_ = p.step(1, LinkEvent{Kind: LinkConsumed, Msg: m})
		}
		for i := range p.got[1] {
			p.got[1][i].cost = 0 // consumed once
		}
		p.settle()
		if len(p.got[1]) == before {
			t.Fatalf("%d messages came, and no more", before)
		}
	}
}

func TestCoreGoodbye(t *testing.T) {
	for _, where := range []string{"connected", "cut before it arrived", "cut after it arrived"} {
		t.Run(where, func(t *testing.T) {
			p := newCorePair(t, LinkCoreConfig{})
			p.attach()
			for i := range uint64(5) {
				_ = p.send(0, note(i), nil)
			}
			_ = p.step(0, LinkEvent{Kind: LinkClose, Reason: "enough"})
			if err := p.send(0, note(9), nil); !errors.Is(err, ErrDead) {
				t.Errorf("send after close: %v", err)
			}
			switch where {
			case "cut before it arrived":
				_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 40}) // the first message
				p.attach()
			case "cut after it arrived":
				_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
				for p.carry(0) {
				}
				_ = p.step(0, LinkEvent{Kind: LinkDetach, Err: errors.New("cut")})
			}
			p.settle()
			if len(p.got[1]) != 5 {
				t.Errorf("%d of 5 messages came before the goodbye", len(p.got[1]))
			}
			if !errors.Is(p.dead[0], ErrClosed) {
				t.Errorf("the side that closed: %v", p.dead[0])
			}
			var bye *GoodbyeError
			if !errors.As(p.dead[1], &bye) || bye.Reason != "enough" || !errors.Is(p.dead[1], ErrDead) {
				t.Errorf("the other side: %v", p.dead[1])
			}
			session := uint64(7)
			if err := p.step(1, LinkEvent{Kind: LinkAttach, Session: session}); !errors.Is(err, ErrDead) {
				t.Errorf("LINK-5: a connection was attached to a dead session: %v", err)
			}
		})
	}
}

func TestCoreNewSessionForgets(t *testing.T) {
	p := newCorePair(t, LinkCoreConfig{})
	p.attach()
	_ = p.send(0, note(0), nil)
	p.settle()
	_ = p.send(0, note(1), nil)
	_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
	p.detach(errors.New("cut"))
	p.core[1] = NewLinkCore(LinkCoreConfig{}) // the peer's process died
	p.attach()
	_ = p.send(0, note(2), nil)
	p.settle()
	if fmt.Sprint(p.ups[0]) != "[false false]" {
		t.Errorf("side 0 was told resumed=%v", p.ups[0])
	}
	for i, want := range []uint64{0, 2} {
		if i >= len(p.got[1]) {
			t.Fatalf("%d messages came", len(p.got[1]))
		}
		if _, n := numberOf(t, p.got[1][i]); n != want {
			t.Errorf("message %d is %d, not %d: a new session begins with what was sent after it", i, n, want)
		}
	}
}

func TestCoreDeadlines(t *testing.T) {
	cfg := LinkCoreConfig{AckTimeout: time.Second, LostAfter: 2 * time.Second}
	p := newCorePair(t, cfg)
	p.attach()
	_ = p.send(0, note(0), nil)
	_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
	p.way[0] = nil // lost, and nothing follows that would show the gap
	if d := p.core[0].NextDeadline(); d != p.now+int64(time.Second) {
		t.Errorf("the next deadline is %d from now", d-p.now)
	}
	p.now += int64(time.Second)
	_ = p.step(0, LinkEvent{Kind: LinkTick})
	if p.downs[0] != 1 {
		t.Fatal("a connection on which nothing is acknowledged was not given up")
	}
	p.attach()
	p.settle()
	if len(p.got[1]) != 1 {
		t.Fatalf("%d messages came", len(p.got[1]))
	}
	p.detach(errors.New("cut"))
	p.now += int64(2*time.Second) - 1
	_ = p.step(0, LinkEvent{Kind: LinkTick})
	if p.dead[0] != nil {
		t.Fatalf("dead too early: %v", p.dead[0])
	}
	p.now++
	_ = p.step(0, LinkEvent{Kind: LinkTick})
	if !errors.Is(p.dead[0], ErrLost) {
		t.Errorf("a session that was not resumed: %v", p.dead[0])
	}
}

// TestCoreViolations feeds frames that no honest peer sends: each costs the connection (LINK-6),
// and the session goes on over the next one.
func TestCoreViolations(t *testing.T) {
	notice, err := wire.Marshal(nil, note(0))
	if err != nil {
		t.Fatal(err)
	}
	whole := wire.Header{Length: uint32(len(notice)), Body: uint32(len(notice)), Type: fb.FrameTypeNotice, Class: wire.ClassControl, Seq: 1, Message: 1}
	change := func(f func(h *wire.Header)) wire.Header { h := whole; f(&h); return h }
	ack := wire.Header{Length: 8, Body: 8, Type: fb.FrameTypeAck}
	cases := []struct {
		name string
		h    wire.Header
		data []byte
	}{
		{"no number", change(func(h *wire.Header) { h.Seq = 0 }), notice},
		{"wrong class", change(func(h *wire.Header) { h.Class = wire.ClassData }), notice},
		{"class out of range", change(func(h *wire.Header) { h.Class = 200 }), notice},
		{"a hello", change(func(h *wire.Header) { h.Type = fb.FrameTypeHello }), notice},
		{"a journal record", change(func(h *wire.Header) { h.Type = 9999 }), notice},
		{"body is garbage", whole, make([]byte, len(notice))},
		{"length differs", whole, notice[:5]},
		{"empty fragment", change(func(h *wire.Header) { h.Length, h.Body, h.Flags = 0, 0, wire.FlagMore }), nil},
		{"acknowledges what was not sent", ack, []byte{5, 0, 0, 0, 0, 0, 0, 0}},
		{"short acknowledgement", change(func(h *wire.Header) { *h = ack; h.Body = 4; h.Length = 4 }), make([]byte, 4)},
		{"credit for no class", wire.Header{Length: 16, Body: 16, Type: fb.FrameTypeCredit, Seq: 1}, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0}},
		{"endless credit", wire.Header{Length: 16, Body: 16, Type: fb.FrameTypeCredit, Seq: 1}, []byte{0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, 0, 0, 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newCorePair(t, LinkCoreConfig{})
			p.attach()
			_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: c.h, Data: c.data})
			if p.core[1].Attached() || p.downs[1] != 1 || p.core[1].Stats().Violations != 1 {
				t.Fatalf("attached %v, %d times down", p.core[1].Attached(), p.downs[1])
			}
			if _, received := p.core[1].Session(); received != 0 {
				t.Fatalf("it counts as received")
			}
			p.attach()
			_ = p.send(0, note(0), nil)
			p.settle()
			if len(p.got[1]) != 1 || p.dead[1] != nil {
				t.Fatalf("the session did not go on: %d messages, %v", len(p.got[1]), p.dead[1])
			}
			// A peer that does it again on every connection is given up.
			if c.h.Seq == 0 {
				return
			}
			c.h.Seq++
			for range 2 {
				p.attach()
				_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: c.h, Data: c.data})
			}
			if len(c.data) == int(c.h.Length) && !errors.Is(p.dead[1], ErrProtocol) {
				t.Errorf("after the same again: %v", p.dead[1])
			}
		})
	}
	t.Run("another message inside a message", func(t *testing.T) {
		p := newCorePair(t, LinkCoreConfig{})
		p.attach()
		h := change(func(h *wire.Header) { h.Flags = wire.FlagMore })
		_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: h, Data: notice})
		h.Seq, h.Message = 2, 2
		_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: h, Data: notice})
		if p.core[1].Attached() {
			t.Error("it was taken")
		}
	})
	t.Run("without credit", func(t *testing.T) {
		cfg := LinkCoreConfig{}
		cfg.Window[wire.ClassControl] = 100
		p := newCorePair(t, cfg)
		p.attach()
		for seq := uint64(1); seq < 4; seq++ {
			h := whole
			h.Seq = seq
			_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: h, Data: notice})
		}
		if p.core[1].Attached() {
			t.Error("LINK-4: more was taken than the window")
		}
	})
}

// TestCoreDuplicate: LINK-2: a frame that is here already is dropped, acknowledged again, and costs
// nothing, not even the connection.
func TestCoreDuplicate(t *testing.T) {
	p := newCorePair(t, LinkCoreConfig{})
	p.attach()
	for i := range uint64(3) {
		if err := p.send(0, note(i), nil); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
	frames := slices.Clone(p.way[0])
	p.settle()
	for i, f := range frames { // the last of them is no gap either
		_ = p.step(1, LinkEvent{Kind: LinkFrame, Header: f.h, Data: f.data})
		if n := p.core[1].Stats().Duplicates; len(p.got[1]) != 3 || n != uint64(i+1) || !p.core[1].Attached() || p.downs[1] != 0 {
			t.Errorf("frame %d again: %d messages, %d duplicates, %d times down", f.h.Seq, len(p.got[1]), n, p.downs[1])
		}
	}
	if p.core[1].NextDeadline() == 0 {
		t.Error("it is not acknowledged again")
	}
}

func TestCoreStaleAttach(t *testing.T) {
	p := newCorePair(t, LinkCoreConfig{})
	p.attach()
	_ = p.send(0, note(0), nil)
	p.settle()
	session, received := p.core[1].Session()
	for _, ev := range []LinkEvent{
		{Session: session + 1, Resumed: true},
		{Session: session, Resumed: true, Received: 99},
		{Session: 0},
		{Session: session + 1, Received: 1},
	} {
		ev.Kind = LinkAttach
		if err := p.step(0, ev); !errors.Is(err, ErrSession) {
			t.Errorf("attach of session %d up to %d, resumed %v: %v", ev.Session, ev.Received, ev.Resumed, err)
		}
	}
	if s, r := p.core[1].Session(); s != session || r != received || !p.core[0].Attached() {
		t.Errorf("a refused connection changed the session")
	}
	if err := p.step(0, LinkEvent{Kind: LinkAttach, Session: session, Resumed: true, Received: 0}); !errors.Is(err, ErrSession) {
		t.Errorf("the peer forgot what it acknowledged: %v", err)
	}
}

// TestCoreKeepAlive: an idle connection is proved now and then; one that brings nothing is cut.
func TestCoreKeepAlive(t *testing.T) {
	p := newCorePair(t, LinkCoreConfig{KeepAlive: 3 * time.Second})
	p.attach()
	due := func() { // let one deadline pass, and deliver what follows
		p.now = p.core[0].NextDeadline()
		for side := range p.core {
			_ = p.step(side, LinkEvent{Kind: LinkTick})
		}
		for range 4 {
			for side := range p.core {
				_ = p.step(side, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
				for p.carry(side) {
				}
			}
		}
	}
	for range 100 {
		due()
	}
	if p.downs[0]+p.downs[1] > 0 || p.now < int64(200*time.Second) {
		t.Fatalf("an idle connection was cut %v times in %d ns", p.downs, p.now)
	}
	from := p.now
	for range 2 { // side 1 is not heard any more
		p.now = p.core[0].NextDeadline()
		_ = p.step(0, LinkEvent{Kind: LinkTick})
		_ = p.step(0, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
		p.way[0] = nil
	}
	if p.downs[0] != 1 || p.now-from > int64(6*time.Second) {
		t.Errorf("a silent connection was cut %d times after %d ns", p.downs[0], p.now-from)
	}
	if p.core[0].NextDeadline() != 0 {
		t.Errorf("a link without a connection wants to be woken")
	}
}
