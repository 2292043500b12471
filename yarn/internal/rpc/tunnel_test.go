package rpc

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

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
				through := Config{
					Protocol: testProtocol, Dial: w.dial,
					Auth: func() (Auth, error) {
						return Auth{Token: &Token{Identifier: []byte("id"), Password: []byte(tc.password)}}, nil
					},
				}
				c, err := New(Config{
					Addresses: []string{"rm:1"}, Protocol: testProtocol, Retry: Retry{For: -1},
					Auth: func() (Auth, error) { return Auth{User: "whoever"}, nil },
					Dial: func(ctx context.Context, _, address string) (net.Conn, error) {
						nc, err := Tunnel(ctx, through, address, heed)
						if err != nil {
							return nil, err
						}
						return byBytes{nc}, nil
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
					if tc.want != "" && !errors.Is(err, ErrLogin) && (err == nil || !strings.Contains(err.Error(), tc.want)) {
						t.Errorf("%v: %v", offer, err)
					}
				}
				var got text
				if err := c.Call(t.Context(), "shout", text{"a"}, &got); tc.want == "" && (err != nil || got.S != "Aa") {
					t.Errorf("%v: %v, a reply was to be changed: %q", offer, err, got.S)
				}
				c.Close()
			}
		})
	}
}
