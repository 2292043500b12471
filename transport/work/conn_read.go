package work

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
)

const (
	readSize  = 64 << 10  // of a read, and of a batch unless one frame is larger
	firstSize = 256 << 10 // what a larger frame gets before all of it is there
)

// firsts are buffers for larger frames, shared by all connections.
var firsts = sync.Pool{New: func() any { return new([firstSize]byte) }}

// Batch is whole frames in the order in which they came.
type Batch struct {
	Bytes []byte     // go over them with Frames
	Files []*os.File // those of the frames that have one, in their order; they are the receiver's

	conn   *Conn
	buffer []byte
	first  *[firstSize]byte // nil: the frames lie in buffer, or in memory of their own
}

// Release gives the bytes back; no frame of the batch may be used any more.
func (b Batch) Release() {
	if b.conn == nil { // no connection brought it
		return
	}
	if b.first != nil {
		firsts.Put(b.first)
	}
	b.conn.free <- b.buffer
	b.conn.unpark()
}

// reading is what the reader holds.
type reading struct {
	*Conn
	buffer   []byte           // nil: none
	have     int              // bytes of it
	rest     []byte           // of a frame that began in the buffer before
	frame    []byte           // one that is longer than a buffer, as far as it is here; nil: none
	first    *[firstSize]byte // where it lies, unless it has outgrown that
	received []*os.File       // descriptors of frames that are not whole yet
	with     int              // how many of the whole frames found last have one
}

// all hands over batches until the connection ends, and tells why.
func (r *reading) all() error {
	for r.has(true) {
		if err := r.step(); err != nil {
			return err
		}
	}
	return ErrClosed
}

// has tells whether there is a buffer to read into. Two are out with the owner if not; it may wait for one.
func (r *reading) has(wait bool) bool {
	if r.buffer != nil {
		return true
	}
	select {
	case r.buffer = <-r.free:
	default:
		if !wait {
			return false
		}
		select {
		case r.buffer = <-r.free:
		case <-r.dead:
			return false
		}
	}
	if r.buffer == nil {
		r.buffer = make([]byte, readSize)
	}
	r.have = copy(r.buffer, r.rest)
	r.rest = nil
	return true
}

// step reads once, and hands over what is whole.
func (r *reading) step() error {
	if r.frame != nil {
		return r.stepLarge()
	}
	n, err := r.more(r.buffer[r.have:])
	r.have += n
	whole, err := r.cut(r.buffer[:r.have], err)
	buffer, rest := r.buffer, r.buffer[whole:r.have]
	if whole > 0 {
		r.buffer, r.rest = nil, rest
		if e := r.deliver(Batch{Bytes: buffer[:whole:whole], conn: r.Conn, buffer: buffer}, len(rest)); e != nil {
			return e
		}
	}
	switch {
	case err == io.EOF && len(rest) > 0:
		return wrap("read", io.ErrUnexpectedEOF)
	case err == nil && len(rest) == len(buffer): // full of one frame's beginning
		r.first = firsts.Get().(*[firstSize]byte)
		r.frame = append(r.first[:0], buffer...)
	}
	return err
}

// cut finds the whole frames in b. What it refuses is told before what the read itself said.
func (r *reading) cut(b []byte, err error) (int, error) {
	whole, with, e := cut(b, len(r.received))
	if r.with = with; e != nil {
		err = e
	}
	return whole, err
}

// deliver hands over a batch, with its descriptors; behind is how many bytes of the next frame are here.
func (r *reading) deliver(batch Batch, behind int) error {
	if left := len(r.received) - r.with; left > 1 || left > behind { // BATCH-6
		return fmt.Errorf("work: %w: %d descriptors for %d frames that have one", transport.ErrProtocol, len(r.received), r.with)
	}
	if r.with > 0 {
		batch.Files = r.received[:r.with:r.with]
		r.received = r.received[r.with:]
	}
	r.cfg.OnBatch(batch)
	if r.polled == nil && r.cfg.Poll != nil {
		r.cfg.Poll.after()
	}
	return nil
}

// stepLarge is step for a frame that is longer than the buffer in which it began. Room is made as the bytes come
// (BATCH-3).
func (r *reading) stepLarge() error {
	size := wire.HeaderSize + int(binary.LittleEndian.Uint32(r.frame))
	if have := len(r.frame); have == cap(r.frame) {
		grown := make([]byte, have, min(size, 2*have))
		copy(grown, r.frame)
		r.frame = grown
	}
	have := len(r.frame)
	n, err := r.more(r.frame[have:min(cap(r.frame), size)])
	r.frame = r.frame[:have+n]
	if err == io.EOF {
		err = nil // it comes again
		if have+n < size {
			err = wrap("read", io.ErrUnexpectedEOF)
		}
	}
	if err != nil || have+n < size {
		return err
	}
	if _, err := r.cut(r.frame, nil); err != nil {
		return err
	}
	batch := Batch{Bytes: r.frame[:size:size], conn: r.Conn, buffer: r.buffer}
	if size <= firstSize {
		batch.first = r.first
	} else { // it was outgrown
		firsts.Put(r.first)
	}
	r.buffer, r.frame, r.first = nil, nil, nil
	return r.deliver(batch, 0)
}

// end gives back what the reader holds.
func (r *reading) end() {
	closeFiles(r.received)
	if r.first != nil {
		firsts.Put(r.first)
	}
	r.buffer, r.rest, r.frame, r.first, r.received = nil, nil, nil, nil, nil
}

// more reads once, and takes what descriptors come along.
func (r *reading) more(b []byte) (n int, err error) {
	if r.unix == nil {
		n, err = r.nc.Read(b)
	} else {
		n, err = r.unix.read(b, &r.received)
	}
	if err != nil && err != io.EOF && err != errAgain {
		err = wrap("read", err)
	}
	return n, err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
