package tcp_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/transporttest"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// wiretap is a listener's address by another one, with what goes that way.
type wiretap struct {
	mu   sync.Mutex
	seen []byte // guarded by mu
}

func (w *wiretap) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, b...)
	return len(b), nil
}

func (w *wiretap) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.seen, []byte(text))
}

// between gives an address that leads to another one, one time.
func (w *wiretap) between(t *testing.T, to string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		a, err := ln.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			_ = a.Close()
			return
		}
		for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
			all.Go(func() {
				_, _ = io.Copy(io.MultiWriter(w, way[1]), way[0])
				_ = way[1].Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

// Verifies TCP-3: what both sides say before they leave TLS nobody on the way reads, and what they say then everybody does. It is whole, both ways, also where one speaks
// as soon as it may.
func TestClear(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var tap wiretap
	addr := tap.between(t, ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	big := bytes.Repeat([]byte("a value, as it is "), 1<<16)
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			nc, err := ln.Accept()
			if err != nil {
				return err
			}
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := transport.ReadPreamble(nc); err != nil {
				return err
			}
			conn, err := tcp.Server(ctx, nc, credential(t, transporttest.Cluster, secret, fb.RoleAgent))
			if err != nil {
				return err
			}
			_, _, err = transport.Answer(conn, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
				return &fb.WelcomeT{Build: "said by TLS", Clear: true}, nil
			})
			if err != nil {
				return err
			}
			clear, err := tcp.Clear(conn)
			if err != nil {
				return err
			}
			defer clear.Close()
			if p := clear.Peer(); p.Role != fb.RoleAgent || p.Cluster != transporttest.Cluster {
				t.Errorf("the peer is %+v", p)
			}
			got := make([]byte, len(big))
			if _, err := io.ReadFull(clear, got); err != nil || !bytes.Equal(got, big) {
				t.Errorf("another value came: %v", err)
			}
			_, err = clear.Write([]byte("taken, as it is"))
			return err
		}()
	}()
	conn, err := tcp.Dial(ctx, addr, credential(t, transporttest.Cluster, secret, fb.RoleAgent), transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeBulk})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transport.Greet(conn, &fb.HelloT{Build: "asked by TLS", Clear: true}); err != nil {
		t.Fatal(err)
	}
	clear, err := tcp.Clear(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer clear.Close()
	if err := clear.(transport.SilenceConn).EndWhenSilent(20 * time.Second); err != nil {
		t.Error(err)
	}
	if _, err := clear.Write(big); err != nil {
		t.Error(err)
	}
	answer := make([]byte, 15)
	if _, err := io.ReadFull(clear, answer); err != nil || string(answer) != "taken, as it is" {
		t.Errorf("%q came: %v", answer, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	for text, want := range map[string]bool{"asked by TLS": false, "said by TLS": false, "a value, as it is": true, "taken, as it is": true} {
		if tap.has(text) != want {
			t.Errorf("%q can be read on the way: %t", text, !want)
		}
	}
	if _, err := tcp.Clear(clear); err == nil {
		t.Error("what has left TLS leaves it once more")
	}
}
