package transport

import (
	"context"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// LivenessConfig says how a process proves that its loop turns, and whom it tells that the peer's
// does not.
type LivenessConfig struct {
	// Turns goes through the owner's main loop and returns how many turns it has made, a number
	// that grows with each call. While it blocks, nothing is proved, and the peer hears nothing.
	Turns func(ctx context.Context) (uint64, error)
	// OnSilent is told once that the peer's loop did not turn for Deadline, connected or not.
	OnSilent func()
	Interval time.Duration // between pings. Zero: 500 ms
	Deadline time.Duration // Zero: 5 s
}

// Liveness watches one peer and lets itself be watched, over successive connections of purpose
// Liveness. Time in which this process itself did not run counts for the peer, not against it.
type Liveness struct {
	cfg LivenessConfig
}

// NewLiveness makes a Liveness; its deadline begins when Run is called.
func NewLiveness(cfg LivenessConfig) *Liveness { return &Liveness{cfg: cfg} }

// Run watches the deadline until ctx ends or the peer is silent.
func (l *Liveness) Run(ctx context.Context) error { return nil }

// Serve speaks on a connection on which the handshake is done, until it breaks or ctx ends. It
// closes conn.
func (l *Liveness) Serve(ctx context.Context, conn Conn) error { return nil }

// Keep is for the side that dials: it serves one connection after the other, dialled with dial
// (preamble and TLS) and greeted with hello, until ctx ends or a refusal is final.
func (l *Liveness) Keep(ctx context.Context, dial func(context.Context) (Conn, error), hello func() *fb.HelloT) error {
	return nil
}

// Heard tells when the peer last proved that it lives.
func (l *Liveness) Heard() time.Time { return time.Time{} }
