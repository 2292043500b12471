package simnet

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/transport"
)

// maxOnTheWay is how many bytes a direction holds before writes wait.
const maxOnTheWay = 256 << 10

// half is one direction of a connection. The net's lock guards it.
type half struct {
	net      *Net
	from, to string
	other    *half // the other direction of the connection
	cond     *sync.Cond
	rand     *rand.Rand

	segments  []segment
	bytes     int
	free      time.Time // when the wire has carried what was written, with limited bandwidth
	broken    bool      // both ends get ErrReset
	noReader  bool
	noWriter  bool
	readBy    time.Time
	writeBy   time.Time
	readTimer *time.Timer
	writTimer *time.Timer
}

type segment struct {
	at   time.Time // when it arrives
	data []byte
}

func (h *half) breakLocked() {
	h.broken = true
	h.segments, h.bytes = nil, 0
	h.endLocked()
}

// endLocked wakes everybody and forgets the half once nobody needs it.
func (h *half) endLocked() {
	h.cond.Broadcast()
	if h.broken || h.noReader || h.noWriter && len(h.segments) == 0 {
		delete(h.net.open, h)
	}
}

func expired(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) write(b []byte) (int, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	written := 0
	for len(b) > 0 {
		for {
			switch {
			case h.noWriter:
				return written, net.ErrClosed
			case h.broken || h.noReader:
				return written, ErrReset
			case expired(h.writeBy):
				return written, os.ErrDeadlineExceeded
			}
			if h.bytes < maxOnTheWay {
				break
			}
			h.cond.Wait()
		}
		n := min(len(b), maxOnTheWay-h.bytes)
		s := h.net.shapeLocked(h.from, h.to)
		if s.Break > 0 && h.rand.Float64() < s.Break {
			h.putLocked(s, b[:h.rand.IntN(n+1)])
			h.putLocked(s, nil) // the reset, in its turn
			h.noWriter = true
			h.other.breakLocked()
			return written, ErrReset
		}
		if s.Loss == 0 || h.rand.Float64() >= s.Loss {
			h.putLocked(s, b[:n])
		}
		b = b[n:]
		written += n
	}
	return written, nil
}

// putLocked sends a segment on its way. Without data it is a reset.
func (h *half) putLocked(s Shape, data []byte) {
	now := time.Now()
	at := now.Add(s.Latency)
	if s.Jitter > 0 {
		at = at.Add(time.Duration(h.rand.Int64N(int64(s.Jitter))))
	}
	if s.Bandwidth > 0 {
		if h.free.Before(now) {
			h.free = now
		}
		h.free = h.free.Add(time.Duration(int64(len(data)) * int64(time.Second) / s.Bandwidth))
		at = at.Add(h.free.Sub(now))
	}
	if n := len(h.segments); n > 0 && at.Before(h.segments[n-1].at) {
		at = h.segments[n-1].at // a stream keeps its order
	}
	h.segments = append(h.segments, segment{at, append([]byte(nil), data...)})
	h.bytes += len(data)
	h.cond.Broadcast()
}

func (h *half) read(b []byte) (int, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	for {
		switch {
		case h.noReader:
			return 0, net.ErrClosed
		case h.broken:
			return 0, ErrReset
		case expired(h.readBy):
			return 0, os.ErrDeadlineExceeded
		}
		if len(h.segments) > 0 && !h.net.split[[2]string{h.from, h.to}] {
			s := &h.segments[0]
			wait := time.Until(s.at)
			if wait <= 0 {
				if len(s.data) == 0 {
					h.breakLocked()
					continue
				}
				return h.takeLocked(s, b), nil
			}
			t := time.AfterFunc(wait, h.cond.Broadcast)
			h.cond.Wait()
			t.Stop()
			continue
		}
		if h.noWriter && len(h.segments) == 0 {
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) takeLocked(s *segment, b []byte) int {
	if chop := h.net.shapeLocked(h.from, h.to).Chop; chop > 0 && len(b) > chop {
		b = b[:chop]
	}
	n := copy(b, s.data)
	s.data = s.data[n:]
	h.bytes -= n
	if len(s.data) == 0 {
		h.segments = h.segments[1:]
	}
	h.endLocked()
	return n
}

// Conn is one end of a connection.
type Conn struct {
	in, out *half
	peer    transport.Peer
}

func (c *Conn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Peer is what was said at Dial.
func (c *Conn) Peer() transport.Peer { return c.peer }

// Close ends both directions; the other side reads what is on the way, then io.EOF.
func (c *Conn) Close() error {
	n := c.in.net
	n.mu.Lock()
	defer n.mu.Unlock()
	c.in.noReader = true
	c.out.noWriter = true
	for _, h := range []*half{c.in, c.out} {
		h.endLocked()
	}
	for _, t := range []*time.Timer{c.in.readTimer, c.out.writTimer} {
		if t != nil {
			t.Stop()
		}
	}
	return nil
}

// SetDeadline bounds reads and writes.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.in.deadline(&c.in.readBy, &c.in.readTimer, t)
}

// SetWriteDeadline bounds writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.out.deadline(&c.out.writeBy, &c.out.writTimer, t)
}

func (h *half) deadline(by *time.Time, timer **time.Timer, t time.Time) error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	*by = t
	if !t.IsZero() {
		*timer = time.AfterFunc(max(time.Until(t), 0), h.cond.Broadcast)
	}
	h.cond.Broadcast()
	return nil
}

type addr string

func (addr) Network() string  { return "sim" }
func (a addr) String() string { return string(a) }

// LocalAddr is the name of the host on this side.
func (c *Conn) LocalAddr() net.Addr { return addr(c.in.to) }

// RemoteAddr is the name of the host on the other side.
func (c *Conn) RemoteAddr() net.Addr { return addr(c.in.from) }
