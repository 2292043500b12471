package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
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
	OnRoom    func(wire.Class)   // after ErrBudget: half of the class's budget is free again. Runs on any goroutine of the link, beside the others

	// Manual: the peer's credit for a message is returned by Consumed, not when OnMessage returns.
	// With it OnMessage may put messages in a queue, whose length the windows bound.
	Manual bool

	// LostAfter ends a session that was without a connection for so long. Zero: never.
	LostAfter time.Duration

	Core LinkCoreConfig
}

// Link is a session with one peer over successive connections. All methods may be called from any
// goroutine; none of them waits for the network but Close.
//
// mu guards everything below it. The writer goroutine (link_write.go) lives as long as the session
// and ends with OnDead. Who calls Flush writes in its place what needs no waiting. Each connection has a reader goroutine (link_read.go), which begins when the
// one before it has ended. The timer only steps the core.
type Link struct {
	cfg  LinkConfig
	wake chan struct{} // one token: there is something for the writer
	down chan struct{} // closed when the session is dead
	done chan struct{} // closed after OnDead

	mu      sync.Mutex
	core    *LinkCore
	began   time.Time
	conn    Conn // the present connection
	reader  *linkReader
	writing bool   // somebody does, who looks whether there is more before he leaves
	left    bool   // of what was written now there is some left, at conn
	eager   batch  // of Flush
	pending []byte // frames of the core's last words, for conn
	lastly  Conn   // connection that gets them before it is closed
	cause   error  // why the session is dead
	timer   *time.Timer
	armed   int64
	ev      LinkEvent
	effects []LinkEffect
}

// NewLink makes a link that has no session yet: Attach, or a Dialer, gives it one. End it with
// Close or Kill.
func NewLink(cfg LinkConfig) *Link {
	if cfg.LostAfter != 0 {
		cfg.Core.LostAfter = cfg.LostAfter
	}
	l := &Link{
		cfg:  cfg,
		wake: make(chan struct{}, 1), down: make(chan struct{}), done: make(chan struct{}),
		core: NewLinkCore(cfg.Core), began: time.Now(),
	}
	l.timer = time.AfterFunc(time.Hour, l.tick)
	l.timer.Stop()
	go l.writeLoop()
	return l
}

// now is in nanoseconds since the link was made, by the monotonic clock.
func (l *Link) now() int64 { return int64(time.Since(l.began)) + 1 }

// Send queues a message. It never blocks; ErrBudget, ErrTooLarge and ErrDead say that nothing was
// queued. m may be used again when Send returns; payload belongs to the link and must not be
// changed any more.
func (l *Link) Send(m wire.Message, corr uint64, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.queueLocked(m, corr, payload)
	if err == nil {
		l.wakeLocked()
	}
	return err
}

// Queue is Send for somebody who calls Flush when he has said all.
func (l *Link) Queue(m wire.Message, corr uint64, payload []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queueLocked(m, corr, payload)
}

func (l *Link) queueLocked(m wire.Message, corr uint64, payload []byte) error {
	l.ev = LinkEvent{Kind: LinkSend, Msg: Msg{M: m, Corr: corr, Payload: payload}}
	return l.stepLocked()
}

// Offer is for the side that answers a handshake, inside admit: it fills in w's Session, Received
// and Resumed as the answer to h. Follow it with Attach(conn, w, h.Received) if w.Resumed, else
// with Attach(conn, w, 0).
func (l *Link) Offer(h *fb.HelloT, w *fb.WelcomeT) {
	l.mu.Lock()
	defer l.mu.Unlock()
	session, received := l.core.Session()
	if h.Session != 0 && h.Session == session {
		w.Session, w.Received, w.Resumed = session, received, true
		return
	}
	w.Session, w.Received, w.Resumed = newSession(), 0, false
}

// newSession draws a number; it is no secret, but two sessions of one peer must differ.
func newSession() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:]) | 1
}

// Attach gives the link a connection on which the handshake is done. w is the Welcome that was sent
// or received; received is what the peer said in its Hello or Welcome. A connection that was
// attached before is closed. On error, conn is closed and the link is as before.
func (l *Link) Attach(conn Conn, w *fb.WelcomeT, received uint64) error {
	_, err := l.attach(conn, w, received)
	return err
}

// attach also gives a channel that is closed when the connection and its reader are over.
func (l *Link) attach(conn Conn, w *fb.WelcomeT, received uint64) (<-chan struct{}, error) {
	_ = conn.SetDeadline(time.Time{}) // the handshake's
	if !w.Resumed {
		received = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ev = LinkEvent{Kind: LinkAttach, Session: w.Session, Resumed: w.Resumed, Received: received}
	r := &linkReader{link: l, conn: conn, resumed: w.Resumed, prev: l.reader, done: make(chan struct{})}
	l.effects = l.core.Step(l.now(), &l.ev, l.effects[:0])
	if err := rejected(l.effects); err != nil || l.core.Dead() != nil {
		if err == nil {
			err = l.core.Dead()
		}
		l.applyLocked()
		conn.Close()
		return nil, err
	}
	l.applyLocked() // closes the connection before
	l.conn, l.reader, l.left = conn, r, false
	go r.loop()
	l.wakeLocked()
	return r.done, nil
}

// Session and the last sequence number received in it, for a Hello.
func (l *Link) Session() (session, received uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.Session()
}

// Consumed returns the peer's credit for m; once for each message, with LinkConfig.Manual only.
func (l *Link) Consumed(m Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ev = LinkEvent{Kind: LinkConsumed, Msg: m}
	_ = l.stepLocked()
	l.wakeIfReadyLocked()
}

// Close sends what is queued, then Goodbye, and waits until the peer has all of it, when callbacks
// are over too; or until ctx ends, when the session is ended without, and Done tells when callbacks
// are over: one of them may be waiting for Close's caller.
func (l *Link) Close(ctx context.Context, reason string) error {
	l.mu.Lock()
	l.ev = LinkEvent{Kind: LinkClose, Reason: reason}
	_ = l.stepLocked()
	l.wakeLocked()
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		l.Kill(ErrClosed)
		return fmt.Errorf("transport: close link to %s: not all was acknowledged: %w", l.cfg.Name, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.cause, ErrClosed) {
		return nil
	}
	return l.cause
}

// Kill ends the session at once, telling the peer nothing. OnDead gets err, or ErrClosed.
func (l *Link) Kill(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ev = LinkEvent{Kind: LinkKill, Err: err}
	_ = l.stepLocked()
}

// Done is closed after OnDead returned.
func (l *Link) Done() <-chan struct{} { return l.done }

// Stats counts what the link did.
func (l *Link) Stats() LinkStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.core.Stats()
}

// stepLocked gives l.ev to the core and does what comes back.
func (l *Link) stepLocked() error {
	l.effects = l.core.Step(l.now(), &l.ev, l.effects[:0])
	err := rejected(l.effects)
	l.applyLocked()
	return err
}

func rejected(effects []LinkEffect) error {
	if n := len(effects); n > 0 && effects[n-1].Kind == LinkRejected {
		return effects[n-1].Err
	}
	return nil
}

// applyLocked does what is in l.effects, but for messages, which only the reader's steps yield.
func (l *Link) applyLocked() {
	for i := range l.effects {
		e := &l.effects[i]
		switch e.Kind {
		case LinkWrite: // outside the writer: the last words of the session
			l.pending = appendWrite(l.pending, e)
		case LinkDown:
			l.dropConnLocked(e.Err)
		case LinkDead:
			l.cause = e.Err
			if len(l.pending) > 0 && l.conn != nil {
				l.lastly, l.conn = l.conn, nil
				if l.reader != nil {
					l.reader.cause = e.Err
				}
			}
			l.dropConnLocked(e.Err)
			l.timer.Stop()
			close(l.down)
		case LinkHasRoom:
			if l.cfg.OnRoom != nil {
				go l.cfg.OnRoom(e.Class) // seldom, and the caller of Send may hold the owner's lock
			}
		}
	}
	l.ev = LinkEvent{}
	l.armLocked()
}

func (l *Link) dropConnLocked(err error) {
	if l.conn == nil {
		return
	}
	l.reader.cause = err
	l.conn.Close() // ends reader and a Write in progress
	l.conn = nil
}

// armLocked sets the timer if the core's next deadline is earlier than what it is set for. It may
// fire early, which costs a step.
func (l *Link) armLocked() {
	d := l.core.NextDeadline()
	if d == 0 || l.armed != 0 && l.armed <= d {
		return
	}
	l.armed = d
	l.timer.Reset(time.Duration(max(d-l.now(), 0)))
}

func (l *Link) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = 0
	l.ev = LinkEvent{Kind: LinkTick}
	_ = l.stepLocked()
	l.wakeIfReadyLocked()
}

func (l *Link) wakeLocked() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Link) wakeIfReadyLocked() {
	if l.core.Ready(l.now()) {
		l.wakeLocked()
	}
}
