package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
)

// Relay says how a Tunnel treats calls.
type Relay struct {
	Heed  map[string]func(reply []byte)  // has for methods whom their replies are shown to, before their caller has them: he may change bytes of them
	Once  []string                       // methods that are not repeated after a round over the servers: their caller does so himself
	Add   map[string]func([]byte) []byte // has for methods what gives more fields of a request; one that is refused with them is made without
	Error func(error) error              // what a caller is told where no server answered; nil: the error itself
}

// Tunnel gives a connection for a client of its own that speaks the same protocol without security, and knows nothing of servers that go and come back: it has one
// that is always there (RPC-6). What such a client says first, its greeting and its context, counts for nothing; each of its calls is made as one of c's, one after
// the other. One that no server answered is an error of Read, and the connection is good for the next one. Close closes c.
func Tunnel(c *Client, relay Relay) net.Conn {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &tunnel{client: c, relay: relay, ctx: ctx, cancel: cancel, skip: len(greetSimple), calls: make(chan relayed, underWay)}
}

// A call that nobody answers, and which is not repeated, is the answer to those that come within shared of its end, if it took longer than costly: who makes
// them has waited for its turn meanwhile. That a server is not there costs nothing to ask again.
const (
	shared = 5 * time.Second
	costly = time.Second
)

// underWay is how many calls may wait in a tunnel. Whoever writes another one waits until who reads has an answer.
const underWay = 64

// tunnel is such a connection. As any net.Conn it has one reader and one writer at a time.
type tunnel struct {
	client *Client
	relay  Relay
	ctx    context.Context // until Close
	cancel context.CancelCauseFunc
	calls  chan relayed

	skip int          // of the writer: bytes of the greeting that have not come yet
	part bytes.Buffer // and of a frame that is not whole yet

	rest   []byte    // of the reader: of a reply
	silent time.Time // and since when no server has answered; zero: the last call had an answer
	failed time.Time // when a call was given up that was made once and waited for
	why    error     // what its caller was told

	closing sync.Once
}

// relayed is a call.
type relayed struct {
	id     int32 // as its caller counts
	method string
	body   []byte // the method's header and the request
}

func (t *tunnel) Write(p []byte) (int, error) {
	if t.ctx.Err() != nil {
		return 0, net.ErrClosed
	}
	n := min(t.skip, len(p))
	t.skip -= n
	t.part.Write(p[n:])
	for t.part.Len() >= 4 {
		size := int(binary.BigEndian.Uint32(t.part.Bytes()))
		if size > maxRequest {
			return 0, fmt.Errorf("rpc: a request of %d bytes", size)
		}
		if t.part.Len() < 4+size {
			break
		}
		frame := bytes.Clone(t.part.Next(4 + size)[4:])
		var h requestHeader
		rest, err := cutMessage(frame, &h)
		if err != nil {
			return 0, err
		}
		if h.CallID < 0 { // its context
			continue
		}
		var call callHeader
		if _, err := cutMessage(rest, &call); err != nil {
			return 0, err
		}
		select {
		case t.calls <- relayed{h.CallID, call.Method, rest}:
		case <-t.ctx.Done():
			return 0, net.ErrClosed
		}
	}
	return len(p), nil
}

// Read makes the next call, once what is left of the last one's reply was read.
func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		select {
		case call := <-t.calls:
			var err error
			if t.rest, err = t.reply(call); err != nil {
				return 0, err
			}
		case <-t.ctx.Done():
			return 0, net.ErrClosed
		}
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// reply makes a call, and gives the frame with which a server would answer it. Time in which nobody answered the calls before is lost for this one: who makes many
// of them does not wait for each.
func (t *tunnel) reply(call relayed) (frame []byte, err error) {
	began, patience := time.Now(), t.client.cfg.Retry.For
	if !t.silent.IsZero() {
		began = t.silent
		patience = max(0, patience-time.Since(began))
	}
	if slices.Contains(t.relay.Once, call.method) {
		patience = 0
	}
	if patience <= 0 && time.Since(t.failed) < shared {
		return nil, t.why
	}
	made := time.Now()
	header := responseHeader{CallID: uint32(call.id), Version: 9, Retry: -1}
	body := []byte(nil)
	do := func(request []byte) error {
		return t.client.call(t.ctx, call.method, request, patience, func(b []byte) error { body = b; return nil })
	}
	request, added := t.relay.with(call)
	err = do(request)
	var said *RemoteError
	if added && errors.As(err, &said) && !unanswered(err) {
		said, err = nil, do(call.body)
	}
	if errors.As(err, &said) && !unanswered(err) {
		t.silent, t.failed, t.why = time.Time{}, time.Time{}, nil
		header.Status, header.Class, header.Message, header.Detail = statusError, said.Class, said.text, said.Detail
		return frameOf(header), nil
	}
	if err != nil {
		t.silent = began
		if t.ctx.Err() != nil {
			return nil, net.ErrClosed
		}
		if t.relay.Error != nil {
			err = t.relay.Error(err)
		}
		if patience <= 0 && time.Since(made) > costly {
			t.failed, t.why = time.Now(), err
		}
		return nil, err
	}
	t.silent, t.failed, t.why = time.Time{}, time.Time{}, nil
	if heed := t.relay.Heed[call.method]; heed != nil {
		heed(body)
	}
	return frameBehind(header, append(binary.AppendUvarint(make([]byte, 0, len(body)+binary.MaxVarintLen32), uint64(len(body))), body...)), nil
}

// with gives a call's header and request with what is added to it.
func (r *Relay) with(call relayed) (request []byte, added bool) {
	add := r.Add[call.method]
	if add == nil {
		return call.body, false
	}
	_, rest, err := proto.CutDelimited(call.body)
	if err != nil {
		return call.body, false
	}
	fields, _, err := proto.CutDelimited(rest)
	if err != nil {
		return call.body, false
	}
	more := add(fields)
	if len(more) == 0 {
		return call.body, false
	}
	request = append([]byte(nil), call.body[:len(call.body)-len(rest)]...)
	request = binary.AppendUvarint(request, uint64(len(fields)+len(more)))
	return append(append(request, fields...), more...), true
}

// Close ends the call that is under way, and all later ones.
func (t *tunnel) Close() error {
	t.closing.Do(func() {
		t.cancel(ErrClosed)
		_ = t.client.Close()
	})
	return nil
}

// tunnelAddr stands where connections have an address.
type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "rpc" }
func (tunnelAddr) String() string  { return "tunnel" }

func (t *tunnel) LocalAddr() net.Addr  { return tunnelAddr{} }
func (t *tunnel) RemoteAddr() net.Addr { return tunnelAddr{} }

// A call has its client's limits of time, and no others.
func (t *tunnel) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (t *tunnel) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (t *tunnel) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
