package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A driver that calls an actor of its node again and again, and waits for each result, gets a direct line to the actor's worker. Of a call
// that goes there, and its result, this agent knows nothing unless one of the two tells it: both at ends of their choice, the driver
// when the call takes long. See docs/adr/0035.
const (
	directMost  = 1 << 14 // as many are waited for at most before there is another one
	directShort = 10e6    // ns that each may take
)

// direct are the direct lines of an actor's worker.
type direct struct {
	callers []id.Process // that have had one
	caller  *process     // that called last
	class   *class       // and how
	n       int          // short calls of its in a row
	after   int          // as many have to be
	past    id.Task      // it came by a line, and there is nobody for its result
}

// joinDirect has a look at a call of an actor that ends.
func (c *Core) joinDirect(t *task, w *worker) {
	p, a, d := t.owner, t.actor, &w.direct
	alone := p.direct && p.kind == Driver && !p.gone && t.lane.n == 1 && w.process != nil && w.process.direct && w.flight.n == 1
	simple := a.ordered() && a.table.MaxPending < 0 && t.returns == 1 && t.deps|t.refs == 0 && t.deadline == 0 && t.parent == nil && t.attempt == 0
	if d.after = max(d.after, c.cfg.Direct); !alone || !simple || c.now-t.since > directShort {
		d.n = 0
		return
	}
	if d.caller != p || d.class != t.class {
		d.caller, d.class, d.n = p, t.class, 0
	}
	if d.n++; d.n < d.after {
		return
	}
	d.n, d.after = 0, min(2*d.after, directMost)
	d.callers = slices.DeleteFunc(d.callers, func(q id.Process) bool { return q == p.id || c.byProcess[q] == nil })
	d.callers = append(d.callers, p.id)
	c.out = append(c.out, Effect{Do: Join, Process: p.id, Worker: w.process.id, Line: &fb.LineT{
		Actor: taskT(a.id()), Caller: uint32(p.id), Incarnation: a.incarnation, Shape: t.lane.shape, WorkerShape: t.class.number}})
}

// strayDirect tells whether a result is of a call that came past this agent, and of which nobody wants it.
func (c *Core) strayDirect(p *process, name id.Task) bool {
	if p.worker == nil || p.worker.direct.past != name || name.IsZero() {
		return false
	}
	c.unseal(p)
	c.strays++
	return true
}

// onTold takes in a call that has gone by a direct line: from its caller, who does not wait there any more, or from the worker, which runs it and
// has something to say. Mostly both tell of it, and who comes second says nothing new.
func (c *Core) onTold(p *process, f frame) {
	m := c.read.call
	if wire.ReadCall(f.body, m) != nil {
		c.refuse(p, "sent a Told that can't be read")
		return
	}
	wire.PutHeader(f.whole, wire.Header{Length: uint32(len(f.whole) - wire.HeaderSize), Body: wire.CallSize, Type: fb.FrameTypeCall, Class: wire.ClassOf(fb.FrameTypeCall)})
	name, caller := taskOf(m.Task), p
	if p.worker != nil {
		p.worker.direct.past = name
		caller = c.byProcess[name.Process]
	}
	if k := c.entryOf(name); k != nil {
		if t := k.task; t != nil && p.worker != nil && t.worker == p.worker {
			p.worker.direct.past = id.Task{}
			p.worker.flight.remove(t)
			p.worker.flight.pushFirst(t) // it runs
		}
		return
	}
	a, cl := c.toldOfActor(p, caller, m)
	if a == nil || cl == nil || name.Process != caller.id || m.Deps|m.Refs != 0 || m.Returns != 1 || m.Job != caller.job.number {
		if p.worker == nil { // else its caller is gone, or the actor is over
			c.refuse(p, "told of a call past its agent that is none for a line")
		}
		return
	}
	if !c.acceptable(caller, f, name, m.Job, 0, 0, 1) {
		return
	}
	w, life := a.worker, m.Incarnation
	t := c.newCall(caller, m, f, a, cl)
	switch {
	case a.phase == fb.ActorPhaseAlive && life == a.incarnation && w != nil && w.process != nil && w.host == nil:
		c.flies(t, w, p.worker != nil)
	case a.phase == fb.ActorPhaseDead:
		c.failCall(t)
	case t.retry():
		c.again(t)
	default:
		c.fail(t, codeActorAway, "actor "+a.title()+": its worker died, and it is made again; the call may have run")
	}
}

// toldOfActor gives the actor of a call that a driver, or its worker, tells of, and its class; nil: none that the caller may call by a line.
func (c *Core) toldOfActor(p, caller *process, m *fb.CallT) (*actor, *class) {
	e := c.entries[taskOf(m.Actor)]
	if e == nil || e.actor == nil || e.first == nil || e.actor.proxy || caller == nil || caller.kind != Driver || !c.mayName(caller, e.first) {
		return nil, nil
	}
	if w := p.worker; w != nil && (w != e.actor.worker || !slices.Contains(w.direct.callers, caller.id)) {
		return nil, nil
	}
	return e.actor, c.class(caller, m.Shape, e.actor.function.language, unsaid{})
}

// flies notes a call that a worker has already. runs: it says so.
func (c *Core) flies(t *task, w *worker, runs bool) {
	t.actor.groups[t.lane.group].flying++
	t.actor.flying++
	if w.flight.n == 0 {
		w.since = c.now
	}
	t.worker, t.state, t.since = w, taskGiven, c.now
	if !runs {
		w.flight.push(t)
		return
	}
	w.direct.past = id.Task{}
	w.flight.pushFirst(t)
}
