package bulk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// besides is a connection between two processes of one machine.
func besides(t *testing.T) (here, there *net.UnixConn) {
	t.Helper()
	a, b, err := uds.Pair()
	if err != nil {
		t.Fatal(err)
	}
	conn := func(f *os.File) *net.UnixConn {
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(a), conn(b)
}

// shared is memory that others may read, and what is in there.
func shared(t *testing.T, size int) (*os.File, []byte) {
	t.Helper()
	fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "shared")
	t.Cleanup(func() { _ = f.Close() })
	value := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{2})
	_, _ = rng.Read(value)
	if _, err := f.WriteAt(value, 0); err != nil {
		t.Fatal(err)
	}
	return f, value
}

// Verifies BULK-1, BULK-4 and BULK-5: on one machine what lies in shared memory is copied from there, and kept until it is; what lies elsewhere, and
// what is small, comes as ever.
func TestHandedOver(t *testing.T) {
	here, there := besides(t)
	f, value := shared(t, 8<<20)
	var let atomic.Int32
	served := make(chan error, 1)
	go func() {
		served <- bulk.Serve(there, func(r bulk.Range, answer func(bulk.Piece)) {
			p := bulk.Piece{Bytes: value[r.Offset : r.Offset+r.Size], Version: 9, Done: func() { let.Add(1) }}
			if r.Object.Index == 0 {
				p.Lies, p.Bytes = bulk.Place{File: f, Offset: r.Offset}, make([]byte, r.Size) // nothing of these is to be sent
			}
			if r.Size == 10 {
				p.Bytes = value[r.Offset : r.Offset+r.Size]
			}
			answer(p)
		}, func() {}, nil)
	}()
	ends := make(chan bulk.End, bulk.Ahead)
	s := bulk.NewStream(here, func(e bulk.End) { ends <- e })
	got := make([]byte, len(value))
	ask := func(index uint32, from, to int64) {
		r := bulk.Range{Offset: from, Size: to - from}
		r.Object.Index = index
		s.Ask(r, got[from:])
	}
	ask(0, 0, 4<<20)
	ask(0, 4<<20, 5<<20+77)
	ask(1, 5<<20+77, 7<<20)
	ask(0, 7<<20, 7<<20+10)
	ask(0, 7<<20+10, 8<<20)
	for i, beside := range []bool{true, true, false, false, true} {
		if e := <-ends; e.Err != nil || e.Why != "" || e.Beside != beside || e.Version != 9 {
			t.Fatalf("range %d ends as %+v", i, e)
		}
	}
	if !bytes.Equal(got, value) {
		t.Error("something else came")
	}
	s.Cut()
	<-ends
	s.Done()
	<-served
	if let.Load() != 5 {
		t.Errorf("%d of 5 pieces were let go of", let.Load())
	}
}

// Verifies BULK-4 and BULK-5: what is handed over stays until it was taken, and who goes away before holds nothing.
func TestHandedOverAndNotTaken(t *testing.T) {
	here, there := besides(t)
	f, value := shared(t, 1<<20)
	var let atomic.Int32
	served := make(chan error, 1)
	go func() {
		served <- bulk.Serve(there, func(r bulk.Range, answer func(bulk.Piece)) {
			answer(bulk.Piece{Bytes: value, Lies: bulk.Place{File: f}, Done: func() {
				if _, err := there.Write([]byte{0}); err == nil && let.Load() > 0 {
					t.Error("a piece was let go of before the connection was closed")
				}
				let.Add(1)
			}})
		}, func() {}, nil)
	}()
	ask := make([]byte, wire.HeaderSize+wire.RangeSize)
	wire.PutHeader(ask, wire.Header{Length: wire.RangeSize, Body: wire.RangeSize, Type: fb.FrameTypeRange, Class: wire.ClassOf(fb.FrameTypeRange)})
	wire.PutRange(ask[wire.HeaderSize:], &fb.RangeT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{}}, Size: 1 << 20})
	answer := make([]byte, wire.HeaderSize+wire.ChunkSize+8)
	for range 2 {
		if _, err := here.Write(ask); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(here, answer); err != nil { // its descriptor is dropped
			t.Fatal(err)
		}
	}
	if let.Load() != 0 {
		t.Error("it was let go of before it was taken")
	}
	if _, err := here.Write(chunk(fb.ChunkStateTaken, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(here, make([]byte, 1)); err != nil || let.Load() > 1 { // of Done
		t.Error(let.Load(), err)
	}
	_ = here.Close()
	<-served
	if let.Load() != 2 {
		t.Errorf("%d of 2 pieces were let go of", let.Load())
	}
}

// Verifies BULK-3 and BULK-5: whatever is handed over, or not, the stream ends and says how much is in place: nothing of that range. What was copied
// from one that has closed the connection meanwhile may have been something else by then.
func TestHandedOverWrong(t *testing.T) {
	f, _ := shared(t, 1<<20)
	place := func(offset uint64) []byte {
		return chunk(fb.ChunkStateLie, binary.LittleEndian.AppendUint64(nil, offset))
	}
	for name, c := range map[string]struct {
		sent  []byte
		files int
		text  string
	}{
		"and let go of":        {place(0), 1, "broken pipe"},
		"without a descriptor": {place(0), 0, "without its descriptor"},
		"with two":             {place(0), 2, "more descriptors"},
		"beyond its end":       {place(1<<20 - 4), 1, "EOF"},
		"far beyond its end":   {place(1 << 63), 1, "negative offset"},
		"without a place":      {chunk(fb.ChunkStateLie, nil), 1, "0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			here, there := besides(t)
			ends := make(chan bulk.End, 2)
			s := bulk.NewStream(here, func(e bulk.End) { ends <- e })
			var oob []byte
			for range c.files {
				oob = append(oob, unix.UnixRights(int(f.Fd()))...)
			}
			memory := make([]byte, 1<<20)
			s.Ask(bulk.Range{Size: 1 << 16}, memory)
			if _, err := io.ReadFull(there, make([]byte, wire.HeaderSize+wire.RangeSize)); err != nil {
				t.Fatal(err)
			}
			if name == "and let go of" {
				_ = there.CloseRead()
			}
			if _, _, err := there.WriteMsgUnix(c.sent, oob, nil); err != nil {
				t.Fatal(err)
			}
			if e := <-ends; e.Err == nil || e.Size != 0 || !strings.Contains(e.Err.Error(), c.text) {
				t.Errorf("it ends as %+v", e)
			} else if errors.Is(e.Err, bulk.ErrHandover) != (name != "and let go of" && name != "without a place") {
				t.Errorf("that another connection would do: %v", e.Err)
			}
			s.Done()
			if !bytes.Equal(memory[1<<16:], make([]byte, 1<<20-1<<16)) {
				t.Error("it was written beyond the range")
			}
		})
	}
	here, there := besides(t)
	served := make(chan error, 1)
	go func() { served <- bulk.Serve(there, func(bulk.Range, func(bulk.Piece)) {}, func() {}, nil) }()
	if _, err := here.Write(chunk(fb.ChunkStateTaken, nil)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err == nil || !strings.Contains(err.Error(), "more was taken") {
		t.Errorf("who takes what was not handed over: %v", err)
	}
}
