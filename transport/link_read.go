package transport

import (
	"errors"
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// Read buffers begin small, for there may be a thousand idle links, and grow when there is much to
// read.
const (
	minRead = 4 << 10
	maxRead = 2*wire.MaxFragment + wire.HeaderSize
)

// linkReader reads one connection of a link, in a goroutine of its own.
type linkReader struct {
	link    *Link
	conn    Conn
	resumed bool
	prev    *linkReader   // the one of the connection before
	done    chan struct{} // closed when loop is over
	cause   error         // why the link gave the connection up; guarded by link.mu

	buf     []byte
	from    int   // first byte not yet parsed
	to      int   // end of what was read
	deliver []Msg // messages of one turn
}

// loop calls OnUp, then OnMessage for each message, then OnDown unless the session is dead.
func (r *linkReader) loop() {
	defer close(r.done)
	if r.prev != nil {
		<-r.prev.done
		r.prev = nil
	}
	l := r.link
	if l.cfg.OnUp != nil {
		l.cfg.OnUp(r.resumed)
	}
	err := r.read()
	l.broken(r.conn, err)
	l.mu.Lock()
	cause, dead, words := r.cause, l.core.Dead() != nil, l.lastly == r.conn
	l.mu.Unlock()
	if !words { // else the writer still has to say them
		r.conn.Close()
	}
	if dead || l.cfg.OnDown == nil {
		return
	}
	if cause == nil {
		cause = err
	}
	l.cfg.OnDown(fmt.Errorf("transport: link to %s: %w", l.cfg.Name, cause))
}

// read goes on until the connection breaks or is no longer the link's. A turn takes all whole
// frames that are in the buffer, under one lock.
func (r *linkReader) read() error {
	r.buf = make([]byte, minRead)
	for {
		if err := r.fill(); err != nil {
			return err
		}
		more := true
		for more {
			var err error
			more, err = r.turn()
			r.callback() // even then: the core counts them as received
			if err != nil {
				return err
			}
		}
	}
}

// fill reads at least one byte more.
func (r *linkReader) fill() error {
	if r.from > 0 {
		r.to = copy(r.buf, r.buf[r.from:r.to])
		r.from = 0
	}
	if r.to == len(r.buf) { // there is more than fits
		if len(r.buf) >= maxRead {
			return errors.New("transport: frame without end") // can't be: a frame is smaller
		}
		grown := make([]byte, min(4*len(r.buf), maxRead))
		copy(grown, r.buf[:r.to])
		r.buf = grown
	}
	n, err := r.conn.Read(r.buf[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	if err == io.EOF && r.to > r.from {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errNotPresent = errors.New("transport: not the link's connection any more")

// maxTurn bounds the messages that are taken before they are given to the owner.
const maxTurn = 256

// turn gives the core what is in the buffer. more: it stopped at maxTurn.
func (r *linkReader) turn() (more bool, err error) {
	l := r.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(r.deliver) < maxTurn {
		if l.conn != r.conn {
			return false, r.endLocked() // LINK-3
		}
		if r.to-r.from < wire.HeaderSize {
			l.wakeIfReadyLocked()
			return false, nil
		}
		h, err := wire.ParseHeader(r.buf[r.from:r.to])
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		end := r.from + wire.HeaderSize + int(h.Length)
		if end > r.to {
			l.wakeIfReadyLocked()
			return false, nil
		}
		l.ev = LinkEvent{Kind: LinkFrame, Header: h, Data: r.buf[r.from+wire.HeaderSize : end]}
		l.effects = l.core.Step(l.now(), &l.ev, l.effects[:0])
		r.from = end
		for i := range l.effects {
			if l.effects[i].Kind == LinkDeliver {
				r.deliver = append(r.deliver, l.effects[i].Msg)
				l.effects[i].Msg = Msg{}
			}
		}
		l.applyLocked()
	}
	l.wakeIfReadyLocked()
	return true, nil
}

// endLocked is the error of a reader whose connection was given up.
func (r *linkReader) endLocked() error {
	if r.cause != nil {
		return r.cause
	}
	return errNotPresent
}

// callback gives the messages of a turn to the owner, and the peer its credit back.
func (r *linkReader) callback() {
	if len(r.deliver) == 0 {
		return
	}
	l := r.link
	for i := range r.deliver {
		if l.cfg.OnMessage != nil {
			l.cfg.OnMessage(r.deliver[i])
		}
	}
	if !l.cfg.Manual {
		l.mu.Lock()
		for i := range r.deliver {
			l.ev = LinkEvent{Kind: LinkConsumed, Msg: r.deliver[i]}
			_ = l.stepLocked()
		}
		l.wakeIfReadyLocked()
		l.mu.Unlock()
	}
	clear(r.deliver)
	r.deliver = r.deliver[:0]
}
