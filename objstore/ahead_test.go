package objstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
)

// first gives the first of some effects that is of a type.
func first[E objstore.Effect](out []objstore.Effect) (e E, ok bool) {
	for _, x := range out {
		if e, ok = x.(E); ok {
			return e, true
		}
	}
	return e, false
}

// A large request finds the memory that was made for it when the one before it had taken what there was; a small one has none made.
func TestMemoryIsMadeAhead(t *testing.T) {
	w := newWorld(t, objstore.Config{Budget: 256 * mib, FirstArena: 16 * mib, Ahead: true}, 7)
	var err error
	w.out, err = w.s.Lend(0, 7, mib, w.out)
	w.must(err)
	if got := w.effects(); got != "grow 16 MiB, lent 7 slab 1 2 MiB new" {
		t.Fatalf("a small request: %s", got)
	}
	ask := func(size int64) (lent bool, spare objstore.Grow) {
		t.Helper()
		w.out, err = w.s.Lend(0, 7, size, nil)
		w.must(err)
		if g, ok := first[objstore.Grow](w.out); ok && !g.Spare {
			w.out, err = w.s.Grown(0, g.Arena, w.out[1:])
			w.must(err)
		}
		_, lent = first[objstore.Lent](w.out)
		i := slices.IndexFunc(w.out, func(e objstore.Effect) bool { g, ok := e.(objstore.Grow); return ok && g.Spare })
		if i >= 0 {
			spare = w.out[i].(objstore.Grow)
		}
		return lent, spare
	}
	lent, spare := ask(20 * mib)
	if !lent || spare.Size < 20*mib {
		t.Fatalf("the first large one: lent %v, then %+v", lent, spare)
	}
	w.out, err = w.s.Grown(0, spare.Arena, nil)
	w.must(err)
	lent, spare = ask(20 * mib)
	if !lent || spare.Size < 20*mib || w.out[0] == objstore.Effect(spare) {
		t.Fatalf("the second one: %v", w.out)
	}
	// Who comes before it is there is not held up by those who have time.
	w.out, err = w.s.Lend(0, 7, 40*mib, nil)
	w.must(err)
	if h, ok := first[objstore.Hurry](w.out); !ok || h.Arena != spare.Arena || len(w.out) != 1 {
		t.Fatalf("one that waits for it: %v", w.out)
	}
	w.out, err = w.s.GrowFailed(0, spare.Arena, objstore.ErrShort, nil)
	w.must(err)
	if g, ok := first[objstore.Grow](w.out); !ok || g.Spare || g.Size < 40*mib {
		t.Fatalf("when the spare one can't be had: %v", w.out)
	}
}

// What was made ahead goes when nobody wants it, or somebody wants memory for something else.
func TestMemoryAheadIsGivenBack(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		w := newWorld(t, objstore.Config{Budget: 64 * mib, Reserve: -1, FirstArena: mib, Ahead: true, KeepWarm: time.Second}, 7)
		var err error
		w.out, err = w.s.Lend(0, 7, 10*mib, w.out)
		w.must(err)
		if got := w.effects(); got != "grow 10 MiB, lent 7 slab 1 10 MiB new, grow 10 MiB" {
			t.Fatal(got)
		}
		if wanted {
			w.out, err = w.s.Charge(0, objstore.Specs, 50*mib, w.out)
			w.must(err)
		} else {
			w.out = w.s.Tick(int64(2*time.Second), w.out)
		}
		if d, ok := first[objstore.Drop](w.out); !ok || d.Arena != 2 {
			t.Errorf("wanted %v: %v", wanted, w.out)
		}
	}
}
