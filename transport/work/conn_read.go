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
	if b.first != nil {
		firsts.Put(b.first)
	}
	b.conn.free <- b.buffer
}

// reading is what the reader's goroutine holds.
type reading struct {
	*Conn
	received []*os.File // descriptors of frames that are not whole yet
	with     int        // how many of the whole frames found last have one
}

// read hands over batches until the connection ends, and tells why.
func (c *Conn) read() error {
	r := reading{Conn: c}
	defer func() { closeFiles(r.received) }()
	var rest []byte // of a frame that began in the buffer before
	for {
		buffer, ok := r.buffer()
		if !ok {
			return ErrClosed
		}
		n := copy(buffer, rest)
		whole := 0
		var err error
		for whole == 0 && err == nil && n < len(buffer) {
			var k int
			k, err = r.more(buffer[n:])
			n += k
			whole, err = r.cut(buffer[:n], err)
		}
		rest = buffer[whole:n]
		if whole > 0 {
			if e := r.deliver(Batch{Bytes: buffer[:whole:whole], conn: c, buffer: buffer}, len(rest)); e != nil {
				return e
			}
		}
		switch {
		case err == io.EOF && len(rest) > 0:
			return wrap("read", io.ErrUnexpectedEOF)
		case err != nil:
			return err
		case whole == 0: // the buffer is full of one frame's beginning
			if err := r.large(buffer); err != nil {
				return err
			}
			rest = nil
		}
	}
}

// buffer waits until the owner has released one.
func (r *reading) buffer() ([]byte, bool) {
	select {
	case b := <-r.free:
		if b == nil {
			b = make([]byte, readSize)
		}
		return b, true
	case <-r.dead:
		return nil, false
	}
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
	return nil
}

// large reads on a frame that is longer than the buffer in which it begins, and hands it over. Room is made as the
// bytes come (BATCH-3).
func (r *reading) large(buffer []byte) error {
	size := wire.HeaderSize + int(binary.LittleEndian.Uint32(buffer))
	first := firsts.Get().(*[firstSize]byte)
	frame := append(first[:0], buffer...)
	for len(frame) < size {
		if len(frame) == cap(frame) {
			grown := make([]byte, len(frame), min(size, 2*cap(frame)))
			copy(grown, frame)
			frame = grown
		}
		k, err := r.more(frame[len(frame):min(cap(frame), size)])
		frame = frame[:len(frame)+k]
		if err == io.EOF && len(frame) < size {
			return wrap("read", io.ErrUnexpectedEOF)
		}
		if err != nil && len(frame) < size {
			return err
		}
	}
	if _, err := r.cut(frame, nil); err != nil {
		return err
	}
	if size > firstSize { // it was outgrown
		firsts.Put(first)
		first = nil
	}
	return r.deliver(Batch{Bytes: frame[:size:size], conn: r.Conn, buffer: buffer, first: first}, 0)
}

// more reads once, and takes what descriptors come along.
func (r *reading) more(b []byte) (n int, err error) {
	if r.unix == nil {
		n, err = r.nc.Read(b)
	} else {
		n, err = r.unix.read(b, &r.received)
	}
	if err != nil && err != io.EOF {
		err = wrap("read", err)
	}
	return n, err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
