package rpc

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// byBytes writes one byte at a time.
type byBytes struct{ net.Conn }

func (b byBytes) Write(p []byte) (int, error) {
	for i := range p {
		if n, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i + n, err
		}
	}
	return len(p), nil
}

// A client that knows no security speaks to a server that takes tokens only, under each quality of protection.
func TestTunnel(t *testing.T) {
	for _, offer := range [][]sasl.QOP{nil, {sasl.Integrity}, {sasl.Privacy}} {
		server := &Server{
			Offer: offer, Chop: 11,
			Password: func(id []byte) ([]byte, bool) { return []byte("pw"), string(id) == "id" },
			Handle: func(r Request) (any, error) {
				var m text
				if err := r.Read(&m); err != nil || string(r.Token) != "id" || r.Protocol != testProtocol || r.User == "whoever" {
					return nil, &RemoteError{Class: "java.io.IOException", Message: r.User + " " + string(r.Token)}
				}
				return text{m.S + m.S}, nil
			},
		}
		inBubble(t, server, Config{}, func(t *testing.T, w *world) {
			for _, tc := range []struct{ password, want string }{{"pw", ""}, {"wrong", "Mismatched"}} {
				heed := map[string]func([]byte){"shout": func(reply []byte) { proto.Find(reply, 1)[0] = 'A' }}
				if tc.want != "" {
					heed = nil
				}
				through, err := New(Config{Addresses: []string{"rm:1"}, Protocol: testProtocol, Dial: w.dial, Auth: withToken("id", tc.password)})
				if err != nil {
					t.Fatal(err)
				}
				c, err := New(Config{
					Addresses: []string{"nobody:1"}, Protocol: testProtocol, Retry: Retry{For: -1}, Auth: as("whoever"),
					Dial: func(context.Context, string, string) (net.Conn, error) {
						return byBytes{Tunnel(through, Relay{Heed: heed})}, nil
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, s := range []string{"a", strings.Repeat("b", 5000)} {
					var got text
					err := c.Call(t.Context(), "twice", text{s}, &got)
					if tc.want == "" && (err != nil || got.S != s+s) {
						t.Errorf("%v: %v %d", offer, err, len(got.S))
					}
					if tc.want != "" && !errors.Is(err, ErrLogin) && (err == nil || !strings.Contains(err.Error(), tc.want) && !errors.Is(err, ErrClosed)) {
						t.Errorf("%v: %v", offer, err)
					}
				}
				var got text
				if err := c.Call(t.Context(), "shout", text{"a"}, &got); tc.want == "" && (err != nil || got.S != "Aa") {
					t.Errorf("%v: %v, a reply was to be changed: %q", offer, err, got.S)
				}
				c.Close()
				through.Close()
			}
		})
	}
}

// behind is a client behind a tunnel, which has one call under way at a time and knows nothing of servers.
type behind struct {
	t    *testing.T
	conn net.Conn
	id   int32
}

func (b *behind) send(frame []byte) {
	b.t.Helper()
	if n, err := b.conn.Write(frame); err != nil || n != len(frame) {
		b.t.Fatal(n, err)
	}
}

// calls makes a call.
func (b *behind) calls(method, s string) (string, error) {
	b.t.Helper()
	if b.id == 0 {
		b.send([]byte(greetSimple))
		b.send(frameOf(requestHeader{Engine: engine, CallID: callContext, ClientID: []byte("me")}, connectionContext{Protocol: testProtocol}))
	}
	b.id++
	b.send(frameOf(requestHeader{Engine: engine, CallID: b.id, ClientID: []byte("me")}, callHeader{Method: method, Protocol: testProtocol, Version: 1}, text{s}))
	frame, err := readFrame(b.conn)
	if err != nil {
		return "", err
	}
	var h responseHeader
	rest, err := cutMessage(frame, &h)
	if err != nil || int32(h.CallID) != b.id {
		b.t.Fatalf("%+v %v", h, err)
	}
	if h.Status != statusSuccess {
		return "", remoteError(h)
	}
	var got text
	if _, err := cutMessage(rest, &got); err != nil {
		b.t.Fatal(err)
	}
	return got.S, nil
}

var errNobody = errors.New("nobody answers")

// RPC-6: servers die with a call under way, are standby, come back later and not ready yet; who is behind the tunnel has his answers, each from one call with one number.
func TestTunnelOutlivesServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		var mu sync.Mutex
		var seen []Request
		var standby, silent *Server
		does := func(self **Server) func(Request) (any, error) {
			return func(r Request) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r)
				switch {
				case *self == standby:
					return nil, &RemoteError{Class: classStandby, Message: "standby"}
				case *self == silent:
					silent = nil
					(*self).Drop() // it has acted, and nobody hears of it
				case r.Method == "early" && r.Retry < 3:
					return nil, &RemoteError{Class: "org.example.NotReadyException", Message: "soon"}
				case r.Method == "wrong":
					return nil, &RemoteError{Class: "java.io.FileNotFoundException", Message: "no such file"}
				}
				return echo(r)
			}
		}
		a, b := &Server{}, &Server{}
		a.Handle, b.Handle = does(&a), does(&b)
		a.Serve(n.listen("a:1"))
		b.Serve(n.listen("b:1"))
		c, err := New(Config{
			Addresses: []string{"a:1", "b:1"}, Protocol: testProtocol, Dial: n.dial, Auth: as("alice"),
			Retry: Retry{For: time.Minute, MaxInterval: 2 * time.Second, Passing: []string{"NotReadyException"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		x := &behind{t: t, conn: Tunnel(c, Relay{Once: []string{"renew"}, Error: func(err error) error { return errors.Join(errNobody, err) }})}
		// one has an answer after so many tries, and after some time.
		one := func(method string, tries int, least, most time.Duration) {
			t.Helper()
			seen = nil
			began := time.Now()
			got, err := x.calls(method, "it")
			if past := time.Since(began); err != nil || got != method+" it" || past < least || past > most || len(seen) != tries {
				t.Errorf("%s: %q %v after %v and %d tries", method, got, err, past, len(seen))
			}
			for _, r := range seen {
				if r.CallID != seen[0].CallID || r.ClientID != seen[0].ClientID || r.User != "alice" {
					t.Errorf("%s: %+v and %+v", method, r, seen[0])
				}
			}
		}
		standby = a
		one("say", 2, 0, 0)
		silent = b
		time.AfterFunc(20*time.Second, func() {
			mu.Lock()
			defer mu.Unlock()
			standby = b
		})
		mu.Lock()
		n.at["b:1"].Close()
		mu.Unlock()
		seen = nil
		began := time.Now()
		if got, err := x.calls("create", "it"); err != nil || got != "create it" || time.Since(began) < 20*time.Second || time.Since(began) > 25*time.Second {
			t.Error(got, err, time.Since(began))
		}
		for _, r := range seen {
			if r.CallID != seen[0].CallID || r.ClientID != seen[0].ClientID {
				t.Errorf("%+v and %+v: the second one would have been done twice", r, seen[0])
			}
		}
		one("say", 1, 0, 0)
		one("early", 4, time.Second, 10*time.Second)
		if _, err := x.calls("wrong", "it"); err == nil || err.Error() != "FileNotFoundException: no such file" {
			t.Error(err)
		}
		a.Close()
		b.Close()
		n.at["a:1"].Close()
		// nobody answers: what is not to be repeated ends at once; the first one that is waits for a minute since, and no later one.
		began = time.Now()
		if _, err := x.calls("renew", "it"); !errors.Is(err, errNobody) || !errors.Is(err, ErrUnreachable) || time.Since(began) > 5*time.Second {
			t.Error(err, time.Since(began))
		}
		if _, err := x.calls("say", "it"); !errors.Is(err, errNobody) || time.Since(began) < 55*time.Second || time.Since(began) > time.Minute {
			t.Error(err, time.Since(began))
		}
		began = time.Now()
		if _, err := x.calls("say", "it"); !errors.Is(err, errNobody) || time.Since(began) > 5*time.Second {
			t.Error(err, time.Since(began))
		}
		later := &Server{Handle: echo}
		later.Serve(n.listen("b:1"))
		seen = nil
		if got, err := x.calls("say", "it"); err != nil || got != "say it" {
			t.Error(got, err)
		}
		later.Close()
		time.AfterFunc(10*time.Second, func() { x.conn.Close() })
		began = time.Now()
		if _, err := x.calls("say", "it"); !errors.Is(err, net.ErrClosed) || time.Since(began) > 13*time.Second {
			t.Error(err, time.Since(began))
		}
		if _, err := x.conn.Write([]byte("more")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := x.conn.SetDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) || x.conn.Close() != nil {
			t.Error(err)
		}
	})
}

// Fields that are added to requests are in them, and who refuses these has the request as it was made.
func TestTunnelAddsFields(t *testing.T) {
	type request struct {
		S    string   `pb:"1"`
		More []string `pb:"4"`
	}
	var seen []request
	s := &Server{Handle: func(r Request) (any, error) {
		var m request
		if err := r.Read(&m); err != nil {
			return nil, err
		}
		seen = append(seen, m)
		if len(m.More) > 1 || m.S == "never" {
			return nil, &RemoteError{Class: "java.io.IOException", Message: "all are excluded"}
		}
		return text{m.S}, nil
	}}
	inBubble(t, s, Config{}, func(t *testing.T, w *world) {
		var more []string
		add := map[string]func([]byte) []byte{"add": func([]byte) []byte { return proto.Marshal(request{More: more}) }}
		x := &behind{t: t, conn: Tunnel(w.client, Relay{Add: add})}
		for _, tc := range []struct {
			method, s string
			more      []string
			want      []int
			refused   bool
		}{
			{"add", "a", nil, []int{0}, false}, {"add", "b", []string{"x"}, []int{1}, false}, {"say", "c", []string{"x"}, []int{0}, false},
			{"add", strings.Repeat("d", 200), []string{"x", "y"}, []int{2, 0}, false}, {"add", "never", []string{"x"}, []int{1, 0}, true}, {"add", "never", nil, []int{0}, true},
		} {
			seen, more = nil, tc.more
			got, err := x.calls(tc.method, tc.s)
			if (err != nil) != tc.refused || err == nil && got != tc.s || len(seen) != len(tc.want) {
				t.Errorf("%+v: %q, %v, %+v", tc, got, err, seen)
				continue
			}
			for i, r := range seen {
				if r.S != tc.s || len(r.More) != tc.want[i] {
					t.Errorf("%+v: %+v", tc, r)
				}
			}
		}
		x.conn.Close()
	})
}

// A server that is silent is waited for once for all calls that wait for their turn.
func TestSilenceIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		n.listen("a:1") // where nobody accepts
		c, err := New(Config{Addresses: []string{"a:1"}, Protocol: testProtocol, Dial: n.dial, Auth: as("alice"), Retry: Retry{For: -1}})
		if err != nil {
			t.Fatal(err)
		}
		x := &behind{t: t, conn: Tunnel(c, Relay{Error: func(err error) error { return errors.Join(errNobody, err) }})}
		one := func(least, most time.Duration) {
			t.Helper()
			began := time.Now()
			if _, err := x.calls("say", "it"); !errors.Is(err, errNobody) || !errors.Is(err, ErrSilent) || time.Since(began) < least || time.Since(began) > most {
				t.Error(err, time.Since(began))
			}
		}
		one(15*time.Second, 25*time.Second)
		one(0, 0)
		<-time.After(shared)
		one(15*time.Second, 25*time.Second)
		one(0, 0)
		<-time.After(shared)
		s := &Server{Handle: echo}
		s.Serve(n.listen("a:1"))
		if got, err := x.calls("say", "it"); err != nil || got != "say it" {
			t.Error(got, err)
		}
		x.conn.Close()
		s.Close()
	})
}

// RPC-5: that one server does not let us in is said when no other one does; it is not asked again for that.
func TestOneOfTwoRefuses(t *testing.T) {
	for _, second := range []string{"lets in", "is down", "refuses", "is standby"} {
		s := &Server{Password: onlyToken, Handle: func(r Request) (any, error) {
			if second == "is standby" {
				return nil, &RemoteError{Class: classStandby, Message: "standby"}
			}
			return echo(r)
		}}
		inBubble(t, s, Config{Addresses: []string{"first:1", "rm:1"}, Auth: withToken("id", "pw"), Retry: Retry{For: time.Hour}}, func(t *testing.T, w *world) {
			first := &Server{Password: func([]byte) ([]byte, bool) { return nil, false }}
			first.Serve(w.listen("first:1"))
			switch second {
			case "is down":
				w.at["rm:1"].Close()
			case "refuses":
				w.server.Password = first.Password
			}
			began := time.Now()
			var out text
			err := w.client.Call(t.Context(), "say", text{"x"}, &out)
			if in := second == "lets in"; in != (err == nil) || !in && (!errors.Is(err, ErrLogin) || time.Since(began) > time.Second) {
				t.Error(second, err, time.Since(began))
			}
			first.Close()
		})
	}
}
