package bulk

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Piece is what is sent of an object: its bytes, or why there are none.
type Piece struct {
	Bytes   []byte
	Version uint32 // which value of the name they are of
	Why     string
	Lies    Place  // where they lie, if that can be handed over
	Far     []byte // in place of Bytes: where they lie in a fabric, for who has asked so
	Done    func() // the bytes are of no more use; nil: nobody has to know
}

func (p Piece) letGo() {
	if p.Done != nil {
		p.Done()
	}
}

// excuse is why there is nothing, as it is sent.
func (p Piece) excuse() []byte { return []byte(p.Why[:min(len(p.Why), maxWhy)]) }

// together is how many bytes go with their header in one write.
const together = 12 << 10

// Serve answers what the other side of a connection asks for, until that breaks. find is called for each range, in order, and answers
// once, at once or later, from any goroutine. over is called when nothing more is asked for: what was not answered yet has to be
// then. Serve returns, with the connection closed, when all is, or with quit, when nobody answers any more.
func Serve(conn net.Conn, find func(Range, func(Piece)), over func(), quit <-chan struct{}) error {
	slots := make(chan slot, Ahead) // more than that is not read
	lent := make(chan Piece, Ahead) // what was handed over and is not taken yet
	ended := make(chan error, 1)
	go func() {
		ended <- answer(conn, slots, lent, quit)
	}()
	var err error
	checked := unencrypted(conn)
	for {
		var r Range
		var taken bool
		if r, taken, err = readAsk(conn); err != nil {
			break
		}
		if taken {
			if err = takeBack(lent); err != nil {
				break
			}
			continue
		}
		r.Locate = r.Locate && !checked // a key is nobody's but who asks
		s := slot{r, make(chan Piece, 1)}
		slots <- s
		find(r, func(p Piece) { s.piece <- p })
	}
	over()
	close(slots)
	_ = conn.Close() // one who asks for nothing more reads nothing more
	if werr := <-ended; werr != nil && err == io.EOF {
		err = werr
	}
	for len(lent) > 0 { // after the end of the connection (BULK-5)
		_ = takeBack(lent)
	}
	return err
}

// slot is a range that was asked for, and where what is sent of it comes.
type slot struct {
	Range
	piece chan Piece
}

// takeBack lets go of the piece that was handed over first.
func takeBack(lent <-chan Piece) error {
	select {
	case p := <-lent:
		p.letGo()
		return nil
	default:
		return errors.New("bulk: more was taken than was handed over")
	}
}

// answer sends pieces in order. Once the connection is broken it lets go of them only.
func answer(conn net.Conn, slots <-chan slot, lent chan<- Piece, quit <-chan struct{}) (err error) {
	beside, _ := conn.(unixConn)
	checked := unencrypted(conn)
	var head []byte
	for s := range slots {
		var p Piece
		select {
		case p = <-s.piece:
		case <-quit:
			err = net.ErrClosed
			_ = conn.Close()
			continue
		}
		kept := false
		switch {
		case err != nil:
		case beside != nil && p.Lies.File != nil && len(p.Bytes) > together:
			if kept, err = keep(lent, p); err == nil {
				head, err = handOver(beside, head[:0], p)
			}
		case len(p.Far) > 0 && p.Why == "":
			if kept, err = keep(lent, p); err == nil {
				head = append(appendChunk(head[:0], fb.ChunkStateFar, p.Version, len(p.Far)), p.Far...)
				_, err = conn.Write(head)
			}
		case checked && p.Why != "":
			head, err = sendChecked(conn, head[:0], s.Range, fb.ChunkT{State: fb.ChunkStateRefused}, p.excuse())
		case checked:
			head, err = sendChecked(conn, head[:0], s.Range, fb.ChunkT{State: fb.ChunkStateBytes, Version: p.Version}, p.Bytes)
		default:
			head, err = send(conn, head[:0], p)
		}
		if err != nil {
			_ = conn.Close() // so that nothing more is asked for
		}
		if !kept {
			p.letGo()
		}
	}
	return err
}

// keep notes a piece that is about to be handed over.
func keep(lent chan<- Piece, p Piece) (bool, error) {
	select {
	case lent <- p:
		return true, nil
	default:
		return false, fmt.Errorf("bulk: more than %d pieces were asked for, and not taken", cap(lent))
	}
}

func send(conn net.Conn, head []byte, p Piece) ([]byte, error) {
	if p.Why != "" {
		why := p.excuse()
		head = append(appendChunk(head, fb.ChunkStateRefused, 0, len(why)), why...)
		_, err := conn.Write(head)
		return head, err
	}
	head = appendChunk(head, fb.ChunkStateBytes, p.Version, len(p.Bytes))
	if len(p.Bytes) <= together {
		head = append(head, p.Bytes...)
		_, err := conn.Write(head)
		return head, err
	}
	if _, err := conn.Write(head); err != nil {
		return head, err
	}
	_, err := conn.Write(p.Bytes)
	return head, err
}
