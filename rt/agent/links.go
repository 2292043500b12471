package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// headLink is the session with the head, the dialler that keeps it attached, and the liveness beside it.
type headLink struct {
	link   *transport.Link
	number atomic.Uint32 // this agent's
	term   atomic.Uint64
	stop   context.CancelFunc

	mu        sync.Mutex
	addresses []string
	conns     []transport.Conn // that stand; closed when the head is silent
	calm      context.CancelFunc
}

func (h *headLink) where() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addresses
}

// headMoved takes in that the head is elsewhere: the connection to where it was is of no more use.
func (l *loop) headMoved(kc *fb.KeeperConfigT) {
	doc, err := bootdoc.Parse([]byte(kc.Boot))
	if err != nil {
		l.log.Error("the head's new place", "error", err)
		return
	}
	l.log.Info("the head is elsewhere", "addresses", doc.Head)
	h := l.head
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addresses = doc.Head
	for _, c := range h.conns {
		_ = c.Close()
	}
}

// dialHead starts to keep the link to the head.
func (l *loop) dialHead(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	h := &headLink{stop: stop, addresses: l.doc.Head}
	l.head = h
	h.link = transport.NewLink(transport.LinkConfig{
		Name: "head", Manual: true,
		OnMessage: func(m transport.Msg) {
			l.post(ctx, item{ev: FromHead{M: m.M, Corr: m.Corr, Payload: m.Payload}, link: h.link, msg: m})
		},
		OnUp: func(resumed bool) {
			l.post(ctx, item{ev: HeadUp{Agent: h.number.Load(), Term: h.term.Load(), Resumed: resumed}})
			l.watchHead(ctx)
		},
		OnDown: func(err error) {
			h.unwatch()
			l.post(ctx, item{ev: HeadDown{}})
		},
		OnDead: func(err error) {
			h.unwatch()
			if errors.Is(err, transport.ErrClosed) { // by us
				return
			}
			// This session can't be had again, and nobody dials any more; but the agent after this one has another.
			l.post(ctx, item{ev: HeadDown{}})
			l.post(ctx, item{ev: HeadRefused{Code: fb.RefuseCodeDead, Text: err.Error()}})
		},
	})
	d := &transport.Dialer{
		Link:      h.link,
		Addresses: h.where,
		Dial: func(ctx context.Context, addr string) (transport.Conn, error) {
			c, err := tcp.Dial(ctx, addr, l.cred, transport.Preamble{Role: fb.RoleHead, Purpose: fb.PurposeControl})
			if err == nil {
				h.remember(c)
			}
			return c, err
		},
		Hello: func() *fb.HelloT { return l.hello(fb.PurposeControl) },
		OnWelcome: func(w *fb.WelcomeT) error {
			if w.Assigned != 0 && h.number.Load() == 0 {
				h.number.Store(w.Assigned)
			}
			h.term.Store(max(h.term.Load(), w.Term))
			return nil
		},
	}
	l.goes(func() {
		err := d.Run(ctx)
		var refused *transport.RefusedError
		if errors.As(err, &refused) {
			l.post(ctx, item{ev: HeadRefused{Code: refused.Code, Text: refused.Text}})
		}
	})
}

// hello is what this agent says of itself to the head.
func (l *loop) hello(p fb.Purpose) *fb.HelloT {
	return &fb.HelloT{
		Build: l.build, Cluster: l.doc.Cluster, Job: l.doc.Job, Epoch: l.doc.Epoch, Role: fb.RoleAgent, Purpose: p,
		Agent: l.head.number.Load(), NodeKey: l.config.NodeKey, Term: l.head.term.Load(),
	}
}

func (h *headLink) remember(c transport.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns[:0], c)
}

// watchHead proves to the head that this loop turns, and looks whether the head's does.
func (l *loop) watchHead(ctx context.Context) {
	h := l.head
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	if h.calm != nil {
		h.calm()
	}
	h.calm = cancel
	h.mu.Unlock()
	alive := transport.NewLiveness(transport.LivenessConfig{
		Turns: l.turnsNow,
		OnSilent: func() {
			l.log.Warn("the head is silent: its connection is cut")
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, c := range h.conns {
				_ = c.Close()
			}
		},
	})
	l.goes(func() { _ = alive.Run(ctx) })
	l.goes(func() {
		_ = alive.Keep(ctx, func(ctx context.Context) (transport.Conn, error) {
			var last error
			for _, addr := range h.where() {
				c, err := tcp.Dial(ctx, addr, l.cred, transport.Preamble{Role: fb.RoleHead, Purpose: fb.PurposeLiveness})
				if err == nil {
					return c, nil
				}
				last = err
			}
			return nil, last
		}, func() *fb.HelloT { return l.hello(fb.PurposeLiveness) })
	})
}

func (h *headLink) unwatch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calm != nil {
		h.calm()
		h.calm = nil
	}
}

// clientLink is the session with a client.
type clientLink struct {
	link *transport.Link
	tcp  bool
	desk bool // the desk's, or a process of its: it has no link
}

// clientLost is how long a session with a client on another machine outlives its connection; one on
// this node is over with it.
const clientLost = 10 * time.Second

func (l *loop) sendClient(ctx context.Context, e ToClient) {
	c := l.clients[e.Process]
	if c == nil {
		return
	}
	if c.desk {
		l.desk.told(ctx, e)
		return
	}
	if err := c.link.Send(e.M, e.Corr, e.Payload); err != nil {
		l.log.Warn("can't send to a client: its session ends", "process", e.Process, "error", err)
		c.link.Kill(err)
	}
}

// closeClient ends a client's session after what it was sent.
func (l *loop) closeClient(ctx context.Context, e CloseClient) {
	c := l.clients[e.Process]
	if c == nil || c.desk { // what it was told before ends it
		return
	}
	l.goes(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = c.link.Close(ctx, e.Reason)
	})
}

// connected takes over a connection that the keeper accepted.
func (l *loop) connected(ctx context.Context, m *fb.KeeperConnT, f *os.File) {
	nc, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		l.log.Warn("a connection that is none", "error", err)
		return
	}
	l.goes(func() {
		conn, err := l.prove(ctx, m, nc)
		if err != nil {
			l.log.Warn("a connection was refused", "from", nc.RemoteAddr(), "error", err)
			return
		}
		_ = conn.SetDeadline(time.Now().Add(greetTimeout))
		var in admission
		hello, welcome, err := transport.Answer(conn, func(h *fb.HelloT, p transport.Peer) (w *fb.WelcomeT, r *fb.RefuseT) {
			a, ok := ask(ctx, l, func() (a admission) {
				switch h.Purpose {
				case fb.PurposeWork:
					a.process, a.welcome, a.refuse = l.admitWork(ctx, m, h, p)
				case fb.PurposeBulk:
					if a.welcome, a.refuse = l.admitBulk(m, h, p); a.welcome != nil {
						a.welcome.Clear = h.Clear && l.wantsClear(conn)
					}
				case fb.PurposeProbe:
					a.refuse = l.check(m, h, p)
					a.welcome = &fb.WelcomeT{Build: l.build, Agent: l.core.Agent(), Term: l.head.term.Load(), Clear: h.Clear && l.wantsClear(conn)}
				default:
					a.link, a.fresh, a.welcome, a.refuse = l.admit(ctx, m, h, p)
				}
				return a
			})
			if !ok {
				return nil, &fb.RefuseT{Code: fb.RefuseCodeBusy, Text: "the agent ends"}
			}
			in = a
			return a.welcome, a.refuse
		})
		if err == nil {
			conn, err = agreed(conn, hello, welcome)
		}
		if err != nil {
			l.log.Warn("a connection was refused", "from", conn.Peer().Addr, "error", err)
			_ = conn.Close()
			if in.fresh { // nobody knows of its session
				in.link.Kill(err)
			}
			return
		}
		if hello.Purpose == fb.PurposeWork {
			l.desk.attached(ctx, conn, in.process)
			return
		}
		if hello.Purpose == fb.PurposeBulk {
			_ = conn.SetDeadline(time.Time{})
			l.desk.serveBulk(ctx, conn, hello.Agent)
			return
		}
		if hello.Purpose == fb.PurposeProbe {
			_ = conn.SetDeadline(time.Time{})
			l.serveProbe(ctx, conn, hello.Agent)
			return
		}
		if in.fresh && hello.Role == fb.RoleAgent {
			took := func() bool { l.tookPeer(ctx, hello.Agent, in.link); return true }
			if _, ok := ask(ctx, l, took); !ok {
				_ = conn.Close()
				in.link.Kill(transport.ErrClosed)
				return
			}
		}
		_ = conn.SetDeadline(time.Time{})
		if err := in.link.Attach(conn, welcome, hello.Received); err != nil {
			l.log.Warn("a connection broke at once", "error", err)
		}
	})
}

// admission is what the loop decided about a connection: a link, or the process whose work it carries.
type admission struct {
	link    *transport.Link
	fresh   bool
	process uint32
	welcome *fb.WelcomeT
	refuse  *fb.RefuseT
}

// greetTimeout bounds TLS and the handshake of a connection that came in.
const greetTimeout = 5 * time.Second

// admit decides about a connection; it runs on the loop. fresh: the link was made for it, and has no
// place yet if it is a peer's.
func (l *loop) admit(ctx context.Context, m *fb.KeeperConnT, h *fb.HelloT, p transport.Peer) (link *transport.Link, fresh bool, w *fb.WelcomeT, r *fb.RefuseT) {
	if refuse := l.check(m, h, p); refuse != nil {
		return nil, false, nil, refuse
	}
	if h.Purpose != fb.PurposeControl {
		return nil, false, nil, l.gate.Refuse(fb.RefuseCodeMalformed, "an agent answers control and work connections only")
	}
	number := l.core.Agent()
	w = &fb.WelcomeT{Build: l.build, Agent: number, Term: l.head.term.Load()}
	switch h.Role {
	case fb.RoleClient:
		link, fresh = l.clientLinkFor(ctx, m.Unix, h)
	case fb.RoleAgent:
		if number == 0 || h.Agent == 0 || h.Agent == number {
			return nil, false, nil, l.gate.Refuse(fb.RefuseCodeBusy, "this agent is not a member yet")
		}
		link, fresh = l.peerLinkFor(ctx, h)
	default:
		return nil, false, nil, l.gate.Refuse(fb.RefuseCodeIdentity, "an agent answers clients and agents only")
	}
	link.Offer(h, w)
	return link, fresh, w, nil
}

// check refuses what is foreign or stale.
func (l *loop) check(m *fb.KeeperConnT, h *fb.HelloT, p transport.Peer) *fb.RefuseT {
	if m.Unix && h.Cluster == "" { // whoever reaches the socket means the cluster behind it
		h.Cluster = l.doc.Cluster
	}
	if h.Role == fb.RoleClient { // knows nothing of jobs and restarts
		h.Job, h.Epoch = l.doc.Job, l.doc.Epoch
	}
	return l.gate.Check(h, p)
}

// admitWork decides about a work connection, and numbers its process; it runs on the loop.
func (l *loop) admitWork(ctx context.Context, m *fb.KeeperConnT, h *fb.HelloT, p transport.Peer) (process uint32, w *fb.WelcomeT, r *fb.RefuseT) {
	if refuse := l.check(m, h, p); refuse != nil {
		return 0, nil, refuse
	}
	l.desk.open(ctx)
	return l.number(), &fb.WelcomeT{Build: l.build, Agent: l.core.Agent(), Term: l.head.term.Load()}, nil
}

// clientGone: a client is over; on the loop.
func (l *loop) clientGone(ctx context.Context, process uint32) {
	delete(l.clients, process)
	l.step(ctx, ClientGone{Process: process})
}

// peerLinkFor finds the session that a peer resumes, or makes one.
func (l *loop) peerLinkFor(ctx context.Context, h *fb.HelloT) (link *transport.Link, fresh bool) {
	if p := l.peers[h.Agent]; p != nil && p.in != nil && h.Session != 0 {
		if s, _ := p.in.Session(); s == h.Session {
			return p.in, false
		}
	}
	return l.peerLink(ctx, h.Agent), true
}

// clientLinkFor finds the session that a client resumes, or makes one.
func (l *loop) clientLinkFor(ctx context.Context, unix bool, h *fb.HelloT) (link *transport.Link, fresh bool) {
	if h.Session != 0 && !unix {
		for _, c := range l.clients {
			if !c.tcp {
				continue
			}
			if s, _ := c.link.Session(); s == h.Session {
				return c.link, false
			}
		}
	}
	process := l.number()
	c := &clientLink{tcp: !unix}
	lost := clientLost
	if unix {
		lost = time.Millisecond
	}
	c.link = transport.NewLink(transport.LinkConfig{
		Name: fmt.Sprintf("client %d", process), Manual: true, LostAfter: lost,
		Core: transport.LinkCoreConfig{Budget: [wire.NumClasses]int64{wire.ClassData: clientBudget}},
		OnMessage: func(m transport.Msg) {
			l.post(ctx, item{ev: FromClient{Process: process, M: m.M, Corr: m.Corr, Payload: m.Payload}, link: c.link, msg: m})
		},
		OnDead: func(error) {
			l.post(ctx, item{do: func(ctx context.Context) { l.clientGone(ctx, process) }})
		},
	})
	l.clients[process] = c
	return c.link, true
}

// clientBudget is how much output may wait for a client that does not read: the windows of several gangs.
const clientBudget = 128 << 20

// prove establishes who is at the other end.
func (l *loop) prove(ctx context.Context, m *fb.KeeperConnT, nc net.Conn) (transport.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	if m.Unix {
		return uds.Server(nc.(*net.UnixConn))
	}
	return tcp.Server(ctx, nc, l.cred)
}
