package agent

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// fetching is a desk with memory, and an errand to agent 2.
func fetching(t *testing.T) (*desk, *errand) {
	now := int64(time.Second)
	d := alone(&now)
	d.store = newDeskStore(d, 256<<20)
	d.core = work.New(work.Config{Agent: 1, Node: "n1", Store: d.store})
	t.Cleanup(d.endStore)
	e := &errand{number: 3, peer: 2, process: 9}
	d.errands = append(d.errands, e)
	return d, e
}

// settled does what was posted, lets fetches go on, and gives what other agents are told.
func (d *desk) settled(t *testing.T) (told []ToAgent) {
	t.Helper()
	d.settleFetches(t.Context())
	d.l.wait.Wait() // memory is being made
	d.mu.Lock()
	box := d.box
	d.box = nil
	d.mu.Unlock()
	for _, m := range box {
		m.do()
	}
	d.settleFetches(t.Context())
	for len(d.l.inbox) > 0 {
		told = append(told, (<-d.l.inbox).ev.(ToAgent))
	}
	return told
}

// A value of another node comes piece by piece, not more ahead than is bounded, and lies here as it lay there.
func TestValueInPieces(t *testing.T) {
	d, e := fetching(t)
	value := make([]byte, 9<<20+5)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(value)
	o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}, Index: 1}
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: uint64(len(value))})
	asked, got := 0, 0
	for rounds := 0; len(d.events) == 0; rounds++ {
		told := d.settled(t)
		if len(told) == 0 && len(d.events) == 0 || rounds > 10 {
			t.Fatalf("after %d bytes nothing more is asked for", got)
		}
		var pulls []*fb.PullT
		for _, m := range told {
			p := m.M.(*fb.PullT)
			if m.Peer != 2 || p.Errand != 3 || taskOf(p.Task) != o.Task || p.Index != 1 || int(p.Offset) != asked {
				t.Fatalf("asked for %+v", p)
			}
			asked += int(p.Size)
			pulls = append(pulls, p)
		}
		if asked-got > pullAhead*pullSize {
			t.Fatalf("%d bytes are under way", asked-got)
		}
		for _, p := range pulls {
			for at := int(p.Offset); at < int(p.Offset+p.Size); at += 1 << 20 {
				n := min(1<<20, int(p.Offset+p.Size)-at)
				d.partCame(e, &fb.PartT{Errand: 3, Task: p.Task, Index: 1, Offset: uint64(at)}, value[at:at+n])
				got += n
			}
		}
	}
	if ev := d.events[0].(work.Fetched); ev.Object != o || ev.Process != 9 || ev.Why != "" {
		t.Fatalf("the core is told %+v", ev)
	}
	d.store.part(o, 0, uint64(len(value)), func(here []byte, err error) {
		if err != nil || !bytes.Equal(here, value) {
			t.Fatalf("what lies here is another value, or: %v", err)
		}
	})
	if len(d.fetches)+len(d.fetchSlab) > 0 {
		t.Error("it is still under way")
	}

	// The other side.
	var parts []byte
	d.pulled(t.Context(), e, &fb.PullT{Errand: 3, Task: taskT(o.Task), Index: 1, Offset: 100, Size: 1 << 20})
	for len(d.l.inbox) > 0 {
		m := (<-d.l.inbox).ev.(ToAgent)
		if p := m.M.(*fb.PartT); int(p.Offset) != 100+len(parts) || p.Error != "" || len(m.Payload) > partSize {
			t.Fatalf("a part of %d bytes: %+v", len(m.Payload), p)
		}
		parts = append(parts, m.Payload...)
	}
	if !bytes.Equal(parts, value[100:100+1<<20]) {
		t.Error("its parts are another value")
	}
	for _, bad := range []*fb.PullT{
		{Task: taskT(o.Task), Index: 1, Offset: uint64(len(value)), Size: 1}, {Task: taskT(o.Task), Index: 1, Offset: 1 << 63, Size: 1 << 63}, {Task: taskT(o.Task), Index: 7, Size: 1},
	} {
		d.pulled(t.Context(), e, bad)
		if p := (<-d.l.inbox).ev.(ToAgent).M.(*fb.PartT); !strings.Contains(p.Error, "n1") {
			t.Errorf("of %+v another agent hears %+v", bad, p)
		}
	}
}

// What can't be had is an error, and what nobody wants any more leaves nothing.
func TestValueThatDoesNotCome(t *testing.T) {
	for name, c := range map[string]struct {
		size uint64
		part *fb.PartT
		why  string
	}{
		"it is gone there":     {1 << 20, &fb.PartT{Error: "node n2: gone"}, "node n2: gone"},
		"a hole":               {1 << 20, &fb.PartT{Offset: 5}, "at 5"},
		"more than there is":   {10, &fb.PartT{}, "0 to 10 were next"},
		"no room ever":         {1 << 30, nil, "more than this node's store may ever hold"},
		"nothing":              {0, nil, "size"},
		"more than an address": {1 << 63, nil, "size"},
	} {
		t.Run(name, func(t *testing.T) {
			d, e := fetching(t)
			o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 8}}
			d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: c.size})
			d.settled(t)
			if c.part != nil {
				c.part.Task = taskT(o.Task)
				d.partCame(e, c.part, make([]byte, 100))
				d.settled(t)
			}
			here := c.size == 1<<30
			if ev, ok := d.events[0].(work.Fetched); len(d.events) != 1 || !ok || !strings.Contains(ev.Why, c.why) || ev.Here != here {
				t.Errorf("the core is told %+v", d.events)
			}
			if len(d.fetches)+len(d.fetchSlab) > 0 {
				t.Error("it is still under way")
			}
		})
	}
	d, e := fetching(t)
	for i := range uint64(fetchesAtOnce + 1) {
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: id.Object{Task: id.Task{Agent: 2, Counter: i}}, Key: 1 << 20})
	}
	for range fetchesAtOnce {
		d.settled(t)
	}
	if len(d.fetchSlab) == 0 || d.fetches[fetchesAtOnce].wanted {
		t.Errorf("%d slabs are written, and the last value waits: %v", len(d.fetchSlab), !d.fetches[fetchesAtOnce].wanted)
	}
	d.endFetches(e)
	d.settled(t)
	if len(d.fetches)+len(d.fetchSlab)+len(d.events) > 0 {
		t.Errorf("after the errand %d values are under way, and %d slabs written, and the core was told %v", len(d.fetches), len(d.fetchSlab), d.events)
	}
}
