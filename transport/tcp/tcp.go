// Package tcp carries connections between nodes: TCP with mutual TLS 1.3 from the cluster's own
// certificate authority. What the site's network protects may leave TLS once that has proved both sides.
//
// An Authority is derived from the cluster's secret, so every process of the cluster makes the same
// one and mints a Credential for itself: a fresh key and a certificate whose URI names the cluster
// and the process's role. A client outside the allocation gets a Credential as PEM, never the
// secret. Dial sends the preamble in clear, then speaks TLS; Server speaks TLS on a connection whose
// preamble the keeper has read.
//
//	TCP-1: neither side sends or accepts a byte of a handshake before both certificates are proved.
//	TCP-2: a certificate of another cluster's authority, or none, is refused, and so is one of
//	       another role than the dialler asked for.
//	TCP-3: a connection goes on without TLS (Clear) only where both sides have said so by it; what is
//	       sent then is anybody's to read, and to change.
//
// Limits: certificates are valid from 2020 to 2120 and checked without a clock, since the clocks of
// nodes may be wrong; a key that leaked ends with its cluster.
package tcp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
)

// unsentBytes is how much of what was written the kernel may hold unsent: a control message waits
// behind no more than that.
const unsentBytes = 256 << 10

// Dial connects to host:port, says who is wanted and proves both sides, all within ctx.
func Dial(ctx context.Context, addr string, c *Credential, p transport.Preamble) (transport.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	if err := transport.WritePreamble(nc, p); err != nil {
		nc.Close()
		return nil, fmt.Errorf("tcp: dial %s: %w", addr, err)
	}
	return finish(ctx, nc, func(nc net.Conn) *tls.Conn { return tls.Client(nc, c.config(p.Role)) })
}

// Server proves both sides of a connection that came in and whose preamble was read. On error nc is
// closed.
func Server(ctx context.Context, nc net.Conn, c *Credential) (transport.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	return finish(ctx, nc, func(nc net.Conn) *tls.Conn { return tls.Server(nc, c.config(0)) })
}

func finish(ctx context.Context, nc net.Conn, secure func(net.Conn) *tls.Conn) (transport.Conn, error) {
	addr := nc.RemoteAddr().String()
	var s *socket
	if t, ok := nc.(*net.TCPConn); ok { // else it is a test's pipe
		var err error
		if s, err = newSocket(t); err != nil {
			nc.Close()
			return nil, fmt.Errorf("tcp: %s: %w", addr, err)
		}
		nc = s
	}
	tc := secure(nc)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("tcp: TLS with %s: %w", addr, err)
	}
	certs := tc.ConnectionState().PeerCertificates
	cluster, role, err := identity(certs[0])
	if err != nil { // it was proved during the handshake, so this can't be
		nc.Close()
		return nil, fmt.Errorf("tcp: %w", err)
	}
	_ = nc.SetDeadline(time.Time{})
	c := &conn{tc, nc, transport.Peer{Role: role, Cluster: cluster, UID: -1, Addr: addr}}
	if s == nil {
		return c, nil
	}
	if err := s.tune(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("tcp: %s: %w", addr, err)
	}
	return &eager{c, s}, nil
}

// tune bounds what the kernel holds unsent.
func (s *socket) tune() error {
	var optErr error
	err := s.raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes)
	})
	return errors.Join(err, optErr)
}

// EndWhenSilent is transport.SilenceConn's.
func (c *eager) EndWhenSilent(after time.Duration) error { return c.socket.endWhenSilent(after) }

func (s *socket) endWhenSilent(after time.Duration) error {
	var optErr error
	err := s.raw.Control(func(fd uintptr) {
		optErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after/time.Millisecond))
	})
	return errors.Join(err, optErr)
}

// conn is a TLS connection whose peer is proved.
type conn struct {
	*tls.Conn
	nc   net.Conn
	peer transport.Peer
}

func (c *conn) Peer() transport.Peer { return c.peer }

// Close closes the socket without TLS's own goodbye, which may have to wait for room in the socket.
// Links say goodbye themselves, so that a cut stream is never taken for a whole one.
func (c *conn) Close() error { return c.nc.Close() }

// eager is a conn over a socket: see transport.EagerConn.
type eager struct {
	*conn
	socket *socket
}

// writePiece is how much is encrypted before the kernel is given it: four records. Each call of it wakes the other side, and costs as much as
// encrypting some KiB.
const (
	writePiece = 64 << 10
	oneRecord  = 16 << 10
)

// Write writes all of b.
func (c *eager) Write(b []byte) (done int, err error) {
	for len(b)-done > oneRecord {
		piece := b[done:min(len(b), done+writePiece)]
		err := c.socket.together(func() error {
			_, err := c.Conn.Write(piece)
			return err
		})
		if err != nil {
			return done, err
		}
		done += len(piece)
	}
	if done > 0 && done == len(b) {
		return done, nil
	}
	n, err := c.Conn.Write(b[done:])
	return done + n, err
}

// WriteNow writes what the kernel takes at once, and holds the rest.
func (c *eager) WriteNow(b []byte) (bool, error) {
	c.socket.cork()
	_, err := c.Conn.Write(b)
	done, left := c.socket.uncork()
	return done, errors.Join(err, left)
}

// Flush writes what WriteNow held.
func (c *eager) Flush() error { return c.socket.Flush() }
