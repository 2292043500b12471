package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// maxCredit bounds what a peer may grant, so that no sum overflows.
const maxCredit = 1 << 40

// frame takes one frame of the present connection.
func (c *LinkCore) frame(now int64, h wire.Header, data []byte, out []LinkEffect) []LinkEffect {
	if len(data) != int(h.Length) || h.Body > h.Length {
		return c.violation(now, fmt.Errorf("frame of %d bytes says %d", len(data), h.Length), out)
	}
	c.heardAt, c.asked = now, false
	switch h.Type {
	case fb.FrameTypePing, fb.FrameTypePong:
		if h.Seq != 0 || h.Body != 16 || h.Length != 16 || h.More() {
			return c.violation(now, fmt.Errorf("malformed %s", h.Type), out)
		}
		c.pong = c.pong || h.Type == fb.FrameTypePing
		return out
	case fb.FrameTypeAck:
		if h.Seq != 0 || h.Body != 8 || h.Length != 8 || h.More() {
			return c.violation(now, errors.New("malformed acknowledgement"), out)
		}
		n := binary.LittleEndian.Uint64(data)
		out, ok := c.onAck(now, n, out)
		if !ok {
			return c.violation(now, fmt.Errorf("acknowledged frame %d before it was sent", n), out)
		}
		return out
	}
	switch {
	case h.Seq == 0:
		return c.violation(now, fmt.Errorf("%s without a number", h.Type), out)
	case h.Seq <= c.received:
		c.stats.Duplicates++ // LINK-2
		c.needAck(now, 0)
		return out
	case h.Seq != c.received+1:
		return c.detach(now, fmt.Errorf("%w: %d came after %d", ErrGap, h.Seq, c.received), out)
	}
	n := len(out)
	out, err := c.take(now, h, data, out)
	if err != nil {
		out = out[:n]
		if c.bad == h.Seq { // sent again, and no better: the peer itself is broken
			c.stats.Violations++
			return c.die(fmt.Errorf("%w: twice: %w", ErrProtocol, err), out)
		}
		c.bad = h.Seq
		return c.violation(now, err, out)
	}
	return out
}

// take takes the frame that comes next in the session. It changes nothing if it fails.
func (c *LinkCore) take(now int64, h wire.Header, data []byte, out []LinkEffect) ([]LinkEffect, error) {
	if h.Class != linkClass(h.Type) {
		return out, fmt.Errorf("%s in class %s", h.Type, h.Class)
	}
	p := &c.part[h.Class]
	if !p.active {
		if limit := c.cfg.Window[h.Class] - c.outstanding[h.Class]; limit <= 0 && h.Class != wire.ClassLiveness {
			return out, fmt.Errorf("%s without credit", h.Type)
		}
		if !h.More() { // whole in one frame
			return c.whole(now, h, h.Type, h.Corr, data[:h.Body], data[h.Body:], false, out)
		}
	} else if p.id != h.Message || p.typ != h.Type || p.corr != h.Corr {
		return out, fmt.Errorf("%s, message %d, inside %s, message %d", h.Type, h.Message, p.typ, p.id)
	}
	switch {
	case ownType(h.Type):
		return out, fmt.Errorf("%s in several fragments", h.Type)
	case h.Length == 0:
		return out, fmt.Errorf("empty fragment of %s", h.Type)
	case len(p.payload) > 0 && h.Body > 0:
		return out, fmt.Errorf("%s goes back from payload to body", h.Type)
	case len(p.body)+len(p.payload)+len(data) > wire.MaxMessage:
		return out, fmt.Errorf("%s is larger than %d bytes", h.Type, wire.MaxMessage)
	}
	if h.More() {
		if !p.active {
			*p = partial{active: true, typ: h.Type, id: h.Message, corr: h.Corr}
		}
		p.body = grow(p.body, data[:h.Body], false)
		p.payload = grow(p.payload, data[h.Body:], false)
		c.got(now, h)
		return out, nil
	}
	// The last one. p stays as it is until the whole is known to be good, since a failure means that
	// this fragment will come again.
	body := grow(p.body, data[:h.Body], true)
	payload := grow(p.payload, data[h.Body:], true)
	out, err := c.whole(now, h, h.Type, h.Corr, body, payload, true, out)
	if err == nil {
		*p = partial{}
	}
	return out, err
}

// grow appends; where b must be larger it gets room for twice as much, or for no more than is needed if
// nothing follows. append itself grows large slices by a quarter.
func grow(b, more []byte, last bool) []byte {
	if need := len(b) + len(more); need > cap(b) {
		room := need
		if !last {
			room = max(2*cap(b), need)
		}
		b = append(make([]byte, 0, room), b...)
	}
	return append(b, more...)
}

// whole takes a message all of whose fragments are here. own: payload is ours to give away.
func (c *LinkCore) whole(now int64, h wire.Header, t wire.Type, corr uint64, body, payload []byte, own bool, out []LinkEffect) ([]LinkEffect, error) {
	m, err := wire.Unmarshal(t, body)
	if err != nil {
		return out, err
	}
	switch m := m.(type) {
	case *fb.CreditT:
		class := wire.Class(m.Class_)
		if m.Class_ >= uint32(wire.NumClasses) || m.Bytes > maxCredit || c.credit[class]+int64(m.Bytes) > maxCredit {
			return out, fmt.Errorf("credit of %d bytes for class %d", m.Bytes, m.Class_)
		}
		c.got(now, h)
		c.credit[class] += int64(m.Bytes)
		return out, nil
	case *fb.GoodbyeT:
		c.got(now, h)
		out = c.writeAck(out)
		if c.saidBye {
			return c.die(ErrClosed, out), nil
		}
		return c.die(&GoodbyeError{m.Reason}, out), nil
	}
	if ownType(t) {
		return out, fmt.Errorf("%s inside a session", t)
	}
	c.got(now, h)
	if len(payload) == 0 {
		payload = nil
	} else if !own {
		payload = append(make([]byte, 0, len(payload)), payload...)
	}
	msg := Msg{M: m, Corr: corr, Payload: payload, class: h.Class, cost: int64(len(body)+len(payload)) + msgOverhead, gen: c.gen}
	if c.cfg.KeepBody {
		msg.Body = body
		if !own {
			msg.Body = bytes.Clone(body)
		}
	}
	c.outstanding[h.Class] += msg.cost
	c.stats.Received++
	c.stats.BytesRecv += uint64(len(body) + len(payload))
	return append(out, LinkEffect{Kind: LinkDeliver, Msg: msg}), nil
}

// got counts a frame as received and remembers to acknowledge it.
func (c *LinkCore) got(now int64, h wire.Header) {
	c.received++
	c.needAck(now, int(h.Length))
}

func (c *LinkCore) needAck(now int64, n int) {
	if c.ackFrames == 0 {
		c.ackDue = now + int64(c.cfg.AckDelay)
	}
	c.ackFrames++
	c.ackBytes += n
	if c.ackFrames >= ackEveryFrames || c.ackBytes >= ackEveryBytes {
		c.ackNow = true
	}
}

// consumed gives credit back, in large steps: a sender has at least three quarters of its window
// when nothing is outstanding.
func (c *LinkCore) consumed(now int64, m Msg, out []LinkEffect) []LinkEffect {
	if m.gen != c.gen || m.cost == 0 {
		return out // of a session that is no more
	}
	class := m.class
	c.owed[class] += m.cost
	if c.owed[class] < c.cfg.Window[class]/4 {
		return out
	}
	if c.used[wire.ClassLiveness] > c.cfg.Budget[wire.ClassLiveness] {
		return c.die(fmt.Errorf("%w: it takes credit and acknowledges nothing", ErrProtocol), out)
	}
	var body [16]byte // struct Credit
	binary.LittleEndian.PutUint64(body[0:], uint64(c.owed[class]))
	binary.LittleEndian.PutUint32(body[12:], uint32(class))
	c.outstanding[class] -= c.owed[class]
	c.owed[class] = 0
	c.enqueue(c.message(fb.FrameTypeCredit, wire.ClassLiveness, body[:]))
	return out
}
