package objstore_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// spilling is a store of 32 MiB in which a process, 7, has objects of 4 MiB: with numbers from 1, of the jobs that are given.
type spilling struct {
	*testing.T
	s   *objstore.Store
	now int64
}

func newSpilling(t *testing.T, jobs ...uint32) *spilling {
	x := &spilling{t, objstore.New(objstore.Config{Budget: 32 << 20, Reserve: -1, FirstArena: 32 << 20, Spill: 1 << 30, Batch: 4 << 20, Writers: 2, Patience: 10 * time.Second}), 1e9}
	x.must(x.s.Attach(7))
	out, err := x.s.Lend(x.now, 7, 32<<20, nil)
	x.must(err)
	out, err = x.s.Grown(x.now, out[0].(objstore.Grow).Arena, nil)
	x.must(err)
	slab := out[0].(objstore.Lent).Slab
	for i, job := range jobs {
		x.must(x.s.Seal(x.now, 7, objstore.Sealed{Object: object1(uint64(i + 1)), Slab: slab, Offset: int64(i) << 22, Size: 4 << 20, Job: job}))
	}
	_, err = x.s.Return(x.now, 7, slab, nil)
	x.must(err)
	return x
}

func (x *spilling) must(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// leaves: process 7 looks at an object no more.
func (x *spilling) leaves(n uint64) []objstore.Effect {
	out, err := x.s.Undeliver(x.now, 7, object1(n), 1, nil)
	x.must(err)
	return out
}

// wants asks for memory for process 7, and gives what that brings about.
func (x *spilling) wants(size int64) []objstore.Effect {
	out, err := x.s.Lend(x.now, 7, size, nil)
	x.must(err)
	return out
}

// spills gives the objects of the only file that is to be written, and its number.
func (x *spilling) spills(out []objstore.Effect) (uint64, []id.Object) {
	x.Helper()
	var names []id.Object
	file := uint64(0)
	for _, e := range out {
		if e, ok := e.(objstore.Spill); ok {
			for _, p := range e.Parts {
				names = append(names, p.Object)
			}
			file = e.File
		}
	}
	if file == 0 {
		x.Fatalf("nothing is written: %+v", out)
	}
	return file, names
}

// fills makes an object of what was lent, which process 7 looks at.
func (x *spilling) fills(e objstore.Effect, n uint64) {
	x.Helper()
	lent, ok := e.(objstore.Lent)
	if !ok {
		x.Fatalf("%+v where memory was to be lent", e)
	}
	x.must(x.s.Seal(x.now, 7, objstore.Sealed{Object: object1(n), Slab: lent.Slab, Offset: lent.From, Size: lent.To - lent.From, Job: 3}))
}

// Verifies OBJ-11: the job that has most goes first, whoever wants the memory.
func TestWhoHasMostSpillsFirst(t *testing.T) {
	x := newSpilling(t, 1, 2, 2, 2, 2, 2, 1, 1)
	for n := range uint64(8) {
		x.leaves(n + 1)
	}
	out := x.wants(4 << 20)
	for i, want := range []uint64{2, 3, 1, 4} { // five of job 2, then four; at three each the first comer
		file, names := x.spills(out)
		if len(names) != 1 || names[0] != object1(want) {
			t.Fatalf("%v is spilled, not %d", names, want)
		}
		var err error
		out, err = x.s.Spilled(x.now, file, nil)
		x.must(err)
		x.fills(out[0], uint64(20+i))
		out = x.wants(4 << 20)
	}
}

// Verifies OBJ-12: a process is asked before what it may look at goes; one that looks keeps it, and one that does not answer does not
// keep the others waiting.
func TestViewsAreAskedBack(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1, 1)
	out := x.wants(4 << 20)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(1)}) {
		t.Fatalf("%+v", out)
	}
	x.now += 9e8
	out, err := x.s.Keeps(x.now, 7, object1(1), nil)
	x.must(err)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(2)}) {
		t.Fatalf("after it keeps the first: %+v", out)
	}
	if out = x.s.Tick(x.now+5e8, nil); len(out) > 0 {
		t.Fatalf("half a second after it was asked about the second: %+v", out)
	}
	if at := x.s.NextDeadline(); at != x.now+1e9 {
		t.Fatalf("looked at again in %d ns", at-x.now)
	}
	x.now += 1e9
	out = x.s.Tick(x.now, nil)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(3)}) {
		t.Fatalf("a second after it was asked: %+v", out)
	}
	file, names := x.spills(x.leaves(3))
	if len(names) != 1 || names[0] != object1(3) {
		t.Fatalf("%v is spilled", names)
	}
	out, err = x.s.Spilled(x.now, file, nil)
	x.must(err)
	if e, ok := out[0].(objstore.Lent); !ok || e.To-e.From != 4<<20 {
		t.Fatalf("%+v", out)
	}
}

// Verifies OBJ-9: processes are asked about copies first, and nothing is written before they have answered or had a second for it; who did not answer is not asked about the next.
func TestCopiesAreAskedBackFirst(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1, 1)
	for n := range uint64(5) {
		x.leaves(n + 4)
	}
	for n := range uint64(3) {
		if _, done := x.s.Demote(x.now, object1(n+1), true, nil); !done {
			t.Fatal("it is no copy")
		}
	}
	out := x.wants(4 << 20)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(1)}) {
		t.Fatalf("%+v", out)
	}
	out = x.leaves(1)
	if len(out) != 2 || out[0] != (objstore.Evicted{Object: object1(1)}) {
		t.Fatalf("after it looks there no more: %+v", out)
	}
	if e := x.s.Explain(); e.Copies != (objstore.Tally{Objects: 2, Bytes: 8 << 20}) || e.Moved.Dropped != (objstore.Tally{Objects: 1, Bytes: 4 << 20}) || e.Moved.Spilled.Objects > 0 {
		t.Errorf("%+v are left, %+v", e.Copies, e.Moved)
	}
	x.fills(out[1], 20)
	out = x.wants(4 << 20)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(2)}) {
		t.Fatalf("%+v", out)
	}
	x.now += 1e9
	out = x.s.Tick(x.now, nil)
	file, names := x.spills(out)
	if len(out) != 1 || len(names) != 1 || names[0] != object1(4) {
		t.Errorf("after it did not answer: %+v", out)
	}
	out, err := x.s.Spilled(x.now, file, nil)
	x.must(err)
	x.fills(out[0], 21)
	_, err = x.s.Keeps(x.now, 7, object1(2), nil) // it answers after all
	x.must(err)
	out = x.wants(4 << 20)
	if len(out) != 1 || out[0] != (objstore.RecallView{Process: 7, Object: object1(3)}) {
		t.Errorf("after it answered: %+v", out)
	}
	if err := x.s.Check(); err != nil {
		t.Error(err)
	}
}

// Verifies OBJ-10: what comes back leaves again without being written, and a full disk is said to who waited, with what holds the
// memory.
func TestRestoreAndFullDisk(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1, 1)
	x.leaves(1)
	file, _ := x.spills(x.wants(4 << 20))
	if l, err := x.s.Deliver(7, object1(1)); err != nil || l.Kind != objstore.InMemory { // it is there until it is written
		t.Fatalf("%+v, %v", l, err)
	}
	x.leaves(1)
	out, err := x.s.Spilled(x.now, file, nil)
	x.must(err)
	slab := out[0].(objstore.Lent).Slab
	if l, err := x.s.Deliver(7, object1(1)); err != nil || l.Kind != objstore.InFile {
		t.Fatalf("%+v, %v", l, err)
	}
	_, there, err := x.s.Load(x.now, object1(1), nil)
	if x.must(err); there {
		t.Fatal("it is in memory without room for it")
	}
	out, err = x.s.Return(x.now, 7, slab, nil)
	x.must(err)
	if e, ok := out[0].(objstore.Restore); !ok || e.File != file || e.Size != 4<<20 {
		t.Fatalf("%+v", out)
	}
	out, err = x.s.Restored(x.now, object1(1), file, nil, nil)
	x.must(err)
	if out[0] != (objstore.Loaded{Object: object1(1)}) {
		t.Fatalf("%+v", out)
	}
	_, err = x.s.Unawait(x.now, object1(1), nil)
	x.must(err)
	x.fills(x.wants(4 << 20)[0], 20) // what lies in a file gives way at once

	x.leaves(2)
	file, _ = x.spills(x.wants(4 << 20))
	_, err = x.s.SpillFailed(x.now, file, syscall.ENOSPC, nil)
	x.must(err)
	x.now += int64(10 * time.Second)
	out = x.s.Tick(x.now, nil)
	var full *objstore.FullError
	for _, e := range out {
		if e, ok := e.(objstore.Refused); ok {
			full = e.Err
		}
	}
	if !errors.Is(full, syscall.ENOSPC) || !strings.Contains(full.Error(), "process 7 holds 28 MiB in 7 objects") || !strings.Contains(full.Error(), "no space left on device") {
		t.Fatalf("%v of %+v", full, out)
	}
	if err := x.s.Check(); err != nil {
		t.Error(err)
	}
}

// Who waits while files are written, by a disk or a server that hangs, is told so.
func TestDiskThatHangs(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1, 1)
	x.leaves(1)
	x.spills(x.wants(4 << 20))
	x.now += int64(time.Minute)
	for _, e := range x.s.Tick(x.now, nil) {
		if r, ok := e.(objstore.Refused); ok {
			if text := r.Err.Error(); !strings.Contains(text, "4 MiB of it could not be written to files") || !strings.Contains(text, "hangs") {
				t.Error(text)
			}
			return
		}
	}
	t.Error("it waits still")
}

// What a disk that hangs was to write is not counted on for long: another directory gets the next.
func TestAnotherDiskWhereOneHangs(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1, 1)
	x.leaves(1)
	x.leaves(2)
	first, _ := x.spills(x.wants(4 << 20))
	for _, e := range x.s.Tick(x.now+int64(time.Second), nil) {
		if _, ok := e.(objstore.Spill); ok {
			t.Error("a second write, though the first takes no longer than it may")
		}
	}
	second, names := x.spills(x.s.Tick(x.now+6*int64(time.Second), nil))
	if second == first || len(names) != 1 || names[0] != object1(2) {
		t.Errorf("file %d of %v", second, names)
	}
}

// A value that is made again has its name at once, also while what was there before it is still being written to a file, or read from one; what
// becomes of that one then is nothing to it.
func TestNameOfAValueThatIsMadeAgain(t *testing.T) {
	x := newSpilling(t, 1, 1, 1, 1, 1, 1, 1)
	x.leaves(1)
	file, _ := x.spills(x.wants(8 << 20)) // more than there is
	_, err := x.s.Withdraw(x.now, 7, nil)
	x.must(err)
	_, err = x.s.Release(x.now, object1(1), nil)
	x.must(err)
	lent := x.wants(100)[0].(objstore.Lent)
	x.must(x.s.Seal(x.now, 7, objstore.Sealed{Object: object1(1), Slab: lent.Slab, Offset: lent.From, Size: 100, Job: 1}))
	x.must(x.s.Check())
	out, err := x.s.Spilled(x.now, file, nil)
	x.must(err)
	if len(out) != 1 || out[0] != (objstore.Unlink{File: file}) {
		t.Errorf("when what was before it is written: %+v", out)
	}
	info, ok := x.s.Lookup(object1(1))
	if !ok || info.Released || info.Location.Kind != objstore.InMemory || info.Location.Size != 100 || x.s.Objects() != 7 {
		t.Errorf("it is %+v, of %d objects", info, x.s.Objects())
	}
}
