package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// corePair is two cores with a connection between them that the test drives frame by frame.
type corePair struct {
	t     *testing.T
	now   int64
	core  [2]*LinkCore
	way   [2][]sentFrame // frames on their way from side i
	got   [2][]Msg       // delivered to side i
	dead  [2]error
	downs [2]int
	ups   [2][]bool
	room  [2]int
}

type sentFrame struct {
	h    wire.Header
	data []byte
}

func newCorePair(t *testing.T, cfg LinkCoreConfig) *corePair {
	return &corePair{t: t, now: 1, core: [2]*LinkCore{NewLinkCore(cfg), NewLinkCore(cfg)}}
}

func (p *corePair) step(side int, ev LinkEvent) error {
	var err error
	for _, e := range p.core[side].Step(p.now, &ev, nil) {
		switch e.Kind {
		case LinkWrite:
			data := append(append([]byte(nil), e.Body...), e.Payload...)
			if len(data) != int(e.Header.Length) || len(e.Body) != int(e.Header.Body) {
				p.t.Fatalf("side %d wrote %d+%d bytes under header %+v", side, len(e.Body), len(e.Payload), e.Header)
			}
			p.way[side] = append(p.way[side], sentFrame{e.Header, data})
		case LinkDeliver:
			if p.dead[side] != nil {
				p.t.Fatalf("LINK-3: side %d got a message after it was dead", side)
			}
			p.got[side] = append(p.got[side], e.Msg)
		case LinkUp:
			p.ups[side] = append(p.ups[side], e.Resumed)
		case LinkDown:
			p.downs[side]++
		case LinkDead:
			p.dead[side] = e.Err
		case LinkRejected:
			err = e.Err
		case LinkHasRoom:
			p.room[side]++
		}
	}
	return err
}

// attach connects the two sides as a handshake does: side 0 dials.
func (p *corePair) attach() {
	p.detach(errors.New("cut"))
	session, received := p.core[0].Session()
	theirs, theirReceived := p.core[1].Session()
	resumed := session != 0 && session == theirs
	if !resumed {
		session, received, theirReceived = uint64(p.now)+1000, 0, 0
	}
	_ = p.step(1, LinkEvent{Kind: LinkAttach, Session: session, Resumed: resumed, Received: received})
	_ = p.step(0, LinkEvent{Kind: LinkAttach, Session: session, Resumed: resumed, Received: theirReceived})
}

// detach loses what is on the way.
func (p *corePair) detach(err error) {
	p.way = [2][]sentFrame{}
	for side := range p.core {
		_ = p.step(side, LinkEvent{Kind: LinkDetach, Err: err})
	}
}

// carry moves one frame from side to the other, if there is one.
func (p *corePair) carry(side int) bool {
	if len(p.way[side]) == 0 {
		return false
	}
	f := p.way[side][0]
	p.way[side] = p.way[side][1:]
	_ = p.step(1-side, LinkEvent{Kind: LinkFrame, Header: f.h, Data: f.data})
	return true
}

// settle lets everything happen that can.
func (p *corePair) settle() {
	for range 1 << 20 {
		busy := false
		for side := range p.core {
			if p.core[side].Ready(p.now) {
				_ = p.step(side, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
				busy = true
			}
			busy = p.carry(side) || busy
		}
		if busy {
			continue
		}
		d := int64(0)
		for side := range p.core {
			if t := p.core[side].NextDeadline(); t != 0 && (d == 0 || t < d) {
				d = t
			}
		}
		if d == 0 {
			return
		}
		p.now = max(d, p.now)
		for side := range p.core {
			_ = p.step(side, LinkEvent{Kind: LinkTick})
		}
	}
	p.t.Fatal("the links never come to rest")
}

func (p *corePair) send(side int, m wire.Message, payload []byte) error {
	return p.step(side, LinkEvent{Kind: LinkSend, Msg: Msg{M: m, Payload: payload}})
}

// note is a control message, call a call and output a data message; each carries a number.
func note(n uint64) wire.Message { return &fb.NoticeT{Text: fmt.Sprint(n)} }
func call(n uint64) wire.Message {
	return &fb.GetT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{Counter: n}}}
}
func output(n uint64) wire.Message { return &fb.RankOutputT{Offset: n} }

func numberOf(t *testing.T, m Msg) (wire.Class, uint64) {
	t.Helper()
	var n uint64
	switch v := m.M.(type) {
	case *fb.NoticeT:
		if _, err := fmt.Sscan(v.Text, &n); err != nil {
			t.Fatal(err)
		}
	case *fb.GetT:
		n = v.Object.Task.Counter
	case *fb.RankOutputT:
		n = v.Offset
	default:
		t.Fatalf("got %T", m.M)
	}
	return wire.ClassOf(wire.TypeOf(m.M)), n
}

// pattern makes a payload that says which message it belongs to.
func pattern(n uint64, size int) []byte {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], n<<32|uint64(i))
	}
	return b
}

// checker asserts LINK-1 and LINK-2 for what one side gets: per class, numbers without gap or
// repetition, payloads whole.
type checker struct {
	next [wire.NumClasses]uint64
	size func(class wire.Class, n uint64) int
}

func (c *checker) take(t *testing.T, m Msg) {
	t.Helper()
	class, n := numberOf(t, m)
	if n != c.next[class] {
		t.Fatalf("LINK-1: %s %d came, %d is next", class, n, c.next[class])
	}
	c.next[class]++
	want := pattern(n, c.size(class, n))
	if string(m.Payload) != string(want) {
		t.Fatalf("LINK-1: payload of %s %d has %d bytes that differ from the %d sent", class, n, len(m.Payload), len(want))
	}
}

// sizeOf gives the size of a payload by class and number: some are larger than a fragment, a few
// larger than the window.
func sizeOf(class wire.Class, n uint64) int {
	if class == wire.ClassControl {
		return 0
	}
	r := rand.New(rand.NewPCG(uint64(class), n))
	switch r.IntN(20) {
	case 0:
		return r.IntN(5 * wire.MaxFragment)
	case 1:
		return r.IntN(64 << 10)
	}
	return r.IntN(200)
}

func TestCoreSessions(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) { testCoreSession(t, seed) })
	}
}

// testCoreSession sends in both directions while frames are carried, lost and connections cut at
// random, and asserts that each side gets everything once and in order, within bounds.
func testCoreSession(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	cfg := LinkCoreConfig{AckDelay: 1000, AckTimeout: 1 << 20}
	for i := range cfg.Budget {
		cfg.Budget[i] = 512 << 10
		cfg.Window[i] = 128 << 10
	}
	p := newCorePair(t, cfg)
	p.attach()
	make := [...]func(uint64) wire.Message{wire.ClassControl: note, wire.ClassCalls: call, wire.ClassData: output}
	var sent [2][wire.NumClasses]uint64
	var check [2]checker
	check[0].size, check[1].size = sizeOf, sizeOf
	drain := func(side, n int) {
		for ; n > 0 && len(p.got[side]) > 0; n-- {
			m := p.got[side][0]
			p.got[side] = p.got[side][1:]
			check[side].take(t, m)
			_ = p.step(side, LinkEvent{Kind: LinkConsumed, Msg: m})
		}
	}
	cuts := r.IntN(40)
	for range 3000 {
		side := r.IntN(2)
		p.now += r.Int64N(200)
		switch r.IntN(8) {
		case 0, 1:
			class := wire.ClassControl + wire.Class(r.IntN(3))
			n := sent[side][class]
			err := p.send(side, make[class](n), pattern(n, sizeOf(class, n)))
			if err == nil {
				sent[side][class]++
			} else if !errors.Is(err, ErrBudget) {
				t.Fatal(err)
			}
		case 2:
			_ = p.step(side, LinkEvent{Kind: LinkRoom, Bytes: r.IntN(200 << 10)})
		case 3, 4, 5:
			for range r.IntN(10) {
				p.carry(side)
			}
		case 6:
			drain(side, r.IntN(8))
		case 7:
			switch {
			case cuts > 0 && r.IntN(20) == 0:
				cuts--
				p.attach()
			case cuts > 0 && r.IntN(40) == 0 && len(p.way[side]) > 0: // the carrier loses a frame
				p.way[side] = p.way[side][1:]
			}
			_ = p.step(side, LinkEvent{Kind: LinkTick})
			if !p.core[0].Attached() || !p.core[1].Attached() {
				p.attach()
			}
		}
		checkBounds(t, p, cfg)
	}
	for i := 0; ; i++ { // now without faults
		if i > 10000 {
			t.Fatalf("not all arrived: sent %v, got %v and %v", sent, check[1].next, check[0].next)
		}
		if !p.core[0].Attached() || !p.core[1].Attached() {
			p.attach()
		}
		for side := range p.core {
			_ = p.step(side, LinkEvent{Kind: LinkRoom, Bytes: 1 << 20})
			for p.carry(side) {
			}
			drain(1-side, 1<<30)
			_ = p.step(side, LinkEvent{Kind: LinkTick})
		}
		p.now += 2000
		if check[1].next == sent[0] && check[0].next == sent[1] && p.core[0].sent.len()+p.core[1].sent.len() == 0 {
			break
		}
	}
	for side := range p.core {
		if p.dead[side] != nil {
			t.Fatal(p.dead[side])
		}
		used := p.core[side].used
		used[wire.ClassLiveness] = 0 // credit for what was taken last may still have to go
		if used != [wire.NumClasses]int64{} {
			t.Errorf("LINK-4: side %d holds %v bytes when all is acknowledged", side, used)
		}
		if v := p.core[side].Stats().Violations; v > 0 {
			t.Errorf("%d frames of an honest peer were called violations", v)
		}
	}
}

// checkBounds asserts LINK-4 from the inside: what is held, counted anew.
func checkBounds(t *testing.T, p *corePair, cfg LinkCoreConfig) {
	t.Helper()
	const largest = 6 * wire.MaxFragment
	for side, c := range p.core {
		for class := wire.ClassControl; class < wire.NumClasses; class++ {
			if c.used[class] > cfg.Budget[class]+largest {
				t.Fatalf("LINK-4: side %d holds %d bytes of %s to send", side, c.used[class], class)
			}
			held := int64(len(c.part[class].body) + len(c.part[class].payload))
			for _, m := range p.got[side] {
				if m.class == class {
					held += m.cost
				}
			}
			if held > cfg.Window[class]+largest {
				t.Fatalf("LINK-4: side %d holds %d received bytes of %s", side, held, class)
			}
		}
	}
}
