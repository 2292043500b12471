package bulk

import (
	"io"
	"net"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Piece is what is sent of an object: its bytes, or why there are none.
type Piece struct {
	Bytes []byte
	Why   string
	Done  func() // the bytes are of no more use; nil: nobody has to know
}

func (p Piece) letGo() {
	if p.Done != nil {
		p.Done()
	}
}

// together is how many bytes go with their header in one write.
const together = 12 << 10

// Serve answers what the other side of a connection asks for, until that breaks. find is called for each range, in order, and answers
// once, at once or later, from any goroutine. over is called when nothing more is asked for: what was not answered yet has to be
// then. Serve returns, with the connection closed, when all is, or with quit, when nobody answers any more.
func Serve(conn net.Conn, find func(Range, func(Piece)), over func(), quit <-chan struct{}) error {
	slots := make(chan chan Piece, Ahead) // more than that is not read
	ended := make(chan error, 1)
	go func() {
		ended <- answer(conn, slots, quit)
	}()
	var err error
	for {
		var r Range
		if r, err = readRange(conn); err != nil {
			break
		}
		slot := make(chan Piece, 1)
		slots <- slot
		find(r, func(p Piece) { slot <- p })
	}
	over()
	close(slots)
	_ = conn.Close() // one who asks for nothing more reads nothing more
	if werr := <-ended; werr != nil && err == io.EOF {
		err = werr
	}
	return err
}

// answer sends pieces in order. Once the connection is broken it lets go of them only.
func answer(conn net.Conn, slots <-chan chan Piece, quit <-chan struct{}) (err error) {
	var head []byte
	for slot := range slots {
		var p Piece
		select {
		case p = <-slot:
		case <-quit:
			err = net.ErrClosed
			_ = conn.Close()
			continue
		}
		if err == nil {
			head, err = send(conn, head[:0], p)
			if err != nil {
				_ = conn.Close() // so that nothing more is asked for
			}
		}
		p.letGo()
	}
	return err
}

func send(conn net.Conn, head []byte, p Piece) ([]byte, error) {
	if p.Why != "" {
		why := p.Why[:min(len(p.Why), maxWhy)]
		head = append(appendChunk(head, fb.ChunkStateRefused, len(why)), why...)
		_, err := conn.Write(head)
		return head, err
	}
	head = appendChunk(head, fb.ChunkStateBytes, len(p.Bytes))
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
