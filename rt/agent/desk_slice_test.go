package agent

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// wants begins to bring a range, and gives what the desk tells others of it. It is known where the value lies from what says then.
func (d *desk) wantsRange(t *testing.T, object, of id.Object, offset int64, size uint64, says ...*fb.SourceT) []ToAgent {
	t.Helper()
	d.slice(t.Context(), &work.Effect{Do: work.Slice, Process: 9, Object: object, Key: size, Urgency: work.Awaited, Part: &work.Part{Of: of, Offset: offset, Version: 7}})
	var asked []ToAgent
	for _, s := range says {
		asked = append(asked, (<-d.l.inbox).ev.(ToAgent))
		s.Task, s.Index, s.Ranges = taskT(of.Task), of.Index, true
		d.bulkSays(t.Context(), asked[len(asked)-1].Peer, s)
	}
	return asked
}

// A range comes from the agent that has the value, whoever told of it, over several chunks, and lies here under a name of its own; and nobody else is given it in the value's place.
// It is not there if it is of another version, or the value lies nowhere, or here, or is smaller.
func TestRangeOfAValueElsewhere(t *testing.T) {
	value := make([]byte, 24<<20)
	rng := rand.NewChaCha8([32]byte{3})
	_, _ = rng.Read(value)
	of := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}, Index: 1}
	version := uint32(7)
	var least int64
	d, e := fetching(t, func(r bulk.Range) bulk.Piece {
		if r.Object != of || r.Offset < least {
			return bulk.Piece{Why: "nobody wants this"}
		}
		return bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size], Version: version}
	})
	name := func(counter uint64) id.Object {
		return id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: counter}}
	}
	end := func() work.Event {
		t.Helper()
		d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
		ev := d.events[0]
		d.events = nil
		if len(d.store.bulk.slices)+len(d.fetchSlab) > 0 {
			t.Errorf("%d questions are open, and %d slabs written", len(d.store.bulk.slices), len(d.fetchSlab))
		}
		return ev
	}
	const offset, size = 1<<20 + 3, 18 << 20
	least = offset
	asked := d.wantsRange(t, name(1), of, offset, size, &fb.SourceT{Agent: 5, Size: uint64(len(value))})
	if m, is := asked[0].M.(*fb.SourceAskT); asked[0].Peer != e.peer || !is || !m.Ranges {
		t.Errorf("where it lies is asked by %+v", asked)
	}
	if ev, is := end().(work.Fetched); !is || ev.Why != "" || ev.Size != size || ev.Object != name(1) {
		t.Fatalf("the core is told %+v", ev)
	}
	info, _ := d.store.store.Lookup(name(1))
	b, err := d.store.memory.Bytes(info.Location.Arena, info.Location.Offset, size)
	if err != nil || !bytes.Equal(b, value[offset:offset+size]) || info.Version == 7 || info.Version == 0 {
		t.Errorf("other bytes came, as version %d: %v", info.Version, err)
	}
	if _, there := d.store.store.Lookup(of); there {
		t.Error("the value is here")
	}

	if d.wantsRange(t, name(2), of, 0, 0, &fb.SourceT{Agent: 5, Size: 3}, &fb.SourceT{Agent: 5, Size: 3, Format: fb.FormatArrow, Version: 4})[1].Peer != 5 {
		t.Error("what it is was not asked of who has it")
	}
	if ev := end(); ev != (work.Measured{Object: name(2), Size: 3, Format: fb.FormatArrow, Version: 4}) {
		t.Errorf("the core is told %+v", ev)
	}
	for why, c := range map[string]struct {
		version uint32
		says    *fb.SourceT
	}{
		"not known":  {7, &fb.SourceT{}},
		"lies here":  {7, &fb.SourceT{Agent: d.agent, Size: 1 << 30}},
		"has 10 byt": {7, &fb.SourceT{Agent: 5, Size: 10}},
		"made anew":  {8, &fb.SourceT{Agent: 5, Size: uint64(len(value))}},
	} {
		version = c.version
		d.wantsRange(t, name(3), of, offset, size, c.says)
		if ev, is := end().(work.Fetched); !is || !strings.Contains(ev.Why, why) {
			t.Errorf("the core is told %+v, not that it %s", ev, why)
		}
	}
	d.wantsRange(t, name(4), of, offset, size)
	d.endFetches(e)
	if len(d.store.bulk.slices) > 0 {
		t.Error("its errand is over, and the question is open")
	}
	d.wantsRange(t, name(5), of, offset, size)
	now := d.l.now()
	d.l.now = func() int64 { return now + sliceAsked }
	d.settleSlices()
	if ev, is := end().(work.Fetched); !is || !strings.Contains(ev.Why, "agent 2 did not say") {
		t.Errorf("of a question without an answer the core is told %+v", ev)
	}
}

// A range that nobody wants any more is neither asked for nor brought, whether it is known where it lies or not, and keeps nothing.
func TestRangeThatNobodyWantsAnyMore(t *testing.T) {
	of := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}, Index: 1}
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size), Version: 7} })
	object := func(n uint64) id.Object { return id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: n}} }
	d.wantsRange(t, object(1), of, 0, 4<<20)
	d.wantsRange(t, object(2), of, 0, 4<<20, &fb.SourceT{Agent: 5, Size: 8 << 20, Version: 7})
	for n := range uint64(2) {
		d.slice(t.Context(), &work.Effect{Do: work.Unslice, Object: object(n + 1)})
	}
	d.until(t, func() bool {
		return len(d.fetches)+len(d.lined)+len(d.store.bulk.slices)+len(d.fetchSlab) == 0 && d.asking == nil
	})
	if len(d.events) > 0 {
		t.Errorf("the core is told %+v", d.events)
	}
}
