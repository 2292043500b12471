package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What rests in the cache goes when somebody wants memory, and when the node's is short, before anything else; not while it is used. The core is told.
func TestWhatRestsGoes(t *testing.T) {
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	come := func(counter uint64) id.Object {
		t.Helper()
		o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: counter}}
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: 1 << 20})
		d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
		d.events = nil
		d.store.settled()
		return o
	}
	gone := func() (list []id.Object) {
		for _, ev := range d.events {
			if e, ok := ev.(work.Evicted); ok {
				list = append(list, e.Object)
			}
		}
		d.events = nil
		return list
	}
	a, b, used := come(1), come(2), come(3)
	for _, o := range []id.Object{a, b, used} {
		if !d.store.Rest(o) {
			t.Fatalf("%v does not rest", o)
		}
	}
	if !d.store.Reuse(used) {
		t.Fatal("what rests can't be used again")
	}
	if j := d.store.show(true); j.Cached != 2 || j.CachedBytes != 2<<20 {
		t.Errorf("%d values of %d bytes are cached", j.Cached, j.CachedBytes)
	}
	d.memoryShort(t.Context(), &shortage{})
	if list := gone(); len(list) != 2 || list[0] != a || list[1] != b {
		t.Errorf("%v went, of %v and %v", list, a, b)
	}
	if d.store.Reuse(a) || !d.store.Reuse(used) {
		t.Error("what went can be used again, or what was used can't")
	}
	c := come(4)
	d.store.Rest(c)
	d.store.do(nil, d.store.store.Attach(7))
	out, err := d.store.store.Lend(d.l.now(), 7, 240<<20-3<<19, nil)
	d.store.do(out, err)
	if list := gone(); len(list) != 1 || list[0] != c {
		t.Errorf("%v went for who wants memory", list)
	}
	if d.store.Rest(c) {
		t.Error("what is gone rests")
	}
}
