package transport

import (
	"context"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// LinkConfig says what a Link is and whom it tells. Callbacks run one at a time, in order; OnDead
// is the last. A callback may block (its link then reads no more, so it is better to use Manual),
// may call Send, and must not call Close. Nil callbacks are skipped.
type LinkConfig struct {
	Name string // of the peer, for errors

	OnMessage func(Msg)          // a message came
	OnUp      func(resumed bool) // a connection is attached. Not resumed: the session is new, and what was sent before it and not acknowledged is gone: tell it again by state. (What was sent before the first session is kept.)
	OnDown    func(error)        // the connection broke; the session may be resumed
	OnDead    func(error)        // the session is over: a *GoodbyeError, ErrLost, ErrClosed, or what Kill was given
	OnRoom    func(wire.Class)   // after ErrBudget: half of the class's budget is free again. Runs on any goroutine, with no lock held

	// Manual: the peer's credit for a message is returned by Consumed, not when OnMessage returns.
	// With it OnMessage may put messages in a queue, whose length the windows bound.
	Manual bool

	// LostAfter ends a session that was without a connection for so long. Zero: never.
	LostAfter time.Duration

	Core LinkCoreConfig
}

// Link is a session with one peer over successive connections. All methods may be called from any
// goroutine, none of them waits for the network but Close.
type Link struct {
	cfg LinkConfig
}

// NewLink makes a link that has no session yet: Attach, or a Dialer, gives it one.
func NewLink(cfg LinkConfig) *Link { return &Link{cfg: cfg} }

// Send queues a message. It never blocks; ErrBudget, ErrTooLarge and ErrDead say that nothing was
// queued. m may be used again when Send returns; payload belongs to the link and must not be
// changed any more.
func (l *Link) Send(m wire.Message, corr uint64, payload []byte) error { return ErrDead }

// Offer is for the side that answers a handshake, inside admit: it fills in w's Session, Received
// and Resumed as the answer to h. Follow it with Attach(conn, w, h.Received).
func (l *Link) Offer(h *fb.HelloT, w *fb.WelcomeT) {}

// Attach gives the link a connection on which the handshake is done. w is the Welcome that was sent
// or received; received is what the peer said in its Hello or Welcome. A connection that was
// attached before is closed. On error, conn is closed and the link is as before.
func (l *Link) Attach(conn Conn, w *fb.WelcomeT, received uint64) error { return ErrDead }

// Session and the last sequence number received in it, for a Hello.
func (l *Link) Session() (session, received uint64) { return 0, 0 }

// Consumed returns the peer's credit for m; once for each message, with LinkConfig.Manual only.
func (l *Link) Consumed(m Msg) {}

// Close sends what is queued, then Goodbye, and waits until the peer has all of it, or until ctx
// ends, when the session is ended without. Callbacks are over when it returns.
func (l *Link) Close(ctx context.Context, reason string) error { return nil }

// Kill ends the session at once, telling the peer nothing. OnDead gets err, or ErrClosed.
func (l *Link) Kill(err error) {}

// Done is closed after OnDead returned.
func (l *Link) Done() <-chan struct{} { return nil }

// LinkCoreConfig bounds a link. The zero value works. Both sides of a link must have equal windows.
type LinkCoreConfig struct {
	// Budget is how many bytes a class may hold at the sender, queued and unacknowledged. One
	// message is always accepted by an empty class. Zero: 32 MiB, liveness 1 MiB.
	Budget [wire.NumClasses]int64
	// Window is the sender's credit at the start: it begins no message without credit. Zero: 8 MiB,
	// data 4 MiB, liveness none needed.
	Window [wire.NumClasses]int64
	// AckDelay is how long an acknowledgement may wait for company. Zero: 20 ms.
	AckDelay time.Duration
	// AckTimeout cuts a connection on which the peer acknowledges nothing. Zero: 15 s; negative: never.
	AckTimeout time.Duration
	// LostAfter as in LinkConfig.
	LostAfter time.Duration
}
