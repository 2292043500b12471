package transport

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// attach takes a connection, for the session that there is or for a new one.
func (c *LinkCore) attach(now int64, ev *LinkEvent, out []LinkEffect) []LinkEffect {
	last := c.acked + uint64(c.sent.len())
	switch {
	case ev.Session == 0,
		ev.Resumed && (ev.Session != c.session || ev.Received < c.acked || ev.Received > last),
		!ev.Resumed && ev.Received != 0:
		return append(out, LinkEffect{Kind: LinkRejected, Err: fmt.Errorf("%w: %d up to %d, here %d from %d to %d", ErrSession, ev.Session, ev.Received, c.session, c.acked, last)})
	}
	if c.attached {
		out = c.drop(now, ErrReplaced, out)
	}
	if !ev.Resumed {
		if c.session != 0 {
			if c.closing { // LINK-5: the peer forgot the session, so there is nothing to end
				return c.die(ErrClosed, out)
			}
			out = c.reset(out)
		}
		c.session = ev.Session
	}
	c.attached, c.saidBye = true, false
	c.progress, c.heardAt, c.asked = now, now, false
	c.stats.Attached++
	if ev.Resumed {
		c.stats.Resumed++
	}
	out = append(out, LinkEffect{Kind: LinkUp, Resumed: ev.Resumed})
	out, _ = c.onAck(now, ev.Received, out) // it was checked above
	if c.again > 0 {
		c.stats.Repeated += uint64(c.again)
		c.again = 0
	}
	return out
}

// detach gives up the present connection.
func (c *LinkCore) detach(now int64, err error, out []LinkEffect) []LinkEffect {
	if c.saidBye { // the peer closes only once it has the goodbye
		return c.die(ErrClosed, out)
	}
	return c.drop(now, err, out)
}

func (c *LinkCore) drop(now int64, err error, out []LinkEffect) []LinkEffect {
	c.attached, c.ping, c.pong = false, false, false
	c.downAt = now
	c.ackFrames, c.ackBytes, c.ackDue, c.ackNow = 0, 0, 0, false // the handshake of the next connection acknowledges
	return append(out, LinkEffect{Kind: LinkDown, Err: err})
}

// violation is the answer to a frame that no honest peer sends.
func (c *LinkCore) violation(now int64, err error, out []LinkEffect) []LinkEffect {
	c.stats.Violations++
	return c.drop(now, fmt.Errorf("%w: %w", ErrProtocol, err), out)
}

// reset forgets a session that the peer does not have any more.
func (c *LinkCore) reset(out []LinkEffect) []LinkEffect {
	c.gen++
	c.session = 0
	c.sent, c.acked, c.again = ring[fragment]{}, 0, 0
	c.received, c.bad = 0, 0
	c.credit = c.cfg.Window
	for class := wire.Class(0); class < wire.NumClasses; class++ {
		c.queue[class] = ring[*outMessage]{}
		c.part[class] = partial{}
		c.used[class], c.outstanding[class], c.owed[class] = 0, 0, 0
		if c.full[class] {
			c.full[class] = false
			out = append(out, LinkEffect{Kind: LinkHasRoom, Class: class})
		}
	}
	return out
}

func (c *LinkCore) close(reason string, out []LinkEffect) []LinkEffect {
	if c.closing {
		return out
	}
	c.closing = true
	body, err := wire.Marshal(c.builder, &fb.GoodbyeT{Reason: reason})
	if err != nil {
		return c.die(err, out)
	}
	c.goodbye = c.message(fb.FrameTypeGoodbye, wire.ClassLiveness, body)
	if c.session == 0 && c.goodbyeNext() {
		return c.die(ErrClosed, out) // nobody was ever there, and nothing waits for anybody
	}
	return out
}

// die ends the session for good and forgets what it held.
func (c *LinkCore) die(err error, out []LinkEffect) []LinkEffect {
	c.dead = err
	c.attached = false
	out = c.reset(out)
	c.goodbye, c.free = nil, nil
	return append(out, LinkEffect{Kind: LinkDead, Err: err})
}
