package bulk_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// open is a connection that is not encrypted. At one place a bit of what is written changes on the way.
type open struct {
	net.Conn
	flip, written int // flip: the place, counted from 1
}

func (o *open) Peer() transport.Peer { return transport.Peer{} }
func (o *open) Clear()               {}

func (o *open) Write(b []byte) (int, error) {
	if at := o.flip - 1 - o.written; 0 <= at && at < len(b) {
		b = bytes.Clone(b)
		b[at] ^= 1 << (o.flip % 8)
	}
	o.written += len(b)
	return o.Conn.Write(b)
}

// unencrypted is a stream and who answers it, over such connections. done gives how many bytes each side has written.
func unencrypted(t *testing.T, asks, answers int, find func(bulk.Range, func(bulk.Piece))) (s *bulk.Stream, ends chan bulk.End, done func() (int, int)) {
	t.Helper()
	here, there := net.Pipe()
	a, b := &open{Conn: here, flip: asks}, &open{Conn: there, flip: answers}
	ends = make(chan bulk.End, bulk.Ahead)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = bulk.Serve(b, find, func() {}, nil)
	}()
	s = bulk.NewStream(a, func(e bulk.End) { ends <- e })
	return s, ends, func() (int, int) {
		s.Cut()
		s.Done()
		<-served
		return a.written, b.written
	}
}

// Verifies BULK-1 and BULK-7: what is not encrypted comes whole, small and large, and where it lies is neither asked nor told.
func TestUnencryptedRanges(t *testing.T) {
	value := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(value)
	s, ends, done := unencrypted(t, 0, 0, func(r bulk.Range, answer func(bulk.Piece)) {
		if r.Locate {
			t.Error("a key is asked for where all can read it")
		}
		if r.Object.Index == 1 {
			answer(bulk.Piece{Why: "another object" + strings.Repeat(", and so on", 1000)})
			return
		}
		answer(bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size]})
	})
	got := make([]byte, len(value))
	far := func([]byte) error { t.Error("it is read elsewhere"); return nil }
	s.AskFar(bulk.Range{Size: 1}, got, far)
	s.AskFar(bulk.Range{Offset: 1, Size: 2<<20 - 1}, got[1:], far)
	s.Ask(bulk.Range{Object: id.Object{Index: 1}, Size: 5}, got[2<<20:])
	s.Ask(bulk.Range{Offset: 2 << 20, Size: 1 << 20}, got[2<<20:])
	for i, want := range []bulk.End{{Size: 1}, {Size: 2<<20 - 1}, {Why: "another object"}, {Size: 1 << 20}} {
		e := <-ends
		if want.Why != "" && strings.HasPrefix(e.Why, want.Why) {
			e.Why = want.Why
		}
		if e != want {
			t.Errorf("range %d ends as %+v", i, e)
		}
	}
	if !bytes.Equal(got, value) {
		t.Error("other bytes came")
	}
	done()
}

// Verifies BULK-7: whichever bit changes on the way, of a question or of an answer, nothing that is wrong counts, and no answer passes for another one's.
func TestUnencryptedBitsThatChange(t *testing.T) {
	value := make([]byte, 64)
	_, _ = rand.NewChaCha8([32]byte{4}).Read(value)
	breaks := 0
	play := func(asks, answers int) (int, int) {
		t.Helper()
		s, ends, done := unencrypted(t, asks, answers, func(r bulk.Range, answer func(bulk.Piece)) {
			switch {
			case r.Object.Index == 1:
				answer(bulk.Piece{Why: "refused"})
			case r.Object != id.Object{} || r.Offset+r.Size > int64(len(value)):
				answer(bulk.Piece{Why: "none of it"})
			default:
				answer(bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size]})
			}
		})
		got := make([]byte, 48)
		s.Ask(bulk.Range{Offset: 8, Size: 48}, got)
		s.Ask(bulk.Range{Object: id.Object{Index: 1}, Size: 7}, make([]byte, 7))
		broken := false
		for i := range 2 {
			var e bulk.End
			select {
			case e = <-ends:
			case <-time.After(20 * time.Second):
				t.Fatalf("changed at %d, %d: a range never ends", asks, answers)
			}
			if broken = e.Err != nil; broken {
				if e.Size != 0 {
					t.Errorf("changed at %d, %d: %d bytes count that were not compared", asks, answers, e.Size)
				}
				break
			}
			if i == 0 && (e != bulk.End{Size: 48} || !bytes.Equal(got, value[8:56])) || i == 1 && e != (bulk.End{Why: "refused"}) {
				t.Errorf("changed at %d, %d: range %d ends as %+v", asks, answers, i, e)
			}
		}
		if broken {
			breaks++
		}
		return done()
	}
	asked, answered := play(0, 0)
	for i := range asked {
		play(i+1, 0)
	}
	for i := range answered {
		play(0, i+1)
	}
	// Sequence, correlation and padding of frames mean nothing here.
	if frames := 2*(wire.HeaderSize+wire.RangeSize) + 2*(wire.HeaderSize+wire.ChunkSize); asked+answered != frames+48+7+16 || asked+answered-breaks > 64 {
		t.Errorf("of %d bytes %d may change unseen", asked+answered, asked+answered-breaks)
	}
}
