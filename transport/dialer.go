package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

	fresh bool // the next Hello asks for a new session
}

// Run dials until ctx ends, the link is dead or a failure is final, and returns why. It does not
// end the link's session.
func (d *Dialer) Run(ctx context.Context) error {
	b := backoff{min: d.MinDelay, max: d.MaxDelay}
	ctx, cancel := context.WithCancel(ctx)
	watch := make(chan struct{})
	go func() { // a dead link ends a try too
		defer close(watch)
		select {
		case <-d.Link.down:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-watch }()
	for {
		began := time.Now()
		attached := false
		for _, addr := range d.Addresses() {
			gone, err := d.try(ctx, addr)
			if err == nil {
				attached = true
				select {
				case <-gone:
				case <-ctx.Done():
				}
				break
			}
			if ctx.Err() == nil && d.giveUp(addr, err) {
				return fmt.Errorf("transport: dial %s: %w", addr, err)
			}
		}
		if err := d.over(ctx); err != nil {
			return err
		}
		if attached {
			if time.Since(began) > b.longest() {
				b.reset() // it had worked; else the peer takes connections and drops them: slower
			}
			if b.tries == 0 {
				b.tries = 1
				continue // the first time at once: it was in use
			}
		}
		if err := b.wait(ctx); err != nil {
			return errors.Join(d.over(ctx), err)
		}
	}
}

// over tells why there is nothing to dial for.
func (d *Dialer) over(ctx context.Context) error {
	select {
	case <-d.Link.down:
		return ErrDead
	default:
		return ctx.Err()
	}
}

func (d *Dialer) giveUp(addr string, err error) bool {
	if d.OnError != nil {
		return d.OnError(addr, err)
	}
	r := (*RefusedError)(nil)
	return errors.As(err, &r) && r.Final()
}

// try connects, greets and attaches; gone is closed when the connection is over.
func (d *Dialer) try(ctx context.Context, addr string) (gone <-chan struct{}, err error) {
	timeout := d.Timeout
	if timeout == 0 {
		timeout = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := d.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	hello := d.Hello()
	if !d.fresh {
		hello.Session, hello.Received = d.Link.Session()
	}
	welcome, err := greetWithin(ctx, conn, hello)
	if err == nil && d.OnWelcome != nil {
		err = d.OnWelcome(welcome)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	gone, err = d.Link.attach(conn, welcome, welcome.Received)
	d.fresh = errors.Is(err, ErrSession) // one of the two sides is confused: begin anew
	return gone, err
}

// greetWithin is Greet under a context: when it ends, so does the connection.
func greetWithin(ctx context.Context, conn Conn, hello *fb.HelloT) (*fb.WelcomeT, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	w, err := Greet(conn, hello)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return w, err
}

// backoff doubles a wait, with jitter so that a thousand nodes do not come at the same moment.
type backoff struct {
	min, max time.Duration // zero: 50 ms, 2 s
	tries    int
}

func (b *backoff) reset() { b.tries = 0 }

func (b *backoff) longest() time.Duration {
	if b.max == 0 {
		return 2 * time.Second
	}
	return b.max
}

func (b *backoff) wait(ctx context.Context) error {
	d := b.min
	if d == 0 {
		d = 50 * time.Millisecond
	}
	d = min(d<<min(b.tries, 16), b.longest())
	b.tries++
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
