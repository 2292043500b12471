package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A large copy that nobody here needs any more can be had for a moment, but not when somebody waits for memory.
func TestCopiesStayForAMoment(t *testing.T) {
	d, _ := fetching(t, func(r bulk.Range) bulk.Piece { return bulk.Piece{Bytes: make([]byte, r.Size)} })
	come := func(counter uint64, size uint64) id.Object {
		t.Helper()
		o := id.Object{Task: id.Task{Agent: 2, Process: 4, Counter: counter}}
		d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: o, Key: size})
		d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
		if ev := d.events[0].(work.Fetched); ev.Why != "" {
			t.Fatal(ev.Why)
		}
		d.events = nil
		d.store.settled()
		d.store.Free(o)
		d.settleStore()
		return o
	}
	there := func(o id.Object) bool {
		_, ok := d.store.store.Lookup(o)
		return ok
	}
	small := come(1, 1<<20)
	large := come(2, keepLarge)
	if there(small) || !there(large) {
		t.Errorf("a small one is there: %v, a large one: %v", there(small), there(large))
	}
	if again := come(2, keepLarge); !there(again) || len(d.store.kept) != 1 {
		t.Errorf("%d stay, when it has come once more", len(d.store.kept))
	}
	if _, err := d.store.store.Deliver(objstore.Agent, large); err != nil { // a piece of it is being given to another agent
		t.Fatal(err)
	}
	d.fetch(&work.Effect{Do: work.Fetch, Process: 9, Object: large, Key: keepLarge})
	d.until(t, func() bool { return len(d.fetches) == 1 && d.fetches[0].got })
	if d.settled(t); len(d.events) > 0 {
		t.Errorf("it was told that it has come, or not, while the one before is in use: %+v", d.events)
	}
	d.store.do(d.store.store.Undeliver(d.l.now(), objstore.Agent, large, 1, nil))
	d.until(t, func() bool { return len(d.events) > 0 && len(d.fetches) == 0 })
	if ev := d.events[0].(work.Fetched); ev.Why != "" {
		t.Errorf("what was in use is wanted again: %s", ev.Why)
	}
	d.events = nil
	d.store.settled()
	d.store.Free(large)
	clock, at := d.l.now, d.l.now()
	if next := d.settleStore(); next > at+keepFor {
		t.Errorf("it is looked at again in %d ns", next-at)
	}
	d.l.now = func() int64 { return clock() + keepFor/2 }
	if d.settleStore(); !there(large) {
		t.Error("it did not stay")
	}
	d.l.now = func() int64 { return clock() + keepFor }
	if d.settleStore(); there(large) {
		t.Error("it stays for too long")
	}

	large = come(3, keepLarge)
	d.store.do(nil, d.store.store.Attach(7))
	out, err := d.store.store.Lend(d.l.now(), 7, 200<<20, nil)
	d.store.do(out, err)
	waiting := d.store.store.Explain().Waiting
	if d.settleStore(); there(large) || len(d.store.kept) > 0 {
		t.Errorf("it stays though %d wait for memory", waiting)
	}
	d.store.do(d.store.store.Died(d.l.now(), 7, nil))
	if used := d.store.store.Explain().Secondary.Bytes + d.store.store.Explain().Primary.Bytes; used > 0 {
		t.Errorf("%s are left", objstore.Bytes(used))
	}
}
