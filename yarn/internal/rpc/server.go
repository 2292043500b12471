package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/maniple-hpc/maniple/yarn/internal/proto"
	"github.com/maniple-hpc/maniple/yarn/internal/sasl"
)

// Server answers calls as a Hadoop daemon does: a stand-in for tests. Its fields are set before Serve.
type Server struct {
	Handle func(Request) (resp any, err error) // in a goroutine per call; a *RemoteError is sent as such

	// Password gives the password of a token by its identifier. With it the server takes tokens only, without it
	// simple authentication only.
	Password func(identifier []byte) ([]byte, bool)
	Offer    []sasl.QOP // nil: Auth
	Chop     int        // over a layer, replies are wrapped in pieces of so many bytes; 0: whole

	running sync.WaitGroup
	mu      sync.Mutex
	open    map[io.Closer]bool
	closed  bool
}

// Request is a call as the server sees it.
type Request struct {
	Protocol, Method string
	Body             []byte
	User             string // of the connection's context
	Token            []byte // the identifier of the token that the client showed
	CallID, Retry    int32
	ClientID         string
}

// Read reads the request into a message.
func (r Request) Read(m any) error { return proto.Unmarshal(r.Body, m) }

// Serve takes connections until Close. It returns at once.
func (s *Server) Serve(l net.Listener) {
	if !s.keep(l) {
		return
	}
	s.running.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if s.keep(nc) {
				s.running.Go(func() { s.serve(nc) })
			}
		}
	})
}

// keep remembers what Close has to close.
func (s *Server) keep(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		return false
	}
	if s.open == nil {
		s.open = map[io.Closer]bool{}
	}
	s.open[c] = true
	return true
}

// Drop breaks all connections and goes on listening.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		if _, listener := c.(net.Listener); !listener {
			c.Close()
			delete(s.open, c)
		}
	}
}

// Close stops listening, breaks all connections and waits for the calls in them.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// session is one connection of a server.
type session struct {
	*Server
	nc    net.Conn
	in    io.Reader
	token []byte
	last  []byte     // the SASL message that was read last
	mu    sync.Mutex // of what is written
	layer sasl.Layer
}

func (s *Server) serve(nc net.Conn) {
	c := &session{Server: s, nc: nc, in: bufio.NewReader(nc)}
	defer func() {
		nc.Close()
		s.mu.Lock()
		delete(s.open, nc)
		s.mu.Unlock()
	}()
	var hello [7]byte
	if _, err := io.ReadFull(c.in, hello[:]); err != nil || string(hello[:6]) != greetSimple[:6] {
		return
	}
	if s.Password == nil {
		if string(hello[:]) != greetSimple {
			c.answer(responseHeader{CallID: callID(-1), Status: statusFatal, Class: "org.apache.hadoop.security.AccessControlException", Message: "only SIMPLE here", Detail: DetailUnauthorized}, nil)
			return
		}
	} else if err := c.authenticate(string(hello[:])); err != nil {
		c.answer(responseHeader{CallID: callID(-1), Status: statusFatal, Class: "org.apache.hadoop.security.AccessControlException", Message: err.Error() + "\n\tat java", Detail: DetailUnauthorized}, nil)
		return
	}
	user := ""
	for {
		h, rest, err := c.readRequest(c.in)
		if err != nil {
			return
		}
		if h.CallID == callContext {
			var context connectionContext
			if _, err := cutMessage(rest, &context); err != nil {
				return
			}
			if context.User != nil {
				user = context.User.Effective
			}
			continue
		}
		var ch callHeader
		if rest, err = cutMessage(rest, &ch); err != nil {
			return
		}
		body, _, err := proto.CutDelimited(rest)
		if err != nil {
			return
		}
		r := Request{ch.Protocol, ch.Method, body, user, c.token, h.CallID, h.Retry, string(h.ClientID)}
		s.running.Go(func() {
			resp, err := s.Handle(r)
			c.reply(r.CallID, resp, err)
		})
	}
}

func callID(id int32) uint32 { return uint32(id) }

func (c *session) readRequest(r io.Reader) (h requestHeader, rest []byte, err error) {
	b, err := readFrame(r)
	if err == nil {
		rest, err = cutMessage(b, &h)
	}
	return h, rest, err
}

// authenticate is the server's side of a token's exchange.
func (c *session) authenticate(hello string) error {
	if hello != greetSASL {
		c.readRequest(c.in) // the context, which such a client sends at once
		return errors.New("SIMPLE authentication is not enabled.  Available:[TOKEN]")
	}
	if _, err := c.readToken(c.in); err != nil {
		return err
	}
	offer := c.Offer
	if offer == nil {
		offer = []sasl.QOP{sasl.Auth}
	}
	digest := &sasl.DigestServer{ServerID: "default", Offer: offer}
	c.answer(responseHeader{CallID: callID(callSASL)}, saslMessage{State: saslNegotiate, Auths: []saslAuth{
		{Method: "TOKEN", Mechanism: "DIGEST-MD5", ServerID: "default", Challenge: digest.Challenge()},
	}})
	m, err := c.readToken(c.in)
	if err != nil {
		return err
	}
	if m.State != saslInitiate {
		return fmt.Errorf("SASL state %d, not INITIATE", m.State)
	}
	// Java compares what comes back with what it offered, and an empty protocol that is there with one that is not.
	var echo struct {
		Auths [][]byte `pb:"4"`
	}
	if _, err := cutMessage(c.last, &echo); err != nil || len(echo.Auths) != 1 || string(echo.Auths[0]) != "\x0a\x05TOKEN\x12\x0aDIGEST-MD5\x1a\x00\x22\x07default" {
		return fmt.Errorf("TOKEN authentication is not enabled.  Available:[TOKEN]")
	}
	var proof []byte
	if c.token, proof, err = digest.Check(m.Token, c.Password); err != nil {
		return err
	}
	c.answer(responseHeader{CallID: callID(callSASL)}, saslMessage{State: saslSuccess, Token: proof})
	if c.layer = digest.Layer(); c.layer != nil {
		c.in = &unwrapper{r: c.in, layer: c.layer, read: c.readToken}
	}
	return nil
}

func (c *session) readToken(r io.Reader) (m saslMessage, err error) {
	h, rest, err := c.readRequest(r)
	if err == nil && h.CallID != callSASL {
		err = fmt.Errorf("call %d within a SASL exchange", h.CallID)
	}
	if c.last = rest; err == nil {
		_, err = cutMessage(rest, &m)
	}
	return m, err
}

func (c *session) reply(id int32, resp any, err error) {
	h := responseHeader{CallID: callID(id)}
	if err != nil {
		h.Status, h.Class, h.Message, h.Detail = statusError, "java.io.IOException", err.Error(), DetailApplication
		var r *RemoteError
		if errors.As(err, &r) {
			h.Class, h.Message = r.Class, r.Class+": "+r.Message+"\n\tat org.example.Stand.in(Stand.java:1)"
			if r.Detail != 0 {
				h.Detail = r.Detail
			}
			if r.Fatal {
				h.Status = statusFatal
			}
		}
		resp = nil
	}
	c.answer(h, resp)
}

// answer writes one frame; resp is nil for an error.
func (c *session) answer(h responseHeader, resp any) {
	h.Version = 9
	b := proto.AppendDelimited(make([]byte, 4), h)
	if h.Status == statusSuccess {
		b = proto.AppendDelimited(b, resp)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.layer == nil {
		c.nc.Write(b)
		return
	}
	for len(b) > 0 {
		n := len(b)
		if c.Chop > 0 {
			n = min(n, c.Chop)
		}
		token, err := c.layer.Wrap(b[:n])
		if err != nil {
			return
		}
		c.nc.Write(frameOf(responseHeader{CallID: callID(callSASL), Version: 9}, saslMessage{State: saslWrap, Token: token}))
		b = b[n:]
	}
}
