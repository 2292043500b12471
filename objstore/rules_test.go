package objstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

const mib = 1 << 20

// world is a store whose arenas come at once.
type world struct {
	t   *testing.T
	s   *objstore.Store
	now int64
	out []objstore.Effect
}

func newWorld(t *testing.T, cfg objstore.Config, processes ...id.Process) *world {
	w := &world{t: t, s: objstore.New(cfg)}
	for _, p := range processes {
		w.must(w.s.Attach(p))
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err == nil {
		err = w.s.Check()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// effects answers each Grow, and gives the rest as text.
func (w *world) effects() string {
	w.t.Helper()
	var lines []string
	for i := 0; i < len(w.out); i++ {
		if i > 1000 {
			w.t.Fatalf("no end of %v", lines[len(lines)-10:])
		}
		switch e := w.out[i].(type) {
		case objstore.Grow:
			var err error
			w.out, err = w.s.Grown(w.now, e.Arena, w.out)
			w.must(err)
			lines = append(lines, fmt.Sprintf("grow %s", objstore.Bytes(e.Size)))
		case objstore.Punch:
			lines = append(lines, fmt.Sprintf("punch %s of %d", objstore.Bytes(e.Size), e.Arena))
		case objstore.Drop:
			lines = append(lines, fmt.Sprintf("drop %d", e.Arena))
		case objstore.Lent:
			kind := "again"
			if e.New {
				kind = "new"
			}
			lines = append(lines, fmt.Sprintf("lent %d slab %d %s %s", e.Process, e.Slab, objstore.Bytes(e.To-e.From), kind))
		case objstore.Refused:
			lines = append(lines, fmt.Sprintf("refused %d %s", e.Process, objstore.Bytes(e.Err.Size)))
		case objstore.Stored:
			lines = append(lines, fmt.Sprintf("stored %d", e.Object.Task.Counter))
		case objstore.Recall:
			lines = append(lines, fmt.Sprintf("recall %d slab %d", e.Process, e.Slab))
		case objstore.Evicted:
			lines = append(lines, fmt.Sprintf("evicted %d", e.Object.Task.Counter))
		}
	}
	w.out = nil
	return strings.Join(lines, ", ")
}

func (w *world) want(what string) {
	w.t.Helper()
	w.must(nil)
	if got := w.effects(); got != what {
		w.t.Fatalf("got  %s\nwant %s", got, what)
	}
}

func (w *world) lend(p id.Process, size int64, want string) {
	w.t.Helper()
	var err error
	w.out, err = w.s.Lend(w.now, p, size, w.out)
	w.must(err)
	w.want(want)
}

func (w *world) seal(p id.Process, n, slab uint64, offset, size int64, secondary bool) {
	w.t.Helper()
	w.must(w.s.Seal(w.now, p, objstore.Sealed{Object: object1(n), Slab: slab, Offset: offset, Size: size, Secondary: secondary}))
}

func (w *world) forgo(p id.Process, slab uint64, offset, size int64, want string) {
	w.t.Helper()
	var err error
	w.out, err = w.s.Forgo(w.now, p, slab, offset, size, w.out)
	w.must(err)
	w.want(want)
}

func (w *world) giveBack(p id.Process, slab uint64, want string) {
	w.t.Helper()
	var err error
	w.out, err = w.s.Return(w.now, p, slab, w.out)
	w.must(err)
	w.want(want)
}

func (w *world) undeliver(p id.Process, n uint64, want string) {
	w.t.Helper()
	var err error
	w.out, err = w.s.Undeliver(w.now, p, object1(n), 1, w.out)
	w.must(err)
	w.want(want)
}

func (w *world) release(n uint64, want string) {
	w.t.Helper()
	var err error
	w.out, err = w.s.Release(w.now, object1(n), w.out)
	w.must(err)
	w.want(want)
}

func (w *world) tick(after time.Duration, want string) {
	w.t.Helper()
	w.now += int64(after)
	w.out = w.s.Tick(w.now, w.out)
	w.want(want)
}

func object1(n uint64) id.Object {
	return id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: n}}
}

var small = objstore.Config{Budget: 32 * mib, Reserve: -1, FirstArena: 8 * mib, Patience: 10 * time.Second}

// A process that asks again gets larger slabs; what it has mapped and nobody uses comes first.
func TestSlabs(t *testing.T) {
	w := newWorld(t, objstore.Config{Budget: 1 << 40, FirstArena: 64 * mib}, 7, 9)
	w.lend(7, 1000, "grow 64 MiB, lent 7 slab 1 2 MiB new")
	w.lend(9, 3*mib, "lent 9 slab 2 3 MiB new")
	w.lend(7, mib, "lent 7 slab 3 8 MiB new")
	w.seal(7, 1, 3, 0, mib, false)
	w.forgo(7, 3, mib, 7*mib, "")
	w.lend(7, mib/8, "lent 7 slab 3 7 MiB again")
	w.forgo(7, 3, mib, 7*mib, "")
	w.undeliver(7, 1, "")
	w.release(1, "")
	w.lend(7, 8*mib, "lent 7 slab 4 32 MiB new") // it would be back at once
	w.forgo(7, 4, 0, 32*mib, "")
	w.lend(7, 8*mib, "lent 7 slab 4 32 MiB again")
	w.lend(7, 8*mib, "lent 7 slab 3 8 MiB again")
	w.lend(7, 300*mib, "grow 300 MiB, lent 7 slab 5 300 MiB new")
	w.lend(7, 1, "grow 364 MiB, lent 7 slab 6 256 MiB new")
}

// Verifies OBJ-4: what is returned goes to another, what is not does not.
func TestReturnedSlab(t *testing.T) {
	w := newWorld(t, small, 7, 9)
	w.lend(7, 32*mib, "grow 32 MiB, lent 7 slab 1 32 MiB new")
	w.seal(7, 1, 1, 16*mib, mib, false)
	w.forgo(7, 1, 0, 16*mib, "")
	w.forgo(7, 1, 17*mib, 15*mib, "")
	w.lend(9, 2*mib, "recall 7 slab 1")
	w.giveBack(7, 1, "lent 9 slab 2 2 MiB new")
	if _, err := w.s.Return(w.now, 7, 1, nil); !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("returned twice: %v", err)
	}
	w.undeliver(7, 1, "")
	w.release(1, "")
	w.lend(9, 17*mib, "lent 9 slab 3 17 MiB new")
}

// What is asked back is not opened again, though its process asks first.
func TestRecalledIsNotOpened(t *testing.T) {
	w := newWorld(t, small, 7, 9)
	w.lend(7, 32*mib, "grow 32 MiB, lent 7 slab 1 32 MiB new")
	w.forgo(7, 1, 0, 32*mib, "")
	w.lend(9, 16*mib, "recall 7 slab 1")
	w.lend(7, 4*mib, "")
	w.giveBack(7, 1, "lent 9 slab 2 16 MiB new, lent 7 slab 3 4 MiB new")
}

// Verifies OBJ-6.
func TestTurns(t *testing.T) {
	w := newWorld(t, small, 7, 8, 9)
	w.lend(7, 24*mib, "grow 24 MiB, lent 7 slab 1 24 MiB new")
	w.seal(7, 1, 1, 0, 24*mib, false)
	w.lend(8, 20*mib, "")
	w.tick(4*time.Second, "")
	w.lend(9, mib, "") // fits, and is not first
	w.lend(9, 33*mib, "refused 9 33 MiB")
	if at := w.s.NextDeadline(); at != int64(10*time.Second) {
		t.Errorf("due at %v", time.Duration(at))
	}
	w.tick(6*time.Second, "refused 8 20 MiB, grow 8 MiB, lent 9 slab 2 2 MiB new")
	w.lend(8, 24*mib, "recall 9 slab 2")
	w.undeliver(7, 1, "")
	w.release(1, "recall 7 slab 1")
	w.giveBack(7, 1, "lent 8 slab 3 24 MiB new")
}

// Nobody is refused while memory is being made, and nobody asks without end.
func TestWhileGrowing(t *testing.T) {
	w := newWorld(t, small, 7)
	var err error
	for range objstore.MaxWaiting {
		w.out, err = w.s.Lend(w.now, 7, mib, w.out)
		w.must(err)
	}
	if _, err := w.s.Lend(w.now, 7, mib, nil); !errors.Is(err, objstore.ErrForbidden) {
		t.Errorf("one question too many: %v", err)
	}
	w.now += int64(time.Minute)
	w.out = w.s.Tick(w.now, w.out)
	if len(w.out) != 1 || w.s.NextDeadline() != 0 {
		t.Errorf("%v, due at %d", w.out, w.s.NextDeadline())
	}
	w.want("grow 8 MiB, lent 7 slab 1 2 MiB new, lent 7 slab 2 2 MiB new, lent 7 slab 3 2 MiB new, lent 7 slab 4 2 MiB new, grow 8 MiB, " +
		"lent 7 slab 5 2 MiB new, lent 7 slab 6 2 MiB new, lent 7 slab 7 2 MiB new, lent 7 slab 8 2 MiB new, grow 16 MiB, " +
		"lent 7 slab 9 2 MiB new, lent 7 slab 10 2 MiB new, lent 7 slab 11 2 MiB new, lent 7 slab 12 2 MiB new, " +
		"lent 7 slab 13 2 MiB new, lent 7 slab 14 2 MiB new, lent 7 slab 15 2 MiB new, lent 7 slab 16 2 MiB new")
}

// An arena that was made for a slab is not given back for a value that it does not make room for, which would
// have it made again without end.
func TestSlabAndValueWait(t *testing.T) {
	w := newWorld(t, small, 7, 8)
	w.lend(7, 31*mib, "grow 31 MiB, lent 7 slab 1 31 MiB new")
	w.seal(7, 1, 1, 0, 31*mib, false)
	var err error
	w.out, _, err = w.s.PutInline(w.now, 8, object1(2), make([]byte, 2*mib), 0, w.out)
	w.must(err)
	w.lend(8, 1000, "grow 1 MiB, lent 8 slab 2 1 MiB new")
	w.undeliver(7, 1, "recall 8 slab 2")
	w.release(1, "recall 7 slab 1")
	w.giveBack(7, 1, "drop 1, stored 2")
}

// What is not wanted any more holds up nobody.
func TestWithdraw(t *testing.T) {
	w := newWorld(t, small, 7, 8)
	w.lend(7, 24*mib, "grow 24 MiB, lent 7 slab 1 24 MiB new")
	w.seal(7, 1, 1, 0, 24*mib, false)
	w.lend(8, 20*mib, "")
	w.lend(8, mib, "")
	var err error
	w.out, err = w.s.Withdraw(w.now, 8, w.out)
	w.must(err)
	w.want("refused 8 20 MiB, grow 8 MiB, lent 8 slab 2 2 MiB new")
	w.out, err = w.s.Withdraw(w.now, 8, w.out)
	w.must(err)
	w.want("")
	if _, err := w.s.Withdraw(w.now, 9, nil); !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("nobody withdraws: %v", err)
	}
}

// The refusal names who holds what: verifies OBJ-6 and the text.
func TestRefusalText(t *testing.T) {
	w := newWorld(t, small, 7, 8, 9)
	w.lend(7, 24*mib, "grow 24 MiB, lent 7 slab 1 24 MiB new")
	w.seal(7, 1, 1, 0, 20*mib, false)
	if _, err := w.s.Deliver(9, object1(1)); err != nil {
		t.Fatal(err)
	}
	var err error
	w.out, err = w.s.Charge(w.now, objstore.Specs, mib, w.out)
	w.must(err)
	var done bool
	w.out, done, err = w.s.PutInline(w.now, 8, object1(2), make([]byte, 100_000), 0, w.out)
	w.must(err)
	if !done {
		t.Fatal("an inline value had to wait")
	}
	w.lend(8, 10*mib, "recall 7 slab 1")
	w.now += int64(10 * time.Second)
	w.out = w.s.Tick(w.now, w.out)
	if len(w.out) != 1 {
		t.Fatalf("%v", w.out)
	}
	want := "objstore: process 8 wants 10 MiB: the store is full, and 10 s made no room: 25.1 MiB of 32 MiB are used: " +
		"arenas 24 MiB (20 MiB in 1 objects, 4 MiB being written, 0 B free, in pieces of up to 0 B), inline values 97.78 KiB, task specs 1 MiB; " +
		"process 7 holds 20 MiB in 1 objects and has 4 MiB to write; process 9 holds 20 MiB in 1 objects; " +
		"drop references and views, or give the store more memory"
	if got := w.out[0].(objstore.Refused).Err.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Values that are kept inline don't wait behind slabs, and one that waits is stored or refused.
func TestInlineValues(t *testing.T) {
	w := newWorld(t, small, 7, 8)
	put := func(n uint64, size int, stored bool, want string) {
		t.Helper()
		var err error
		var done bool
		w.out, done, err = w.s.PutInline(w.now, 8, object1(n), make([]byte, size-objstore.InlineCost), 0, w.out)
		w.must(err)
		if done != stored {
			t.Fatalf("stored at once: %v", done)
		}
		w.want(want)
	}
	w.lend(7, 28*mib, "grow 28 MiB, lent 7 slab 1 28 MiB new")
	w.lend(8, 28*mib, "recall 7 slab 1")
	put(1, 3*mib, true, "")
	put(2, 3*mib, false, "")
	put(3, mib/2, false, "") // among themselves they take turns
	if _, _, err := w.s.PutInline(w.now, 8, object1(3), nil, 0, nil); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("put twice: %v", err)
	}
	if _, _, err := w.s.PutInline(w.now, 8, object1(1), nil, 0, nil); !errors.Is(err, objstore.ErrExists) {
		t.Errorf("put twice: %v", err)
	}
	put(4, 33*mib, false, "refused 8 33 MiB")
	w.release(1, "stored 2, stored 3")
	if i, ok := w.s.Lookup(object1(2)); !ok || i.Location.Kind != objstore.InBytes || len(i.Location.Value) != 3*mib-objstore.InlineCost {
		t.Errorf("%+v, %v", i, ok)
	}
	// Who put it may die meanwhile: the value is whole.
	put(5, 3*mib, false, "")
	w.out, _ = w.s.Died(w.now, 8, w.out)
	w.want("")
	w.release(2, "stored 5")
}

// Verifies OBJ-7.
func TestNoRight(t *testing.T) {
	w := newWorld(t, small, 7, 9)
	w.lend(7, 2*mib, "grow 8 MiB, lent 7 slab 1 2 MiB new")
	w.lend(9, 2*mib, "lent 9 slab 2 2 MiB new")
	w.seal(7, 1, 1, 0, 100, false)
	seal := func(p id.Process, x objstore.Sealed) error { return w.s.Seal(w.now, p, x) }
	forgo := func(p id.Process, slab uint64, offset, size int64) error {
		_, err := w.s.Forgo(w.now, p, slab, offset, size, nil)
		return err
	}
	giveBack := func(p id.Process, slab uint64) error {
		_, err := w.s.Return(w.now, p, slab, nil)
		return err
	}
	undeliver := func(p id.Process, n uint64, deliveries uint32) error {
		_, err := w.s.Undeliver(w.now, p, object1(n), deliveries, nil)
		return err
	}
	lend := func(p id.Process, size int64) error {
		_, err := w.s.Lend(w.now, p, size, nil)
		return err
	}
	for i, c := range []struct{ got, want error }{
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 2, Offset: 0, Size: 10}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 3, Offset: 0, Size: 10}), objstore.ErrUnknown},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 64, Size: 10}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 129, Size: 10}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 128, Size: 0}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 128, Size: -1}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: -64, Size: 10}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 128, Size: 2*mib - 127}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 128, Size: 1<<63 - 1}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 1<<63 - 64, Size: 1<<63 - 1}), objstore.ErrForbidden},
		{seal(7, objstore.Sealed{Object: object1(1), Slab: 1, Offset: 128, Size: 10}), objstore.ErrExists},
		{seal(8, objstore.Sealed{Object: object1(2), Slab: 1, Offset: 128, Size: 10}), objstore.ErrForbidden},
		{forgo(9, 1, 128, 64), objstore.ErrForbidden},
		{forgo(7, 1, 0, 64), objstore.ErrForbidden},
		{giveBack(9, 1), objstore.ErrForbidden},
		{giveBack(9, 3), objstore.ErrUnknown},
		{undeliver(7, 1, 2), objstore.ErrForbidden},
		{undeliver(7, 1, 0), objstore.ErrForbidden},
		{undeliver(9, 1, 1), objstore.ErrForbidden},
		{undeliver(9, 5, 1), objstore.ErrUnknown},
		{lend(8, 1), objstore.ErrUnknown},
		{lend(7, 0), objstore.ErrUnknown},
		{w.s.Attach(7), objstore.ErrExists},
		{w.s.Await(object1(5)), objstore.ErrUnknown},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%d: %v, want %v", i, c.got, c.want)
		}
		w.must(nil)
	}
	if _, err := w.s.Charge(w.now, objstore.Arenas, 1, nil); !errors.Is(err, objstore.ErrForbidden) {
		t.Errorf("charged arenas: %v", err)
	}
	if _, err := w.s.Refund(w.now, objstore.Specs, 1, nil); !errors.Is(err, objstore.ErrForbidden) {
		t.Errorf("refunded what was not charged: %v", err)
	}
	if _, err := w.s.Died(w.now, objstore.Agent, nil); !errors.Is(err, objstore.ErrUnknown) {
		t.Errorf("the agent died: %v", err)
	}
	var full *objstore.FullError
	if _, err := w.s.Charge(w.now, objstore.Specs, 25*mib, nil); !errors.As(err, &full) {
		t.Errorf("charged more than there is: %v", err)
	}
	// Nothing of that changed anything: the rest of the slab is sealed as it should be.
	w.seal(7, 2, 1, 128, 2*mib-128, false)
}
