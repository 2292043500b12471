package bulk_test

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Verifies BULK-1 and BULK-6: places and bytes come in the order in which they were asked for, and a place is held until it was read.
func TestPlaces(t *testing.T) {
	var held atomic.Int32
	let := make(chan struct{}, 4*bulk.Ahead)
	j := join(t, func(r bulk.Range, answer func(bulk.Piece)) {
		if !r.Locate || r.Offset%3 == 2 { // who has no fabric there sends bytes
			answer(bulk.Piece{Bytes: []byte("bytes")[:r.Size], Version: uint32(r.Offset)})
			return
		}
		held.Add(1)
		answer(bulk.Piece{Far: []byte("there"), Version: uint32(r.Offset), Done: func() {
			held.Add(-1)
			let <- struct{}{}
		}})
	})
	const all = 3 * bulk.Ahead
	into := make([]byte, 5)
	placed := 0
	ask := func(i int) {
		far := func(place []byte) error {
			if held.Load() == 0 || string(place) != "there" {
				t.Errorf("range %d is read at %q, which is not held", i, place)
			}
			copy(into, "place")
			return nil
		}
		if i%4 == 3 {
			far = nil
		} else if i%3 != 2 {
			placed++
		}
		j.AskFar(bulk.Range{Offset: int64(i), Size: 5}, into, far)
	}
	ask(0)
	for i := range all {
		if i+1 < all {
			ask(i + 1)
		}
		want := bulk.End{Size: 5, Version: uint32(i), Far: i%4 != 3 && i%3 != 2}
		if e := <-j.ends; e != want {
			t.Errorf("range %d ends as %+v, want %+v", i, e, want)
		}
	}
	for range placed {
		<-let
	}
	if held.Load() != 0 {
		t.Errorf("%d places are held", held.Load())
	}
}

// Verifies BULK-2 and BULK-6: a read that fails breaks the stream with nothing in place, and all places are let go of; so they are when the side that has them is cut off.
func TestPlaceThatCantBeRead(t *testing.T) {
	var held, told atomic.Int32
	j := join(t, func(r bulk.Range, answer func(bulk.Piece)) {
		held.Add(1)
		told.Add(1)
		answer(bulk.Piece{Far: []byte("there"), Done: func() { held.Add(-1) }})
	})
	far := func([]byte) error { return errors.New("no way") }
	j.AskFar(bulk.Range{Size: 5}, make([]byte, 5), far)
	j.AskFar(bulk.Range{Size: 5}, make([]byte, 5), far)
	if e := <-j.ends; e.Err == nil || e.Size != 0 || e.Err.Error() != "no way" {
		t.Errorf("it ends as %+v", e)
	}
	j.served <- <-j.served
	if held.Load() != 0 || told.Load() == 0 {
		t.Errorf("of %d places %d are held", told.Load(), held.Load())
	}
}

// Verifies BULK-6: whom a place is told that he did not ask for, or who asks without end and takes none, loses his connection.
func TestPlacesOutOfTurn(t *testing.T) {
	j := join(t, nil)
	j.Ask(bulk.Range{Size: 10}, make([]byte, 10))
	go func() {
		_, _ = j.between.Read(make([]byte, 100))
		_, _ = j.between.Write(chunk(fb.ChunkStateFar, []byte("there")))
	}()
	if e := <-j.ends; e.Err == nil || !strings.Contains(e.Err.Error(), "state 4") {
		t.Errorf("a place that was not asked for: %+v", e)
	}
	asked := make([]byte, wire.HeaderSize+wire.LocateSize)
	wire.PutHeader(asked, wire.Header{Length: wire.LocateSize, Body: wire.LocateSize, Type: fb.FrameTypeLocate, Class: wire.ClassOf(fb.FrameTypeLocate)})
	wire.PutLocate(asked[wire.HeaderSize:], &fb.LocateT{Object: &fb.ObjectIDT{Task: &fb.TaskIDT{}}, Size: 5})
	here, there := net.Pipe()
	go func() {
		for range bulk.Ahead + 1 {
			_, _ = here.Write(asked)
		}
	}()
	go func() { _, _ = here.Read(make([]byte, 1<<20)); readAll(here) }()
	var let atomic.Int32
	err := bulk.Serve(there, func(_ bulk.Range, answer func(bulk.Piece)) {
		answer(bulk.Piece{Far: []byte("there"), Done: func() { let.Add(1) }})
	}, func() {}, nil)
	if err == nil || let.Load() != bulk.Ahead+1 {
		t.Errorf("places without end: %v, %d let go of", err, let.Load())
	}
}

func readAll(c net.Conn) {
	for b := make([]byte, 1<<10); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
