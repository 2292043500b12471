package agent

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// fetching is a desk with memory, and an errand to agent 2, which gives of each object what values say.
func fetching(t *testing.T, values func(bulk.Range) bulk.Piece) (*desk, *errand) {
	now := int64(time.Second)
	d := alone(&now)
	d.l.now = func() int64 { now += int64(time.Millisecond); return now }
	d.store = newDeskStore(d, 256<<20)
	d.core = work.New(work.Config{Agent: 1, Node: "n1", Store: d.store})
	d.gets(t, values)
	e := &errand{number: 3, peer: 2, process: 9}
	d.errands = append(d.errands, e)
	return d, e
}

// gets has connections of a desk lead to one that gives what values say.
func (d *desk) gets(t *testing.T, values func(bulk.Range) bulk.Piece) {
	over := make(chan struct{})
	d.dialing = func(context.Context, uint32, uint64, []string) (net.Conn, error) {
		here, there := net.Pipe()
		d.l.goes(func() {
			go func() {
				_ = bulk.Serve(there, func(r bulk.Range, answer func(bulk.Piece)) {
					p := values(r)
					if p.Bytes == nil && p.Why == "" {
						_ = there.Close()
					}
					answer(p)
				}, func() {}, over)
			}()
		})
		return here, nil
	}
	t.Cleanup(func() { close(over); d.end() })
}

// settled does what was posted, lets fetches go on, answers as another agent what it is asked about connections, and gives
// what else other agents are told.
func (d *desk) settled(t *testing.T) (told []ToAgent) {
	t.Helper()
	for again := true; again; {
		again = false
		d.settleFetches(t.Context())
		d.l.wait.Wait() // memory is being made
		d.mu.Lock()
		box := d.box
		d.box = nil
		d.mu.Unlock()
		for _, m := range box {
			again = true
			m.do()
		}
		d.settleFetches(t.Context())
		d.settlePulls(t.Context())
		if len(d.events) == 0 { // the core would have been told of all
			d.store.settled()
		}
		for len(d.l.inbox) > 0 {
			again = true
			m := (<-d.l.inbox).ev.(ToAgent)
			switch x := m.M.(type) {
			case *fb.BulkAskT:
				cfg := d.l.core.cfg // the other one's, too
				d.bulkSays(t.Context(), m.Peer, &fb.BulkTicketsT{Tickets: make([]uint64, x.Count), Socket: cfg.Socket, Boot: cfg.Boot})
			case *fb.SourceAskT:
				d.bulkSays(t.Context(), m.Peer, &fb.SourceT{Task: x.Task, Index: x.Index, Agent: m.Peer})
			default:
				told = append(told, m)
			}
		}
	}
	return told
}

// until goes on until something is so.
func (d *desk) until(t *testing.T, so func() bool) {
	t.Helper()
	rounds := 0
	for d.settled(t); !so(); d.settled(t) {
		select {
		case <-d.wake:
		case <-time.After(10 * time.Millisecond): // something may have become due
		}
		if rounds++; rounds > 2000 {
			t.Fatalf("it does not come to that: %d values are under way, and the core was told %v", len(d.fetches), d.events)
		}
	}
}

// A value of another node comes over several connections, also when each of them breaks in the middle, and lies here as it lay there.
func TestValueOverConnections(t *testing.T) {
	value := make([]byte, 40<<20+5)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(value)
	o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}, Index: 1}
	asked := make(chan bulk.Range, 1000)
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece {
		asked <- r
		if r.Object != o {
			return bulk.Piece{Why: "what?"}
		}
		if len(asked)%5 == 0 {
			return bulk.Piece{} // it breaks
		}
		return bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size]}
	})
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: uint64(len(value))})
	d.until(t, func() bool { return len(d.events) > 0 })
	if ev := d.events[0].(work.Fetched); ev.Object != o || ev.Process != 9 || ev.Why != "" {
		t.Fatalf("the core is told %+v", ev)
	}
	if info, _ := d.store.store.Lookup(o); info.Views != 1 {
		t.Errorf("it may go before the core was told: %+v", info)
	}
	d.events = nil
	if len(d.fetches)+len(d.fetchSlab) > 0 {
		t.Error("it is still under way")
	}

	// The other side.
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() { d.serveBulk(t.Context(), there, 7); close(served) }()
	ends := make(chan bulk.End, 10)
	s := bulk.NewStream(here, func(e bulk.End) { ends <- e; d.stir() })
	got := make([]byte, len(value))
	for _, r := range []bulk.Range{{Object: o, Offset: 0, Size: 20 << 20}, {Object: o, Offset: 20 << 20, Size: 20<<20 + 5}} {
		s.Ask(r, got[r.Offset:])
	}
	d.until(t, func() bool { return len(ends) == 2 })
	for range 2 {
		if e := <-ends; e.Why != "" || e.Err != nil {
			t.Errorf("it comes as %+v", e)
		}
	}
	if !bytes.Equal(got, value) {
		t.Error("what lies here is another value")
	}
	if info, _ := d.store.store.Lookup(o); info.Views != 0 {
		d.until(t, func() bool { info, _ = d.store.store.Lookup(o); return info.Views == 0 })
	}
	for _, bad := range []bulk.Range{{Object: o, Offset: int64(len(value)), Size: 1}, {Object: id.Object{Task: o.Task, Index: 7}, Size: 1}} {
		s.Ask(bad, got)
		d.until(t, func() bool { return len(ends) == 1 })
		if e := <-ends; !strings.Contains(e.Why, "node n1: ") {
			t.Errorf("of %+v another agent hears %+v", bad, e)
		}
	}
	s.Cut()
	<-served
}

// What can't be had is an error, and what nobody wants any more leaves nothing.
func TestValueThatDoesNotCome(t *testing.T) {
	for name, c := range map[string]struct {
		size uint64
		why  string
		here bool
	}{
		"it is gone there":     {1 << 20, "node n2: gone", false},
		"a large one, too":     {64 << 20, "node n2: gone", false},
		"no room ever":         {1 << 30, "more than this node's store may ever hold", true},
		"nothing":              {0, "size", false},
		"more than an address": {1 << 63, "size", false},
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := fetching(t, func(bulk.Range) bulk.Piece { return bulk.Piece{Why: "node n2: gone"} })
			o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}}
			d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: c.size})
			d.until(t, func() bool { return len(d.events) > 0 })
			if ev, ok := d.events[0].(work.Fetched); len(d.events) != 1 || !ok || !strings.Contains(ev.Why, c.why) || ev.Here != c.here {
				t.Errorf("the core is told %+v", d.events)
			}
			if len(d.fetches)+len(d.fetchSlab) > 0 {
				t.Error("it is still under way")
			}
		})
	}
	never := make(chan struct{})
	defer close(never)
	d, e := fetching(t, func(bulk.Range) bulk.Piece { <-never; return bulk.Piece{Why: "late"} })
	for i := range uint64(fetchesAtOnce + 1) {
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: id.Object{Task: id.Task{Agent: 2, Counter: i}}, Key: 20 << 20, Urgency: work.Unasked})
	}
	d.until(t, func() bool { return len(d.fetchSlab) > 0 && d.fetches[fetchesAtOnce-1].number > 0 })
	if len(d.lined) != 1 {
		t.Fatal("more are under way than may be")
	}
	last := d.lined[0].object
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: id.Object{Task: id.Task{Agent: 2, Counter: 99}}, Key: 20 << 20, Urgency: work.Argument})
	d.apply(t.Context(), &work.Effect{Do: work.Hasten, Process: 9, Object: last, Urgency: work.Awaited})
	d.until(t, func() bool { return len(d.fetches) == fetchesAtOnce+2 && d.fetches[fetchesAtOnce+1].number > 0 })
	if d.fetches[fetchesAtOnce].object != last || d.fetches[fetchesAtOnce+1].object.Task.Counter != 99 {
		t.Error("what is more urgent is not before the rest")
	}
	d.endFetches(e)
	d.until(t, func() bool { return len(d.fetches) == 0 })
	if len(d.fetchSlab)+len(d.events) > 0 {
		t.Errorf("after the errand %d slabs are written, and the core was told %v", len(d.fetchSlab), d.events)
	}
}

// A value whose bytes turn out to be of two, as it was made anew where it comes from, is given up, also where it broke off in the middle of a range, and the next one comes whole. Copies
// are known by what they are copies of.
func TestValueThatIsMadeAnewWhileItComes(t *testing.T) {
	const size = 12 << 20
	o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}, Index: 1}
	var asked, version atomic.Uint32
	version.Store(7)
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece {
		if asked.Add(1) == 3 {
			version.Store(8)
		}
		return bulk.Piece{Bytes: bytes.Repeat([]byte{byte(version.Load())}, int(r.Size)), Version: version.Load()}
	})
	come := func() work.Fetched {
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: size})
		d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
		ev := d.events[0].(work.Fetched)
		d.events = nil
		return ev
	}
	if ev := come(); !ev.Anew || !ev.Here || ev.Why == "" || len(d.fetchSlab) > 0 {
		t.Errorf("the core is told %+v", ev)
	}
	if _, there := d.store.store.Lookup(o); there {
		t.Error("what was of two is here")
	}
	if ev := come(); ev.Why != "" {
		t.Fatalf("the core is told %+v", ev)
	}
	info, _ := d.store.store.Lookup(o)
	b, err := d.store.memory.Bytes(info.Location.Arena, info.Location.Offset, size)
	if err != nil || info.Version != 8 || bytes.Count(b, []byte{8}) != size {
		t.Errorf("of version %d, %d bytes are here: %v", info.Version, bytes.Count(b, []byte{8}), err)
	}
	given := make(chan bulk.Piece, 1)
	d.bytes(bulk.Range{Object: o, Size: 1 << 20}, func(p bulk.Piece) { given <- p })
	if p := <-given; p.Version != 8 {
		t.Errorf("it is given as version %d, and is a copy of 8", p.Version)
	}
}

// A value that nobody waits for, and that waits for memory, lets one go before it that is waited for.
func TestWhatIsWaitedForAsksFirst(t *testing.T) {
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	object := func(n uint64) id.Object { return id.Object{Task: id.Task{Agent: 2, Counter: n}} }
	if err := d.store.store.Attach(5); err != nil {
		t.Fatal(err)
	}
	out, err := d.store.store.Lend(d.l.now(), 5, 200<<20, nil)
	d.store.do(out, err)
	d.l.wait.Wait()
	d.settled(t)
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: object(1), Key: 120 << 20, Urgency: work.Unasked})
	d.settled(t)
	if d.asking == nil || d.asking.object != object(1) {
		t.Fatal("the first one does not wait for memory")
	}
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: object(2), Key: 4 << 20, Urgency: work.Awaited})
	d.until(t, func() bool { return len(d.events) == 1 })
	if ev := d.events[0].(work.Fetched); ev.Object != object(2) || ev.Why != "" || len(d.fetches)+len(d.lined) != 1 {
		t.Errorf("the core is told %+v, %d and %d are left", ev, len(d.fetches), len(d.lined))
	}
}

// Where ten thousand wait all of those come that are waited for, the first of them first.
func TestThousandsOfFetches(t *testing.T) {
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	const n = 10_000
	began := time.Now()
	for i := range uint64(n) {
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: id.Object{Task: id.Task{Agent: 2, Counter: i}}, Key: 1, Urgency: work.Unasked})
	}
	for i := range uint64(n) {
		d.apply(t.Context(), &work.Effect{Do: work.Hasten, Process: 9, Object: id.Object{Task: id.Task{Agent: 2, Counter: i}}, Urgency: work.Awaited})
	}
	t.Logf("they are in line after %v", time.Since(began))
	d.until(t, func() bool { return len(d.events) > 500 })
	t.Logf("%d of %d came in %v", len(d.events), n, time.Since(began))
	for i, ev := range d.events[:500] {
		if o := ev.(work.Fetched).Object; o != (id.Object{Task: id.Task{Agent: 2, Counter: uint64(i)}}) {
			t.Fatalf("value %d came as the %dth", o.Task.Counter, i)
		}
	}
}

// Values come to an agent that has them only in part as they came, and no later than they do.
func TestValueIsGivenWhileItComes(t *testing.T) {
	value := make([]byte, 24<<20)
	rng := rand.NewChaCha8([32]byte{2})
	_, _ = rng.Read(value)
	o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}}
	gate := make(chan struct{})
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece {
		if r.Offset >= 8<<20 {
			<-gate
		}
		return bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size]}
	})
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: uint64(len(value))})
	d.until(t, func() bool { return len(d.fetches) == 1 && d.fetches[0].number > 0 })
	here, there := net.Pipe()
	served := make(chan struct{})
	go func() { d.serveBulk(t.Context(), there, 7); close(served) }()
	ends := make(chan bulk.End, 10)
	s := bulk.NewStream(here, func(e bulk.End) { ends <- e; d.stir() })
	got := make([]byte, len(value))
	s.Ask(bulk.Range{Object: o, Size: 4 << 20}, got)
	s.Ask(bulk.Range{Object: o, Offset: 4 << 20, Size: 20 << 20}, got[4<<20:])
	d.until(t, func() bool { return len(ends) == 1 })
	if len(d.events) > 0 {
		t.Fatal("the value is here already")
	}
	close(gate)
	d.until(t, func() bool { return len(ends) == 2 && len(d.fetches) == 0 })
	if !bytes.Equal(got, value) || (<-ends).Err != nil || (<-ends).Err != nil {
		t.Error("it is another value there")
	}
	d.events = nil
	d.store.settled()
	if info, ok := d.store.store.Lookup(o); !ok || info.Views != 0 || len(d.store.bulk.waits) > 0 {
		t.Errorf("it lies here as %+v, and %d wait", info, len(d.store.bulk.waits))
	}
	s.Cut()
	<-served
}

// A ticket admits once, whom it was given to, and not for long.
func TestTickets(t *testing.T) {
	var x tickets
	n := x.give(0, 2, 3)
	if x.take(1, 3, n[0]) || !x.take(1, 2, n[0]) || x.take(1, 2, n[0]) || x.take(1, 2, n[0]+1) || x.take(ticketGood, 2, n[1]) {
		t.Error("one was taken that is not good, or not one that is")
	}
	if x.give(ticketGood, 2, 1); len(x.list) != 1 {
		t.Errorf("%d are kept", len(x.list))
	}
}
