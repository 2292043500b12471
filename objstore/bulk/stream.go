package bulk

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// End is how a range ended, the oldest one under way.
type End struct {
	Size    int64  // bytes that are in place; all of them, if Why and Err are empty
	Version uint32 // which value of the object's name they are of
	Why     string // it was refused
	Err     error  // the stream broke; this End is its last
	Beside  bool   // they were copied from where they lie on this machine
	Far     bool   // they were read by a fabric
}

// Stream asks for ranges over one connection.
type Stream struct {
	conn   net.Conn
	told   func(End)
	write  chan Range
	read   chan asked
	broken chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

type asked struct {
	Range
	into []byte
	far  Far
}

// Far reads a range that lies where the other side said, by a fabric, into the memory that AskFar was given. When it returns, well or
// not, nothing is written there any more.
type Far func(place []byte) error

// NewStream asks over a connection, which is the stream's from now on. told is called for each range that ends, and with
// an Err once at the end, from one goroutine.
func NewStream(conn net.Conn, told func(End)) *Stream {
	s := &Stream{conn: conn, told: told, write: make(chan Range, Ahead), read: make(chan asked, Ahead), broken: make(chan struct{})}
	s.done.Add(2)
	go s.writes()
	go s.reads()
	return s
}

// Ask asks for a range, the bytes of which go to into. No more than Ahead may be under way.
func (s *Stream) Ask(r Range, into []byte) { s.AskFar(r, into, nil) }

// AskFar asks for one that the other side may send, or say where it lies; then far reads it. nil: it is to be sent.
func (s *Stream) AskFar(r Range, into []byte, far Far) {
	if _, beside := s.conn.(unixConn); beside || unencrypted(s.conn) { // what is handed over is nearer, and keys are not for all to read
		far = nil
	}
	r.Locate = far != nil
	s.read <- asked{r, into[:r.Size:r.Size], far}
	s.write <- r
}

// Cut breaks the stream.
func (s *Stream) Cut() {
	s.once.Do(func() {
		close(s.broken)
		_ = s.conn.Close()
	})
}

// Done returns when nothing is written to memory any more.
func (s *Stream) Done() { s.done.Wait() }

// writes sends what is asked for, in one go what is asked for at once.
func (s *Stream) writes() {
	defer s.done.Done()
	var b []byte
	for {
		select {
		case r := <-s.write:
			b = appendRange(b[:0], r)
		case <-s.broken:
			return
		}
		for more := true; more; {
			select {
			case r := <-s.write:
				b = appendRange(b, r)
			default:
				more = false
			}
		}
		if _, err := s.conn.Write(b); err != nil {
			s.Cut() // the reader tells why
			return
		}
	}
}

func (s *Stream) reads() {
	defer s.done.Done()
	source, beside := newReceiver(s.conn)
	defer beside.end()
	checked := unencrypted(s.conn)
	for {
		from, verify := source, func() error { return nil }
		m, size, err := readChunk(from)
		if err != nil {
			s.over(End{Err: err})
			return
		}
		var a asked
		select {
		case a = <-s.read:
		default:
			s.over(End{Err: errors.New("bulk: more came than was asked for")})
			return
		}
		if checked {
			c, err := newChecked(source, a.Range, m, size)
			if err != nil {
				s.over(End{Err: err})
				return
			}
			from, verify, size = c, c.verify, size-2*sumSize
		}
		switch state := m.State; {
		case state == fb.ChunkStateRefused && 0 <= size && size <= maxWhy:
			why := make([]byte, size)
			_, err := io.ReadFull(from, why)
			if err == nil {
				err = verify()
			}
			if err != nil {
				s.over(End{Err: err})
				return
			}
			s.told(End{Why: cmp.Or(string(why), "it was refused")})
		case state == fb.ChunkStateBytes && size == a.Size:
			n, err := io.ReadFull(from, a.into)
			if err == nil {
				err = verify()
			}
			if checked {
				n = 0 // of what was not compared nothing counts
			}
			if err != nil {
				s.over(End{Size: int64(n), Version: m.Version, Err: err})
				return
			}
			s.told(End{Size: size, Version: m.Version})
		case state == fb.ChunkStateLie && size == placeSize && beside != nil:
			if err := beside.copy(a.into); err != nil {
				s.over(End{Err: err})
				return
			}
			s.told(End{Size: a.Size, Version: m.Version, Beside: true})
		case state == fb.ChunkStateFar && size <= maxWhy && a.far != nil:
			if err := s.readsFar(from, size, a.far); err != nil {
				s.over(End{Err: err})
				return
			}
			s.told(End{Size: a.Size, Version: m.Version, Far: true})
		default:
			s.over(End{Err: fmt.Errorf("bulk: a chunk of %d bytes and state %d came for a range of %d", size, state, a.Size)})
			return
		}
	}
}

// readsFar has a range be read where it lies, and then lets go of it.
func (s *Stream) readsFar(from io.Reader, size int64, far Far) error {
	place := make([]byte, size)
	if _, err := io.ReadFull(from, place); err != nil {
		return noEOF(err)
	}
	if err := far(place); err != nil {
		return err
	}
	_, err := s.conn.Write(appendChunk(nil, fb.ChunkStateTaken, 0, 0))
	return err
}

func (s *Stream) over(e End) {
	s.Cut()
	s.told(e)
}
