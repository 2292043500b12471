package sim

import (
	"errors"
	"hash/crc32"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
)

// Shape is how frames travel. Durations in nanoseconds.
type Shape struct {
	Latency   int64
	Jitter    int64   // added, uniform
	Loss      float64 // probability that a frame vanishes
	Bandwidth int64   // bytes per second of one connection, 0: unlimited
}

// host is a machine on the network.
type host struct {
	index   int
	name    string
	dead    bool  // its power is off: it sends and receives nothing, and nobody is told
	side    int   // of a partition; only hosts of one side reach each other
	shape   Shape // of what it sends and receives
	stopped int64 // until then nothing on it runs
}

var (
	errClosed  = errors.New("sim: closed by the other side")
	errTimeout = errors.New("sim: timeout")
	errNobody  = errors.New("sim: nobody there")
)

// conn is a connection between two hosts; each end has a receiver. Frames of one direction arrive in
// the order in which they were sent, or not at all.
type conn struct {
	c    *Cluster
	id   uint64
	host [2]*host
	recv [2]receiver
	shut [2]bool  // this end was closed by its owner, or lost its host
	last [2]int64 // when the last frame from this end arrives
	busy [2]int64 // until when this end's wire is taken, with limited bandwidth
}

// receiver is the owner of one end.
type receiver interface {
	frame(c *conn, h wire.Header, data []byte)
	closed(c *conn, err error)
}

// reach tells whether bytes get from one host to another now.
func reach(a, b *host) bool { return !a.dead && !b.dead && a.side == b.side }

// end is a conn seen from one side.
type end struct {
	*conn
	side int
}

func (e end) peer() *host { return e.host[1-e.side] }
func (e end) ok() bool    { return e.conn != nil }

// delay draws the time that a frame needs, and whether it is lost.
func (c *Cluster) delay(from, to *host) (d int64, lost bool) {
	if from == to {
		return localLatency, false
	}
	for _, s := range [2]*Shape{&from.shape, &to.shape} {
		d += s.Latency / 2
		if s.Jitter > 0 {
			d += c.rng.Int64N(s.Jitter/2 + 1)
		}
		lost = lost || s.Loss > 0 && c.rng.Float64() < s.Loss/2
	}
	return d, lost
}

// send puts a frame on its way.
func (e end) send(h wire.Header, data []byte) {
	if e.shut[e.side] {
		return
	}
	from, to := e.host[e.side], e.peer()
	d, lost := e.c.delay(from, to)
	if lost || !reach(from, to) {
		e.c.Lost++
		return
	}
	if bw := e.bandwidth(); bw > 0 {
		e.busy[e.side] = max(e.busy[e.side], e.c.now) + int64(len(data)+wire.HeaderSize)*1e9/bw
		d += e.busy[e.side] - e.c.now
	}
	at := max(e.c.now+d, e.last[e.side]+1)
	e.last[e.side] = at
	there := 1 - e.side
	e.c.Frames++
	e.c.at(at, "frame", e.id, to, func() {
		switch {
		case to.dead:
			return
		case e.shut[there]: // nobody has it open any more: a reset
			if !e.shut[e.side] && reach(from, to) {
				e.shut[e.side] = true
				back, _ := e.c.delay(to, from)
				e.c.after(back, "reset", e.id, from, func() { e.recv[e.side].closed(e.conn, errClosed) })
			}
			return
		}
		e.c.digest(uint64(h.Type)<<32|uint64(crc32.ChecksumIEEE(data)), h.Seq)
		e.recv[there].frame(e.conn, h, data)
	})
}

func (e end) bandwidth() int64 {
	bw := int64(0)
	for _, h := range e.host {
		if b := h.shape.Bandwidth; b > 0 && (bw == 0 || b < bw) {
			bw = b
		}
	}
	return bw
}

// close ends this side; the other one is told, if it can be.
func (e end) close() {
	if e.conn == nil || e.shut[e.side] {
		return
	}
	e.shut[e.side] = true
	from, to := e.host[e.side], e.peer()
	if !reach(from, to) {
		return
	}
	d, _ := e.c.delay(from, to)
	at := max(e.c.now+d, e.last[e.side]+1)
	there := 1 - e.side
	e.c.at(at, "close", e.id, to, func() {
		if !e.shut[there] {
			e.shut[there] = true
			e.recv[there].closed(e.conn, errClosed)
		}
	})
}

// dial connects to a host: accept is called there, and done here with this side's end. Without
// anybody there, done gets no conn, after a round trip or after the timeout.
func (c *Cluster) dial(from, to *host, accept func(end) receiver, self receiver, done func(end, error)) {
	d, lost := c.delay(from, to)
	if lost || !reach(from, to) {
		c.at(c.now+dialTimeout, "dial timeout", uint64(to.index), from, func() { done(end{}, errTimeout) })
		return
	}
	c.at(c.now+d, "syn", uint64(to.index), to, func() {
		c.conns++
		cn := &conn{c: c, id: c.conns, host: [2]*host{from, to}}
		var r receiver
		if !to.dead {
			r = accept(end{cn, 1})
		}
		back, _ := c.delay(from, to)
		if r == nil {
			c.at(c.now+back, "refused", uint64(to.index), from, func() { done(end{}, errNobody) })
			return
		}
		cn.recv = [2]receiver{self, r}
		cn.last[1] = c.now + back
		c.at(c.now+back, "connected", uint64(to.index), from, func() {
			if from.dead {
				return
			}
			done(end{cn, 0}, nil)
		})
	})
}

// sendMessage sends one message as a frame of no session: the handshakes.
func (e end) sendMessage(m wire.Message) {
	body, err := wire.Marshal(nil, m)
	if err != nil {
		e.c.fault("can't marshal %T: %v", m, err)
		return
	}
	t := wire.TypeOf(m)
	e.send(wire.Header{Length: uint32(len(body)), Body: uint32(len(body)), Type: t, Class: wire.ClassOf(t)}, body)
}

// copied gives a message as the other side of a socket gets it, nil if it does not travel.
func (c *Cluster) copied(m wire.Message) wire.Message {
	body, err := wire.Marshal(nil, m)
	if err == nil {
		m, err = wire.Unmarshal(wire.TypeOf(m), body)
	}
	if err != nil {
		c.fault("%T does not travel: %v", m, err)
		return nil
	}
	return m
}

// pipe is a local socket: in order, at once but for a moment, without loss.
type pipe struct{ last int64 }

func (p *pipe) do(c *Cluster, kind string, who uint64, h *host, f func()) {
	at := max(c.now+localLatency, p.last+1)
	p.last = at
	c.at(at, kind, who, h, f)
}

// Times of the models.
const (
	localLatency = int64(20e3)
	dialTimeout  = int64(300e6)
	greetTimeout = int64(500e6)
	redialMin    = int64(50e6)
	redialMax    = int64(2e9)
	pingEvery    = int64(500e6)
	silentAfter  = int64(5e9)
)

var linkConfig = transport.LinkCoreConfig{AckTimeout: 400e6}
