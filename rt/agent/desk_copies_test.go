package agent

import (
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A copy of another node's value goes when memory is wanted, and nothing is written to disk for that; what it is not, is. Until the core has heard of it a copy that is gone is one that has
// to come, and nothing that could be freed.
func TestCopiesAreDropped(t *testing.T) {
	const size = 4 << 20
	now := int64(1e9)
	d := alone(&now)
	d.l.now = func() int64 { now += 1e6; return now }
	d.l.core.cfg.Spill = []string{t.TempDir()}
	d.store = newDeskStore(d, 32<<20)
	d.core = work.New(work.Config{Agent: 1, Node: "n1", Store: d.store})
	d.gets(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	d.errands = append(d.errands, &errand{number: 3, peer: 2, process: 9})
	object := func(n uint64) id.Object { return id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: n}} }
	var gone []id.Object
	come := func(from, to uint64, copied bool) {
		t.Helper()
		came := from
		for n := from; n < to; n++ {
			d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: object(n), Key: size})
		}
		d.until(t, func() bool {
			for _, ev := range d.events {
				switch ev := ev.(type) {
				case work.Fetched:
					if came++; ev.Why != "" {
						t.Fatal(ev.Why)
					}
					if copied {
						d.store.Loosen(ev.Object)
					}
				case work.Evicted:
					gone = append(gone, ev.Object)
				}
			}
			d.events = nil
			return came == to && len(d.fetches) == 0
		})
	}
	come(0, 3, false)
	come(3, 20, true)
	x := d.store.show(true)
	if x.Spilled > 0 || x.Dropped == 0 || x.Dropped != int64(len(gone))*size || x.CopyBytes == 0 || x.Cached != 0 {
		t.Errorf("%d went, %+v", len(gone), x)
	}
	if !slices.IsSortedFunc(gone, func(a, b id.Object) int { return int(a.Task.Counter) - int(b.Task.Counter) }) || gone[0] != object(3) {
		t.Errorf("%v went", gone)
	}
	last := object(19)
	if !d.store.Reuse(last) { // its home is lost
		t.Error("the last one is gone")
	}
	come(20, 40, false)
	if x := d.store.show(true); x.Spilled == 0 || slices.Contains(gone, last) {
		t.Errorf("what stays for good: %+v", x)
	}

	old := object(18)
	d.store.gone[old] = true // the core is to be told
	d.conns[5] = &workConn{process: 5, kind: fb.AttachKindDriver}
	d.store.do(nil, d.store.store.Attach(5))
	if _, _, there := d.store.View(5, old); there {
		t.Error("what is gone lies somewhere")
	}
	if d.store.Bring(old); len(d.events) != 1 || d.events[0].(work.Brought).Why == "" {
		t.Errorf("when it is to be brought the core is told %+v", d.events)
	}
	d.events = nil
	d.store.Free(old)
	delete(d.conns, 5)
	d.store.do(d.store.store.Died(d.l.now(), 5, nil))
}

// A large copy that is kept for others for a moment goes before anything is written to disk.
func TestWhatIsKeptForOthersGoesFirst(t *testing.T) {
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: 1}}
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: keepLarge})
	d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
	d.events = nil
	d.store.settled()
	d.store.Free(o)
	if _, there := d.store.store.Lookup(o); !there || len(d.store.kept) != 1 {
		t.Fatal("it is not kept")
	}
	d.store.do(nil, d.store.store.Attach(7))
	d.store.do(d.store.store.Lend(d.l.now(), 7, 240<<20, nil))
	if _, there := d.store.store.Lookup(o); there || len(d.store.kept) > 0 || d.store.store.Explain().Moved.Dropped != (objstore.Tally{Objects: 1, Bytes: keepLarge}) {
		t.Error("it stays when memory is wanted")
	}
}
