package work

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// BATCH-3, with a Poll: who releases nothing is not read, and does not keep the Poll from others, nor from the end.
func TestPollLeavesAFullOwnerAlone(t *testing.T) {
	poll := newPoll(t)
	a, b := pair(t)
	held := make(chan Batch, 10)
	in := newInbox().by(poll)
	cfg := in.config()
	cfg.OnBatch = func(b Batch) { held <- b }
	c := New(b, cfg)
	other, z := pair(t)
	beside := newInbox().by(poll)
	d := New(z, beside.config())
	first := make([]Batch, 2)
	for i := range first {
		write(t, a, submit(uint64(i), 0))
		first[i] = <-held
	}
	write(t, a, submit(2, 0))
	for i := range uint64(20) { // each has been read after what came before
		write(t, other, submit(i, 0))
		same(t, <-beside.frames, submit(i, 0))
	}
	if len(held) > 0 {
		t.Fatal("read on while nobody released")
	}
	first[0].Release()
	third := <-held
	if n := Submit(third.Bytes).Task().Counter; n != 2 {
		t.Errorf("task %d came", n)
	}
	// Its peer goes, which it may not be told again and again meanwhile.
	a.Close()
	c.Cut()
	if err := <-in.end; err != ErrClosed {
		t.Error(err)
	}
	other.Close()
	if err := <-beside.end; err != io.EOF {
		t.Error(err)
	}
	<-d.Done()
}

// The end of what was sent is not lost behind batches that are not released.
func TestPollReadsTheLastBatches(t *testing.T) {
	poll := newPoll(t)
	a, b := pair(t)
	held := make(chan Batch, 10)
	in := newInbox().by(poll)
	cfg := in.config()
	cfg.OnBatch = func(b Batch) { held <- b }
	New(b, cfg)
	out := make([]Batch, 2)
	for i := range out {
		write(t, a, submit(uint64(i), 0))
		out[i] = <-held
	}
	write(t, a, submit(2, 0))
	a.Close()
	out[1].Release()
	batch := <-held
	if n := Submit(batch.Bytes).Task().Counter; n != 2 {
		t.Errorf("task %d came", n)
	}
	batch.Release()
	out[0].Release()
	if err := <-in.end; err != io.EOF {
		t.Error(err)
	}
}

// BATCH-5 and BATCH-7, with a Poll: a full socket is waited for, and not for ever.
func TestPollWaitsForRoom(t *testing.T) {
	poll := newPoll(t)
	a, b := pair(t)
	in, peer := newInbox().by(poll), newInbox().by(poll)
	cfg := in.config()
	cfg.MaxUnsent = 4 << 20
	c := New(a, cfg)
	n := uint64(0)
	for ; ; n++ {
		err := c.Append(submit(n, 10_000))
		c.Flush()
		if err == ErrFull {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := New(b, peer.config())
	for i := range n {
		same(t, <-peer.frames, submit(i, 10_000))
	}
	<-in.room
	c.Close()
	<-p.Done()

	a, b = pair(t)
	in = newInbox().by(poll)
	cfg = in.config()
	cfg.FlushTimeout = 50 * time.Millisecond
	c = New(a, cfg)
	if err := c.Append(submit(1, 8<<20)); err != nil {
		t.Fatal(err)
	}
	c.Flush()
	if err := c.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a peer that does not read: %v", err)
	}
	b.Close()
}

// What a Poll can't read has a goroutine, and is followed by the same call.
func TestPollOfOtherCarriers(t *testing.T) {
	after := make(chan struct{}, 10)
	poll, err := NewPoll(func() { after <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	defer poll.Close()
	a, b := net.Pipe()
	in := newInbox().by(poll)
	c := New(b, in.config())
	write(t, a, submit(1, 0))
	same(t, <-in.frames, submit(1, 0))
	<-after
	a.Close()
	<-c.Done()
}

// Connections come and go while others talk: each frame arrives, and no descriptor stays.
func TestPollOfMany(t *testing.T) {
	before := descriptors(t)
	poll, err := NewPoll(func() {})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			for i := range uint64(40) {
				a, b := pair(t)
				in, peer := newInbox().by(poll), newInbox().by(poll)
				c, p := New(a, in.config()), New(b, peer.config())
				if err := c.Append(submit(i, int(i)*3000)); err != nil {
					done <- err
					return
				}
				if err := c.Close(); err != nil {
					done <- err
					return
				}
				if got := <-peer.frames; string(got) != string(submit(i, int(i)*3000)) {
					done <- errors.New("another frame came")
					return
				}
				<-p.Done()
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	poll.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d at first", after, before)
	}
}
