package work

import (
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// BenchmarkThroughput is frames one way over a unix socket, appended in turns of 64, read by an owner who looks at
// each.
func BenchmarkThroughput(b *testing.B) {
	for _, payload := range []int{0, 100, 1 << 10, 16 << 10, 100 << 10} {
		b.Run(fmt.Sprintf("payload=%d", payload), func(b *testing.B) {
			a, z := pair(b)
			room, all := make(chan struct{}, 1), make(chan struct{})
			seen := 0
			sender := New(a, Config{OnBatch: func(Batch) {}, OnRoom: func() { room <- struct{}{} }, MaxUnsent: 1 << 20})
			receiver := New(z, Config{OnBatch: func(batch Batch) {
				for f := range Frames(batch.Bytes) {
					if Submit(f).Task().Agent == 1 {
						seen++
					}
				}
				batch.Release()
				if seen == b.N {
					close(all)
				}
			}})
			f := submit(1, payload)
			b.SetBytes(int64(len(f)))
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; {
				switch err := sender.Append(f); {
				case err == ErrFull:
					sender.Flush()
					<-room
				case err != nil:
					b.Fatal(err)
				default:
					if i++; i%64 == 0 {
						sender.Flush()
					}
				}
			}
			sender.Flush()
			<-all
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
			sender.Close()
			receiver.Close()
		})
	}
}

// BenchmarkRelay is what an agent does: frames come in on one connection and go out on another, as they are.
func BenchmarkRelay(b *testing.B) {
	a, in := pair(b)
	out, z := pair(b)
	all := make(chan struct{})
	room := make(chan struct{}, 1)
	seen := 0
	receiver := New(z, Config{OnBatch: func(batch Batch) {
		for range Frames(batch.Bytes) {
			seen++
		}
		batch.Release()
		if seen == b.N {
			close(all)
		}
	}})
	right := New(out, Config{OnBatch: func(Batch) {}, MaxUnsent: 1 << 30})
	left := New(in, Config{OnBatch: func(batch Batch) {
		for f := range Frames(batch.Bytes) {
			Submit(f).SetAttempt(2)
			if err := right.Append(f); err != nil {
				b.Error(err)
			}
		}
		right.Flush()
		batch.Release()
	}})
	sender := New(a, Config{OnBatch: func(Batch) {}, OnRoom: func() { room <- struct{}{} }, MaxUnsent: 1 << 20})
	f := submit(1, 100)
	b.SetBytes(int64(len(f)))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; {
		switch err := sender.Append(f); {
		case err == ErrFull:
			sender.Flush()
			<-room
		case err != nil:
			b.Fatal(err)
		default:
			if i++; i%64 == 0 {
				sender.Flush()
			}
		}
	}
	sender.Flush()
	<-all
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	for _, c := range []*Conn{sender, left, right, receiver} {
		c.Close()
	}
}

// BenchmarkRoundTrip is one frame there and one back, nothing else on the way.
func BenchmarkRoundTrip(b *testing.B) {
	a, z := pair(b)
	back := make(chan struct{})
	var echo *Conn
	ready := make(chan struct{})
	echo = New(z, Config{OnBatch: func(batch Batch) {
		<-ready
		if err := echo.Append(batch.Bytes); err != nil {
			b.Error(err)
		}
		echo.Flush()
		batch.Release()
	}})
	close(ready)
	c := New(a, Config{OnBatch: func(batch Batch) {
		batch.Release()
		back <- struct{}{}
	}})
	f := submit(1, 100)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := c.Append(f); err != nil {
			b.Fatal(err)
		}
		c.Flush()
		<-back
	}
	b.StopTimer()
	c.Close()
	echo.Close()
}

// BenchmarkCheck is the reader's cost of a frame beside the kernel's.
func BenchmarkCheck(b *testing.B) {
	var all []byte
	for i := range uint64(64) {
		all = append(all, submit(i, 8)...)
	}
	b.SetBytes(int64(len(all)))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := Check(all); err != nil || n != len(all) {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkExtend writes a frame in place.
func BenchmarkExtend(b *testing.B) {
	b.ReportAllocs()
	dst := make([]byte, 0, 1<<10)
	for b.Loop() {
		_, f := Extend(dst, fb.FrameTypeReady, 0)
		Ready(f).SetObject(id.Object{Task: id.Task{Agent: 1}, Index: 2})
	}
}
