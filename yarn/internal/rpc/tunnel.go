package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Tunnel connects, logs in, and gives a connection for a client of its own that speaks the same protocol
// without security: what such a one says first, its greeting and its context, is replaced by what the login
// asks for, and what follows goes wrapped where a layer is on. heed has for methods whom their replies are shown to, before
// that client has them: he may change bytes of them.
func Tunnel(ctx context.Context, cfg Config, address string, heed map[string]func(reply []byte)) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.connectTimeout(), ErrSilent)
	defer cancel()
	nc, err := cfg.dialer()(ctx, "tcp", address)
	if err != nil {
		return nil, broken(causeOf(ctx, err))
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	t, err := enter(ctx, cfg, nc, heed)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, causeOf(ctx, err)
	}
	return t, nil
}

func enter(ctx context.Context, cfg Config, nc net.Conn, heed map[string]func([]byte)) (*tunnel, error) {
	auth, err := cfg.Auth()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	t := &tunnel{Conn: nc, protocol: cfg.Protocol, skip: len(greetSimple), heed: heed, calls: map[int32]func([]byte){}}
	in := bufio.NewReader(nc)
	t.in = in
	if t.layer, t.user, err = auth.login(ctx, nc, in); err != nil {
		return nil, err
	}
	if t.layer != nil {
		t.in = &unwrapper{r: in, layer: t.layer, read: readSASL}
	}
	return t, nil
}

// tunnel is one connection. As any net.Conn it has one reader and one writer at a time.
type tunnel struct {
	net.Conn
	protocol string
	in       io.Reader
	layer    sasl.Layer
	user     *userInfo
	skip     int          // bytes of the greeting that have not come yet
	part     bytes.Buffer // of a frame that is not whole yet
	begun    bool         // the context was sent
	heed     map[string]func([]byte)
	rest     []byte // of a reply that was shown

	mu    sync.Mutex
	calls map[int32]func([]byte) // of those whose reply is to be shown
}

func (t *tunnel) Read(p []byte) (int, error) {
	if len(t.heed) == 0 {
		return t.in.Read(p)
	}
	if len(t.rest) == 0 {
		frame, err := readFrame(t.in)
		if err != nil {
			return 0, err
		}
		if err := t.show(frame); err != nil {
			return 0, err
		}
		t.rest = append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame))), frame...)
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

// show shows a reply to whom it may concern.
func (t *tunnel) show(frame []byte) error {
	var h responseHeader
	rest, err := cutMessage(frame, &h)
	if err != nil {
		return err
	}
	t.mu.Lock()
	to := t.calls[int32(h.CallID)]
	delete(t.calls, int32(h.CallID))
	t.mu.Unlock()
	if to == nil || h.Status != statusSuccess {
		return nil
	}
	body, _, err := proto.CutDelimited(rest)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotHadoop, err)
	}
	to(body)
	return nil
}

func (t *tunnel) Write(p []byte) (int, error) {
	n := min(t.skip, len(p))
	t.skip -= n
	t.part.Write(p[n:])
	for t.part.Len() >= 4 {
		size := 4 + int(binary.BigEndian.Uint32(t.part.Bytes()))
		if size > maxRequest {
			return 0, fmt.Errorf("rpc: a request of %d bytes", size)
		}
		if t.part.Len() < size {
			break
		}
		frame := t.part.Next(size)
		var h requestHeader
		rest, err := cutMessage(frame[4:], &h)
		if err != nil {
			return 0, err
		}
		if !t.begun {
			frame, t.begun = frameOf(h, connectionContext{User: t.user, Protocol: t.protocol}), true
		} else if len(t.heed) > 0 && h.CallID >= 0 {
			var call callHeader
			if _, err := cutMessage(rest, &call); err != nil {
				return 0, err
			}
			if to := t.heed[call.Method]; to != nil {
				t.mu.Lock()
				t.calls[h.CallID] = to
				t.mu.Unlock()
			}
		}
		if err := t.send(frame); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (t *tunnel) send(frame []byte) error {
	if t.layer != nil {
		token, err := t.layer.Wrap(frame)
		if err != nil {
			return err
		}
		frame = saslFrame(saslMessage{State: saslWrap, Token: token})
	}
	_, err := t.Conn.Write(frame)
	return err
}
