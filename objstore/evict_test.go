package objstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
)

// Verifies OBJ-9.
func TestCopiesGoFirst(t *testing.T) {
	w := newWorld(t, small, 7)
	w.lend(objstore.Agent, 8*mib, "grow 8 MiB, lent 0 slab 1 8 MiB new")
	for n := range uint64(8) {
		w.seal(objstore.Agent, n, 1, int64(n)*mib, mib, n != 3)
	}
	w.giveBack(objstore.Agent, 1, "")
	for n := range uint64(8) {
		w.undeliver(objstore.Agent, n, "")
	}
	if err := w.s.Await(object1(1)); err != nil { // used again, and pinned
		t.Fatal(err)
	}
	w.lend(7, 24*mib, "grow 24 MiB, lent 7 slab 2 24 MiB new")
	w.lend(7, 2*mib, "evicted 0, evicted 2, punch 1 MiB of 1, punch 1 MiB of 1, grow 2 MiB, lent 7 slab 3 2 MiB new")
	if err := w.s.Promote(w.now, object1(6)); err != nil {
		t.Fatal(err)
	}
	w.lend(7, 3*mib, "evicted 4, evicted 5, evicted 7, punch 2 MiB of 1, punch 1 MiB of 1, grow 3 MiB, lent 7 slab 4 3 MiB new")
	w.out, _ = w.s.Unawait(w.now, object1(1), w.out)
	w.want("")
	if i, ok := w.s.Lookup(object1(1)); !ok || !i.Secondary {
		t.Errorf("%+v, %v", i, ok)
	}
}

// Verifies OBJ-9: a copy in a slab that its writer still maps frees memory when the slab comes back, and no
// more copies go than that.
func TestCopiesInSlabs(t *testing.T) {
	w := newWorld(t, small, 7)
	w.lend(objstore.Agent, 16*mib, "grow 16 MiB, lent 0 slab 1 16 MiB new")
	w.lend(objstore.Agent, 16*mib, "grow 16 MiB, lent 0 slab 2 16 MiB new")
	for n := range uint64(16) {
		w.seal(objstore.Agent, n, 1+n/8, int64(n%8)*2*mib, 2*mib, true)
		w.undeliver(objstore.Agent, n, "")
	}
	w.lend(7, 2*mib, "evicted 0, recall 0 slab 1")
	w.giveBack(objstore.Agent, 1, "lent 7 slab 3 2 MiB new")
}

// Arenas that are empty make room for one that is large enough, if that is enough.
func TestEmptyArenasGo(t *testing.T) {
	w := newWorld(t, small, 7, 9)
	w.lend(7, 8*mib, "grow 8 MiB, lent 7 slab 1 8 MiB new")
	w.lend(9, 8*mib, "grow 8 MiB, lent 9 slab 2 8 MiB new")
	w.lend(9, 4*mib, "grow 16 MiB, lent 9 slab 3 4 MiB new")
	w.giveBack(7, 1, "")
	w.seal(9, 1, 3, 0, 4*mib, false)
	w.lend(9, 21*mib, "recall 9 slab 2") // the empty arena, and the 12 MiB behind slab 3, do not help
	if n := w.s.Used(objstore.Arenas); n != 32*mib {
		t.Errorf("%s of arenas are left: what does not help was given back", objstore.Bytes(n))
	}
	w.giveBack(9, 2, "drop 1, drop 2, punch 5 MiB of 3, grow 21 MiB, lent 9 slab 4 21 MiB new")
}

// When the system has no memory, a smaller arena will do, or the request fails with the system's words.
func TestNoMemory(t *testing.T) {
	w := newWorld(t, small, 7, 8)
	cause := errors.New("cannot allocate memory")
	var err error
	w.out, err = w.s.Lend(w.now, 7, mib, w.out)
	w.must(err)
	w.out, err = w.s.GrowFailed(w.now, 1, cause, w.out[1:])
	w.must(err)
	if g := w.out[0].(objstore.Grow); g.Size != mib {
		t.Errorf("%+v", g)
	}
	w.out, err = w.s.GrowFailed(w.now, 2, cause, w.out[1:])
	w.must(err)
	r, ok := w.out[0].(objstore.Refused)
	if !ok || !errors.Is(r.Err, cause) || !strings.Contains(r.Err.Error(), "the system gave no memory: cannot allocate memory") {
		t.Fatalf("%v", w.out)
	}
	if w.s.Total() != 0 {
		t.Errorf("%d bytes are charged", w.s.Total())
	}
	if _, err := w.s.Grown(w.now, 2, nil); !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("an arena that failed was made: %v", err)
	}
}

// What nobody uses goes back to the system within twice KeepWarm, at the cost of a tick per KeepWarm.
func TestIdleMemory(t *testing.T) {
	w := newWorld(t, objstore.Config{Budget: 64 * mib, FirstArena: 8 * mib, KeepWarm: time.Minute}, 7)
	if at := w.s.NextDeadline(); at != 0 {
		t.Errorf("due at %v with nothing in the store", at)
	}
	w.lend(7, mib, "grow 8 MiB, lent 7 slab 1 2 MiB new")
	w.seal(7, 1, 1, 0, mib, false)
	w.tick(2*time.Minute, "")
	w.undeliver(7, 1, "")
	w.release(1, "")
	w.tick(30*time.Second, "")
	w.tick(30*time.Second, "recall 7 slab 1")
	if at := w.s.NextDeadline(); at != w.now+int64(time.Minute) {
		t.Errorf("due in %v", time.Duration(at-w.now))
	}
	w.giveBack(7, 1, "")
	w.tick(time.Minute, "drop 1")
	if w.s.Total() != 0 || w.s.NextDeadline() != 0 {
		t.Errorf("%d bytes are left", w.s.Total())
	}
}

// Verifies OBJ-13: what is free in pieces, between values that are looked at, is room for one large value; and the memory that is
// void in the end comes back with its arena.
func TestPiecesMakeRoom(t *testing.T) {
	w := newWorld(t, small, 7)
	w.lend(objstore.Agent, 32*mib, "grow 32 MiB, lent 0 slab 1 32 MiB new")
	for n := range uint64(16) {
		w.seal(objstore.Agent, n, 1, int64(n)*2*mib, 2*mib, false)
	}
	w.giveBack(objstore.Agent, 1, "")
	for n := uint64(0); n < 16; n += 2 { // each second one goes
		w.undeliver(objstore.Agent, n, "")
		w.release(n, "")
	}
	var want []string
	for range 8 {
		want = append(want, "punch 2 MiB of 1")
	}
	w.lend(7, 16*mib, strings.Join(want, ", ")+", grow 16 MiB, lent 7 slab 2 16 MiB new")
	if n := w.s.Used(objstore.Arenas); n != 32*mib {
		t.Errorf("%s of arenas", objstore.Bytes(n))
	}
	w.lend(7, 1, "recall 7 slab 2") // now it is full
	for n := uint64(1); n < 16; n += 2 {
		w.undeliver(objstore.Agent, n, "")
		if want := ""; n == 1 {
			want = "lent 7 slab 3 2 MiB new"
			w.release(n, want)
		} else {
			w.release(n, want)
		}
	}
	w.giveBack(7, 3, "")
	w.giveBack(7, 2, "")
	w.out = w.s.Tick(w.now, w.out)
	w.now += int64(10 * time.Minute)
	w.out = w.s.Tick(w.now, w.out)
	w.want("drop 1, drop 2")
	if n := w.s.Used(objstore.Arenas); n != 0 {
		t.Errorf("%s of arenas are left", objstore.Bytes(n))
	}
}

// Verifies OBJ-9: what can be made again goes as copies do, the longest unused first, and not while anybody needs it, nor once it is promoted.
func TestDemoted(t *testing.T) {
	w := newWorld(t, small, 7, 9)
	w.lend(objstore.Agent, 8*mib, "grow 8 MiB, lent 0 slab 1 8 MiB new")
	for n := range uint64(8) {
		w.seal(objstore.Agent, n, 1, int64(n)*mib, mib, false)
	}
	w.giveBack(objstore.Agent, 1, "")
	if _, err := w.s.Deliver(9, object1(4)); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{5, 4, 3, 2, 1} {
		w.undeliver(objstore.Agent, n, "")
		var rests bool
		if w.out, rests = w.s.Demote(w.now, object1(n), false, w.out); !rests {
			t.Fatalf("%d does not rest", n)
		}
		w.want("")
	}
	w.must(w.s.Promote(w.now, object1(3)))
	if e := w.s.Explain(); e.Secondary != (objstore.Tally{Objects: 4, Bytes: 4 * mib}) || !strings.Contains(e.Text(), "4 MiB that can be had again, and go first") {
		t.Errorf("%+v: %s", e.Secondary, e.Text())
	}
	w.lend(7, 24*mib, "grow 24 MiB, lent 7 slab 2 24 MiB new")
	w.lend(7, 2*mib, "evicted 5, evicted 2, punch 1 MiB of 1, punch 1 MiB of 1, grow 2 MiB, lent 7 slab 3 2 MiB new")
	w.undeliver(9, 4, "")
	w.lend(7, 2*mib, "evicted 1, evicted 4, punch 1 MiB of 1, punch 1 MiB of 1, grow 2 MiB, lent 7 slab 4 2 MiB new")
	w.lend(7, 2*mib, "recall 7 slab 2")
	if _, rests := w.s.Demote(w.now, object1(1), false, nil); rests {
		t.Error("what is gone rests")
	}
}

// When the node's memory is short all goes that can, whatever the budget says, and the pieces between what stays.
func TestShed(t *testing.T) {
	w := newWorld(t, small, 7)
	w.lend(objstore.Agent, 8*mib, "grow 8 MiB, lent 0 slab 1 8 MiB new")
	for n := range uint64(4) {
		w.seal(objstore.Agent, n, 1, int64(n)*mib, mib, n%2 == 0)
		w.undeliver(objstore.Agent, n, "")
	}
	w.out = w.s.Shed(w.now, w.out)
	w.want("evicted 0, recall 0 slab 1, evicted 2")
	w.giveBack(objstore.Agent, 1, "")
	w.out = w.s.Shed(w.now, w.out)
	w.want("punch 1 MiB of 1, punch 1 MiB of 1, punch 4 MiB of 1")
	if n := w.s.Used(objstore.Arenas); n != 2*mib {
		t.Errorf("%s of arenas are left", objstore.Bytes(n))
	}
	w.out = w.s.Shed(w.now, w.out)
	w.want("")
	w.release(1, "")
	w.release(3, "")
	w.out = w.s.Shed(w.now, w.out)
	w.want("drop 1")
}
