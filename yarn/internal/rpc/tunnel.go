package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Tunnel connects, logs in, and gives a connection for a client of its own that speaks the same protocol
// without security: what such a one says first, its greeting and its context, is replaced by what the login
// asks for, and what follows goes wrapped where a layer is on.
func Tunnel(ctx context.Context, cfg Config, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.connectTimeout(), ErrSilent)
	defer cancel()
	nc, err := cfg.dialer()(ctx, "tcp", address)
	if err != nil {
		return nil, broken(causeOf(ctx, err))
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	t, err := enter(ctx, cfg, nc)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, causeOf(ctx, err)
	}
	return t, nil
}

func enter(ctx context.Context, cfg Config, nc net.Conn) (*tunnel, error) {
	auth, err := cfg.Auth()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	t := &tunnel{Conn: nc, protocol: cfg.Protocol, skip: len(greetSimple)}
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
}

func (t *tunnel) Read(p []byte) (int, error) { return t.in.Read(p) }

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
		if !t.begun {
			var h requestHeader
			if _, err := cutMessage(frame[4:], &h); err != nil {
				return 0, err
			}
			frame, t.begun = frameOf(h, connectionContext{User: t.user, Protocol: t.protocol}), true
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
