package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// tickets stands for Kerberos: three steps, of which the second answers with nothing, as GSSAPI's do.
type tickets struct {
	service string
	step    int
	seen    []string
}

func (k *tickets) Mechanism(_ context.Context, service string, _ []sasl.QOP) (sasl.Mechanism, error) {
	k.service = service
	return k, nil
}

func (k *tickets) Step(challenge []byte) ([]byte, bool, error) {
	k.step++
	k.seen = append(k.seen, string(challenge))
	switch k.step {
	case 1:
		return []byte("ap-req"), false, nil
	case 2:
		return nil, false, nil
	}
	return []byte("layer"), true, nil
}

func (k *tickets) Layer() sasl.Layer { return nil }

// serveTicket plays a secure ResourceManager up to its first call, and tells what it saw.
func serveTicket(nc net.Conn, saw chan<- string) {
	defer close(saw)
	io.ReadFull(nc, make([]byte, 7))
	tell := func(m saslMessage) { nc.Write(frameOf(responseHeader{CallID: callID(callSASL)}, m)) }
	read := func() {
		b, err := readFrame(nc)
		var h requestHeader
		var m saslMessage
		if err == nil {
			b, err = cutMessage(b, &h)
		}
		if err == nil {
			_, err = cutMessage(b, &m)
		}
		if err != nil {
			saw <- "gone"
			return
		}
		text := fmt.Sprintf("%d %d %q", h.CallID, m.State, m.Token)
		if m.Token == nil {
			text = fmt.Sprintf("%d %d none", h.CallID, m.State)
		}
		for _, a := range m.Auths {
			text += fmt.Sprintf(" %s %s/%s", a.Method, a.Protocol, a.ServerID)
		}
		saw <- text
	}
	read()
	tell(saslMessage{State: saslNegotiate, Auths: []saslAuth{
		{Method: "TOKEN", Mechanism: "DIGEST-MD5", ServerID: "default", Challenge: []byte(`nonce="x",algorithm=md5-sess`)},
		{Method: "KERBEROS", Mechanism: "GSSAPI", Protocol: "rm", ServerID: "host.example"},
	}})
	read()
	tell(saslMessage{State: saslChallenge, Token: []byte("ap-rep")})
	read()
	tell(saslMessage{State: saslChallenge, Token: []byte("layers")})
	read()
	tell(saslMessage{State: saslSuccess})
	b, _ := readFrame(nc)
	var h requestHeader
	var c connectionContext
	if b, err := cutMessage(b, &h); err == nil {
		cutMessage(b, &c)
	}
	saw <- fmt.Sprintf("%d %v %s", h.CallID, c.User, c.Protocol)
	if b, err := readFrame(nc); err == nil {
		cutMessage(b, &h)
		nc.Write(frameOf(responseHeader{CallID: callID(h.CallID)}, text{"welcome"}))
	}
}

// The order in which a ticket is shown, as a real ResourceManager wants it.
func TestTicketLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n network
		l, saw := n.listen("rm:1"), make(chan string, 10)
		go func() {
			nc, _ := l.Accept()
			serveTicket(nc, saw)
		}()
		k := &tickets{}
		c, err := New(Config{Addresses: []string{"rm:1"}, Dial: n.dial, Protocol: testProtocol, Auth: func() (Auth, error) {
			return Auth{Tickets: k, Principal: "rm/host.example@EXAMPLE.COM"}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var out text
		if err := c.Call(t.Context(), "say", text{}, &out); err != nil || out.S != "welcome" {
			t.Fatal(out, err)
		}
		var got []string
		for s := range saw {
			got = append(got, s)
		}
		want := `-33 1 none|-33 2 "ap-req" KERBEROS rm/host.example|-33 4 ""|-33 4 "layer"|-3 <nil> ` + testProtocol
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("got  %s\nwant %s", s, want)
		}
		if k.service != "rm/host.example" || strings.Join(k.seen, "|") != "|ap-rep|layers" {
			t.Error(k.service, k.seen)
		}
		c.Close()
	})
}

// A service that is not the configured one gets no ticket.
func TestServiceIsChecked(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for principal, ok := range map[string]bool{
		"": true, "rm/host.example@X": true, "rm/HOST.example": true, "rm/other@X": false, "nn/host.example@X": false, "rm@X": false, "rm/_HOST@X": false,
	} {
		err := Auth{Principal: principal}.trust(t.Context(), addr, "rm", "host.example")
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrLogin) {
			t.Errorf("%q: %v", principal, err)
		}
	}
	for _, host := range []string{"localhost", "127.0.0.1"} {
		if err := (Auth{Principal: "rm/_HOST@X"}).trust(t.Context(), addr, "rm", host); err != nil {
			t.Error(err)
		}
	}
}

// What a server offers and what there is must meet.
func TestNoCommonLogin(t *testing.T) {
	offer := []saslAuth{{Method: "KERBEROS", Mechanism: "GSSAPI"}, {Method: "SIMPLE"}}
	_, _, err := Auth{Token: &Token{}}.choose(t.Context(), nil, offer)
	if !errors.Is(err, ErrLogin) || !strings.Contains(err.Error(), "takes KERBEROS or SIMPLE, and there is a token") {
		t.Error(err)
	}
	if b := proto.Marshal(saslAuth{Method: "TOKEN"}); !strings.HasSuffix(string(b), "\x12\x00\x1a\x00\x22\x00") {
		t.Errorf("%x: an empty field of an offer is left out", b)
	}
}
