package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// peerLinks are the sessions with one other agent: the one that this side dialled and the one that
// the other side did. Owned by the loop.
type peerLinks struct {
	out, in *transport.Link
	backlog []ToPeer           // of errands, that found no room in the session
	stop    context.CancelFunc // of the dialler
}

// peerAlive: a connection to another agent that brings nothing is asked after so long for a sign of
// life, and given up after twice that.
const peerAlive = 3 * time.Second

// peerLost is how long a session between agents outlives its connection.
const peerLost = 15 * time.Second

func (p *peerLinks) best() *transport.Link {
	if p == nil {
		return nil
	}
	if p.out != nil {
		return p.out
	}
	return p.in
}

func (l *loop) sendPeer(ctx context.Context, e ToPeer) {
	link := l.peers[e.Peer].best()
	if link == nil {
		l.later(ctx, PeerDead{Peer: e.Peer})
		return
	}
	p := l.peers[e.Peer]
	if isErrand(e.M) && len(p.backlog) > 0 {
		p.backlog = append(p.backlog, e)
		return
	}
	if err := l.send(link, e.M, e.Corr, e.Payload); errors.Is(err, transport.ErrBudget) && isErrand(e.M) {
		p.backlog = append(p.backlog, e)
	} else if err != nil {
		l.log.Warn("can't send to an agent: its session ends", "agent", e.Peer, "error", err)
		link.Kill(err)
	}
}

// errandBudget is what of errands a session holds; what is more waits here for room.
const errandBudget = 64 << 20

// roomAt sends what waits for room in the session with a peer.
func (l *loop) roomAt(ctx context.Context, peer uint32) {
	p := l.peers[peer]
	if p == nil {
		return
	}
	waits := p.backlog
	p.backlog = nil
	for _, e := range waits {
		l.sendPeer(ctx, e)
	}
}

// peerLink makes a link to or from a peer; its end counts only while it is the one in its place.
func (l *loop) peerLink(ctx context.Context, peer uint32) *transport.Link {
	var link *transport.Link
	ups := 0
	link = transport.NewLink(transport.LinkConfig{
		Name: fmt.Sprintf("agent %d", peer), Manual: true, LostAfter: peerLost,
		// Output would wait for ever at a connection that only seems to stand.
		Core: transport.LinkCoreConfig{KeepAlive: peerAlive, Budget: [wire.NumClasses]int64{wire.ClassCalls: errandBudget, wire.ClassData: errandBudget}},
		OnMessage: func(m transport.Msg) {
			l.post(ctx, item{ev: FromPeer{Peer: peer, M: m.M, Corr: m.Corr, Payload: m.Payload}, link: link, msg: m})
		},
		OnRoom: func(wire.Class) { l.post(ctx, item{do: func(ctx context.Context) { l.roomAt(ctx, peer) }}) },
		OnUp: func(resumed bool) {
			if ups++; ups > 1 && !resumed {
				l.post(ctx, item{ev: PeerDead{Peer: peer}})
			}
			l.post(ctx, item{ev: PeerUp{Peer: peer}})
		},
		OnDead: func(err error) { l.post(ctx, item{do: func(ctx context.Context) { l.peerOver(ctx, peer, link, err) }}) },
	})
	return link
}

// tookPeer puts a session that came in, and whose handshake is done, in the place of the one before it.
func (l *loop) tookPeer(ctx context.Context, peer uint32, link *transport.Link) {
	p := l.peers[peer]
	if p == nil {
		p = &peerLinks{}
		l.peers[peer] = p
	}
	old := p.in
	p.in = link
	if old != nil {
		p.backlog = nil
		old.Kill(transport.ErrReplaced)
		l.step(ctx, PeerDead{Peer: peer})
	}
}

// peerOver: a session with a peer is over.
func (l *loop) peerOver(ctx context.Context, peer uint32, link *transport.Link, err error) {
	p := l.peers[peer]
	if p == nil || p.out != link && p.in != link {
		return
	}
	l.log.Info("session with an agent is over", "agent", peer, "error", err)
	p.backlog = nil
	if p.out == link {
		p.stop()
		p.out = nil
	} else {
		p.in = nil
	}
	l.step(ctx, PeerDead{Peer: peer})
	if p.best() != nil {
		l.step(ctx, PeerUp{Peer: peer})
	}
}

func (l *loop) dialPeer(ctx context.Context, e PeerDial) {
	p := l.peers[e.Peer]
	if p == nil {
		p = &peerLinks{}
		l.peers[e.Peer] = p
	}
	if p.best() != nil {
		l.later(ctx, PeerUp{Peer: e.Peer})
		return
	}
	link := l.peerLink(ctx, e.Peer)
	dialing, stop := context.WithCancel(ctx)
	p.out, p.stop = link, stop
	d := &transport.Dialer{
		Link: link, Addresses: func() []string { return e.Addresses },
		Dial: func(ctx context.Context, addr string) (transport.Conn, error) {
			return tcp.Dial(ctx, addr, l.cred, transport.Preamble{Role: fb.RoleAgent, Purpose: fb.PurposeControl})
		},
		Hello: func() *fb.HelloT {
			h := l.hello(fb.PurposeControl)
			h.To = e.Peer
			return h
		},
	}
	l.goes(func() {
		err := d.Run(dialing)
		l.post(ctx, item{do: func(ctx context.Context) { l.peerOver(ctx, e.Peer, link, err) }})
		link.Kill(err)
	})
}

func (l *loop) dropPeer(peer uint32) {
	p := l.peers[peer]
	if p == nil {
		return
	}
	delete(l.peers, peer)
	if p.out != nil {
		p.stop()
		p.out.Kill(transport.ErrClosed)
	}
	if p.in != nil {
		p.in.Kill(transport.ErrClosed)
	}
}
