package work

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
)

// BATCH-1: wherever the stream is cut, the same frames come out, and none before it is whole.
func TestSplitAtEveryByte(t *testing.T) {
	frames := some(t)
	all := join(frames)
	synctest.Test(t, func(t *testing.T) {
		for at := range len(all) {
			a, b := net.Pipe()
			in := newInbox()
			c := New(b, in.config())
			write(t, a, all[:at])
			synctest.Wait()
			whole, _ := Check(all[:at])
			n := 0
			for f := range Frames(all[:whole]) {
				same(t, <-in.frames, f)
				n++
			}
			if len(in.frames) > 0 {
				t.Fatalf("cut at %d: a frame that is not whole", at)
			}
			write(t, a, all[at:])
			synctest.Wait()
			for _, f := range frames[n:] {
				same(t, <-in.frames, f)
			}
			a.Close()
			if err := <-in.end; err != io.EOF {
				t.Fatalf("cut at %d: %v", at, err)
			}
			<-c.Done()
		}
	})
}

func write(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, got []byte, want Frame) {
	t.Helper()
	if string(got) != string(want) {
		t.Fatalf("got %d bytes, type %v, want %d, type %v", len(got), Frame(got).Type(), len(want), want.Type())
	}
}

// Frames of all sizes around the buffer's, byte by byte and in one piece, over a real socket.
func TestSizes(t *testing.T) { both(t, testSizes) }

func testSizes(t *testing.T, poll *Poll) {
	const over = wire.HeaderSize + wire.SubmitSize
	var frames []Frame
	for i, n := range []int{0, readSize - over - 1, readSize - over, 0, readSize - over + 1, 5, readSize, firstSize - over, firstSize - over + 1, 3 << 20, 1, 2*firstSize - over, 0} {
		frames = append(frames, submit(uint64(i), n))
	}
	for _, piece := range []int{1 << 30, 50_001, 997} {
		a, b := pair(t)
		in := newInbox().by(poll)
		c := New(b, in.config())
		go func() {
			for all := join(frames); len(all) > 0; {
				n := min(piece, len(all))
				if _, err := a.Write(all[:n]); err != nil {
					t.Error(err)
				}
				all = all[n:]
			}
			a.Close()
		}()
		for _, f := range frames {
			same(t, <-in.frames, f)
		}
		if err := <-in.end; err != io.EOF {
			t.Error(err)
		}
		if err := c.Close(); err != io.EOF {
			t.Error(err)
		}
	}
}

// BATCH-3: a frame that is announced and does not come costs nothing.
func TestAnnounced(t *testing.T) { both(t, testAnnounced) }

func testAnnounced(t *testing.T, poll *Poll) {
	a, b := pair(t)
	in := newInbox().by(poll)
	New(b, in.config())
	var before, after runtime.MemStats
	f := submit(1, wire.MaxMessage-wire.SubmitSize)
	runtime.ReadMemStats(&before)
	write(t, a, f[:firstSize+10])
	a.Close()
	if err := <-in.end; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("a frame of which 256 KiB came took %d bytes", n)
	}
}

// What the peer breaks off, and what it can't mean, ends the connection after the frames before it.
func TestEnds(t *testing.T) { both(t, testEnds) }

func testEnds(t *testing.T, poll *Poll) {
	good := submit(1, 10)
	bad := submit(2, 10)
	bad[11] = wire.FlagMore
	claims := submit(3, 10)
	claims[11] = wire.FlagDescriptor
	large := submit(4, 300<<10)
	Submit(large).SetDeps(1 << 20)
	for _, c := range []struct {
		name string
		sent []byte
		want error
	}{
		{"between frames", nil, io.EOF},
		{"in a header", good[:20], io.ErrUnexpectedEOF},
		{"behind a header", good[:wire.HeaderSize], io.ErrUnexpectedEOF},
		{"in a body", good[:60], io.ErrUnexpectedEOF},
		{"in a large frame", submit(5, 1<<20)[:700_000], io.ErrUnexpectedEOF},
		{"a bad header", bad, transport.ErrProtocol},
		{"a descriptor that is not there", claims, transport.ErrProtocol},
		{"too many objects in a large frame", large, transport.ErrProtocol},
	} {
		a, b := pair(t)
		in := newInbox().by(poll)
		conn := New(b, in.config())
		_, _ = a.Write(append(append([]byte{}, good...), c.sent...)) // the other side may leave first
		if c.want != transport.ErrProtocol {
			a.Close()
		}
		same(t, <-in.frames, good)
		if err := <-in.end; !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if len(in.frames) > 0 {
			t.Errorf("%s: a frame came out of it", c.name)
		}
		if err := conn.Append(good); err == nil {
			t.Errorf("%s: Append went on", c.name)
		}
		if _, err := a.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the connection is open", c.name)
		}
	}
}

// BATCH-3: while nobody releases, nothing more is read.
func TestUnreleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var held []Batch
		in := newInbox()
		cfg := in.config()
		cfg.OnBatch = func(b Batch) { held = append(held, b) }
		c := New(b, cfg)
		written := 0
		go func() {
			for i := range 5 {
				if _, err := a.Write(submit(uint64(i), 0)); err != nil {
					return
				}
				written++
			}
		}()
		synctest.Wait()
		if len(held) != 2 || written != 2 {
			t.Fatalf("%d batches, %d frames were read", len(held), written)
		}
		held[0].Release()
		synctest.Wait()
		if len(held) != 3 || written != 3 || Submit(held[1].Bytes).Task().Counter != 1 || Submit(held[2].Bytes).Task().Counter != 2 {
			t.Fatalf("%d batches, %d frames were read", len(held), written)
		}
		// A reader that waits for its owner does not hold up the end.
		c.Cut()
		if err := <-in.end; err != ErrClosed {
			t.Error(err)
		}
		a.Close()
	})
}

// BATCH-5: a peer that does not read costs MaxUnsent and one frame, and nobody waits for it.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		in, peer := newInbox(), newInbox()
		cfg := in.config()
		cfg.MaxUnsent = 10_000
		c := New(b, cfg)
		n := uint64(0)
		var err error
		for ; err == nil; n++ {
			err = c.Append(submit(n, 500))
			c.Flush()
			synctest.Wait()
		}
		n--
		frame := len(submit(0, 500))
		if !errors.Is(err, ErrFull) || c.Unsent() < cfg.MaxUnsent || c.Unsent() > cfg.MaxUnsent+frame || c.Unsent() != int(n)*frame {
			t.Fatalf("%v with %d bytes unsent after %d frames", err, c.Unsent(), n)
		}
		if len(in.room) > 0 {
			t.Error("OnRoom before there is any")
		}
		p := New(a, peer.config())
		<-in.room
		for i := range n {
			same(t, <-peer.frames, submit(i, 500))
		}
		if err := c.Append(submit(n, 500)); err != nil || len(in.room) > 0 {
			t.Errorf("afterwards: %v, %d calls of OnRoom", err, len(in.room))
		}
		synctest.Wait()
		if len(peer.frames) > 0 {
			t.Error("sent without Flush")
		}
		c.Flush()
		same(t, <-peer.frames, submit(n, 500))
		synctest.Wait()
		if len(in.room) > 0 {
			t.Error("OnRoom though nothing was refused since")
		}
		c.Close()
		p.Close()
	})
}

// A single frame above MaxUnsent goes through.
func TestLargerThanUnsent(t *testing.T) { both(t, testLargerThanUnsent) }

func testLargerThanUnsent(t *testing.T, poll *Poll) {
	a, b := pair(t)
	in, peer := newInbox().by(poll), newInbox().by(poll)
	cfg := in.config()
	cfg.MaxUnsent = 100
	c, p := New(a, cfg), New(b, peer.config())
	f := submit(1, 1<<20)
	if err := c.Append(f[:50], f[50:]); err != nil {
		t.Fatal(err)
	}
	if err := c.Append(f); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	c.Flush()
	same(t, <-peer.frames, f)
	<-in.room
	if peer.most != len(f) {
		t.Errorf("a batch of %d bytes", peer.most)
	}
	c.Close()
	p.Close()
}

// BATCH-7: what was appended arrives, flushed or not; nothing is taken afterwards.
func TestCloseFlushes(t *testing.T) { both(t, testCloseFlushes) }

func testCloseFlushes(t *testing.T, poll *Poll) {
	a, b := pair(t)
	in, peer := newInbox().by(poll), newInbox().by(poll)
	c := New(a, in.config())
	p := New(b, peer.config())
	const n = 3000
	for i := range uint64(n) {
		if err := c.Append(submit(i, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-in.end; err != ErrClosed {
		t.Error(err)
	}
	if err := c.Append(submit(0, 0)); err != ErrClosed {
		t.Error(err)
	}
	for i := range uint64(n) {
		same(t, <-peer.frames, submit(i, 1000))
	}
	if err := <-peer.end; err != io.EOF {
		t.Error(err)
	}
	<-p.Done()
}

// BATCH-7, its other half: a peer that does not read holds up the end no longer than agreed.
func TestCloseGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		in := newInbox()
		c := New(b, in.config())
		if err := c.Append(submit(1, 1000)); err != nil {
			t.Fatal(err)
		}
		c.Flush()
		began := time.Now()
		c.Finish()
		if err := c.Append(submit(2, 0)); err != ErrClosed {
			t.Errorf("Append after Finish: %v", err)
		}
		if err := c.Close(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		a.Close()
	})
}

// Frames of many goroutines come out whole, those of each in its order.
func TestManyAppend(t *testing.T) { both(t, testManyAppend) }

func testManyAppend(t *testing.T, poll *Poll) {
	a, b := pair(t)
	in, peer := newInbox().by(poll), newInbox().by(poll)
	c, p := New(a, in.config()), New(b, peer.config())
	const senders, each = 8, 500
	done := make(chan struct{})
	for s := range uint64(senders) {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range uint64(each) {
				if err := c.Append(submit(s<<32|i, int(s)*10)); err != nil {
					t.Error(err)
				}
				c.Flush()
			}
		}()
	}
	next := [senders]uint64{}
	for range senders * each {
		n := Submit(<-peer.frames).Task().Counter
		if s := n >> 32; n != s<<32|next[s] {
			t.Fatalf("sender %d: %d after %d", s, n&(1<<32-1), next[s])
		} else {
			next[s]++
		}
	}
	for range senders {
		<-done
	}
	c.Close()
	p.Close()
}

// BATCH-4.
func TestNoAllocationPerFrame(t *testing.T) { both(t, testNoAllocationPerFrame) }

func testNoAllocationPerFrame(t *testing.T, poll *Poll) {
	a, b := pair(t)
	in := newInbox().by(poll)
	got := make(chan int)
	seen := 0
	const frames = 1000
	cfg := in.config()
	cfg.OnBatch = func(b Batch) {
		for f := range Frames(b.Bytes) {
			if Submit(f).Task().Agent == 1 {
				seen++
			}
		}
		b.Release()
		if seen == frames {
			seen = 0
			got <- frames
		}
	}
	c, p := New(a, newInbox().by(poll).config()), New(b, cfg)
	f := submit(1, 100)
	n := testing.AllocsPerRun(50, func() {
		for i := range frames {
			if err := c.Append(f); err != nil {
				t.Error(err)
			}
			if i%50 == 49 {
				c.Flush()
			}
		}
		<-got
	})
	if n > frames/100 {
		t.Errorf("%v allocations for %d frames", n, frames)
	}
	c.Close()
	p.Close()
}
