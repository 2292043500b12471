package rpc

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// conn is one connection. Its writer goroutine owns the sending side of socket and layer, its reader the
// receiving side; both end once done is closed. The lock guards calls and err.
type conn struct {
	nc      net.Conn
	address string
	layer   sasl.Layer
	in      io.Reader // plain frames
	out     chan *call
	done    chan struct{}
	running sync.WaitGroup
	heard   atomic.Int64 // frames read
	idle    time.Duration

	mu    sync.Mutex
	calls map[int32]*call
	err   error
}

// call is one that waits for its reply.
type call struct {
	id    int32
	frame []byte
	reply chan reply // room for the one
}

type reply struct {
	body []byte
	err  error
}

// errIdle closes a connection that nobody needs.
var errIdle = errors.New("the connection was idle")

// dial makes a connection: TCP, login, context. It gives up with ctx.
func dial(ctx context.Context, cfg *Config, address string) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.connectTimeout(), ErrSilent)
	defer cancel()
	nc, err := cfg.dialer()(ctx, "tcp", address)
	if err != nil {
		return nil, broken(causeOf(ctx, err))
	}
	// What the login reads and writes ends with ctx.
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	c, err := greet(ctx, cfg, address, nc)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		err = causeOf(ctx, err)
		var r *RemoteError
		if errors.Is(err, ErrLogin) || errors.As(err, &r) || ctx.Err() != nil && !errors.Is(err, ErrSilent) {
			return nil, err
		}
		return nil, broken(err)
	}
	c.running.Add(2)
	go c.write()
	go c.read()
	return c, nil
}

// causeOf is err, or why ctx ended if that is what made it fail.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func greet(ctx context.Context, cfg *Config, address string, nc net.Conn) (*conn, error) {
	var auth Auth
	if cfg.Auth != nil {
		var err error
		if auth, err = cfg.Auth(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogin, err)
		}
	}
	in := bufio.NewReader(nc)
	layer, user, err := auth.login(ctx, nc, in)
	if err != nil {
		return nil, err
	}
	c := &conn{
		nc: nc, address: address, layer: layer, in: in, idle: cfg.idle(),
		out: make(chan *call), done: make(chan struct{}), calls: map[int32]*call{},
	}
	if layer != nil {
		c.in = &unwrapper{r: in, layer: layer, read: readSASL}
	}
	header := requestHeader{Engine: engine, CallID: callContext, ClientID: cfg.id[:], Retry: -1}
	return c, c.send(frameOf(header, connectionContext{User: user, Protocol: cfg.Protocol}))
}

// send writes a frame, wrapped if there is a layer.
func (c *conn) send(frame []byte) error {
	if c.layer != nil {
		token, err := c.layer.Wrap(frame)
		if err != nil {
			return err
		}
		frame = saslFrame(saslMessage{State: saslWrap, Token: token})
	}
	_, err := c.nc.Write(frame)
	return err
}

// do sends a call and waits for its reply. sent says whether the server may have got it.
func (c *conn) do(ctx context.Context, k *call) (body []byte, sent bool, err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, false, c.err
	}
	c.calls[k.id] = k
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.calls, k.id)
		c.mu.Unlock()
	}()
	heard := c.heard.Load()
	select {
	case c.out <- k:
	case <-c.done:
		return nil, false, c.failure()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	select {
	case r := <-k.reply:
		return r.body, true, r.err
	case <-c.done:
		select {
		case r := <-k.reply: // it came before the end
			return r.body, true, r.err
		default:
			return nil, true, c.failure()
		}
	case <-ctx.Done():
		err := context.Cause(ctx)
		if errors.Is(err, ErrSilent) && c.heard.Load() == heard {
			// Not a word in all that time: the next call shall not wait for this server as long again.
			c.fail(fmt.Errorf("%w: %w", ErrUnreachable, ErrSilent))
		}
		return nil, true, err
	}
}

// lastWords is how long is waited for what a server said before it stopped to take anything.
const lastWords = time.Second

// write is the loop that sends, and closes the connection when it was idle.
func (c *conn) write() {
	defer c.running.Done()
	idle := time.NewTimer(c.idle)
	defer idle.Stop()
	for {
		select {
		case k := <-c.out:
			// A server that takes nothing more for so long is no better than a dead one.
			c.nc.SetWriteDeadline(time.Now().Add(time.Minute))
			if err := c.send(k.frame); err != nil {
				select { // a server that refuses says why before it closes: what read finds is the better reason
				case <-c.done:
				case <-time.After(lastWords):
				}
				c.fail(broken(err))
			}
			idle.Reset(c.idle)
		case <-idle.C:
			c.mu.Lock()
			busy := len(c.calls) > 0
			if !busy && c.err == nil {
				c.failLocked(fmt.Errorf("%w: %w", ErrUnreachable, errIdle))
			}
			c.mu.Unlock()
			idle.Reset(c.idle)
		case <-c.done:
			return
		}
	}
}

// read is the loop that hands replies to their calls.
func (c *conn) read() {
	defer c.running.Done()
	for {
		b, err := readFrame(c.in)
		if err == nil {
			c.heard.Add(1)
			err = c.take(b)
		}
		if err != nil {
			c.fail(broken(err))
			return
		}
	}
}

// take handles one frame. An error ends the connection.
func (c *conn) take(b []byte) error {
	var h responseHeader
	b, err := cutMessage(b, &h)
	if err != nil {
		return err
	}
	var r reply
	switch h.Status {
	case statusSuccess:
		if len(b) > 0 {
			n, k := binary.Uvarint(b)
			if k <= 0 || n != uint64(len(b)-k) {
				return fmt.Errorf("%w: a reply of %d bytes that says %d", ErrNotHadoop, len(b), n)
			}
			r.body = b[k:]
		}
	case statusFatal:
		fatal := remoteError(h)
		if fatal.Detail == DetailUnauthorized || fatal.Name() == "AccessControlException" {
			return fmt.Errorf("%w: %w", ErrLogin, fatal)
		}
		return fatal
	default:
		r.err = remoteError(h)
	}
	c.mu.Lock()
	k := c.calls[int32(h.CallID)]
	delete(c.calls, int32(h.CallID))
	c.mu.Unlock()
	if k != nil { // else it was given up
		k.reply <- r
	}
	return nil
}

// fail ends the connection; the first reason counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(err)
}

func (c *conn) failLocked(err error) {
	if c.err == nil {
		c.err = err
		close(c.done)
		c.nc.Close()
	}
}

func (c *conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) alive() bool { return c.failure() == nil }

// close ends the connection and waits for its goroutines.
func (c *conn) close() {
	c.fail(ErrClosed)
	c.running.Wait()
}
