package sim

import (
	"errors"
	"slices"

	"github.com/maniple-hpc/maniple/rt/head"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// headProc is one run of the head's process: its core, and a session with each agent.
type headProc struct {
	c     *Cluster
	host  *host
	core  *head.Core
	gone  bool
	armed int64
	links []*headLink // in order of numbers
	asks  map[head.Conn]ask
	conn  head.Conn
	turns uint64
	audit *head.Send // the answer to a question of Check
}

type headLink struct {
	agent id.Agent
	s     *session
	pulse transport.PulseCore
	node  *host
}

type ask struct {
	e     end
	hello *fb.HelloT
}

// startHead starts the head on node 0; it reads the journal first.
func (c *Cluster) startHead() {
	if c.nodes[0].dead || c.head != nil {
		return
	}
	h := &headProc{c: c, host: c.nodes[0].host, core: head.New(c.cfg.Head), asks: map[head.Conn]ask{}}
	for i, rec := range c.journal {
		m, err := wire.Unmarshal(wire.Type(uint16(rec[0])|uint16(rec[1])<<8), rec[2:])
		if err == nil {
			err = h.core.Replay(m)
		}
		if err != nil {
			c.fault("HEAD-6: record %d is not accepted at replay: %v", i, err)
			return
		}
	}
	c.head = h
	out, err := h.core.Open(c.now, nil)
	if err != nil {
		c.fault("the head does not open: %v", err)
		return
	}
	c.logf("head: term %d, %d records read", h.core.Term(), len(c.journal))
	h.do(out)
	h.pings()
}

func (h *headProc) step(ev head.Event) {
	if !h.gone {
		h.turns++
		h.do(h.core.Step(h.c.now, ev, nil))
	}
}

func (h *headProc) do(out []head.Effect) {
	for _, e := range out {
		switch e := e.(type) {
		case head.Append:
			body, err := wire.Marshal(nil, e.Rec)
			if err != nil {
				h.c.fault("a record that can't be written: %v", err)
				continue
			}
			t := wire.TypeOf(e.Rec)
			h.c.journal = append(h.c.journal, append([]byte{byte(t), byte(t >> 8)}, body...))
			h.c.record(e.Rec)
		case head.Send:
			h.send(e)
		case head.Admitted:
			h.admitted(e)
		case head.Refused:
			a := h.asks[e.Conn]
			delete(h.asks, e.Conn)
			h.c.Refused++
			h.c.logf("head: refused %s: %s", h.c.of(a.hello), e.Refuse.Text)
			a.e.refuse(e.Refuse)
		case head.Bury:
			if l := h.link(e.Agent); l != nil {
				h.links = slices.DeleteFunc(h.links, func(x *headLink) bool { return x == l })
				l.s.onDead = func(error) {}
				l.s.kill(transport.ErrClosed)
			}
		case head.Exit:
			h.c.logf("head: exit %d: %s", e.Code, e.Reason)
			h.c.exited = &e
			h.stop()
			return
		}
	}
	h.arm()
}

func (h *headProc) arm() {
	d := h.core.NextDeadline()
	if d == 0 || h.armed != 0 && h.armed <= d {
		return
	}
	h.armed = d
	h.c.at(d, "head tick", 0, h.host, func() {
		if h.armed == d {
			h.armed = 0
			h.step(head.Tick{})
			if !h.gone {
				h.arm()
			}
		}
	})
}

func (h *headProc) link(agent id.Agent) *headLink {
	i, ok := slices.BinarySearchFunc(h.links, agent, func(l *headLink, n id.Agent) int { return int(int64(l.agent) - int64(n)) })
	if !ok {
		return nil
	}
	return h.links[i]
}

func (h *headProc) send(e head.Send) {
	if h.audit != nil && e.Corr == auditCorr {
		*h.audit = e
		return
	}
	l := h.link(e.Agent)
	if l == nil {
		return
	}
	if err := l.s.send(e.Msg, e.Corr, e.Payload); err != nil && !errors.Is(err, transport.ErrDead) {
		h.c.fault("the head can't send %T to agent %d: %v", e.Msg, e.Agent, err)
	}
}

// accept takes a connection that came to the head's port.
func (h *headProc) accept(e end) receiver {
	return &answering{conn: e, admit: func(e end, hello *fb.HelloT) {
		if h.gone {
			e.close()
			return
		}
		h.conn++
		h.asks[h.conn] = ask{e, hello}
		h.step(head.Admit{Conn: h.conn, Hello: hello})
	}}
}

func (h *headProc) admitted(e head.Admitted) {
	a := h.asks[e.Conn]
	delete(h.asks, e.Conn)
	h.c.admission(e.Agent, a.hello)
	l := h.link(e.Agent)
	if l == nil {
		l = h.newLink(e.Agent, a.e.peer())
	}
	l.s.offer(a.hello, e.Welcome)
	a.e.sendMessage(e.Welcome)
	if err := l.s.attach(a.e, e.Welcome, a.hello.Received); err != nil {
		a.e.close()
	}
}

func (h *headProc) newLink(agent id.Agent, node *host) *headLink {
	l := &headLink{agent: agent, s: h.c.session(h.host, linkConfig), node: node}
	l.pulse = transport.PulseCore{Interval: pingEvery, Deadline: silentAfter}
	l.pulse.Begin(h.c.now)
	l.s.onMsg = func(m transport.Msg) {
		h.step(head.FromAgent{Agent: agent, Msg: m.M, Corr: m.Corr, Payload: m.Payload})
	}
	l.s.onUp = func(resumed bool) { h.step(head.LinkUp{Agent: agent, Resumed: resumed}) }
	l.s.onDown = func(err error) { h.step(head.LinkDown{Agent: agent, Reason: err.Error()}) }
	l.s.onDead = func(err error) {
		h.links = slices.DeleteFunc(h.links, func(x *headLink) bool { return x == l })
		var bye *transport.GoodbyeError
		if errors.As(err, &bye) {
			h.step(head.Left{Agent: agent, Reason: bye.Reason})
			return
		}
		h.step(head.Silent{Agent: agent, Reason: err.Error()})
	}
	at, _ := slices.BinarySearchFunc(h.links, agent, func(l *headLink, n id.Agent) int { return int(int64(l.agent) - int64(n)) })
	h.links = slices.Insert(h.links, at, l)
	return l
}

// pings proves to every agent that the head's loop turns, and looks who proved nothing for too long.
func (h *headProc) pings() {
	if h.gone {
		return
	}
	for _, l := range slices.Clone(h.links) {
		turn := h.turns
		d, lost := h.c.delay(h.host, l.node)
		if !lost && reach(h.host, l.node) {
			agent := uint32(l.agent)
			h.c.at(h.c.now+d, "ping", uint64(agent), l.node, func() { h.c.nodes[l.node.index].heard(agent, turn) })
		}
		if l.pulse.Tick(h.c.now) {
			h.c.logf("head: agent %d is silent", l.agent)
			h.step(head.Silent{Agent: l.agent, Reason: "silent for 5 s"})
		}
	}
	h.turns++
	h.c.after(pingEvery, "pings", 0, h.host, h.pings)
}

// heard takes a proof of an agent's life.
func (h *headProc) heard(agent id.Agent, turn uint64) {
	if l := h.link(agent); l != nil && !h.gone {
		l.pulse.Heard(turn)
	}
}

// stop is the end of the process: connections break, all that it knew is gone but the journal.
func (h *headProc) stop() {
	h.gone = true
	h.c.head = nil
	for _, l := range h.links {
		l.s.onDead, l.s.onDown = func(error) {}, func(error) {}
		l.s.kill(transport.ErrClosed)
	}
}
