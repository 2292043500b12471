package bulk_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func TestMain(m *testing.M) { transporttest.Main(m) }

// joined is a stream and what answers it.
type joined struct {
	*bulk.Stream
	ends    chan bulk.End
	served  chan error
	between net.Conn // the other end
}

func join(t *testing.T, find func(bulk.Range, func(bulk.Piece))) *joined {
	t.Helper()
	here, there := net.Pipe()
	j := &joined{ends: make(chan bulk.End, 2*bulk.Ahead), served: make(chan error, 1), between: there}
	quit := make(chan struct{})
	if find != nil {
		go func() { j.served <- bulk.Serve(there, find, func() {}, quit) }()
	}
	j.Stream = bulk.NewStream(here, func(e bulk.End) { j.ends <- e })
	t.Cleanup(func() {
		j.Cut()
		j.Done()
		close(quit)
		_ = there.Close()
		if find != nil {
			<-j.served
		}
	})
	return j
}

// Verifies BULK-1 and BULK-4.
func TestRangesComeInOrder(t *testing.T) {
	value := make([]byte, 3<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(value)
	var let atomic.Int32
	var late func(bulk.Piece)
	n := 0
	object := id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: 3}, Index: 4}
	j := join(t, func(r bulk.Range, answer func(bulk.Piece)) {
		p := bulk.Piece{Done: func() { let.Add(1) }}
		switch n++; {
		case r.Object != object:
			p.Why = "another object"
		default:
			p.Bytes, p.Version = value[r.Offset:r.Offset+r.Size], 9
		}
		if n == 1 { // it is found last
			late = func(bulk.Piece) { answer(p) }
			return
		}
		answer(p)
		if late != nil {
			late(p)
			late = nil
		}
	})
	got := make([]byte, len(value))
	j.Ask(bulk.Range{Object: object, Offset: 0, Size: 1}, got)
	j.Ask(bulk.Range{Object: object, Offset: 1, Size: 2<<20 - 1}, got[1:])
	j.Ask(bulk.Range{Object: id.Object{}, Size: 5}, got[2<<20:])
	j.Ask(bulk.Range{Object: object, Offset: 2 << 20, Size: 1 << 20}, got[2<<20:])
	for i, want := range []bulk.End{{Size: 1, Version: 9}, {Size: 2<<20 - 1, Version: 9}, {Why: "another object"}, {Size: 1 << 20, Version: 9}} {
		if e := <-j.ends; e != want {
			t.Errorf("range %d ends as %+v", i, e)
		}
	}
	if !bytes.Equal(got, value) {
		t.Error("other bytes came")
	}
	j.Cut()
	j.served <- <-j.served
	if let.Load() != 4 {
		t.Errorf("%d pieces were let go of", let.Load())
	}
}

// chunk is an answer.
func chunk(state fb.ChunkState, payload []byte) []byte {
	b := make([]byte, wire.HeaderSize+wire.ChunkSize)
	wire.PutHeader(b, wire.Header{Length: uint32(wire.ChunkSize + len(payload)), Body: wire.ChunkSize, Type: fb.FrameTypeChunk, Class: wire.ClassOf(fb.FrameTypeChunk)})
	wire.PutChunk(b[wire.HeaderSize:], &fb.ChunkT{State: state})
	return append(b, payload...)
}

// Verifies BULK-2 and BULK-3: whatever comes in place of what was asked for, it ends the stream, tells how much is in place, and is written nowhere else.
func TestStreamThatBreaks(t *testing.T) {
	good := chunk(fb.ChunkStateBytes, []byte("0123456789"))
	other := make([]byte, wire.HeaderSize)
	wire.PutHeader(other, wire.Header{Type: fb.FrameTypePing})
	for name, c := range map[string]struct {
		sent []byte
		size int64
		text string
	}{
		"in the middle":  {good[:len(good)-4], 6, "EOF"},
		"in its header":  {good[:7], 0, "EOF"},
		"too much":       {chunk(fb.ChunkStateBytes, make([]byte, 11)), 0, "11 bytes"},
		"too little":     {chunk(fb.ChunkStateBytes, make([]byte, 9)), 0, "9 bytes"},
		"another state":  {chunk(7, make([]byte, 10)), 0, "state 7"},
		"another frame":  {append(other, good...), 0, "Ping"},
		"a long excuse":  {chunk(fb.ChunkStateRefused, make([]byte, 1<<20)), 0, "1048576 bytes"},
		"no frame":       {bytes.Repeat([]byte{255}, 100), 0, ""},
		"nothing at all": {nil, 0, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			j := join(t, nil)
			memory := bytes.Repeat([]byte{'-'}, 20)
			j.Ask(bulk.Range{Size: 10}, memory)
			go func() {
				_, _ = io.ReadFull(j.between, make([]byte, wire.HeaderSize+wire.RangeSize))
				_, _ = j.between.Write(c.sent)
				_ = j.between.Close()
			}()
			e := <-j.ends
			if e.Err == nil || e.Size != c.size || !strings.Contains(e.Err.Error(), c.text) {
				t.Errorf("it ends as %+v", e)
			}
			j.Done()
			if string(memory[10:]) != "----------" || e.Size > 0 && string(memory[:e.Size]) != "0123456789"[:e.Size] {
				t.Errorf("memory has %q", memory)
			}
		})
	}
	j := join(t, nil)
	go func() { _, _ = j.between.Write(good) }()
	if e := <-j.ends; e.Err == nil || !strings.Contains(e.Err.Error(), "more came") {
		t.Errorf("bytes that nobody asked for: %+v", e)
	}
}

// Verifies BULK-4: who goes away in the middle leaves nothing held, also of what is found later.
func TestWhoGoesAwayHoldsNothing(t *testing.T) {
	here, there := net.Pipe()
	var let atomic.Int32
	found := make(chan func(bulk.Piece), 2)
	over := make(chan struct{})
	served := make(chan error)
	go func() {
		served <- bulk.Serve(there, func(_ bulk.Range, answer func(bulk.Piece)) { found <- answer }, func() { close(over) }, nil)
	}()
	s := bulk.NewStream(here, func(bulk.End) {})
	memory := make([]byte, 2<<20)
	s.Ask(bulk.Range{Size: 1 << 20}, memory)
	s.Ask(bulk.Range{Size: 1 << 20, Offset: 1 << 20}, memory[1<<20:])
	first, second := <-found, <-found
	s.Cut()
	<-over
	for _, answer := range []func(bulk.Piece){second, first} {
		answer(bulk.Piece{Bytes: make([]byte, 1<<20), Done: func() { let.Add(1) }})
	}
	if err := <-served; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) || let.Load() != 2 {
		t.Errorf("it ends with %v, and %d pieces were let go of", err, let.Load())
	}
}

// Who asks for what can't be asked for is not answered.
func FuzzServe(f *testing.F) {
	b := make([]byte, wire.HeaderSize+wire.RangeSize)
	wire.PutHeader(b, wire.Header{Length: wire.RangeSize, Body: wire.RangeSize, Type: fb.FrameTypeRange, Class: wire.ClassOf(fb.FrameTypeRange)})
	f.Add(b)
	wire.PutRange(b[wire.HeaderSize:], &fb.RangeT{Offset: 1 << 63, Size: 1 << 40})
	f.Add(bytes.Clone(b))
	wire.PutRange(b[wire.HeaderSize:], &fb.RangeT{Offset: 5, Size: 10})
	f.Add(append(bytes.Clone(b), b...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		here, there := net.Pipe()
		go func() {
			_, _ = here.Write(sent)
			_ = here.Close()
		}()
		_ = bulk.Serve(there, func(r bulk.Range, answer func(bulk.Piece)) {
			if r.Size <= 0 || r.Size > bulk.MaxRange || r.Offset < 0 || r.Offset+r.Size < r.Offset {
				t.Errorf("asked for %+v", r)
			}
			answer(bulk.Piece{Why: "no"})
		}, func() {}, nil)
	})
}
