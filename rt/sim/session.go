package sim

import (
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// session is one side of a link: a LinkCore and the connection that it has at the moment. It stands
// for transport.Link.
type session struct {
	c      *Cluster
	host   *host
	core   *transport.LinkCore
	conn   end
	armed  int64
	paced  bool // a pump is planned, for the wire is taken
	onMsg  func(transport.Msg)
	onUp   func(resumed bool)
	onDown func(error)
	onDead func(error)
}

func (c *Cluster) session(h *host, cfg transport.LinkCoreConfig) *session {
	nop := func(error) {}
	return &session{c: c, host: h, core: transport.NewLinkCore(cfg), onMsg: func(transport.Msg) {}, onUp: func(bool) {}, onDown: nop, onDead: nop}
}

// offer fills in the session part of a Welcome, as Link.Offer does.
func (s *session) offer(h *fb.HelloT, w *fb.WelcomeT) {
	if number, received := s.core.Session(); h.Session != 0 && h.Session == number {
		w.Session, w.Received, w.Resumed = number, received, true
		return
	}
	s.c.conns++
	w.Session = s.c.conns
}

// attach gives the session a connection on which the handshake is done.
func (s *session) attach(e end, w *fb.WelcomeT, received uint64) error {
	if !w.Resumed {
		received = 0
	}
	old := s.conn
	s.conn = e
	err := s.step(&transport.LinkEvent{Kind: transport.LinkAttach, Session: w.Session, Resumed: w.Resumed, Received: received})
	if err != nil {
		s.conn = old
		e.close()
		return err
	}
	if old.ok() {
		old.close()
	}
	switch {
	case s.core.Dead() != nil:
		e.close()
	case s.conn == e:
		e.recv[e.side] = s
		s.pump()
	}
	return nil
}

func (s *session) send(m wire.Message, corr uint64, payload []byte) error {
	err := s.step(&transport.LinkEvent{Kind: transport.LinkSend, Msg: transport.Msg{M: m, Corr: corr, Payload: payload}})
	s.pump()
	return err
}

// bye ends the session in order.
func (s *session) bye(reason string) {
	_ = s.step(&transport.LinkEvent{Kind: transport.LinkClose, Reason: reason})
	s.pump()
}

// kill ends it at once, after what can leave at once.
func (s *session) kill(err error) {
	s.pump()
	_ = s.step(&transport.LinkEvent{Kind: transport.LinkKill, Err: err})
}

func (s *session) frame(cn *conn, h wire.Header, data []byte) {
	if cn == s.conn.conn {
		_ = s.step(&transport.LinkEvent{Kind: transport.LinkFrame, Header: h, Data: data})
		s.pump()
	}
}

func (s *session) closed(cn *conn, err error) {
	if cn == s.conn.conn {
		_ = s.step(&transport.LinkEvent{Kind: transport.LinkDetach, Err: err})
	}
}

// cut breaks the connection as a reset would.
func (s *session) cut(err error) {
	if s.conn.ok() {
		s.closed(s.conn.conn, err)
	}
}

// step gives an event to the core and does what comes back. Owners' functions run last, since they
// may use the session again.
func (s *session) step(ev *transport.LinkEvent) error {
	effects := s.core.Step(s.c.now, ev, nil)
	var err error
	for i := range effects {
		e := &effects[i]
		switch e.Kind {
		case transport.LinkWrite:
			s.write(e)
		case transport.LinkRejected:
			err = e.Err
		case transport.LinkDown, transport.LinkDead:
			if ev.Kind != transport.LinkAttach { // else it is the connection before, which attach closes
				s.drop()
			}
		}
	}
	s.arm()
	for i := range effects {
		e := &effects[i]
		switch e.Kind {
		case transport.LinkDeliver:
			s.onMsg(e.Msg)
			if s.core.Dead() == nil {
				_ = s.step(&transport.LinkEvent{Kind: transport.LinkConsumed, Msg: e.Msg})
			}
		case transport.LinkUp:
			s.onUp(e.Resumed)
		case transport.LinkDown:
			s.onDown(e.Err)
		case transport.LinkDead:
			s.onDead(e.Err)
		}
	}
	return err
}

func (s *session) drop() {
	if s.conn.ok() {
		e := s.conn
		s.conn = end{}
		e.close()
	}
}

func (s *session) write(e *transport.LinkEffect) {
	if s.conn.ok() {
		data := make([]byte, 0, len(e.Body)+len(e.Payload))
		s.conn.send(e.Header, append(append(data, e.Body...), e.Payload...))
	}
}

// pump writes what is ready, as fast as the connection takes it.
func (s *session) pump() {
	for s.conn.ok() && !s.paced && s.core.Ready(s.c.now) {
		room := 1 << 20
		if s.conn.bandwidth() > 0 {
			if at := s.conn.busy[s.conn.side]; at > s.c.now {
				s.paced = true
				s.c.at(at, "pace", s.conn.id, s.host, func() { s.paced = false; s.pump() })
				return
			}
			room = 1
		}
		_ = s.step(&transport.LinkEvent{Kind: transport.LinkRoom, Bytes: room})
	}
}

// arm plans a tick at the core's next deadline.
func (s *session) arm() {
	d := s.core.NextDeadline()
	if d == 0 || s.armed != 0 && s.armed <= d {
		return
	}
	s.armed = d
	s.c.at(d, "link", 0, s.host, func() {
		if s.armed != d {
			return
		}
		s.armed = 0
		_ = s.step(&transport.LinkEvent{Kind: transport.LinkTick})
		s.pump()
	})
}

// greeting is the dialler's side of a handshake.
type greeting struct {
	result func(end, *fb.WelcomeT, error)
	conn   end
	over   bool
}

// greet dials and shakes hands; result is called once.
func (c *Cluster) greet(from, to *host, accept func(end) receiver, hello *fb.HelloT, result func(end, *fb.WelcomeT, error)) {
	g := &greeting{result: result}
	c.dial(from, to, accept, g, func(e end, err error) {
		if err != nil {
			g.finish(nil, err)
			return
		}
		g.conn = e
		hello.WireVersion = wire.Version
		e.sendMessage(hello)
		c.after(greetTimeout, "greet timeout", e.id, from, func() { g.finish(nil, errTimeout) })
	})
}

func (g *greeting) finish(w *fb.WelcomeT, err error) {
	if g.over {
		return
	}
	g.over = true
	if err != nil && g.conn.ok() {
		g.conn.close()
	}
	g.result(g.conn, w, err)
}

func (g *greeting) frame(cn *conn, h wire.Header, data []byte) {
	m, err := wire.Unmarshal(h.Type, data)
	switch m := m.(type) {
	case *fb.WelcomeT:
		g.finish(m, nil)
	case *fb.RefuseT:
		g.finish(nil, &transport.RefusedError{Code: m.Code, Text: m.Text})
	default:
		if err == nil {
			err = transport.ErrProtocol // the welcome was lost, and this is the session's first frame
		}
		g.finish(nil, err)
	}
}

func (g *greeting) closed(_ *conn, err error) { g.finish(nil, err) }

// answering is the other side: it waits for a Hello.
type answering struct {
	conn  end
	admit func(e end, h *fb.HelloT)
}

func (a *answering) frame(cn *conn, h wire.Header, data []byte) {
	m, err := wire.Unmarshal(h.Type, data)
	hello, ok := m.(*fb.HelloT)
	if err != nil || !ok {
		a.conn.close()
		return
	}
	a.admit(a.conn, hello)
}

func (a *answering) closed(*conn, error) {}

// refuse answers and closes.
func (e end) refuse(r *fb.RefuseT) {
	e.sendMessage(r)
	e.close()
}

// backoff is the wait before the next try.
type backoff struct{ next int64 }

func (b *backoff) wait(c *Cluster) int64 {
	b.next = min(max(2*b.next, redialMin), redialMax)
	return b.next/2 + c.rng.Int64N(b.next/2+1)
}

func (b *backoff) reset() { b.next = 0 }
