package transport

import (
	"time"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire"
)

// LinkCore is what a link decides: numbers, acknowledgements, credit, what goes next, what a broken
// connection means. It has no goroutine, clock or I/O; its owner calls Step with what happened and
// does what comes back. Time is in nanoseconds from any origin.
//
// A message is cut into fragments when it is sent, not when it is queued, so the fragments of
// classes interleave. Each fragment gets the next number of the session and is kept until it is
// acknowledged:
//
//	         acknowledged | sent, kept for a resume    | queued per class
//	... 40 41 42          | 43 44 45 46  47 48 49      | control: [m]      calls: [m m m]   data: [m m]
//	                      ^ sent.head    ^ again       ^ next fragment: first class that has a message and credit
//
// After a new connection is attached, again moves back to sent.head less what the peer has.
type LinkCore struct {
	cfg LinkCoreConfig

	session  uint64
	gen      uint32 // counts sessions, so that what belongs to an older one is known
	attached bool
	dead     error
	closing  bool
	goodbye  *outMessage // queued last of all
	saidBye  bool        // on the present connection
	downAt   int64

	// sending
	queue    [wire.NumClasses]ring[*outMessage]
	credit   [wire.NumClasses]int64
	used     [wire.NumClasses]int64
	full     [wire.NumClasses]bool // ErrBudget was returned since there was room
	nextID   uint32
	sent     ring[fragment]
	acked    uint64 // highest number that the peer acknowledged
	again    int    // index in sent of the first fragment that the present connection has not carried
	progress int64  // when the peer last acknowledged something, or first had something to acknowledge
	builder  *flatbuffers.Builder
	free     []*outMessage

	// receiving
	received    uint64
	bad         uint64 // number of a frame that could not be taken, to see it coming again
	ackFrames   int
	ackBytes    int
	ackDue      int64
	ackNow      bool    // it is due: what is missing is only room on the connection
	ack         [8]byte // body of the acknowledgement being written
	part        [wire.NumClasses]partial
	outstanding [wire.NumClasses]int64 // received, not granted again
	owed        [wire.NumClasses]int64 // consumed, not granted again yet

	heardAt int64 // when the last frame came on the present connection
	asked   bool  // a sign of life was asked for since
	ping    bool  // a Ping is to be written
	pong    bool  // a Pong

	stats LinkStats
}

// LinkStats counts what a link did since it was made.
type LinkStats struct {
	Sent, Received       uint64 // messages
	BytesSent, BytesRecv uint64 // of bodies and payloads, without repetitions
	Repeated             uint64 // fragments sent again after a resume
	Duplicates           uint64 // frames received that were here already
	Attached, Resumed    uint64 // connections, and those of them that resumed a session
	Rejected             uint64 // messages that were over budget
	Violations           uint64 // frames that broke the protocol
}

// msgOverhead is what a message costs beside its bytes, so that small ones are bounded too.
const msgOverhead = 64

// Acknowledgements are sent at the latest after so much.
const (
	ackEveryFrames = 64
	ackEveryBytes  = 256 << 10
)

// outMessage is a message from Send until all its fragments are acknowledged.
type outMessage struct {
	typ     wire.Type
	class   wire.Class
	id      uint32
	corr    uint64
	body    []byte // own memory, reused
	payload []byte // the sender's memory
	offset  int    // bytes that were cut into fragments
	cost    int64
}

func (m *outMessage) size() int { return len(m.body) + len(m.payload) }

// fragment is bytes [from, to) of a message.
type fragment struct {
	msg      *outMessage
	from, to int
}

// partial is a message of which fragments are missing.
type partial struct {
	active  bool
	typ     wire.Type
	id      uint32
	corr    uint64
	body    []byte
	payload []byte
}

// LinkEventKind says what happened to a link.
type LinkEventKind uint8

const (
	LinkSend     LinkEventKind = iota + 1 // Msg is to be sent
	LinkAttach                            // a connection is there: Session, Resumed, Received (by the peer)
	LinkDetach                            // it broke: Err
	LinkRoom                              // the connection can take Bytes more
	LinkFrame                             // a frame came: Header, Data (used until Step returns)
	LinkConsumed                          // the owner is done with Msg
	LinkClose                             // end in order: Reason
	LinkKill                              // end at once: Err
	LinkTick                              // NextDeadline has passed
)

// LinkEvent is the input of LinkCore.Step; Kind says which fields count.
type LinkEvent struct {
	Kind     LinkEventKind
	Resumed  bool
	Session  uint64
	Received uint64
	Bytes    int
	Header   wire.Header
	Data     []byte
	Msg      Msg
	Reason   string
	Err      error
}

// LinkEffectKind says what a link wants done.
type LinkEffectKind uint8

const (
	LinkWrite    LinkEffectKind = iota + 1 // write Header, Body, Payload to the connection; Body is good until the next Step
	LinkDeliver                            // Msg came
	LinkUp                                 // a connection was taken: Resumed
	LinkDown                               // the connection is of no use any more, close it: Err
	LinkDead                               // the session is over: Err
	LinkRejected                           // what the event asked for was not done: Err
	LinkHasRoom                            // Class takes messages again after ErrBudget
)

// LinkEffect is the output of LinkCore.Step; Kind says which fields count.
type LinkEffect struct {
	Kind    LinkEffectKind
	Resumed bool
	Class   wire.Class
	Header  wire.Header
	Body    []byte
	Payload []byte
	Msg     Msg
	Err     error
}

// LinkCoreConfig bounds a link. The zero value works. Both sides of a link must have equal windows.
type LinkCoreConfig struct {
	// Budget is how many bytes a class may hold at the sender, queued and unacknowledged. One
	// message is always accepted by an empty class. Zero: 32 MiB, liveness 1 MiB.
	Budget [wire.NumClasses]int64
	// Window is the sender's credit at the start: it begins no message without credit. Zero: 8 MiB,
	// data 4 MiB. Liveness needs none.
	Window [wire.NumClasses]int64
	// AckDelay is how long an acknowledgement may wait for company. Zero: 20 ms.
	AckDelay time.Duration
	// AckTimeout cuts a connection on which the peer acknowledges nothing. Zero: 15 s; negative: never.
	AckTimeout time.Duration
	// KeepAlive is for links without a liveness connection beside them: when nothing came for so long
	// the peer is asked for a sign of life, and after twice that the connection is cut. Zero: never.
	KeepAlive time.Duration
	// LostAfter ends a session that was without a connection for so long. Zero: never.
	LostAfter time.Duration
	// KeepBody has messages come with their bodies, for who writes them down.
	KeepBody bool
}

func (c LinkCoreConfig) withDefaults() LinkCoreConfig {
	for i := range c.Budget {
		if c.Budget[i] == 0 {
			c.Budget[i] = 32 << 20
			if wire.Class(i) == wire.ClassLiveness {
				c.Budget[i] = 1 << 20
			}
		}
		if c.Window[i] == 0 {
			c.Window[i] = 8 << 20
			if wire.Class(i) == wire.ClassData {
				c.Window[i] = 4 << 20
			}
		}
	}
	if c.AckDelay == 0 {
		c.AckDelay = 20 * time.Millisecond
	}
	if c.AckTimeout == 0 {
		c.AckTimeout = 15 * time.Second
	}
	return c
}

// NewLinkCore makes a link without a session.
func NewLinkCore(cfg LinkCoreConfig) *LinkCore {
	c := &LinkCore{cfg: cfg.withDefaults(), builder: flatbuffers.NewBuilder(0)}
	c.credit = c.cfg.Window
	return c
}

// Step tells the core what happened and appends to out what is to be done, in order.
func (c *LinkCore) Step(now int64, ev *LinkEvent, out []LinkEffect) []LinkEffect {
	if c.dead != nil {
		switch ev.Kind {
		case LinkSend, LinkAttach:
			return append(out, LinkEffect{Kind: LinkRejected, Err: c.dead})
		}
		return out // LINK-3
	}
	switch ev.Kind {
	case LinkSend:
		return c.send(now, &ev.Msg, out)
	case LinkAttach:
		return c.attach(now, ev, out)
	case LinkDetach:
		if c.attached {
			return c.detach(now, ev.Err, out)
		}
	case LinkRoom:
		if c.attached {
			return c.transmit(now, ev.Bytes, out)
		}
	case LinkFrame:
		if c.attached {
			return c.frame(now, ev.Header, ev.Data, out)
		}
	case LinkConsumed:
		return c.consumed(now, ev.Msg, out)
	case LinkClose:
		return c.close(ev.Reason, out)
	case LinkKill:
		err := ev.Err
		if err == nil {
			err = ErrClosed
		}
		return c.die(err, out)
	case LinkTick:
		return c.tick(now, out)
	}
	return out
}

// Session is the session's number, 0 if there is none, and the last number received in it.
func (c *LinkCore) Session() (session, received uint64) { return c.session, c.received }

// Dead is why the session is over, or nil.
func (c *LinkCore) Dead() error { return c.dead }

// Attached tells whether the core counts on a connection.
func (c *LinkCore) Attached() bool { return c.attached }

// Stats counts what was done.
func (c *LinkCore) Stats() LinkStats { return c.stats }

// Ready tells whether LinkRoom would give something to write.
func (c *LinkCore) Ready(now int64) bool {
	if !c.attached {
		return false
	}
	if c.ping || c.pong || c.again < c.sent.len() || c.ackFrames > 0 && (c.ackNow || now >= c.ackDue) {
		return true
	}
	_, ok := c.pick()
	return ok || c.goodbyeNext()
}

// NextDeadline is when LinkTick (and, for an acknowledgement, LinkRoom) is due; 0: never.
func (c *LinkCore) NextDeadline() int64 {
	var d int64
	earlier := func(t int64) {
		if d == 0 || t < d {
			d = t
		}
	}
	switch {
	case c.dead != nil:
	case c.attached:
		if c.ackFrames > 0 && !c.ackNow {
			earlier(c.ackDue)
		}
		if c.cfg.AckTimeout > 0 && c.again > 0 {
			earlier(c.progress + int64(c.cfg.AckTimeout))
		}
		if c.cfg.KeepAlive > 0 {
			earlier(c.aliveDue())
		}
	case c.cfg.LostAfter > 0 && c.session != 0:
		earlier(c.downAt + int64(c.cfg.LostAfter))
	}
	return d
}

// aliveDue is when the peer is asked for a sign of life, or given up.
func (c *LinkCore) aliveDue() int64 {
	if c.asked {
		return c.heardAt + 2*int64(c.cfg.KeepAlive)
	}
	return c.heardAt + int64(c.cfg.KeepAlive)
}

func (c *LinkCore) tick(now int64, out []LinkEffect) []LinkEffect {
	switch {
	case c.attached:
		c.ackNow = c.ackNow || c.ackFrames > 0 && now >= c.ackDue
		if c.cfg.AckTimeout > 0 && c.again > 0 && now >= c.progress+int64(c.cfg.AckTimeout) {
			return c.detach(now, ErrStalled, out)
		}
		if c.cfg.KeepAlive > 0 && now >= c.aliveDue() {
			if c.asked {
				return c.detach(now, ErrStalled, out)
			}
			c.asked, c.ping = true, true
		}
	case c.cfg.LostAfter > 0 && c.session != 0 && now >= c.downAt+int64(c.cfg.LostAfter):
		return c.die(ErrLost, out)
	}
	return out
}
