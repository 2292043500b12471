package transport

import (
	"encoding/binary"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// linkClass is the class that a type travels in on a link. Credit and Goodbye go with the
// acknowledgements: credit that waited behind messages without credit would never arrive.
func linkClass(t wire.Type) wire.Class {
	if t == fb.FrameTypeCredit || t == fb.FrameTypeGoodbye {
		return wire.ClassLiveness
	}
	return wire.ClassOf(t)
}

// ownType tells whether t belongs to handshakes, liveness or the link itself, so that no user of a
// link may send it.
func ownType(t wire.Type) bool { return t < fb.FrameTypeSubmit }

func (c *LinkCore) send(now int64, m *Msg, out []LinkEffect) []LinkEffect {
	reject := func(err error) []LinkEffect {
		return append(out, LinkEffect{Kind: LinkRejected, Err: err})
	}
	if c.closing {
		return reject(ErrClosed)
	}
	t := wire.TypeOf(m.M)
	if ownType(t) {
		return reject(fmt.Errorf("transport: send: %s does not travel on a link", t))
	}
	body, err := wire.Marshal(c.builder, m.M)
	if err != nil {
		return reject(fmt.Errorf("transport: send: %w", err))
	}
	size := len(body) + len(m.Payload)
	if size > wire.MaxMessage {
		return reject(fmt.Errorf("transport: send %s of %d bytes: %w", t, size, ErrTooLarge))
	}
	class := linkClass(t)
	cost := int64(size) + msgOverhead
	if c.used[class] > 0 && c.used[class]+cost > c.cfg.Budget[class] {
		c.full[class] = true
		c.stats.Rejected++
		return reject(ErrBudget)
	}
	om := c.message(t, class, body)
	om.corr, om.payload, om.cost = m.Corr, m.Payload, cost
	c.enqueue(om)
	c.stats.Sent++
	c.stats.BytesSent += uint64(size)
	return out
}

// message takes a message from the free list and gives it a copy of body.
func (c *LinkCore) message(t wire.Type, class wire.Class, body []byte) *outMessage {
	var om *outMessage
	if n := len(c.free); n > 0 {
		om, c.free = c.free[n-1], c.free[:n-1]
	} else {
		om = new(outMessage)
	}
	c.nextID++
	*om = outMessage{typ: t, class: class, id: c.nextID, body: append(om.body[:0], body...), cost: int64(len(body)) + msgOverhead}
	return om
}

func (c *LinkCore) enqueue(om *outMessage) {
	c.queue[om.class].push(om)
	c.used[om.class] += om.cost
}

// release takes back a message that is acknowledged.
func (c *LinkCore) release(om *outMessage, out []LinkEffect) []LinkEffect {
	class := om.class
	c.used[class] -= om.cost
	om.payload = nil
	if cap(om.body) <= 4<<10 && len(c.free) < 256 {
		c.free = append(c.free, om)
	}
	if c.full[class] && c.used[class] <= c.cfg.Budget[class]/2 {
		c.full[class] = false
		out = append(out, LinkEffect{Kind: LinkHasRoom, Class: class})
	}
	return out
}

// pick chooses the class whose turn it is. A message is begun only with credit, and once begun it
// is finished, so a message may be larger than the window.
func (c *LinkCore) pick() (wire.Class, bool) {
	for class := wire.Class(0); class < wire.NumClasses; class++ {
		q := &c.queue[class]
		if q.len() == 0 {
			continue
		}
		if class == wire.ClassLiveness || c.credit[class] > 0 || (*q.at(0)).offset > 0 {
			return class, true
		}
	}
	return 0, false
}

// goodbyeNext tells whether all is sent and only the goodbye is left.
func (c *LinkCore) goodbyeNext() bool {
	if c.goodbye == nil {
		return false
	}
	for class := range c.queue {
		if c.queue[class].len() > 0 {
			return false
		}
	}
	return true
}

// transmit writes acknowledgements, then what has to be sent again, then new fragments, until about
// room bytes are written.
func (c *LinkCore) transmit(now int64, room int, out []LinkEffect) []LinkEffect {
	if c.ackFrames > 0 {
		out = c.writeAck(out)
	}
	if c.ping {
		c.ping = false
		out = append(out, writeSign(fb.FrameTypePing))
	}
	if c.pong {
		c.pong = false
		out = append(out, writeSign(fb.FrameTypePong))
	}
	for room > 0 {
		if c.again == c.sent.len() && !c.cut() {
			return out
		}
		if c.again == 0 {
			c.progress = now
		}
		f := c.sent.at(c.again)
		out = append(out, f.write(c.acked+1+uint64(c.again)))
		c.again++
		if f.msg.typ == fb.FrameTypeGoodbye {
			c.saidBye = true
		}
		room -= wire.HeaderSize + f.to - f.from
	}
	return out
}

// cut makes the next fragment, if there is one to be made.
func (c *LinkCore) cut() bool {
	class, ok := c.pick()
	if !ok {
		if !c.goodbyeNext() {
			return false
		}
		c.enqueue(c.goodbye)
		c.goodbye, class = nil, wire.ClassLiveness
	}
	q := &c.queue[class]
	om := *q.at(0)
	if om.offset == 0 && class != wire.ClassLiveness {
		c.credit[class] -= om.cost
	}
	to := min(om.offset+wire.MaxFragment, om.size())
	c.sent.push(fragment{om, om.offset, to})
	om.offset = to
	if to == om.size() {
		q.pop()
	}
	return true
}

func (f *fragment) write(seq uint64) LinkEffect {
	m := f.msg
	body := m.body[min(f.from, len(m.body)):min(f.to, len(m.body))]
	payload := m.payload[max(f.from-len(m.body), 0):max(f.to-len(m.body), 0)]
	h := wire.Header{
		Length: uint32(f.to - f.from), Body: uint32(len(body)), Type: m.typ, Class: m.class,
		Message: m.id, Seq: seq, Corr: m.corr,
	}
	if f.to < m.size() {
		h.Flags = wire.FlagMore
	}
	return LinkEffect{Kind: LinkWrite, Header: h, Body: body, Payload: payload}
}

func (c *LinkCore) writeAck(out []LinkEffect) []LinkEffect {
	c.ackFrames, c.ackBytes, c.ackDue, c.ackNow = 0, 0, 0, false
	binary.LittleEndian.PutUint64(c.ack[:], c.received)
	return append(out, LinkEffect{Kind: LinkWrite, Body: c.ack[:], Header: wire.Header{
		Length: 8, Body: 8, Type: fb.FrameTypeAck, Class: wire.ClassLiveness,
	}})
}

// noSign is the body of a Ping or Pong inside a session: that it comes is all that it says.
var noSign [16]byte

func writeSign(t wire.Type) LinkEffect {
	return LinkEffect{Kind: LinkWrite, Body: noSign[:], Header: wire.Header{
		Length: 16, Body: 16, Type: t, Class: wire.ClassLiveness,
	}}
}

// onAck takes the peer's word that it has everything up to n. False: it can't have.
func (c *LinkCore) onAck(now int64, n uint64, out []LinkEffect) ([]LinkEffect, bool) {
	if n > c.acked+uint64(c.sent.len()) {
		return out, false
	}
	for c.acked < n {
		f := c.sent.pop()
		c.acked++
		c.again = max(c.again-1, 0)
		c.progress = now
		if f.to == f.msg.size() {
			bye := f.msg.typ == fb.FrameTypeGoodbye
			out = c.release(f.msg, out)
			if bye {
				return c.die(ErrClosed, out), true
			}
		}
	}
	return out, true
}
