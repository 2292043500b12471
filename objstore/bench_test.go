package objstore_test

import (
	"testing"

	"github.com/maniple-hpc/maniple/objstore"
)

// In the long run a put and its release allocate nothing.
func TestNoAllocation(t *testing.T) {
	s := objstore.New(objstore.Config{Budget: 1 << 40})
	s.Attach(7)
	out, _ := s.Lend(0, 7, 64<<20, nil)
	out, _ = s.Grown(0, out[0].(objstore.Grow).Arena, out[:0])
	lent := out[0].(objstore.Lent)
	n := uint64(0)
	put := func() {
		n++
		at := int64(n) * 4096
		if err := s.Seal(0, 7, objstore.Sealed{Object: object1(n), Slab: lent.Slab, Offset: at, Size: 4096}); err != nil {
			t.Fatal(err)
		}
		out, _ = s.Undeliver(0, 7, object1(n), 1, out[:0])
		out, _ = s.Release(0, object1(n), out[:0])
	}
	for range 100 {
		put()
	}
	if got := testing.AllocsPerRun(1000, put); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// A put in the steady state, with the question for room that not every put has.
func BenchmarkPutAndRelease(b *testing.B) {
	s := objstore.New(objstore.Config{Budget: 1 << 40})
	s.Attach(7)
	out, _ := s.Lend(0, 7, 64*mib, nil)
	out, _ = s.Grown(0, out[0].(objstore.Grow).Arena, out[:0])
	lent := out[0].(objstore.Lent)
	const kept = 1000
	b.ReportAllocs()
	for i := range uint64(b.N) {
		at := int64(i%(2*kept)) * 4096
		if i >= 2*kept {
			out, _ = s.Lend(0, 7, 4096, out[:0])
			lent = out[0].(objstore.Lent)
			at = lent.From
		}
		if err := s.Seal(0, 7, objstore.Sealed{Object: object1(i), Slab: lent.Slab, Offset: at, Size: 4090}); err != nil {
			b.Fatal(err)
		}
		if i >= 2*kept && lent.To > at+4096 {
			out, _ = s.Forgo(0, 7, lent.Slab, at+4096, lent.To-at-4096, out[:0])
		}
		if i >= kept {
			out, _ = s.Undeliver(0, 7, object1(i-kept), 1, out[:0])
			out, _ = s.Release(0, object1(i-kept), out[:0])
		}
	}
}
