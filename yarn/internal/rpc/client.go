package rpc

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
)

// Config says what a Client calls. Addresses and Protocol are needed, the rest may be zero.
type Config struct {
	Addresses []string // host:port; of several one is active
	Protocol  string   // the Java interface with the methods

	// Auth is asked whenever a connection is made, so that a renewed token is used from then on.
	// nil: simple authentication without a name.
	Auth func() (Auth, error)

	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: net.Dialer
	Timeout time.Duration                                                        // of one try of a call, connecting not counted; 0: 60 s
	Connect time.Duration                                                        // of a connection with its login; 0: 20 s
	Idle    time.Duration                                                        // without calls, after which a connection is closed; 0: 10 s
	Retry   Retry

	// Active is which of Addresses answered last, for all clients that have it in common: a new one begins there. nil: it begins with the first.
	Active *atomic.Int32

	id [16]byte
}

// Retry says how long a call goes on when no server answers it.
type Retry struct {
	For         time.Duration // since the call began; 0: each address is tried once
	Interval    time.Duration // before the second round over the addresses; doubled for each later one; 0: 1 s
	MaxInterval time.Duration // 0: 15 s
	Passing     []string      // exceptions, without their package, that say as RetriableException does that the server may be asked again

	// Waits is told why a call has had no answer for 3 s and is made again, once for each call. nil: nobody is.
	Waits func(error)
}

// tellAfter is when Waits is told.
const tellAfter = 3 * time.Second

func (c *Config) dialer() func(context.Context, string, string) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial
	}
	return (&net.Dialer{}).DialContext
}

func (c *Config) connectTimeout() time.Duration { return orElse(c.Connect, 20*time.Second) }
func (c *Config) idle() time.Duration           { return orElse(c.Idle, 10*time.Second) }
func (c *Config) timeout() time.Duration        { return orElse(c.Timeout, time.Minute) }

func orElse(d, other time.Duration) time.Duration {
	if d == 0 {
		return other
	}
	return d
}

// Client calls methods of one protocol.
type Client struct {
	cfg     Config
	next    atomic.Int32
	dialing chan struct{} // whoever holds its one place makes the connection

	mu     sync.Mutex
	cur    *conn
	at     int // which address is believed to be the active one
	closed bool
}

// New makes a client. It connects with the first call.
func New(cfg Config) (*Client, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("rpc: no address to call")
	}
	for _, a := range cfg.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("rpc: %w: an address is host:port", err)
		}
	}
	crand.Read(cfg.id[:])
	c := &Client{cfg: cfg, dialing: make(chan struct{}, 1)}
	if cfg.Active != nil {
		c.at = int(cfg.Active.Load()) % len(cfg.Addresses)
	}
	return c, nil
}

// Close ends the connection and, with ErrClosed, all calls. It waits for the connection's goroutines.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	cur := c.cur
	c.cur = nil
	c.mu.Unlock()
	if cur != nil {
		cur.close()
	}
	return nil
}

// Call calls a method. req is a message; resp points to one, or is nil if the answer does not matter.
// The error is of the package's kinds, or the cause of ctx, with method and address around it.
func (c *Client) Call(ctx context.Context, method string, req, resp any) error {
	body := proto.AppendDelimited(nil, callHeader{Method: method, Protocol: c.cfg.Protocol, Version: 1})
	return c.call(ctx, method, proto.AppendDelimited(body, req), c.cfg.Retry.For, func(answer []byte) error {
		if resp == nil {
			return nil
		}
		return proto.Unmarshal(answer, resp)
	})
}

// call makes a call whose method's header and request are in body, for so long as patience lasts, and hands its answer on.
func (c *Client) call(ctx context.Context, method string, body []byte, patience time.Duration, take func([]byte) error) error {
	id := c.next.Add(1) & 0x7fffffff
	began, rounds := time.Now(), 0
	var refusal error // of the first server that did not let us in: another one may, and if none does, this is why
	var refuses string
	told := c.cfg.Retry.Waits == nil
	for try := 0; ; try++ {
		address, answer, err := c.try(ctx, id, try, body)
		if err == nil {
			err = take(answer)
		}
		if err == nil {
			c.answers(address)
			return nil
		}
		wait, again := c.again(err, try, &rounds, patience)
		if again && wait > 0 && time.Since(began)+wait > patience {
			again = false
		}
		if refusal == nil && errors.Is(err, ErrLogin) {
			refusal, refuses = err, address
		}
		if refusal != nil && unanswered(err) && (wait > 0 || !again) {
			err, address, again = refusal, refuses, false
		}
		if again && !told && time.Since(began) >= tellAfter {
			told = true
			c.cfg.Retry.Waits(fmt.Errorf("%s of %s at %s: %w", method, shortName(c.cfg.Protocol), address, err))
		}
		if again && ctx.Err() == nil && sleep(ctx, wait) {
			continue
		}
		err = fmt.Errorf("%s of %s at %s: %w", method, shortName(c.cfg.Protocol), address, err)
		if try > len(c.cfg.Addresses) {
			err = fmt.Errorf("%w (given up after %d tries in %v)", err, try+1, time.Since(began).Round(time.Second))
		}
		return err
	}
}

// answers notes for others which address is the active one's.
func (c *Client) answers(address string) {
	if i := slices.Index(c.cfg.Addresses, address); c.cfg.Active != nil && i >= 0 {
		c.cfg.Active.Store(int32(i))
	}
}

// try makes a call once.
func (c *Client) try(ctx context.Context, id int32, try int, body []byte) (address string, answer []byte, err error) {
	had, _, _ := c.current()
	cn, address, err := c.connection(ctx)
	if err != nil {
		return address, nil, err
	}
	frame := frameBehind(requestHeader{Engine: engine, CallID: id, ClientID: c.cfg.id[:], Retry: int32(try)}, body)
	if len(frame) > maxRequest {
		return address, nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(frame))
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.cfg.timeout(), ErrSilent)
	defer cancel()
	answer, sent, err := cn.do(limited, &call{id: id, frame: frame, reply: make(chan reply, 1)})
	if fresh := cn != had; err != nil && !sent && !fresh && errors.Is(err, ErrUnreachable) {
		return c.try(ctx, id, try, body) // it was closed in this very moment, as idle ones are
	}
	return address, answer, err
}

// again judges a failure: whether to go on, and after what time. It turns to the next address where that helps.
func (c *Client) again(err error, try int, rounds *int, patience time.Duration) (time.Duration, bool) {
	last := (try+1)%len(c.cfg.Addresses) == 0
	switch {
	case errors.Is(err, ErrClosed), errors.Is(err, ErrTooLarge), errors.Is(err, ErrLogin) && last:
		return 0, false
	case unanswered(err):
		c.mu.Lock()
		c.at = (c.at + 1) % len(c.cfg.Addresses)
		if cur := c.cur; cur != nil && standby(err) {
			c.cur = nil
			defer cur.fail(fmt.Errorf("%w: it is standby", ErrUnreachable))
		}
		c.mu.Unlock()
		if !last {
			return 0, true // RPC-4
		}
	case !c.passing(err):
		return 0, false
	}
	if patience <= 0 {
		return 0, false
	}
	wait := min(orElse(c.cfg.Retry.Interval, time.Second)<<min(*rounds, 20), orElse(c.cfg.Retry.MaxInterval, 15*time.Second))
	*rounds++
	return wait/2 + rand.N(wait), true // many clients of a server that comes back shall not come at once
}

// passing tells whether the server asks to be called again.
func (c *Client) passing(err error) bool {
	var r *RemoteError
	return errors.As(err, &r) && (r.Class == classRetriable || slices.Contains(c.cfg.Retry.Passing, r.Name()))
}

// connection gives the living connection, made by whoever comes first.
func (c *Client) connection(ctx context.Context) (*conn, string, error) {
	if cn, address, err := c.current(); cn != nil || err != nil {
		return cn, address, err
	}
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, c.cfg.Addresses[0], context.Cause(ctx)
	}
	cn, address, err := c.current()
	if cn != nil || err != nil {
		return cn, address, err
	}
	if cn, err = dial(ctx, &c.cfg, address); err != nil {
		return nil, address, err
	}
	c.mu.Lock()
	old := c.cur
	if c.closed {
		old = cn
	} else {
		c.cur = cn
	}
	closed := c.closed
	c.mu.Unlock()
	if old != nil {
		old.close() // dead already, or never to be used
	}
	if closed {
		return nil, address, ErrClosed
	}
	return cn, address, nil
}

// current gives the connection if it lives, and the address to be called.
func (c *Client) current() (*conn, string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, c.cfg.Addresses[c.at], ErrClosed
	}
	if c.cur != nil && c.cur.alive() {
		return c.cur, c.cur.address, nil
	}
	return nil, c.cfg.Addresses[c.at], nil
}

// sleep waits, and tells whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func shortName(protocol string) string {
	return strings.TrimSuffix(protocol[strings.LastIndexByte(protocol, '.')+1:], "PB")
}
