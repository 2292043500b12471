//go:build cgo

package main

import (
	"io"
	"net"
	"testing"

	"github.com/maniple-hpc/maniple/rt/native"
)

// BenchmarkRead reads 4 MiB at a time, two at once, as agents do: by providers of libfabric, and beside them by a plain TCP connection in the clear.
func BenchmarkRead(b *testing.B) {
	const size = 4 << 20
	for _, provider := range providers {
		b.Run(provider, func(b *testing.B) {
			here, there := newSide(b, provider), newSide(b, provider)
			for i := range here.memory { // or the pages would be made meanwhile
				here.memory[i], there.memory[i] = 1, 2
			}
			x, y := here.open(b), there.open(b)
			_, place, err := y.Expose(b.Context(), native.FabricRange{Arena: 1, Size: arenaSize})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ResetTimer()
			work, done := make(chan int64), make(chan error)
			for range 2 {
				go func() {
					var last error
					for i := range work {
						at := i % (arenaSize / size) * size
						if _, err := x.Read(b.Context(), native.FabricRange{Arena: 1, Offset: at, Size: size}, place.From(at)); err != nil {
							last = err
						}
					}
					done <- last
				}()
			}
			for i := range int64(b.N) {
				work <- i
			}
			close(work)
			for range 2 {
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("plain", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for from := make([]byte, size); err == nil; {
				_, err = c.Write(from)
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		into := make([]byte, size)
		b.SetBytes(size)
		for b.Loop() {
			if _, err := io.ReadFull(c, into); err != nil {
				b.Fatal(err)
			}
		}
	})
}
