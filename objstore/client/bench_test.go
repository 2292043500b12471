package client_test

import (
	"fmt"
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

// memcpy gives the time of one warm copy, by one thread.
func memcpy(dst, src []byte) time.Duration {
	n := max(3, (256<<20)/len(src))
	copy(dst, src)
	start := time.Now()
	for range n {
		copy(dst, src)
	}
	return time.Since(start) / time.Duration(n)
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
// memory that was used before. The metric memcpy-% is its throughput, of that of a warm memcpy before and after.
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
			for range 8 {
				one()
			}
			before := memcpy(dst, src)
			b.SetBytes(int64(size))
			b.ResetTimer()
			for b.Loop() {
				one()
			}
			per := float64(b.Elapsed()) / float64(b.N)
			n.settle()
			base := float64(before+memcpy(dst, src)) / 2
			b.ReportMetric(100*base/per, "memcpy-%")
			b.ReportMetric(float64(n.lent)/float64(x), "asks/op")
		})
	}
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
