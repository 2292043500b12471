package work

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// TestRandomLines is TestRandomHistories with drivers that call actors again and again, and get direct lines to them.
func TestRandomLines(t *testing.T) {
	first, last := uint64(1), uint64(*seeds)
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	lines, told, overs := 0, 0, 0
	for seed := first; seed <= last; seed++ {
		h := newHistories(t, seed, 1+int(seed%3))
		h.direct = true
		h.run(1500)
		lines, told, overs = lines+h.lines, told+h.told, overs+h.overs
	}
	if *seedFlag == 0 && (lines < *seeds/2 || told < *seeds/2 || overs < *seeds/30) {
		t.Errorf("only %d calls went by direct lines in %d histories, agents were told of %d, and ended %d lines", lines, *seeds, told, overs)
	}
}

// converse has a driver call an actor, mostly past its agent.
func (p *peer) converse() bool {
	switch {
	case p.kind != Driver || p.doomed:
		return false
	case p.h.rng.IntN(8) == 0:
		return false
	case p.direct():
		return true
	}
	var actor id.Task
	for _, o := range p.keys {
		if p.h.actors[o.Task] != nil {
			actor = o.Task
		}
	}
	if r := p.held[id.Object{Task: p.talk}]; r != nil && r.unsettled { // it waits for that, and others go on
		p.h.goOn()
		return p.h.rng.IntN(8) > 0
	}
	if actor.IsZero() {
		p.create()
	} else {
		p.callOf(actor)
		p.talk = id.Task{Agent: p.at.agent, Process: p.id, Counter: p.next}
	}
	return true
}

// goOn lets everybody go on by a step.
func (h *history) goOn() {
	for _, q := range slices.Clone(h.peers) {
		if !q.dead {
			h.move(q)
		}
		if q.kind == Worker && !q.dead && !q.doomed {
			q.work()
		}
	}
	s := h.sites[h.rng.IntN(len(h.sites))]
	if len(s.needs) > 0 {
		h.need(s)
	}
	if len(h.sites) > 1 {
		h.between(s)
	}
	if h.names(s); slices.ContainsFunc(s.core.actors, func(a *actor) bool { return a.phase != fb.ActorPhaseAlive }) {
		h.now += int64(100 * time.Millisecond)
		h.step(s, Tick{})
	}
}

// modelLine is a direct line as the extension of the Python package has it: one call is there at a time, whose driver does nothing else.
type modelLine struct {
	driver *peer
	worker *peer
	actor  id.Task
	life   uint32
	shape  uint32
	shut   bool    // by the driver: what is there is read yet
	last   id.Task // the driver's last call to the actor
	clean  bool    // and it has its result
	call   *job1   // that the worker has not read
	m      *fb.ToldT
	out    id.Task // the driver waits for its result
	result bool    // which is there
}

func (h *history) join(driver, worker *peer, m *fb.LineT) {
	if !h.direct || driver == nil || worker == nil || worker.line != nil || driver.waitsDirect() {
		return
	}
	if driver.line != nil {
		driver.line.shut = true
	}
	l := &modelLine{driver: driver, worker: worker, actor: taskOf(m.Actor), life: m.Incarnation, shape: m.Shape}
	driver.line, worker.line = l, l
}

// lined makes an actor, of those that get lines, one that may have them, mostly, and moves.
func (h *history) lined(m *fb.CreateT) {
	if h.direct && h.rng.IntN(4) > 0 {
		m.MaxRestarts, m.Concurrency, m.OutOfOrder = -1, 1, false
	}
}

// called notes a call that the agent brings.
func (l *modelLine) called(actor, t id.Task) {
	if l != nil && l.actor == actor {
		l.last, l.clean = t, false
	}
}

// settled notes a result that has come.
func (l *modelLine) settled(t id.Task) {
	if l == nil {
		return
	}
	l.clean = l.clean || l.last == t
	if l.out == t { // the worker has told the agent
		l.out = id.Task{}
	}
}

// waits tells whether there is something for the worker.
func (l *modelLine) waits() bool { return l != nil && l.call != nil }

func (p *peer) waitsDirect() bool { return p.kind == Driver && p.line != nil && !p.line.out.IsZero() }

// direct lets a driver go on that waits at its line, or call there. false: it does something else.
func (p *peer) direct() bool {
	l, rng := p.line, p.h.rng
	if l != nil && len(p.h.sites) > 1 && !p.h.calm && rng.IntN(12) == 0 { // its node is drained, or is so no more
		p.h.drain(p.at)
	}
	switch {
	case p.kind != Driver || l == nil:
		return false
	case p.waitsDirect():
		if l.result || rng.IntN(3) == 0 {
			p.leaveLine()
		}
		return true
	case l.shut || !l.clean || p.held[id.Object{Task: l.actor}] == nil || rng.IntN(6) == 0:
		return false
	}
	t := p.mint()
	l.m = &fb.ToldT{Task: taskT(t), Actor: taskT(l.actor), Parent: &fb.TaskIDT{}, Job: p.job, Shape: l.shape, Returns: 1, Incarnation: l.life}
	l.call = &job1{id: t, kind: call, returns: 1, once: modelShapes[l.shape-1].retries == 0, line: l, frame: frameOf(p.h.t, l.m, nil)}
	p.h.once[t] = l.call.once
	p.h.lines++
	p.expect(t, 1)
	l.called(l.actor, t)
	l.out = t
	return true
}

// leaveLine has a driver take the result that is at its line, or shut it and tell of the call.
func (p *peer) leaveLine() {
	l := p.line
	o := id.Object{Task: l.out}
	l.out = id.Task{}
	if !l.result {
		l.shut, p.line = true, nil
		p.h.told++
		p.out = append(p.out, frameOf(p.h.t, l.m, nil)...)
		return
	}
	l.result, l.clean = false, true
	r := p.held[o]
	if r.came++; r.came > 1 {
		p.h.t.Fatalf("seed %d: WORK-1: process %d got %v by its line, and had it", p.h.seed, p.id, o)
	}
	r.unsettled = false
	if p.h.rng.IntN(2) == 0 {
		p.send(&fb.PutT{Object: objectT(o)}, []byte("value"))
		return
	}
	delete(p.held, o)
	p.keys = slices.DeleteFunc(p.keys, func(k id.Object) bool { return k == o })
}

// readLine has a worker take the call that is at its line.
func (p *peer) readLine() {
	l := p.line
	if p.kind != Worker || l == nil {
		return
	}
	if l.call != nil {
		p.inbox = append(p.inbox, l.call)
		p.inOrder(&fb.CallT{Task: l.m.Task})
		l.call = nil
	} else if l.shut || l.driver.dead {
		p.line = nil
	}
}

// endLine has a worker tell of all that it has from its line, which is over then.
func (p *peer) endLine() {
	if l := p.line; l != nil {
		p.readLine()
		l.shut, p.line = true, nil
	}
	p.tellDirect()
	for _, j := range p.inbox {
		if j.frame != nil && !j.known {
			waits := *j.line.m
			waits.Attempt = 1 // and it tells again when it begins with it
			p.out = append(p.out, frameOf(p.h.t, &waits, nil)...)
			j.known = true
		}
	}
	p.send(&fb.LineT{}, nil)
	p.h.overs++
}

// moved looks at a worker that is ended because its actor is to move: its agent has to know of all that it does.
func (h *history) moved(p *peer, why string) {
	if !strings.Contains(why, "is being drained") {
		return
	}
	unknown := func(j *job1) bool { return j.frame != nil && !j.known }
	if slices.ContainsFunc(p.running, unknown) || slices.ContainsFunc(p.inbox, unknown) || p.line.waits() {
		h.t.Fatalf("seed %d: worker %d is ended (%s) with a call that its agent does not know", h.seed, p.id, why)
	}
}

// tellDirect has a worker tell of the call from its line that runs, before it says anything else.
func (p *peer) tellDirect() {
	for _, j := range p.running {
		p.out = append(p.out, j.frame...)
		if j.frame != nil {
			p.h.told++
		}
		j.frame = nil
	}
}

// answer has a worker send a result by the line of which the call came. false: that goes to the agent.
func (p *peer) answer(j *job1) bool {
	if j.frame == nil || j.line.shut || j.line.driver.dead || j.cancel || p.h.rng.IntN(4) == 0 {
		return false
	}
	j.line.result = true
	p.running = slices.DeleteFunc(p.running, func(k *job1) bool { return k == j })
	delete(p.h.runs, j.id)
	return true
}
