package head

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// greetTimeout bounds TLS and the handshake of a connection that came in.
const greetTimeout = 5 * time.Second

// memberLink is the session with an agent and the watch over its life. Owned by the loop.
type memberLink struct {
	link  *transport.Link
	alive *transport.Liveness // while the link has a connection
	calm  context.CancelFunc  // ends alive
}

// drop ends the session and what belongs to it.
func (m *memberLink) drop(err error) {
	if m.calm != nil {
		m.calm()
	}
	m.link.Kill(err)
}

// caller is a connection that waits for the core's word.
type caller struct {
	hello *fb.HelloT
	from  string
	done  chan struct{} // closed by answer
	// set before done is closed
	member  *memberLink
	alive   *transport.Liveness
	welcome *fb.WelcomeT
	refuse  *fb.RefuseT
}

func (c *caller) answer(m *memberLink, w *fb.WelcomeT, r *fb.RefuseT) {
	c.member, c.welcome, c.refuse = m, w, r
	if m != nil {
		c.alive = m.alive
	}
	close(c.done)
}

// connected takes over a connection that the keeper accepted: TLS, handshake, and what it is for, in a
// goroutine of its own.
func (l *loop) connected(ctx context.Context, _ *fb.KeeperConnT, f *os.File) {
	nc, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		l.log.Warn("a connection that is none", "error", err)
		return
	}
	l.goes(func() {
		from := nc.RemoteAddr().String()
		conn, hello, c, err := l.greet(ctx, nc, from)
		if err != nil {
			if ctx.Err() == nil {
				l.log.Warn("a connection was refused", "from", from, "error", err)
			}
			return
		}
		if hello.Purpose == fb.PurposeLiveness {
			_ = c.alive.Serve(ctx, conn) // until it breaks
			return
		}
		if err := c.member.link.Attach(conn, c.welcome, hello.Received); err != nil {
			l.log.Warn("a connection broke at once", "from", from, "error", err)
		}
	})
}

// greet proves who is there and has the core decide. It closes the connection on error.
func (l *loop) greet(ctx context.Context, nc net.Conn, from string) (transport.Conn, *fb.HelloT, *caller, error) {
	ctx, cancel := context.WithTimeout(ctx, greetTimeout)
	defer cancel()
	conn, err := tcp.Server(ctx, nc, l.cred)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(aLongTimeAgo) })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(greetTimeout))
	c := &caller{from: from, done: make(chan struct{})}
	hello, _, err := transport.Answer(conn, func(h *fb.HelloT, p transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
		if p.Role != fb.RoleAgent {
			return nil, &fb.RefuseT{Code: fb.RefuseCodeIdentity, Text: "only agents connect to the head; clients connect to their node's agent"}
		}
		c.hello = h
		if !l.post(ctx, item{do: func() { l.consider(c) }}) {
			return nil, &fb.RefuseT{Code: fb.RefuseCodeBusy, Text: "the head is busy or ends"}
		}
		select {
		case <-c.done:
			return c.welcome, c.refuse
		case <-ctx.Done():
			return nil, &fb.RefuseT{Code: fb.RefuseCodeBusy, Text: "the head is busy or ends"}
		}
	})
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, hello, c, nil
}

// consider asks the core about a connection.
func (l *loop) consider(c *caller) {
	l.conns++
	l.waiting[l.conns] = c
	l.step(Admit{l.conns, c.hello})
}

// admitted lets a connection in, to the session that its agent has or will have.
func (l *loop) admitted(ctx context.Context, e Admitted) {
	c := l.waiting[e.Conn]
	delete(l.waiting, e.Conn)
	if c == nil {
		return
	}
	m := l.members[e.Agent]
	if c.hello.Purpose == fb.PurposeLiveness {
		if m == nil || m.alive == nil {
			c.answer(nil, nil, &fb.RefuseT{Code: fb.RefuseCodeBusy, Text: "your control connection comes first"})
			return
		}
		c.answer(m, e.Welcome, nil)
		return
	}
	if m == nil {
		m = l.newMember(ctx, e.Agent)
	}
	m.link.Offer(c.hello, e.Welcome)
	l.watch(ctx, e.Agent, m)
	c.answer(m, e.Welcome, nil)
}

// newMember makes the session with an agent. Its callbacks only post: when the loop has gone, they drop.
func (l *loop) newMember(ctx context.Context, agent id.Agent) *memberLink {
	m := &memberLink{}
	var link *transport.Link
	link = transport.NewLink(transport.LinkConfig{
		Name: fmt.Sprintf("agent %d", agent), Manual: true, Core: transport.LinkCoreConfig{KeepBody: true},
		OnMessage: func(msg transport.Msg) {
			l.post(ctx, item{ev: FromAgent{Agent: agent, Msg: msg.M, Corr: msg.Corr, Payload: msg.Payload, Body: msg.Body}, link: link, msg: msg})
		},
		OnUp: func(resumed bool) { l.post(ctx, item{do: func() { l.linkUp(ctx, agent, m, resumed) }}) },
		OnDown: func(err error) {
			l.post(ctx, item{do: func() { l.linkDown(agent, m, err) }})
		},
		OnDead: func(err error) {
			reason := err.Error()
			var bye *transport.GoodbyeError
			if errors.As(err, &bye) {
				reason = bye.Reason
			}
			l.post(ctx, item{do: func() {
				if l.members[agent] == m {
					l.step(Left{agent, reason})
				}
			}})
		},
	})
	m.link = link
	l.members[agent] = m
	return m
}

// linkUp: the watch stands since this connection was admitted, but for the end of the one before, which
// may have been told only after that.
func (l *loop) linkUp(ctx context.Context, agent id.Agent, m *memberLink, resumed bool) {
	if l.members[agent] == m && m.alive == nil {
		l.watch(ctx, agent, m)
	}
	l.step(LinkUp{agent, resumed})
}

// linkDown: who has no connection proves nothing; the core gives it its time.
func (l *loop) linkDown(agent id.Agent, m *memberLink, err error) {
	if l.members[agent] != m {
		return
	}
	if errors.Is(err, transport.ErrReplaced) {
		return // another connection stands already, and is watched
	}
	if m.calm != nil {
		m.calm()
		m.alive, m.calm = nil, nil
	}
	l.step(LinkDown{agent, err.Error()})
}

// watch begins to watch over an agent's life, anew with each control connection.
func (l *loop) watch(ctx context.Context, agent id.Agent, m *memberLink) {
	if m.calm != nil {
		m.calm()
	}
	watching, calm := context.WithCancel(ctx)
	m.calm = calm
	m.alive = transport.NewLiveness(transport.LivenessConfig{
		Turns: l.turnsNow,
		OnSilent: func() {
			l.post(ctx, item{do: func() {
				if l.members[agent] == m {
					l.step(Silent{agent, "it was silent for 5 s"})
				}
			}})
		},
	})
	alive := m.alive
	l.goes(func() { _ = alive.Run(watching) })
}

// send puts a message on an agent's link, and gives that back: its caller flushes it. One that takes nothing any more is as
// good as dead.
func (l *loop) send(e Send) *transport.Link {
	m := l.members[e.Agent]
	if m == nil {
		return nil // its session comes with its connection, and then it tells and is told everything
	}
	err := m.link.Queue(e.Msg, e.Corr, e.Payload)
	switch {
	case err == nil, errors.Is(err, transport.ErrDead):
	case errors.Is(err, transport.ErrTooLarge):
		l.log.Warn("can't send", "agent", e.Agent, "error", err)
		if _, reply := e.Msg.(*fb.StateReplyT); reply {
			_ = m.link.Queue(&fb.StateReplyT{Error: "head: the answer is too large: ask for a part"}, e.Corr, nil)
		}
	default:
		l.log.Warn("an agent takes no messages", "agent", e.Agent, "error", err)
		m.link.Kill(fmt.Errorf("it takes no messages: %w", err))
	}
	return m.link
}
