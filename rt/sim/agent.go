package sim

import (
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// agentProc is one run of a node's agent: its core, and what its shell keeps: sessions with the head,
// with peers, with clients.
type agentProc struct {
	c     *Cluster
	node  *Node
	host  *host
	core  *agent.Core
	shell *agent.Simulated // loop and desk as they are
	gone  bool
	armed int64
	turns uint64

	head   *session
	left   bool // it was told goodbye, which is flushed after the end
	number uint32
	term   uint64
	again  backoff
	pulse  *transport.PulseCore // of the head, while connected

	peers   []*peerLinks // in order of numbers
	clients []*clientConn
	procs   []*proc // with work connections
}

type peerLinks struct {
	agent   uint32
	out, in *session
	dial    *agent.PeerDial // set while out is wanted
	again   backoff
}

func (p *peerLinks) best() *session {
	if p.out != nil {
		return p.out
	}
	return p.in
}

// each calls f for every session with the peer.
func (p *peerLinks) each(f func(*session)) {
	for _, s := range []*session{p.out, p.in} {
		if s != nil {
			f(s)
		}
	}
}

// Of sessions between agents: how long they outlive their connections, and when those are tried.
const (
	peerLost  = 15e9
	peerAlive = 3e9
)

func (n *Node) newAgent(cfg agent.Config) *agentProc {
	a := &agentProc{c: n.c, node: n, host: n.host}
	a.shell = agent.NewSimulated(cfg, agent.World{Now: func() int64 { return n.c.now }, Do: a.do, Kill: n.slay, Warn: a.warned})
	a.core = a.shell.Core()
	a.head = a.c.session(n.host, linkConfig)
	a.head.onMsg = func(m transport.Msg) {
		a.step(agent.FromHead{M: m.M, Corr: m.Corr, Payload: m.Payload})
	}
	a.head.onUp = func(resumed bool) {
		a.again.reset()
		a.pulse = &transport.PulseCore{Interval: pingEvery, Deadline: silentAfter}
		a.pulse.Begin(a.c.now)
		a.step(agent.HeadUp{Agent: a.number, Term: a.term, Resumed: resumed})
	}
	a.head.onDown = func(err error) {
		a.pulse = nil
		a.c.logf("%s: lost the head: %v", n.host.name, err)
		a.step(agent.HeadDown{})
		a.c.after(1e6, "redial", uint64(n.host.index), a.host, a.dialHead)
	}
	a.head.onDead = func(err error) {
		a.pulse = nil
		if bye := (*transport.GoodbyeError)(nil); errors.As(err, &bye) {
			a.step(agent.HeadDown{})
			a.step(agent.HeadRefused{Code: fb.RefuseCodeDead, Text: bye.Error()})
		}
	}
	return a
}

func (a *agentProc) step(ev agent.Event) {
	if a.gone {
		return
	}
	a.turns++
	a.shell.Step(ev)
	a.arm()
}

func (a *agentProc) arm() {
	d := a.shell.NextDeadline()
	if a.gone || d == math.MaxInt64 || a.armed != 0 && a.armed <= d {
		return
	}
	a.armed = d
	a.c.at(d, "agent tick", uint64(a.host.index), a.host, func() {
		if a.armed == d && !a.gone {
			a.armed = 0
			a.step(agent.Tick{})
		}
	})
}

// later brings an event of the agent's own making.
func (a *agentProc) later(ev agent.Event) {
	a.c.after(1e3, "later", uint64(a.host.index), a.host, func() { a.step(ev) })
}

func (a *agentProc) do(e agent.Effect) {
	if a.gone {
		return
	}
	switch e := e.(type) {
	case agent.ToHead:
		if err := a.head.send(e.M, e.Corr, e.Payload); err != nil && !errors.Is(err, transport.ErrDead) {
			a.c.fault("%s can't send %T to the head: %v", a.host.name, e.M, err)
		}
	case agent.ToPeer:
		a.sendPeer(e)
	case agent.PeerDial:
		a.dialPeer(e)
	case agent.PeerDrop:
		a.dropPeer(e.Peer)
	case agent.ToClient:
		if cl := a.client(e.Process); cl != nil {
			cl.toClient(e.M, e.Corr, e.Payload)
		}
	case agent.CloseClient:
		if cl := a.client(e.Process); cl != nil {
			cl.close()
		}
	case agent.ToKeeper:
		a.node.fromAgent(e.M)
	case agent.ReadMore:
		a.node.read(e)
	case agent.StopRead:
		a.node.stopRead(e.Key, e.Stream)
	case agent.Acked:
		a.node.acked(e.Key, e.Stream, e.Offset)
	case agent.Remember:
		a.node.remember(e)
	case agent.WriteInput:
		a.later(agent.InputWritten{Key: e.Key, N: len(e.Data)})
	case agent.Forget:
		a.node.forget(e.Key)
	case agent.Leave:
		a.head.onDown = func(error) {}
		a.left = true
		a.head.bye(e.Reason)
	case agent.Exit:
		a.c.logf("%s: agent %d exits with %d: %s", a.host.name, a.number, e.Code, e.Reason)
		a.stop()
		a.node.agentExited(e.Code)
	}
}

// dialHead tries to connect to the head; what fails is tried again.
func (a *agentProc) dialHead() {
	if a.gone || a.head.core.Attached() || a.head.core.Dead() != nil {
		return
	}
	hello := a.hello()
	hello.Session, hello.Received = a.head.core.Session()
	accept := func(e end) receiver {
		if a.c.head == nil {
			return nil
		}
		return a.c.head.accept(e)
	}
	a.c.greet(a.host, a.c.nodes[0].host, accept, hello, func(e end, w *fb.WelcomeT, err error) {
		if a.gone {
			e.close()
			return
		}
		var refused *transport.RefusedError
		switch {
		case errors.As(err, &refused) && refused.Final():
			a.step(agent.HeadRefused{Code: refused.Code, Text: refused.Text})
			return
		case err == nil:
			if w.Assigned != 0 && a.number == 0 {
				a.number = w.Assigned
			}
			a.term = max(a.term, w.Term)
			err = a.head.attach(e, w, w.Received)
		}
		if err != nil {
			a.c.after(a.again.wait(a.c), "redial", uint64(a.host.index), a.host, a.dialHead)
		}
	})
}

func (a *agentProc) hello() *fb.HelloT {
	return &fb.HelloT{Build: "sim", Cluster: clusterID, Job: a.c.cfg.Head.Job, Epoch: a.c.cfg.Head.Epoch, Role: fb.RoleAgent,
		Agent: a.number, NodeKey: a.node.key, Term: a.term}
}

// pings proves to the head that this loop turns, and looks whether the head's does.
func (a *agentProc) pings() {
	if a.gone {
		return
	}
	if a.pulse != nil {
		from, to := a.host, a.c.nodes[0].host
		if d, lost := a.c.delay(from, to); !lost && reach(from, to) {
			number, turn := a.number, a.turns
			a.c.at(a.c.now+d, "ping", uint64(number), to, func() {
				if a.c.head != nil {
					a.c.head.heard(agentID(number), turn)
				}
			})
		}
		if a.pulse.Tick(a.c.now) {
			a.c.logf("%s: the head is silent", a.host.name)
			a.head.cut(errTimeout)
		}
	}
	a.turns++
	a.c.after(pingEvery, "pings", uint64(a.host.index), a.host, a.pings)
}

func (a *agentProc) peer(number uint32) *peerLinks {
	at, ok := slices.BinarySearchFunc(a.peers, number, func(p *peerLinks, n uint32) int { return int(int64(p.agent) - int64(n)) })
	if !ok {
		a.peers = slices.Insert(a.peers, at, &peerLinks{agent: number})
	}
	return a.peers[at]
}

func (a *agentProc) sendPeer(e agent.ToPeer) {
	s := a.peer(e.Peer).best()
	if s == nil {
		a.later(agent.PeerDead{Peer: e.Peer})
		return
	}
	if err := s.send(e.M, e.Corr, e.Payload); err != nil {
		s.kill(err)
	}
}

// peerSession makes a session to or from a peer; its events count while it is the one in its place.
func (a *agentProc) peerSession(p *peerLinks, out bool) *session {
	cfg := linkConfig
	cfg.LostAfter, cfg.KeepAlive = peerLost, peerAlive
	s := a.c.session(a.host, cfg)
	ups := 0
	s.onMsg = func(m transport.Msg) {
		if _, ok := m.M.(*fb.ErrandT); ok {
			a.c.Errands++
		}
		a.step(agent.FromPeer{Peer: p.agent, M: m.M, Corr: m.Corr, Payload: m.Payload})
	}
	s.onUp = func(resumed bool) {
		if ups++; ups > 1 && !resumed {
			a.step(agent.PeerDead{Peer: p.agent})
		}
		a.step(agent.PeerUp{Peer: p.agent})
	}
	s.onDown = func(error) {
		if out {
			a.c.after(1e6, "redial peer", uint64(p.agent), a.host, func() { a.tryPeer(p, s) })
		}
	}
	s.onDead = func(error) { a.peerOver(p, s) }
	return s
}

// tookPeer puts a session that came in in the place of the one before it.
func (a *agentProc) tookPeer(p *peerLinks, s *session) {
	old := p.in
	p.in = s
	if old != nil {
		old.onDead = func(error) {}
		old.kill(transport.ErrClosed)
		a.step(agent.PeerDead{Peer: p.agent})
	}
}

func (a *agentProc) peerOver(p *peerLinks, s *session) {
	if p.out != s && p.in != s || a.gone {
		return
	}
	if p.out == s {
		p.out = nil
	} else {
		p.in = nil
	}
	a.step(agent.PeerDead{Peer: p.agent})
	if p.best() != nil {
		a.step(agent.PeerUp{Peer: p.agent})
	}
}

func (a *agentProc) dialPeer(e agent.PeerDial) {
	p := a.peer(e.Peer)
	if p.best() != nil {
		a.later(agent.PeerUp{Peer: e.Peer})
		return
	}
	p.dial, p.again = &e, backoff{}
	p.out = a.peerSession(p, true)
	a.tryPeer(p, p.out)
}

func (a *agentProc) tryPeer(p *peerLinks, s *session) {
	if a.gone || p.out != s || s.core.Attached() || s.core.Dead() != nil {
		return
	}
	to := a.c.nodeOf(p.dial.Addresses)
	if to == nil {
		s.kill(errNobody)
		return
	}
	hello := a.hello()
	hello.To = p.agent
	hello.Session, hello.Received = s.core.Session()
	accept := func(e end) receiver {
		if to.agent == nil {
			return nil
		}
		return to.agent.accept(e)
	}
	a.c.greet(a.host, to.host, accept, hello, func(e end, w *fb.WelcomeT, err error) {
		if a.gone || p.out != s {
			e.close()
			return
		}
		if err == nil {
			p.again.reset()
			err = s.attach(e, w, w.Received)
		}
		if refused := (*transport.RefusedError)(nil); errors.As(err, &refused) && refused.Final() {
			s.kill(err)
			return
		}
		if err != nil {
			a.c.after(p.again.wait(a.c), "redial peer", uint64(p.agent), a.host, func() { a.tryPeer(p, s) })
		}
	})
}

// accept takes a connection of another agent.
func (a *agentProc) accept(e end) receiver {
	return &answering{conn: e, admit: func(e end, h *fb.HelloT) {
		switch {
		case a.gone:
			e.close()
		case h.WireVersion != wire.Version || h.Cluster != clusterID || h.Role != fb.RoleAgent:
			e.refuse(&fb.RefuseT{Code: fb.RefuseCodeIdentity})
		case a.core.Dead(h.Agent):
			e.refuse(&fb.RefuseT{Code: fb.RefuseCodeDead})
		case a.number == 0 || h.Agent == 0 || h.Agent == a.number:
			e.refuse(&fb.RefuseT{Code: fb.RefuseCodeBusy})
		case h.To != 0 && h.To != a.number:
			e.refuse(&fb.RefuseT{Code: fb.RefuseCodeIdentity})
		default:
			p := a.peer(h.Agent)
			s := p.in
			if s != nil {
				if number, _ := s.core.Session(); number == 0 || number != h.Session {
					s = nil
				}
			}
			if s == nil {
				s = a.peerSession(p, false)
				a.tookPeer(p, s)
			}
			w := &fb.WelcomeT{WireVersion: wire.Version, Agent: a.number, Term: a.term}
			s.offer(h, w)
			e.sendMessage(w)
			if err := s.attach(e, w, h.Received); err != nil {
				e.close()
			}
		}
	}}
}

func (a *agentProc) dropPeer(number uint32) {
	p := a.peer(number)
	a.peers = slices.DeleteFunc(a.peers, func(x *peerLinks) bool { return x == p })
	p.each(func(s *session) {
		s.onDead = func(error) {}
		s.kill(transport.ErrClosed)
	})
	p.out, p.in = nil, nil
}

// stop is the end of the process: its connections break, what it knew is gone.
func (a *agentProc) stop() {
	a.gone = true
	if a.node.agent == a {
		a.node.agent = nil
	}
	if !a.left {
		a.head.kill(transport.ErrClosed)
	}
	for _, p := range a.peers {
		p.each(func(s *session) {
			s.onDead, s.onDown = func(error) {}, func(error) {}
			s.kill(transport.ErrClosed)
		})
	}
	for _, cl := range slices.Clone(a.clients) {
		cl.close()
	}
	for _, p := range slices.Clone(a.procs) {
		p.over()
	}
}

// warned is told what the agent's shell warns of.
func (a *agentProc) warned(text string) {
	a.c.logf("%s: agent %d: %s", a.host.name, a.number, text)
	if strings.Contains(text, "WORK_REFUSED") {
		a.c.fault("WORK-8: %s: an honest process is refused: %s", a.host.name, text)
	}
}

// eachSession calls f for the sessions with the head and with peers.
func (a *agentProc) eachSession(f func(*session)) {
	f(a.head)
	for _, p := range a.peers {
		p.each(f)
	}
}

// clientConn is the connection of a client on this node.
type clientConn struct {
	a       *agentProc
	process uint32
	client  *Client
	up      pipe
	down    pipe
	over    bool
}

func (a *agentProc) client(process uint32) *clientConn {
	for _, cl := range a.clients {
		if cl.process == process {
			return cl
		}
	}
	return nil
}

func (a *agentProc) connect(cl *Client) *clientConn {
	conn := &clientConn{a: a, process: a.shell.NextProcess(), client: cl}
	a.clients = append(a.clients, conn)
	return conn
}

func (k *clientConn) toClient(m wire.Message, corr uint64, payload []byte) {
	m = k.a.c.copied(m)
	k.down.do(k.a.c, "to client", uint64(k.client.index), k.a.host, func() {
		if k.client.conn == k {
			k.client.take(m, payload)
		}
	})
}

func (k *clientConn) toAgent(m wire.Message, payload []byte) {
	m = k.a.c.copied(m)
	k.up.do(k.a.c, "from client", uint64(k.client.index), k.a.host, func() {
		if !k.over {
			k.a.step(agent.FromClient{Process: k.process, M: m, Payload: payload})
		}
	})
}

// close ends the connection; the client notices.
func (k *clientConn) close() {
	if k.over {
		return
	}
	k.over = true
	k.a.clients = slices.DeleteFunc(k.a.clients, func(x *clientConn) bool { return x == k })
	k.down.do(k.a.c, "client closed", uint64(k.client.index), k.a.host, func() { k.client.disconnected(k) })
	if !k.a.gone {
		k.a.step(agent.ClientGone{Process: k.process})
	}
}
