package work

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed: this side ended the connection.
	ErrClosed = errors.New("work: the connection is closed")
	// ErrFull: what is unsent has reached Config.MaxUnsent. Nothing was queued; OnRoom tells when to try again.
	ErrFull = errors.New("work: the peer does not read what is unsent; wait for room")
)

// Config is how a Conn behaves. OnBatch is needed.
type Config struct {
	// OnBatch gets what came in, one batch at a time, on the reader's goroutine. While two batches are not
	// released, nothing is read.
	OnBatch func(Batch)
	// OnEnd is called once, after the last OnBatch, with why the connection ended: io.EOF if the peer closed
	// it between two frames, ErrClosed if this side did. No goroutine but its own is left then.
	OnEnd func(error)
	// OnRoom is called on the writer's goroutine when what is unsent has fallen to half of MaxUnsent, after
	// Append said ErrFull.
	OnRoom func()
	// MaxUnsent is from how many bytes on Append refuses, 0: 16 MiB.
	MaxUnsent int
	// Poll reads the connection, if it is a unix socket, and is the reader whose goroutine is meant. nil: the
	// connection has one.
	Poll *Poll
	// FlushTimeout is how long a connection that this side ends may take to send what waits, 0: 2 s.
	FlushTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.OnEnd == nil {
		c.OnEnd = func(error) {}
	}
	if c.OnRoom == nil {
		c.OnRoom = func() {}
	}
	if c.MaxUnsent == 0 {
		c.MaxUnsent = 16 << 20
	}
	if c.FlushTimeout == 0 {
		c.FlushTimeout = 2 * time.Second
	}
	return c
}

// stream is what a connection runs over.
type stream interface {
	io.ReadWriteCloser
	SetWriteDeadline(time.Time) error
}

// passing is the side of a stream that passes descriptors, and writes what there is room for.
type passing interface {
	read(b []byte, files *[]*os.File) (int, error)
	writeNow(b []byte) int
	write(b []byte, f *os.File) (int, error)
}

// Conn is one work connection, past its handshake.
type Conn struct {
	nc   stream
	unix passing // nil: no descriptors on this carrier
	cfg  Config

	polled   *polled // nil: a goroutine reads
	stepping sync.Mutex
	left     bool        // its Poll
	parked   atomic.Bool // it is not read until a buffer comes back
	in       reading     // the reader's

	free chan []byte   // buffers of the reader that nobody has; nil: not made yet
	dead chan struct{} // closed by failLocked
	done chan struct{} // closed when both goroutines have ended

	mu        sync.Mutex
	cond      *sync.Cond // flush, finishing, err
	err       error      // first reason of the end
	fill      []*chunk   // what was appended since the last swap
	filled    int        // bytes of fill
	sending   int        // bytes that the writer has and has not written
	flush     bool       // fill is to be sent
	full      bool       // Append refused; OnRoom is due
	finishing bool
}

// New starts a connection on nc, which it owns from now on.
func New(nc net.Conn, cfg Config) *Conn {
	c := &Conn{
		nc: nc, cfg: cfg.withDefaults(),
		free: make(chan []byte, 2), dead: make(chan struct{}), done: make(chan struct{}),
	}
	c.in.Conn = c
	c.cond = sync.NewCond(&c.mu)
	c.free <- nil
	c.free <- nil
	if s := newPolled(cfg.Poll, nc); s != nil {
		c.nc, c.unix, c.polled = s, s, s
	} else if u := newUnixFiles(nc); u != nil {
		c.unix = u
	}
	if c.polled != nil {
		if err := c.polled.poll.join(c); err != nil {
			c.fail(wrap("poll", err))
		}
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write()
	}()
	go func() {
		c.readOn()
		c.in.end()
		<-written
		if c.polled != nil {
			c.polled.over()
		}
		c.cfg.OnEnd(c.why())
		close(c.done)
	}()
	return c
}

// readOn reads until the connection ends.
func (c *Conn) readOn() {
	if c.polled == nil {
		c.fail(c.in.all())
		return
	}
	<-c.dead
	c.polled.poll.leave(c)
}

// fail ends the connection for err, unless it has ended. What is unsent is lost.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *Conn) failLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	for _, k := range c.fill {
		k.recycle()
	}
	c.fill, c.filled = nil, 0
	close(c.dead)
	c.nc.Close() // ends a Read and a Write that wait
	c.cond.Broadcast()
}

func (c *Conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Cut ends the connection at once; what is unsent is lost.
func (c *Conn) Cut() { c.fail(ErrClosed) }

// Finish ends the connection once what was appended is sent. It does not wait for that.
func (c *Conn) Finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finishing || c.err != nil {
		return
	}
	c.finishing = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.cfg.FlushTimeout))
	c.cond.Broadcast()
}

// Done is closed when the connection has ended and its goroutines with it.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close is Finish, and waits. The error is nil if all was sent.
func (c *Conn) Close() error {
	c.Finish()
	<-c.done
	if err := c.why(); err != ErrClosed {
		return err
	}
	return nil
}

func wrap(what string, err error) error { return fmt.Errorf("work: %s: %w", what, err) }
