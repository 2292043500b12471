package transport

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// ErrSilent is how Liveness.Run ends when the peer's loop did not turn in time.
var ErrSilent = errors.New("transport: the peer is silent")

// LivenessConfig says how a process proves that its loop turns, and whom it tells that the peer's
// does not.
type LivenessConfig struct {
	// Turns goes through the owner's main loop and returns how many turns it has made, a number
	// that grows with each call. While it blocks, nothing is proved, and the peer hears nothing.
	Turns func(ctx context.Context) (uint64, error)
	// OnSilent is told once that the peer's loop did not turn for Deadline, connected or not. It
	// runs in Run's goroutine.
	OnSilent func()
	Interval time.Duration // between pings. Zero: 500 ms
	Deadline time.Duration // Zero: 5 s
}

// Liveness watches one peer and lets itself be watched, over successive connections of purpose
// Liveness. Time in which this process itself did not run counts for the peer, not against it.
//
// Run and each Serve run in their callers' goroutines; Serve has one helper, which sends and has
// ended when Serve returns. mu guards core and serving.
type Liveness struct {
	cfg LivenessConfig

	mu      sync.Mutex
	core    PulseCore
	serving Conn
}

// NewLiveness makes a Liveness; its deadline begins when Run is called.
func NewLiveness(cfg LivenessConfig) *Liveness {
	if cfg.Interval == 0 {
		cfg.Interval = 500 * time.Millisecond
	}
	if cfg.Deadline == 0 {
		cfg.Deadline = 5 * time.Second
	}
	return &Liveness{cfg: cfg, core: PulseCore{Interval: int64(cfg.Interval), Deadline: int64(cfg.Deadline)}}
}

// Run watches the deadline until ctx ends or the peer is silent.
func (l *Liveness) Run(ctx context.Context) error {
	began := time.Now()
	t := time.NewTicker(l.cfg.Interval)
	defer t.Stop()
	l.mu.Lock()
	l.core.Begin(time.Now().UnixNano())
	l.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		l.mu.Lock()
		silent := l.core.Tick(began.UnixNano() + int64(time.Since(began)))
		l.mu.Unlock()
		if silent {
			if l.cfg.OnSilent != nil {
				l.cfg.OnSilent()
			}
			return ErrSilent
		}
	}
}

// Serve speaks on a connection on which the handshake is done, until it breaks, another one takes
// its place, or ctx ends. It closes conn.
func (l *Liveness) Serve(ctx context.Context, conn Conn) error {
	l.mu.Lock()
	if l.serving != nil {
		l.serving.Close()
	}
	l.serving = conn
	l.mu.Unlock()
	_ = conn.SetDeadline(time.Time{})
	ctx, cancel := context.WithCancel(ctx)
	sender := make(chan struct{})
	go func() {
		defer close(sender)
		l.sendPings(ctx, conn)
		conn.Close()
	}()
	err := l.readPings(conn)
	cancel()
	conn.Close()
	<-sender
	l.mu.Lock()
	if l.serving == conn {
		l.serving = nil
	}
	l.mu.Unlock()
	return fmt.Errorf("transport: liveness: %w", err)
}

// sendPings sends a ping for each proof that the loop turns, until ctx ends or conn breaks.
func (l *Liveness) sendPings(ctx context.Context, conn Conn) {
	began := time.Now()
	t := time.NewTicker(l.cfg.Interval)
	defer t.Stop()
	var buf []byte
	for {
		turns, err := l.cfg.Turns(ctx)
		if err != nil || ctx.Err() != nil {
			return
		}
		buf, err = appendFrame(buf[:0], &fb.PingT{Sent: uint64(time.Since(began)), Loop: turns})
		if err != nil {
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(l.cfg.Deadline))
		if _, err := conn.Write(buf); err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (l *Liveness) readPings(conn Conn) error {
	for {
		m, err := readFrame(conn)
		if err != nil {
			return err
		}
		ping, ok := m.(*fb.PingT)
		if !ok {
			return fmt.Errorf("%w: %T on a liveness connection", ErrProtocol, m)
		}
		l.mu.Lock()
		l.core.Heard(ping.Loop)
		l.mu.Unlock()
	}
}

// Keep is for the side that dials: it serves one connection after the other, dialled with dial
// (preamble and TLS) and greeted with hello, until ctx ends or a refusal is final.
func (l *Liveness) Keep(ctx context.Context, dial func(context.Context) (Conn, error), hello func() *fb.HelloT) error {
	var b backoff
	for {
		began := time.Now()
		err := l.once(ctx, dial, hello)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if r := (*RefusedError)(nil); errors.As(err, &r) && r.Final() {
			return err
		}
		if time.Since(began) > b.longest() {
			b.reset() // it had worked
		}
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
}

func (l *Liveness) once(ctx context.Context, dial func(context.Context) (Conn, error), hello func() *fb.HelloT) error {
	try, cancel := context.WithTimeout(ctx, l.cfg.Deadline)
	defer cancel()
	conn, err := dial(try)
	if err != nil {
		return err
	}
	if _, err := greetWithin(try, conn, hello()); err != nil {
		conn.Close()
		return err
	}
	return l.Serve(ctx, conn)
}
