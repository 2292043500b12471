package tcp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var secret = bytes.Repeat([]byte{7}, 32)

func credential(t testing.TB, cluster string, secret []byte, role fb.Role) *tcp.Credential {
	t.Helper()
	a, err := tcp.NewAuthority(cluster, secret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Credential(role)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world is a head's port, with the keeper's part: the preamble is read before the descriptor is
// handed on.
func world(t testing.TB) transporttest.World {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	head := credential(t, transporttest.Cluster, secret, fb.RoleHead)
	agent := credential(t, transporttest.Cluster, secret, fb.RoleAgent)
	as := func(c *tcp.Credential, want fb.Role) func(context.Context) (transport.Conn, error) {
		return func(ctx context.Context) (transport.Conn, error) {
			return tcp.Dial(ctx, addr, c, transport.Preamble{Role: want})
		}
	}
	stranger := func(tls13 *tls.Config) func(context.Context) (transport.Conn, error) {
		return func(ctx context.Context) (transport.Conn, error) { return dialTLS(ctx, addr, tls13) }
	}
	return transporttest.World{
		Close: func() { ln.Close() },
		Accept: func() (transport.Conn, error) {
			nc, err := ln.Accept()
			if err != nil {
				return nil, err
			}
			_ = nc.SetDeadline(time.Now().Add(300 * time.Millisecond))
			if _, err := transport.ReadPreamble(nc); err != nil {
				nc.Close()
				return nil, err
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			return tcp.Server(ctx, nc, head)
		},
		Dial: as(agent, fb.RoleHead),
		Raw: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		},
		Strangers: []transporttest.Stranger{
			{Name: "another cluster's authority", Dial: as(credential(t, transporttest.Cluster, bytes.Repeat([]byte{8}, 32), fb.RoleAgent), fb.RoleHead)},
			{Name: "another cluster", Dial: as(credential(t, strings.Repeat("0", 32), secret, fb.RoleAgent), fb.RoleHead)},
			{Name: "wants another role", Dial: as(agent, fb.RoleAgent)},
			{Name: "TLS without a certificate", Dial: stranger(&tls.Config{InsecureSkipVerify: true})},
			{Name: "TLS 1.2", Dial: stranger(&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})},
		},
	}
}

// What finds no room at once is not waited for, and goes first with what is written next, or with Flush.
func TestWriteNow(t *testing.T) {
	long := make([]byte, 300_001) // several pieces
	_, _ = rand.NewChaCha8([32]byte{1}).Read(long)
	for _, next := range [][]byte{nil, []byte("x"), long} {
		flush := next == nil
		w := world(t)
		t.Cleanup(w.Close)
		accepted := make(chan transport.Conn, 1)
		go func() { // ends with its only connection
			c, err := w.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		c, err := w.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peer := <-accepted
		if peer == nil {
			t.FailNow()
		}
		defer peer.Close()
		conn := c.(transport.EagerConn)
		var want []byte
		for done := true; done; {
			piece := bytes.Repeat([]byte{byte(len(want) >> 16)}, 50_001)
			if done, err = conn.WriteNow(piece); err != nil {
				t.Fatal(err)
			}
			if want = append(want, piece...); len(want) > 256<<20 {
				t.Fatal("256 MiB were taken for a peer that reads nothing")
			}
		}
		got := make(chan []byte, 1)
		total := len(want) + len(next)
		go func() { // ends with the last byte, or the connection
			b := make([]byte, total)
			_, _ = io.ReadFull(peer, b)
			got <- b
		}()
		if flush {
			err = conn.Flush()
		} else {
			want = append(want, next...)
			var n int
			if n, err = conn.Write(next); n != len(next) {
				t.Errorf("%d of %d bytes were written", n, len(next))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(<-got, want) {
			t.Errorf("flush=%v, %d bytes: other bytes came", flush, len(next))
		}
	}
}

// TCP-2: its strangers are refused.
func TestConformance(t *testing.T) {
	transporttest.Run(t, transporttest.Carrier{New: world})
}

// TCP-1: who answers says nothing to somebody without the authority's certificate, though TLS 1.3 lets that one
// write before its own is looked at; who dials says nothing to such a server.
func TestNothingIsSaidBeforeBothAreProved(t *testing.T) {
	head := credential(t, transporttest.Cluster, secret, fb.RoleHead)
	foreign := credential(t, transporttest.Cluster, bytes.Repeat([]byte{8}, 32), fb.RoleHead)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// serve answers one connection as c, and tells what it came to.
	serve := func(c *tcp.Credential) (addr string, got chan error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		got = make(chan error, 1)
		go func() {
			nc, err := ln.Accept()
			if err == nil {
				_, err = transport.ReadPreamble(nc)
			}
			if err == nil {
				var conn transport.Conn
				if conn, err = tcp.Server(ctx, nc, c); err == nil {
					conn.Close()
				}
			}
			got <- err
		}()
		return ln.Addr().String(), got
	}

	addr, got := serve(head)
	conn, err := dialTLS(ctx, addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err) // TLS 1.3: its side is done
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("hello"))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("somebody without a certificate was answered")
	}
	if err := <-got; err == nil {
		t.Error("somebody without a certificate was taken")
	}

	addr, got = serve(foreign)
	if c, err := tcp.Dial(ctx, addr, credential(t, transporttest.Cluster, secret, fb.RoleAgent), transport.Preamble{Role: fb.RoleHead}); err == nil {
		c.Close()
		t.Error("dialled a server of another authority")
	}
	if err := <-got; err == nil {
		t.Error("a server of another authority got a connection to speak on")
	}
}

type plain struct{ *tls.Conn }

func (plain) Peer() transport.Peer { return transport.Peer{} }

func dialTLS(ctx context.Context, addr string, cfg *tls.Config) (transport.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := transport.WritePreamble(nc, transport.Preamble{Role: fb.RoleHead}); err != nil {
		nc.Close()
		return nil, err
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return plain{tc}, nil
}

func TestAuthorityIsDeterministic(t *testing.T) {
	pem := func(cluster string, secret []byte) string {
		ca, _, _, err := credential(t, cluster, secret, fb.RoleHead).PEM()
		if err != nil {
			t.Fatal(err)
		}
		return string(ca)
	}
	a := pem(transporttest.Cluster, secret)
	if a != pem(transporttest.Cluster, secret) {
		t.Error("two nodes make two authorities")
	}
	if a == pem(strings.Repeat("0", 32), secret) || a == pem(transporttest.Cluster, bytes.Repeat([]byte{9}, 32)) {
		t.Error("another cluster or secret makes the same authority")
	}
	// Nodes of different builds meet in one cluster: the derivation may never change.
	if want := "MC4CAQAwBQYDK2VwBCIEI"; strings.Contains(a, want) {
		t.Error("a private key is in the authority's certificate")
	}
}

// TestClientByPEM: a client outside the allocation has a file, not the secret.
func TestClientByPEM(t *testing.T) {
	w := world(t)
	defer w.Close()
	ca, cert, key, err := credential(t, transporttest.Cluster, secret, fb.RoleClient).PEM()
	if err != nil {
		t.Fatal(err)
	}
	c, err := tcp.ParseCredential(ca, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if c.Cluster() != transporttest.Cluster || c.Role() != fb.RoleClient {
		t.Errorf("cluster %s, role %s", c.Cluster(), c.Role())
	}
	accepted := make(chan error, 1)
	addr := make(chan string, 1)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr <- ln.Addr().String()
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			accepted <- err
			return
		}
		p, err := transport.ReadPreamble(nc)
		if err == nil && p != (transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeBulk}) {
			err = fmt.Errorf("preamble %+v", p)
		}
		if err == nil {
			var conn transport.Conn
			conn, err = tcp.Server(context.Background(), nc, credential(t, transporttest.Cluster, secret, fb.RoleAgent))
			if err == nil {
				if conn.Peer().Role != fb.RoleClient || conn.Peer().Cluster != transporttest.Cluster {
					err = fmt.Errorf("peer %+v", conn.Peer())
				}
				conn.Close()
			}
		}
		accepted <- err
	}()
	conn, err := tcp.Dial(context.Background(), <-addr, c, transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeBulk})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if conn.Peer().Role != fb.RoleAgent {
		t.Errorf("peer %+v", conn.Peer())
	}
	if err := <-accepted; err != nil {
		t.Error(err)
	}
	for _, bad := range [][3][]byte{{cert, cert, key}, {ca, ca, key}, {nil, cert, key}, {ca, cert, nil}} {
		if _, err := tcp.ParseCredential(bad[0], bad[1], bad[2]); err == nil {
			t.Error("a mixed up credential was taken")
		}
	}
}

// A connection is told how long the other side may be silent, and tells the kernel.
func TestEndWhenSilent(t *testing.T) {
	w := world(t)
	defer w.Close()
	came := make(chan transport.Conn, 1)
	go func() {
		c, err := w.Accept()
		if err != nil {
			t.Error(err)
		}
		came <- c
	}()
	c, err := w.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []transport.Conn{c, <-came} {
		defer c.Close()
		if err := c.(transport.SilenceConn).EndWhenSilent(1500 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		raw, err := c.(interface{ NetConn() net.Conn }).NetConn().(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			if n, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); n != 1500 || err != nil {
				t.Errorf("the kernel waits %d ms: %v", n, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
