package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

const testProtocol = "org.example.api.TestProtocolPB"

type text struct {
	S string `pb:"1"`
}

// network is listeners by address, in memory: their conns work in a bubble of virtual time.
type network struct {
	mu    sync.Mutex
	at    map[string]*pipes
	dials []string
}

type pipes struct {
	conns chan net.Conn
	once  sync.Once
	gone  chan struct{}
}

func (n *network) listen(address string) *pipes {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at == nil {
		n.at = map[string]*pipes{}
	}
	n.at[address] = &pipes{conns: make(chan net.Conn), gone: make(chan struct{})}
	return n.at[address]
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	p := n.at[address]
	n.dials = append(n.dials, address)
	n.mu.Unlock()
	if p == nil {
		return nil, fmt.Errorf("dial %s: connection refused", address)
	}
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.gone:
		return nil, fmt.Errorf("dial %s: connection refused", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.gone:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.gone) }); return nil }
func (p *pipes) Addr() net.Addr { return nil }

// world is a network with one server at rm:1, and a client of it.
type world struct {
	network
	server *Server
	client *Client
}

// inBubble runs f in virtual time. The bubble fails when a goroutine outlives Close.
func inBubble(t *testing.T, s *Server, cfg Config, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, cfg)
		f(t, w)
		w.close()
	})
}

func newWorld(t *testing.T, s *Server, cfg Config) *world {
	t.Helper()
	w := &world{server: s}
	s.Serve(w.listen("rm:1"))
	if cfg.Addresses == nil {
		cfg.Addresses = []string{"rm:1"}
	}
	cfg.Protocol, cfg.Dial = testProtocol, w.dial
	var err error
	if w.client, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) close() {
	w.client.Close()
	w.server.Close()
}

func echo(r Request) (any, error) {
	var in text
	if err := r.Read(&in); err != nil {
		return nil, err
	}
	return text{r.Method + " " + in.S}, nil
}

func as(user string) func() (Auth, error) {
	return func() (Auth, error) { return Auth{User: user}, nil }
}

func withToken(identifier, password string) func() (Auth, error) {
	return func() (Auth, error) {
		return Auth{User: "nobody", Token: &Token{[]byte(identifier), []byte(password)}}, nil
	}
}

func onlyToken(id []byte) ([]byte, bool) { return []byte("pw"), string(id) == "id" }

func TestCall(t *testing.T) {
	var seen Request
	s := &Server{Handle: func(r Request) (any, error) { seen = r; return echo(r) }}
	inBubble(t, s, Config{Auth: as("alice")}, func(t *testing.T, w *world) {
		var out text
		if err := w.client.Call(t.Context(), "say", text{"hello"}, &out); err != nil || out.S != "say hello" {
			t.Fatal(out, err)
		}
		if seen.User != "alice" || seen.Protocol != testProtocol || len(seen.ClientID) != 16 || seen.Retry != 0 {
			t.Errorf("%+v", seen)
		}
		if err := w.client.Call(t.Context(), "say", text{}, nil); err != nil {
			t.Error("an answer that does not matter:", err)
		}
	})
}

// Many calls share a connection, and the answers may come in any order: here the last one first.
func TestCallsInFlight(t *testing.T) {
	var turns [52]chan struct{}
	s := &Server{}
	s.Handle = func(r Request) (any, error) {
		<-turns[r.CallID+1]
		close(turns[r.CallID])
		return echo(r)
	}
	inBubble(t, s, Config{}, func(t *testing.T, w *world) {
		for i := range turns {
			turns[i] = make(chan struct{})
		}
		close(turns[51])
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				var out text
				if err := w.client.Call(t.Context(), "n", text{fmt.Sprint(i)}, &out); err != nil || out.S != fmt.Sprint("n ", i) {
					t.Error(i, out, err)
				}
			})
		}
		all.Wait()
		if len(w.dials) != 1 {
			t.Errorf("%d connections", len(w.dials))
		}
	})
}

func TestExceptions(t *testing.T) {
	s := &Server{Handle: func(r Request) (any, error) {
		return nil, &RemoteError{Class: "org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException", Message: "no application_1_0001"}
	}}
	inBubble(t, s, Config{Retry: Retry{For: time.Hour}}, func(t *testing.T, w *world) {
		err := w.client.Call(t.Context(), "say", text{}, nil)
		var r *RemoteError
		if !errors.As(err, &r) || r.Name() != "ApplicationNotFoundException" || r.Message != "no application_1_0001" || r.Detail != DetailApplication || !strings.Contains(r.Stack, "Stand.java") {
			t.Errorf("%+v", r)
		}
		if want := "say of TestProtocol at rm:1: ApplicationNotFoundException: no application_1_0001"; err.Error() != want {
			t.Errorf("%v", err)
		}
	})
}

// Every quality of protection, with replies in one piece and in many, and larger than the layer's buffers.
func TestTokens(t *testing.T) {
	large := strings.Repeat("0123456789", 30_000)
	for _, q := range []sasl.QOP{sasl.Auth, sasl.Integrity, sasl.Privacy} {
		for _, chop := range []int{0, 7000, 3} {
			var seen Request
			s := &Server{Password: onlyToken, Offer: []sasl.QOP{q}, Chop: chop, Handle: func(r Request) (any, error) { seen = r; return echo(r) }}
			body := large
			if chop == 3 {
				body = "short"
			}
			inBubble(t, s, Config{Auth: withToken("id", "pw")}, func(t *testing.T, w *world) {
				for range 2 {
					var out text
					if err := w.client.Call(t.Context(), "say", text{body}, &out); err != nil || out.S != "say "+body {
						t.Fatal(q, chop, len(out.S), err)
					}
				}
				if string(seen.Token) != "id" || seen.User != "" {
					t.Errorf("%+v: with a token no user is named", seen)
				}
			})
		}
	}
}

func TestRefusedLogins(t *testing.T) {
	for name, auth := range map[string]func() (Auth, error){
		"a wrong password": withToken("id", "no"), "an unknown token": withToken("di", "pw"), "no token": as("alice"),
		"a quality that is not there": func() (Auth, error) {
			return Auth{Token: &Token{[]byte("id"), []byte("pw")}, Allowed: []sasl.QOP{sasl.Privacy}}, nil
		},
		"credentials that can't be read": func() (Auth, error) { return Auth{}, errors.New("the file is gone") },
	} {
		s := &Server{Password: onlyToken, Handle: echo}
		inBubble(t, s, Config{Auth: auth, Retry: Retry{For: time.Hour}}, func(t *testing.T, w *world) {
			began := time.Now()
			if err := w.client.Call(t.Context(), "say", text{}, nil); !errors.Is(err, ErrLogin) || time.Since(began) > time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
		})
	}
}

// RPC-5: a server that wants no token gets neither it nor a call.
func TestNoFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		l := n.listen("rm:1")
		asked := make(chan error, 1)
		go func() {
			nc, _ := l.Accept()
			io.ReadFull(nc, make([]byte, 7))
			readFrame(nc)
			nc.Write(frameOf(responseHeader{CallID: callID(callSASL)}, saslMessage{State: saslSuccess}))
			_, err := readFrame(nc)
			asked <- err
		}()
		c, err := New(Config{Addresses: []string{"rm:1"}, Dial: n.dial, Auth: withToken("id", "pw")})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call(t.Context(), "say", text{}, nil); !errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), "no authentication") {
			t.Error(err)
		}
		if err := <-asked; err == nil {
			t.Error("the client went on")
		}
		c.Close()
	})
}

// RPC-3.
func TestRepeatedCallKeepsItsNumbers(t *testing.T) {
	var mu sync.Mutex
	var seen []Request
	s := &Server{}
	s.Handle = func(r Request) (any, error) {
		mu.Lock()
		seen = append(seen, r)
		n := len(seen)
		mu.Unlock()
		switch n {
		case 1:
			s.Drop()
		case 2:
			return nil, &RemoteError{Class: classRetriable, Message: "starting"}
		}
		return echo(r)
	}
	inBubble(t, s, Config{Retry: Retry{For: time.Minute}}, func(t *testing.T, w *world) {
		var out text
		if err := w.client.Call(t.Context(), "say", text{"it"}, &out); err != nil || out.S != "say it" || len(seen) != 3 {
			t.Fatal(out, err, len(seen))
		}
		for i, r := range seen {
			if r.CallID != seen[0].CallID || r.ClientID != seen[0].ClientID || int(r.Retry) != i {
				t.Errorf("try %d: call %d retry %d", i, r.CallID, r.Retry)
			}
		}
	})
}

// RPC-4: first rounds cost nothing; then the waits grow, and end. Who waits for longer than a moment is told why, once.
func TestFailover(t *testing.T) {
	s := &Server{Handle: echo}
	var waits []error
	cfg := Config{Addresses: []string{"dead:1", "standby:1", "rm:1"}, Retry: Retry{For: time.Minute, Waits: func(err error) { waits = append(waits, err) }}}
	inBubble(t, s, cfg, func(t *testing.T, w *world) {
		standby := &Server{Handle: func(Request) (any, error) {
			return nil, &RemoteError{Class: classStandby, Message: "Operation category READ is not supported in state standby"}
		}}
		standby.Serve(w.listen("standby:1"))
		defer standby.Close()
		began := time.Now()
		for range 2 {
			var out text
			if err := w.client.Call(t.Context(), "say", text{"x"}, &out); err != nil || out.S != "say x" {
				t.Fatal(out, err)
			}
		}
		if time.Since(began) != 0 || strings.Join(w.dials, " ") != "dead:1 standby:1 rm:1" {
			t.Error(time.Since(began), w.dials)
		}
		s.Drop()
		w.at["rm:1"].Close()
		synctest.Wait()
		err := w.client.Call(t.Context(), "say", text{"x"}, nil)
		if err == nil || time.Since(began) < 30*time.Second || time.Since(began) > time.Minute || !strings.Contains(err.Error(), "given up after") {
			t.Error(time.Since(began), err)
		}
		if len(waits) != 1 || !errors.Is(waits[0], ErrUnreachable) || !strings.HasPrefix(waits[0].Error(), "say of ") {
			t.Error(waits)
		}
	})
}

// Clients that have Active in common begin with the server that answered last.
func TestActiveIsInCommon(t *testing.T) {
	cfg := Config{Addresses: []string{"dead:1", "rm:1"}, Active: new(atomic.Int32)}
	inBubble(t, &Server{Handle: echo}, cfg, func(t *testing.T, w *world) {
		if err := w.client.Call(t.Context(), "say", text{"x"}, nil); err != nil {
			t.Error(err)
		}
		second, err := New(w.client.cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if err := second.Call(t.Context(), "say", text{"x"}, nil); err != nil || strings.Join(w.dials, " ") != "dead:1 rm:1 rm:1" {
			t.Error(err, w.dials)
		}
	})
}

// RPC-2, in every place where a server may hang.
func TestCallEndsWithItsContext(t *testing.T) {
	hang := make(chan struct{})
	for name, s := range map[string]*Server{
		"in the method": {Handle: func(Request) (any, error) { <-hang; return text{}, nil }},
		"in the login":  {Password: func([]byte) ([]byte, bool) { <-hang; return nil, false }},
	} {
		cfg := Config{}
		if s.Password != nil {
			cfg.Auth = withToken("id", "pw")
		}
		synctest.Test(t, func(t *testing.T) {
			hang = make(chan struct{})
			w := &world{}
			s.Serve(w.listen("rm:1"))
			cfg.Addresses, cfg.Dial, cfg.Retry = []string{"rm:1"}, w.dial, Retry{For: time.Hour}
			c, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			began := time.Now()
			if err := c.Call(ctx, "say", text{}, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 3*time.Second {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			close(hang)
			c.Close()
			s.Close()
		})
	}
}

// A server that is silent for the time of a whole call is left; one that answers others is not.
func TestSilentServerIsLeft(t *testing.T) {
	var hang chan struct{}
	s := &Server{Handle: func(r Request) (any, error) {
		if r.Method == "hang" {
			<-hang
		}
		return echo(r)
	}}
	inBubble(t, s, Config{Timeout: 5 * time.Second, Idle: time.Hour}, func(t *testing.T, w *world) {
		hang = make(chan struct{})
		defer close(hang)
		if err := w.client.Call(t.Context(), "hang", text{}, nil); !errors.Is(err, ErrSilent) {
			t.Fatal(err)
		}
		if err := w.client.Call(t.Context(), "say", text{}, nil); err != nil || len(w.dials) != 2 {
			t.Error(err, w.dials)
		}
		time.AfterFunc(2*time.Second, func() { w.client.Call(t.Context(), "say", text{}, nil) })
		if err := w.client.Call(t.Context(), "hang", text{}, nil); !errors.Is(err, ErrSilent) {
			t.Fatal(err)
		}
		if err := w.client.Call(t.Context(), "say", text{}, nil); err != nil || len(w.dials) != 2 {
			t.Error(err, w.dials)
		}
	})
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	s := &Server{Handle: echo}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, Config{Idle: 10 * time.Second})
		for _, pause := range []time.Duration{0, 9 * time.Second, 9 * time.Second, 11 * time.Second} {
			time.Sleep(pause)
			if err := w.client.Call(t.Context(), "say", text{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.dials) != 2 {
			t.Errorf("%d connections", len(w.dials))
		}
		w.close()
		if err := w.client.Call(t.Context(), "say", text{}, nil); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}
