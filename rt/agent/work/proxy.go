package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A proxy is an actor of another agent, to which a process here has a handle. Calls go to the agent that
// sent the handle, whose core takes them as from any process; so they arrive in the order in which each caller here sent them.

// proxy gives the actor that calls of a foreign handle go to; nil if the entry is no such handle.
func (c *Core) proxy(e *entry) *actor {
	if e == nil || e.first == nil || !e.first.foreign {
		return nil
	}
	p := c.home(e.first)
	if p.gone {
		return nil
	}
	a := &actor{entry: e, job: p.job, function: &function{name: "actor"}, phase: fb.ActorPhaseAlive, proxy: true,
		table: &fb.CreateT{MaxPending: -1}, byCaller: map[laneKey]*lane{}, groups: []callGroup{{"", 1, 0}}, incarnation: 1}
	if p.way == nil {
		p.way = &host{agent: p.agent, node: p.node, job: p.job, process: p, known: map[*function]bool{}, methods: map[*function]bool{}, shapes: map[hostShape]uint32{}}
		if h := c.hostOfProcess(p); h != nil { // what was said there is said
			p.way.known, p.way.methods, p.way.shapes = h.known, h.methods, h.shapes
		}
	}
	a.worker = &worker{host: p.way, process: p, job: p.job, actor: a, id: e.id}
	p.way.actors = append(p.way.actors, a.worker)
	e.actor = a
	if m := p.states[e.id]; m != nil {
		a.phase, a.incarnation, a.code, a.reason = m.Phase, m.Incarnation, m.Code, m.Reason
		if a.phase != fb.ActorPhaseDead {
			a.phase = fb.ActorPhaseAlive // whether it is, its agent knows
		}
	}
	return a
}

// unreachable gives the handle of an actor that was lost with the way to its agent something to call, whose calls have that agent asked for another.
func (c *Core) unreachable(e *entry, j *job) {
	a := &actor{entry: e, job: j, function: &function{name: "actor"}, phase: fb.ActorPhaseRestarting, proxy: true, table: &fb.CreateT{MaxPending: -1},
		byCaller: map[laneKey]*lane{}, groups: []callGroup{{"", 1, 0}}, incarnation: 1, cut: true, reason: "the node that sent its handle is out of reach"}
	a.worker = &worker{job: j, actor: a, id: e.id, process: j.home}
	e.actor = a
}

// away tells whether an actor lived here for another agent, and those who have a handle of it here go on with what that makes of it.
func (c *Core) away(a *actor) bool {
	if a.proxy || a.create == nil || a.create.owner.kind != Owner || a.create.owner.gone {
		return false
	}
	o := a.entry.first
	return o != nil && o.foreign && !c.home(o).gone
}

// redirect has a call go to the agent that knows where its actor is now.
func (c *Core) redirect(t *task) {
	if t.in != nil {
		t.in.remove(t)
	}
	caller := t.lane.process
	c.unline(t)
	t.actor = t.actor.entry.actor
	t.lane = t.actor.laneOf(caller, t.method)
	t.lane.n++
	c.stamp(t)
	c.line(t)
}

// redirectAll has the calls go to an actor that lives here from now on that wait behind a proxy of it, in their order.
func (c *Core) redirectAll(old *actor) {
	if old == nil || !old.proxy {
		return
	}
	for _, l := range slices.Clone(old.lanes) {
		for (old.cut || l.process.kind != Owner) && l.queue.head != nil {
			c.redirect(l.queue.head)
		}
	}
}

// proxyState takes in what the agent that sent a handle says of the actor.
func (c *Core) proxyState(p *process, m *fb.ActorStateT) {
	name := taskOf(m.Actor)
	if p.states == nil {
		p.states = map[id.Task]*fb.ActorStateT{}
	}
	p.states[name] = m
	e := c.entries[name]
	if e == nil || e.first == nil || c.home(e.first) != p {
		return
	}
	if a := e.actor; a != nil && a.proxy {
		a.incarnation, a.reason, a.code = max(a.incarnation, m.Incarnation), m.Reason, m.Code
		if m.Phase == fb.ActorPhaseDead {
			a.phase = fb.ActorPhaseDead
			for _, l := range slices.Clone(a.lanes) {
				for k := l.queue.head; k != nil; k = l.queue.head {
					c.failCall(k)
				}
			}
		}
	}
	for h := e.first.holders; h != nil; h = h.next {
		if h.process != p {
			c.table(h.process, m, 0, nil)
		}
	}
}

// endProxy forgets an actor that nobody here has a handle of any more, or that lives here from now on.
func (c *Core) endProxy(a *actor) {
	waits := slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.n > 0 })
	if h := a.worker.host; h != nil && a.worker.flight.n == 0 && !waits { // else calls are on the way, and end with it
		h.actors = slices.DeleteFunc(h.actors, func(w *worker) bool { return w == a.worker })
	}
	if a.entry.actor == a {
		a.entry.actor = nil
	}
}

// wayGone: the agent that handles came from is lost, and with it all that was on its way to their actors.
func (c *Core) wayGone(p *process, why string) {
	if p.way == nil {
		return
	}
	for _, w := range slices.Clone(p.way.actors) {
		a := w.actor
		if c.spared(a, "node "+p.node+": "+why) {
			continue
		}
		if p.cut && a.phase != fb.ActorPhaseDead {
			c.outOfReach(a, "node "+p.node+": "+why)
			continue
		}
		a.phase, a.code, a.reason = fb.ActorPhaseDead, codeActorDied, "node "+p.node+": "+why
		if a.entry.actor == a {
			c.tell(a)
		}
		for t := w.flight.head; t != nil; t = w.flight.head {
			c.leave(t)
			c.failCall(t)
		}
		for _, l := range slices.Clone(a.lanes) {
			for t := l.queue.head; t != nil; t = l.queue.head {
				c.failCall(t)
			}
		}
	}
}

// overHere is why a call of another agent can't be taken whose actor is not here any more.
const overHere = "the actor is dead: nobody had a handle of it any more"

// strayCall answers another agent whose call can't be taken, mostly because the actor is over here. Of one that lived here for it it is told anyway.
func (c *Core) strayCall(p *process, m *fb.CallT, f frame, code, why string) {
	c.strays++
	name := taskOf(m.Task)
	if !c.holdsAll(p, f.payload, m.Deps, m.Refs) {
		return
	}
	c.forward(p, c.resultFrame(id.Object{Task: name}, 0, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatError, 0,
		c.failure(code, why, name)))
}

// bounced ends a call of another agent to an actor that has moved to that very agent meanwhile, be it that the way by which it came is gone.
func (c *Core) bounced(t *task, w *worker) bool {
	if w.host == nil || w.process.agent != t.id().Agent && !(t.owner.remote() && w.process.agent == t.owner.agent) {
		return false
	}
	c.fail(t, codeActorAway, "actor "+t.actor.title()+" has moved to the node of its caller: call it again")
	return true
}
