package agent

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/objstore/bulk"
	"github.com/maniple-hpc/maniple/objstore/pull"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/tcp"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// deskBulk is the connections by which values come from other agents and go to them: the shell around a pull.Core. All of it is
// used in the desk's turns, but for what says otherwise.
type deskBulk struct {
	core    *pull.Core
	effects []pull.Effect
	numbers uint64 // that were given to streams, fetches, lines and waits
	streams map[uint64]bulkStream
	waits   map[uint64]func(bulk.Piece) // for ranges that have not come yet
	freed   []id.Object                 // of which the core is to be told
	asks    []ticketAsk
	slices  []sliceAsk      // of which it is asked where they lie, in that order
	apart   map[uint32]bool // agents of this machine to which there is no way on it
	traffic traffic
}

// bulkStream is a stream to an agent.
type bulkStream struct {
	*bulk.Stream
	agent uint32
	clear bool // it goes unencrypted, as nothing that names where memory lies may
}

// traffic is bytes of values that went between this node and others, ever. Those that were copied beside, and those that came unencrypted, are among
// what was received.
type traffic struct{ sent, received, beside, clear atomic.Int64 }

// ticketAsk is tickets that another agent was asked for.
type ticketAsk struct {
	agent uint32
	count int
	due   int64
}

const (
	ticketAsked = int64(5 * time.Second)  // so long tickets may take to come
	ticketGood  = int64(10 * time.Second) // so long one may be used
	ticketsMost = 16                      // that are given at once
	bulkDial    = 5 * time.Second
	bulkSilence = 20 * time.Second // an agent that says nothing for as long is dead
)

func newDeskBulk(agent uint32) *deskBulk {
	return &deskBulk{
		core:    pull.New(pull.Config{Agent: agent, Streams: Streams()}),
		streams: map[uint64]bulkStream{}, waits: map[uint64]func(bulk.Piece){}, apart: map[uint32]bool{},
	}
}

// Streams is how many connections an agent of this machine opens to another one for one large value: encrypting is what takes long. What is measured
// beside agents has as many.
func Streams() int { return max(2, procs()/2) }

// tickets are those that were given to other agents and not used yet. Safe for concurrent use.
type tickets struct {
	mu   sync.Mutex
	list []ticket
}

type ticket struct {
	number uint64
	agent  uint32
	due    int64
}

// give makes tickets for an agent.
func (t *tickets) give(now int64, agent uint32, count int) (numbers []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = slices.DeleteFunc(t.list, func(x ticket) bool { return x.due <= now })
	for range count {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails
		x := ticket{binary.LittleEndian.Uint64(b[:]), agent, now + ticketGood}
		t.list = append(t.list, x)
		numbers = append(numbers, x.number)
	}
	return numbers
}

// take uses a ticket; false: there is no such one.
func (t *tickets) take(now int64, agent uint32, number uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.list)
	t.list = slices.DeleteFunc(t.list, func(x ticket) bool { return x.number == number && x.agent == agent && x.due > now })
	return len(t.list) < n
}

// openConns are the connections that stand, with the goroutines that use them. Safe for concurrent use.
type openConns struct {
	mu    sync.Mutex
	conns map[net.Conn]uint32 // with the agent on the other side
	over  bool
	wait  sync.WaitGroup
}

// keep notes a connection with an agent until letGo; false: it came too late, and is closed.
func (o *openConns) keep(conn net.Conn, agent uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		_ = conn.Close()
		return false
	}
	if o.conns == nil {
		o.conns = map[net.Conn]uint32{}
	}
	o.conns[conn] = agent
	o.wait.Add(1)
	return true
}

func (o *openConns) letGo(conn net.Conn) {
	o.mu.Lock()
	delete(o.conns, conn)
	o.mu.Unlock()
	o.wait.Done()
}

// cut closes the connections with an agent that is lost: what is written to it holds memory.
func (o *openConns) cut(agent uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c, a := range o.conns {
		if a == agent {
			_ = c.Close()
		}
	}
}

// end closes all, and waits until nobody uses them, nor memory for them, any more.
func (o *openConns) end() {
	o.mu.Lock()
	o.over = true
	for c := range o.conns {
		_ = c.Close()
	}
	o.mu.Unlock()
	o.wait.Wait()
}

func (b *deskBulk) number() uint64 {
	b.numbers++
	return b.numbers
}

// pulls tells the core of pulls something, and does what it wants.
func (d *desk) pulls(ctx context.Context, ev pull.Event) {
	b := d.store.bulk
	b.effects = b.core.Step(d.l.now(), ev, b.effects[:0])
	for i, e := range b.effects {
		d.pullEffect(ctx, e)
		b.effects[i] = nil
	}
}

func (d *desk) pullEffect(ctx context.Context, e pull.Effect) {
	b := d.store.bulk
	switch e := e.(type) {
	case pull.Open:
		b.asks = append(b.asks, ticketAsk{e.Agent, e.Count, d.l.now() + ticketAsked})
		d.tellPeer(ctx, e.Agent, &fb.BulkAskT{Count: uint32(e.Count)}, nil)
	case pull.Cut:
		if s, ok := b.streams[e.Stream]; ok {
			s.Cut()
		}
	case pull.Ask:
		f, s := d.fetchBy(e.Fetch), b.streams[e.Stream]
		s.AskFar(bulk.Range{Object: e.Object, Offset: e.Offset, Size: e.Size}, f.into[e.At:], d.far(ctx, s.agent, f, e.At, e.Size))
	case pull.AskSource:
		d.tellPeer(ctx, e.Owner, &fb.SourceAskT{Task: taskT(e.Object.Task), Index: e.Object.Index, Again: e.Again}, nil)
	case pull.TellSource:
		d.tellPeer(ctx, e.Agent, &fb.SourceT{Task: taskT(e.Object.Task), Index: e.Object.Index, Agent: e.Source}, nil)
	case pull.Got:
		d.fetchGot(e)
	case pull.Give:
		f := d.fetchBy(e.Fetch)
		f.serving++
		p := bulk.Piece{Bytes: f.into[e.Offset : e.Offset+e.Size : e.Offset+e.Size], Version: e.Version, Done: func() {
			b.traffic.sent.Add(e.Size)
			d.post(mail{do: func() { f.serving--; d.stir() }})
		}}
		if file, err := d.store.memory.Reader(f.lent.Arena); err == nil {
			p.Lies = bulk.Place{File: file, Offset: f.lent.Start + f.lent.From + e.Offset}
		}
		b.answer(e.Wait, p)
	case pull.Refuse:
		b.answer(e.Wait, bulk.Piece{Why: "node " + d.node + ": " + e.Why})
	}
}

func (b *deskBulk) answer(wait uint64, p bulk.Piece) {
	answer := b.waits[wait]
	delete(b.waits, wait)
	answer(p)
}

// settlePulls does what has become due, and tells when the next thing is.
func (d *desk) settlePulls(ctx context.Context) int64 {
	if d.store == nil {
		return never
	}
	b, now, next := d.store.bulk, d.l.now(), never
	for _, o := range b.freed {
		d.pulls(ctx, pull.Freed{Object: o})
	}
	b.freed = b.freed[:0]
	d.endAsks(ctx, "it gave no tickets in time", func(a ticketAsk) bool { return a.due <= now })
	if due := b.core.NextDeadline(); due != 0 && due <= now {
		d.pulls(ctx, pull.Tick{})
	}
	for _, a := range b.asks {
		next = min(next, a.due)
	}
	if due := b.core.NextDeadline(); due != 0 {
		next = min(next, due)
	}
	return min(next, d.fabric.settle(ctx), d.settleSlices())
}

// endAsks gives up tickets that were asked for.
func (d *desk) endAsks(ctx context.Context, why string, over func(ticketAsk) bool) {
	var failed []ticketAsk
	b := d.store.bulk
	b.asks = slices.DeleteFunc(b.asks, func(a ticketAsk) bool {
		if over(a) {
			failed = append(failed, a)
			return true
		}
		return false
	})
	for _, a := range failed {
		for range a.count {
			d.pulls(ctx, pull.Failed{Agent: a.agent, Why: why})
		}
	}
}

// bulkLost: the session with another agent is over.
func (d *desk) bulkLost(ctx context.Context, peer uint32, why string) {
	d.bulkConns.cut(peer)
	if d.store != nil {
		delete(d.store.bulk.apart, peer)
		d.endAsks(ctx, why, func(a ticketAsk) bool { return a.agent == peer })
		d.pulls(ctx, pull.Lost{Agent: peer, Why: why})
	}
}

// bulkSays takes what another agent says about connections for values, and where to get them.
func (d *desk) bulkSays(ctx context.Context, peer uint32, m Message) {
	if d.store == nil {
		switch m := m.(type) {
		case *fb.BulkAskT:
			d.tellPeer(ctx, peer, &fb.BulkTicketsT{}, nil)
		case *fb.SourceAskT:
			d.tellPeer(ctx, peer, &fb.SourceT{Task: m.Task, Index: m.Index, Ranges: m.Ranges}, nil)
		}
		return
	}
	b := d.store.bulk
	switch m := m.(type) {
	case *fb.BulkAskT:
		numbers := d.tickets.give(d.l.now(), peer, int(min(m.Count, ticketsMost)))
		cfg := &d.l.core.cfg
		d.tellPeer(ctx, peer, &fb.BulkTicketsT{Tickets: numbers, Addresses: cfg.Addresses, Socket: cfg.Socket, Boot: cfg.Boot}, nil)
	case *fb.BulkTicketsT:
		i := slices.IndexFunc(b.asks, func(a ticketAsk) bool { return a.agent == peer })
		if i < 0 {
			return // too late
		}
		a := b.asks[i]
		b.asks = slices.Delete(b.asks, i, i+1)
		for i := range a.count {
			if i < len(m.Tickets) {
				d.dialBulk(ctx, peer, m.Tickets[i], m)
			} else {
				d.pulls(ctx, pull.Failed{Agent: peer, Why: "it has no memory for values"})
			}
		}
	case *fb.SourceAskT:
		if m.Ranges {
			d.tellWhere(ctx, peer, m)
			return
		}
		d.pulls(ctx, pull.Asked{Agent: peer, Object: id.Object{Task: taskOf(m.Task), Index: m.Index}, Again: m.Again})
	case *fb.SourceT:
		if m.Ranges {
			d.whereIs(ctx, peer, m)
			return
		}
		d.pulls(ctx, pull.SourceIs{Owner: peer, Agent: m.Agent, Object: id.Object{Task: taskOf(m.Task), Index: m.Index}})
	}
}

// dialBulk opens a stream.
func (d *desk) dialBulk(ctx context.Context, peer uint32, ticket uint64, m *fb.BulkTicketsT) {
	b := d.store.bulk
	number, here := b.number(), d.besideUs(peer, m)
	d.l.goes(func() {
		var conn net.Conn
		var err error
		if here {
			conn = d.dialBeside(ctx, peer, ticket, m.Socket)
		}
		if conn == nil {
			conn, err = d.dialing(ctx, peer, ticket, m.Addresses)
		}
		if err == nil && !d.bulkConns.keep(conn, peer) {
			return
		}
		if err != nil {
			d.post(mail{do: func() { d.pulls(ctx, pull.Failed{Agent: peer, Why: err.Error()}) }})
			return
		}
		d.endWhenSilent(conn)
		known := make(chan struct{})
		clear := isClear(conn)
		stream := bulk.NewStream(conn, func(e bulk.End) {
			b.traffic.received.Add(e.Size)
			if clear {
				b.traffic.clear.Add(e.Size)
			}
			if e.Beside {
				b.traffic.beside.Add(e.Size)
			}
			<-known
			d.post(mail{do: func() {
				if errors.Is(e.Err, bulk.ErrHandover) {
					d.apartFrom(peer, e.Err)
				}
				d.streamSays(ctx, number, e)
			}})
			if e.Err != nil { // its last word
				d.bulkConns.letGo(conn)
			}
		})
		d.post(mail{do: func() {
			b.streams[number] = bulkStream{stream, peer, isClear(conn)}
			if isClear(conn) && d.fabric.now() != nil {
				stream.Cut() // a fabric has opened meanwhile
			}
			d.pulls(ctx, pull.Opened{Agent: peer, Stream: number})
		}})
		close(known)
	})
}

func (d *desk) streamSays(ctx context.Context, number uint64, e bulk.End) {
	if e.Err == nil {
		d.pulls(ctx, pull.Came{Stream: number, Version: e.Version, Why: e.Why})
		return
	}
	delete(d.store.bulk.streams, number)
	d.pulls(ctx, pull.Broke{Stream: number, Size: e.Size, Version: e.Version, Why: e.Err.Error()})
}

// dialTicket connects to another agent with a ticket of its.
func (l *loop) dialTicket(ctx context.Context, peer uint32, ticket uint64, addresses []string) (net.Conn, error) {
	return l.dialBulk(ctx, fb.PurposeBulk, peer, ticket, addresses, l.mayClear())
}

// mayClear tells whether values may go without encryption at this moment: a fabric's keys are for TLS.
func (l *loop) mayClear() bool { return l.desk.fabric.now() == nil }

// dialBulk connects to another agent for what goes by ranges, with encryption unless the connection may do without and both nodes have named its network.
func (l *loop) dialBulk(ctx context.Context, purpose fb.Purpose, peer uint32, ticket uint64, addresses []string, mayClear bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, bulkDial)
	defer cancel()
	last := errors.New("it has no address")
	for _, addr := range addresses {
		conn, err := tcp.Dial(ctx, addr, l.cred, transport.Preamble{Role: fb.RoleAgent, Purpose: purpose})
		if err != nil {
			last = err
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(greetTimeout))
		h := l.hello(purpose)
		h.To, h.Ticket = peer, ticket
		h.Clear = mayClear && l.wantsClear(conn)
		w, err := transport.Greet(conn, h)
		if err == nil {
			conn, err = agreed(conn, h, w)
		}
		if err == nil {
			_ = conn.SetDeadline(time.Time{})
			return conn, nil
		}
		_ = conn.Close()
		last = fmt.Errorf("%s: %w", addr, err)
	}
	return nil, last
}

// endWhenSilent has a connection for values end by itself when the other node is cut off: what is written to it holds memory, and what is
// awaited from it may come by another way.
func (d *desk) endWhenSilent(conn net.Conn) {
	if s, ok := conn.(transport.SilenceConn); ok {
		if err := s.EndWhenSilent(bulkSilence); err != nil {
			d.l.log.Warn("a connection for values will not notice when the other node is cut off", "peer", conn.RemoteAddr(), "error", err)
		}
	}
}

// admitBulk decides about a connection for values; on the loop.
func (l *loop) admitBulk(m *fb.KeeperConnT, h *fb.HelloT, p transport.Peer) (*fb.WelcomeT, *fb.RefuseT) {
	if refuse := l.check(m, h, p); refuse != nil {
		return nil, refuse
	}
	if h.Role != fb.RoleAgent || !l.desk.tickets.take(l.now(), h.Agent, h.Ticket) {
		return nil, l.gate.Refuse(fb.RefuseCodeTicket, "the ticket is not one of this agent's, or was used, or is too old")
	}
	return &fb.WelcomeT{Build: l.build, Agent: l.core.Agent(), Term: l.head.term.Load()}, nil
}

// serveBulk answers what an agent asks for on a connection for values; on a goroutine of its own.
func (d *desk) serveBulk(ctx context.Context, conn net.Conn, agent uint32) {
	if !d.bulkConns.keep(conn, agent) {
		return
	}
	defer d.bulkConns.letGo(conn)
	d.endWhenSilent(conn)
	line := uint64(0)
	d.post(mail{do: func() { line = d.store.bulk.number() }})
	err := bulk.Serve(conn, func(r bulk.Range, answer func(bulk.Piece)) {
		d.post(mail{do: func() { d.piece(ctx, line, r, answer) }})
	}, func() {
		d.post(mail{do: func() { d.pulls(ctx, pull.LineOver{Line: line}) }})
	}, ctx.Done())
	d.l.log.Debug("a connection for values is over", "peer", conn.RemoteAddr(), "error", err)
}

// piece answers a range that another agent asks for.
func (d *desk) piece(ctx context.Context, line uint64, r bulk.Range, answer func(bulk.Piece)) {
	s := d.store
	if _, ok := s.store.Lookup(r.Object); !ok { // it may be on its way here
		wait := s.bulk.number()
		s.bulk.waits[wait] = answer
		d.pulls(ctx, pull.Wanted{Line: line, Wait: wait, Object: r.Object, Offset: r.Offset, Size: r.Size})
		return
	}
	if !d.locate(ctx, r, answer) {
		d.bytes(r, answer)
	}
}

// bytes answers a range with what it is.
func (d *desk) bytes(r bulk.Range, answer func(bulk.Piece)) {
	s := d.store
	s.part(r.Object, r.Offset, r.Size, func(p bulk.Piece, err error) {
		if err != nil {
			answer(bulk.Piece{Why: "node " + d.node + ": " + err.Error()})
			return
		}
		done := p.Done
		p.Done = func() {
			s.bulk.traffic.sent.Add(r.Size)
			done()
		}
		answer(p)
	})
}
