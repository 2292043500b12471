package client_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var sizes = []int{1 << 20, 100 << 20, 1 << 30}

// warm gives memory whose pages are there.
func warm(size int) []byte {
	b := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		b[i] = byte(i)
	}
	return b
}

func BenchmarkMemcpy(b *testing.B) {
	for _, size := range sizes {
		b.Run(objstore.Bytes(int64(size)), func(b *testing.B) {
			dst, src := warm(size), warm(size)
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(dst, src)
			}
		})
	}
}

// BenchmarkPut puts, drops and releases, as a loop of puts in a program does: what comes after the first two lands in
// memory that was used before. Between puts it copies as much from warm memory to warm memory by one thread; the
// metric memcpy-% is the ratio of the medians.
func BenchmarkPut(b *testing.B) {
	for _, size := range sizes {
		b.Run(objstore.Bytes(int64(size)), func(b *testing.B) {
			src, dst := warm(size), warm(size)
			n := newNode(b, objstore.Config{Budget: 5 << 30})
			w := n.attach(1)
			defer w.Close()
			x := uint64(0)
			one := func() {
				x++
				put(b, w, x, src)
				n.must(w.Drop(object(x)))
				o := object(x)
				n.post(func() {
					var err error
					n.out, err = n.store.Release(n.now, o, n.out)
					n.must(err)
				})
			}
			for range 4 {
				one()
			}
			every := max(1, (16<<20)/size) // puts for a copy
			var puts, copies []time.Duration
			b.SetBytes(int64(size))
			for b.Loop() {
				start := time.Now()
				one()
				puts = append(puts, time.Since(start))
				if len(puts)%every == 0 {
					b.StopTimer()
					copy(dst, src) // the first warms the caches
					start := time.Now()
					copy(dst, src)
					copies = append(copies, time.Since(start))
					b.StartTimer()
				}
			}
			n.settle()
			if len(copies) > 0 {
				b.ReportMetric(100*float64(median(copies))/float64(median(puts)), "memcpy-%")
			}
			b.ReportMetric(float64(n.lent)/float64(x), "asks/op")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkView is what a get costs in a process that has the location.
func BenchmarkView(b *testing.B) {
	n := newNode(b, objstore.Config{Budget: 64 << 20})
	w := n.attach(1)
	defer w.Close()
	put(b, w, 1, make([]byte, 1<<20))
	for b.Loop() {
		v, err := w.View(object(1))
		if err != nil {
			b.Fatal(err)
		}
		v.Release()
	}
}

// BenchmarkCold is the first write to a slab that is mapped for the first time: what a process pays once for each of its slabs.
func BenchmarkCold(b *testing.B) {
	for _, size := range sizes[:2] {
		b.Run(fmt.Sprint(objstore.Bytes(int64(size))), func(b *testing.B) {
			src := warm(size)
			n := newNode(b, objstore.Config{Budget: 2 << 30})
			b.SetBytes(int64(size))
			for x := uint64(1); b.Loop(); x++ {
				w := n.attach(id.Process(x))
				put(b, w, x, src)
				n.must(w.Drop(object(x)))
				w.Close()
				n.release(object(x))
				w.die()
			}
		})
	}
}
