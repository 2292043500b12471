package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// RPC-1.
func TestHostileServers(t *testing.T) {
	ok := func(status int32, more ...any) []byte {
		return frameOf(responseHeader{CallID: 1, Status: status}, more...)
	}
	bad := map[string][]byte{
		"a web server":            []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"a huge length":           {0xff, 0xff, 0xff, 0xff},
		"a large length, no more": {0x07, 0xff, 0xff, 0xff, 1, 2, 3},
		"an empty frame":          {0, 0, 0, 0},
		"a header of lies":        {0, 0, 0, 3, 0x7f, 1, 1},
		"a header of noise":       {0, 0, 0, 5, 4, 0xff, 0xff, 0xff, 0xff},
		"a body cut short":        append(ok(0)[:4:4], append(ok(0)[4:], 50, 1, 2)...),
		"nothing":                 {},
		"half a frame":            ok(0, text{"x"})[:9],
		"a fatal error":           ok(statusFatal),
		"another message":         ok(0, text{"not a number"}),
	}
	// The length must agree with what was appended.
	binary.BigEndian.PutUint32(bad["a body cut short"], uint32(len(bad["a body cut short"])-4))
	for name, answer := range bad {
		synctest.Test(t, func(t *testing.T) {
			var n network
			l := n.listen("rm:1")
			go func() {
				nc, _ := l.Accept()
				io.ReadFull(nc, make([]byte, 7))
				readFrame(nc)
				readFrame(nc)
				nc.Write(answer)
				nc.Close()
			}()
			c, err := New(Config{Addresses: []string{"rm:1"}, Dial: n.dial, Protocol: testProtocol})
			if err != nil {
				t.Fatal(err)
			}
			var out struct {
				N int32 `pb:"1"`
			}
			if err := c.Call(t.Context(), "say", text{}, &out); err == nil {
				t.Errorf("%s was understood: %+v", name, out)
			} else if strings.HasPrefix(name, "a web") && (!errors.Is(err, ErrNotHadoop) || !strings.Contains(err.Error(), "right port")) {
				t.Error(err)
			}
			c.Close()
		})
	}
}

// What an attacker on the way changes ends the connection, and no call gets it.
func TestChangedRepliesAreRefused(t *testing.T) {
	s := &Server{Password: onlyToken, Offer: []sasl.QOP{sasl.Integrity}, Handle: echo}
	synctest.Test(t, func(t *testing.T) {
		var n network
		s.Serve(n.listen("rm:1"))
		c, err := New(Config{Addresses: []string{"rm:1"}, Auth: withToken("id", "pw"), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := n.dial(ctx, network, address)
			return &spoiled{Conn: nc}, err
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Call(t.Context(), "say", text{"genuine"}, nil); !errors.Is(err, sasl.ErrForged) {
			t.Error(err)
		}
		c.Close()
		s.Close()
	})
}

// spoiled changes a word in what is read.
type spoiled struct{ net.Conn }

func (c *spoiled) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if i := bytes.Index(p[:n], []byte("genuine")); i >= 0 {
		p[i] = 'G'
	}
	return n, err
}

func FuzzReplies(f *testing.F) {
	f.Add(frameOf(responseHeader{CallID: 1}, text{"x"}))
	f.Add(frameOf(responseHeader{CallID: 1, Status: 1, Class: "a.b.C", Message: "a.b.C: m\n\tat x"}))
	f.Add(frameOf(responseHeader{CallID: callID(callSASL)}, saslMessage{State: saslWrap, Token: []byte("x")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		c := &conn{calls: map[int32]*call{1: {id: 1, reply: make(chan reply, 1)}}}
		for {
			frame, err := readFrame(r)
			if err != nil {
				break
			}
			if err = c.take(frame); err != nil {
				_ = broken(err).Error()
				break
			}
		}
		readSASL(bytes.NewReader(b))
		var m text
		if body, _, err := proto.CutDelimited(b); err == nil {
			proto.Unmarshal(body, &m)
		}
	})
}
