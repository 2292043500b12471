package transport

import (
	"context"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Dialer keeps a Link attached: it tries the addresses in order, then waits (exponential back-off
// with jitter) and tries again, and dials anew whenever the connection breaks.
type Dialer struct {
	Link *Link

	// Addresses is asked before every round.
	Addresses func() []string
	// Dial connects: preamble and TLS, no handshake. It obeys ctx.
	Dial func(ctx context.Context, addr string) (Conn, error)
	// Hello gives what this side says of itself; the Dialer fills in Session, Received and WireVersion.
	Hello func() *fb.HelloT
	// OnWelcome is told of each Welcome before the connection is attached. An error refuses it. Nil: skipped.
	OnWelcome func(*fb.WelcomeT) error
	// OnError is told of each failed try, refusals included; true gives up. Nil: a RefusedError that is Final gives up.
	OnError func(addr string, err error) (giveUp bool)

	MinDelay time.Duration // first wait. Zero: 50 ms
	MaxDelay time.Duration // longest wait. Zero: 2 s
	Timeout  time.Duration // of one try. Zero: 5 s
}

// Run dials until ctx ends, the link is dead or a failure is final, and returns why. It does not
// end the link's session.
func (d *Dialer) Run(ctx context.Context) error { return nil }
