package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Call.method is the method's number, and above it that of a group which the call has chosen (counted
// from 1), if not the method's own.
const (
	groupShift = 24
	methodMask = 1<<groupShift - 1
)

func (c *Core) onCall(p *process, f frame) {
	m := c.read.call
	if wire.ReadCall(f.body, m) != nil {
		c.refuse(p, "sent a Call that can't be read")
		return
	}
	e := c.entries[taskOf(m.Actor)]
	if e != nil && p.kind == Owner && (e.actor == nil && e.first != nil && c.home(e.first) == p || e.actor != nil && e.actor.proxy && e.actor.worker.process == p) {
		c.strayCall(p, m, f, codeActorDied, overHere) // to one that lived here, and whose handle has come again
		return
	}
	c.standIn(e, p)
	if p.remote() && (e == nil || e.actor == nil) {
		c.strayCall(p, m, f, codeActorDied, overHere)
		return
	}
	if k := c.entries[taskOf(m.Task)]; p.remote() && k != nil && k.task != nil && k.task.owner.gone { // its caller was out of reach, and tries again
		c.strayCall(p, m, f, codeActorAway, "the call was lost with its connection, and still runs")
		return
	}
	if e == nil || e.actor == nil || e.first == nil || !c.mayName(p, e.first) {
		c.refuse(p, "called an actor that it has no handle of")
		return
	}
	a := e.actor
	cl := c.class(p, m.Shape, a.function.language, unsaid{})
	switch {
	case cl == nil:
		c.refuse(p, "called with a shape that it did not define")
		return
	case m.Incarnation > a.incarnation && !a.proxy: // which life a proxy is in, another agent knows
		c.refuse(p, "called an actor's incarnation that was not yet")
		return
	}
	if !c.acceptable(p, f, taskOf(m.Task), m.Job, m.Deps, m.Refs, m.Returns) {
		return
	}
	t := c.newCall(p, m, f, a, cl)
	if limit := a.table.MaxPending; limit >= 0 && t.lane.n > int(limit) {
		c.fail(t, codePending, "the actor has as many calls of this process waiting as its max_pending_calls allows")
		return
	}
	if a.phase == fb.ActorPhaseDead {
		c.failCall(t)
		return
	}
	c.begin(t)
}

// standIn gives a handle whose actor is elsewhere something that p can call, if there is nothing.
func (c *Core) standIn(e *entry, p *process) {
	if e == nil || e.actor != nil || c.proxy(e) != nil || e.first == nil {
		return
	}
	switch {
	case e.first.has(markLost):
		c.unreachable(e, p.job)
	case e.first.state == objectGone && !p.remote(): // only lineage named it, and a task that ran again has it from there
		c.unreachable(e, p.job)
		c.proxyOver(e.actor, "nobody had a handle of it any more")
	}
}

// newCall makes a call of a frame that is acceptable.
func (c *Core) newCall(p *process, m *fb.CallT, f frame, a *actor, cl *class) *task {
	t := c.newTask(p, f, call, taskOf(m.Task), c.entries[taskOf(m.Parent)], m.Deps, m.Refs, m.Returns)
	t.spent = true
	t.lane = a.laneOf(p, m.Method)
	t.lane.n++
	t.lane.shape = m.Shape
	t.kind, t.actor, t.class, t.function, t.method = call, a, cl, a.function, m.Method
	t.deadline = int64(min(m.Deadline, 1<<62))
	t.retries = cl.table.Retries
	m.Shape, m.Attempt, m.Incarnation, m.Job = cl.number, 0, a.incarnation, p.job.number
	t.stamped = a.incarnation
	wire.PutCall(t.frame[wire.HeaderSize:], m)
	a.entry.first.pins++
	return t
}

// laneOf gives the lane of a process for a method.
func (a *actor) laneOf(p *process, method uint32) *lane {
	group := int(method >> groupShift)
	switch number := int(method & methodMask); {
	case group > 0 && group < len(a.groups):
	case number < len(a.method):
		group = int(a.method[number])
	default:
		group = 0
	}
	k := laneKey{p, group}
	l := a.byCaller[k]
	if l == nil {
		l = &lane{process: p, group: group}
		a.byCaller[k] = l
		a.lanes = append(a.lanes, l)
	}
	return l
}

// closeLanes drops the lanes of a process that is gone, but for those with calls on their way.
func (a *actor) closeLanes(p *process) {
	a.lanes = slices.DeleteFunc(a.lanes, func(l *lane) bool {
		if l.process != p || l.n > 0 {
			return false
		}
		delete(a.byCaller, laneKey{p, l.group})
		return true
	})
}

// line puts a call in its place. In actors that keep the order, it has it from the beginning.
func (c *Core) line(t *task) {
	a := t.actor
	switch next := a.entry.actor; {
	case next != nil && next != a && (a.phase == fb.ActorPhaseDead || a.proxy) && t.lane != nil && t.owner.kind != Owner:
		if t.in == nil {
			c.redirect(t)
			return
		}
		for l := t.lane; l.queue.head != nil; { // those before it and behind it, too
			c.redirect(l.queue.head)
		}
		return
	case a.phase == fb.ActorPhaseDead:
		c.failCall(t)
		return
	case t.in == nil && a.ordered():
		t.lane.queue.pushInTurn(t)
	case t.in == nil && t.missing == 0:
		t.lane.queue.push(t)
	}
	if a.cut {
		c.seek(a)
	}
	c.wantPump(a)
}

// pushInTurn puts a call before those that its process has sent after it: it may have waited for its arguments while its actor took calls out of their
// order, which it may not any more where it is now. Else they could wait for each other.
func (l *list) pushInTurn(t *task) {
	at := l.tail
	for ; at != nil && at.id().Agent == t.id().Agent && at.id().Process == t.id().Process && at.id().Counter > t.id().Counter; at = at.listBefore {
	}
	if at == nil {
		l.pushFirst(t)
	} else {
		l.pushAfter(at, t)
	}
}

// unline counts a call that has its outcome.
func (c *Core) unline(t *task) {
	l := t.lane
	if l == nil {
		return
	}
	t.lane = nil
	if l.n--; l.n == 0 && l.process.gone {
		t.actor.closeLanes(l.process)
	}
	if l.n == 0 && t.actor.proxy && t.actor.entry.actor == t.actor && t.actor.entry.first != nil {
		c.move(t.actor.entry.first)
	}
}

func (c *Core) wantPump(a *actor) {
	if !a.pumping {
		a.pumping = true
		c.pumping = append(c.pumping, a)
	}
}

// pump sends calls to actors that have room, one of each caller in turn.
func (c *Core) pump() {
	for i := 0; i < len(c.pumping); i++ {
		a := c.pumping[i]
		a.pumping = false
		w := a.worker
		if a.phase != fb.ActorPhaseAlive || w == nil || w.process == nil || w.shutting || c.moves(a) {
			continue
		}
		for idle := 0; idle < len(a.lanes); {
			a.turn = (a.turn + 1) % len(a.lanes)
			l := a.lanes[a.turn]
			g := &a.groups[l.group]
			t := l.queue.head
			if t == nil || t.state != taskQueued || g.flying >= g.size+callsAhead {
				idle++
				continue
			}
			idle = 0
			if c.bounced(t, w) {
				continue
			}
			if w.host != nil && !c.lieWith(t, w.process) {
				c.fetchArgs(t)
				continue
			}
			g.flying++
			a.flying++
			if t.stamped != a.incarnation {
				t.stamped = a.incarnation
				c.stamp(t)
			}
			c.give(t, w)
		}
	}
	c.pumping = c.pumping[:0]
}

// gone: a call has left the actor's worker.
func (a *actor) gone(t *task) {
	a.groups[t.lane.group].flying--
	a.flying--
}

// callsLost: the worker of an actor is over with calls on it. Those that may be tried again wait for its
// next life; of the others nobody knows whether they ran.
func (c *Core) callsLost(a *actor, w *worker, why string) {
	if !a.returns() && a.reason == "" {
		a.reason = "its worker died: " + why
	}
	for t := w.flight.head; t != nil; {
		next := t.listed
		switch {
		case t.kind == create:
			c.leave(t)
		case t.cancelled:
			c.fail(t, codeCancelled, "it was cancelled; "+why)
		case !a.returns() && !(c.away(a) && t.owner != a.create.owner):
			c.failCall(t)
		case !(a.moved && t.mayMove()) && !t.retry():
			c.fail(t, codeActorAway, "actor "+a.title()+": its worker died ("+why+") and it is being made again; the call may have run")
		}
		t = next
	}
	for t := w.flight.tail; t != nil; t = w.flight.tail {
		c.again(t)
	}
}

// failCall ends a call to an actor that is dead.
func (c *Core) failCall(t *task) {
	a := t.actor
	code := a.code
	if code == "" {
		code = codeActorDied
	}
	c.fail(t, code, "actor "+a.title()+" is dead: "+a.reason)
}

// killActor does what a process asks: 0 ends the actor once it has done what was asked, 1 at once, 2 ends
// its worker, after which it is made again if it may.
func (c *Core) killActor(a *actor, force uint32) {
	switch {
	case a.phase == fb.ActorPhaseDead:
	case a.proxy:
		c.cancelAway(a.worker.process, a.id(), force, false)
	case force == 0:
		c.endGently(a)
	case force == 2 && a.worker != nil && (a.returns() || a.create.owner.kind == Owner): // what becomes of another agent's, that one decides
		c.kill(a.worker, "it was killed")
	case force == 2 && a.returns(): // it is being made
	default:
		c.endActor(a, "it was killed", false)
	}
}

// endGently asks an actor's worker to end; it may take 30 s for that.
func (c *Core) endGently(a *actor) {
	a.ending = true
	if a.worker == nil {
		c.endActor(a, "nobody had a handle of it any more", false)
		return
	}
	if a.phase != fb.ActorPhaseAlive {
		return // once it is made
	}
	if a.worker.host != nil {
		c.cancelAway(a.worker.process, a.id(), 0, false)
	} else {
		c.table(a.worker.process, &fb.ShutdownT{Reason: "nobody has a handle of the actor any more"}, 0, nil)
	}
	c.at(c.now+endAfter, timerActor, a.id(), 0, 0)
}

// unnamed: nobody has a handle of an actor any more, and no call is on its way.
func (c *Core) unnamed(a *actor) {
	if a.proxy {
		c.endProxy(a)
		c.tidy(a.entry)
		return
	}
	if a.phase == fb.ActorPhaseDead {
		if a.entry.first == nil { // else a task that is run again may call it, and is told so
			a.entry.actor = nil
			c.tidy(a.entry)
		}
		return
	}
	if !a.ending {
		c.endGently(a)
	}
}

// endActor ends an actor for good.
func (c *Core) endActor(a *actor, why string, evicted bool) {
	code := codeActorDied
	if evicted {
		code = codeActorGroup
	}
	c.endActorWith(a, code, why)
}

func (c *Core) endActorWith(a *actor, code, why string) {
	if a.phase == fb.ActorPhaseDead {
		return
	}
	t, e, away := a.create, a.entry, c.away(a)
	a.phase, a.code, a.reason = fb.ActorPhaseDead, code, why
	c.freeName(a)
	c.actors = slices.DeleteFunc(c.actors, func(b *actor) bool { return b == a })
	if away {
		c.tellOne(a, t.owner)
	} else {
		c.tell(a)
	}
	if o := e.first; o != nil && o.state == objectPending {
		frame := c.resultFrame(o.id(), 0, fb.ResultFlagError|fb.ResultFlagLast, fb.FormatError, 0, c.failure(code, "actor "+a.title()+": "+why, a.id()))
		if c.holderOf(t.owner, o) != nil {
			m, payload := c.readResult(frame)
			c.push(t.owner, frame, m, payload)
		}
		c.settle(o, frame)
	}
	if away {
		e.actor = nil
		c.proxy(e)
	}
	for _, l := range slices.Clone(a.lanes) {
		for k := l.queue.head; k != nil; k = l.queue.head {
			if away && l.process != t.owner {
				c.redirect(k)
			} else {
				c.failCall(k)
			}
		}
	}
	if a.worker != nil {
		c.kill(a.worker, why)
	}
	a.create = nil
	job := a.job
	job.actors--
	c.finish(t)
	if a.pinned {
		a.pinned = false
		c.unpin(e.first)
	}
	for ; a.kept > 0; a.kept-- {
		c.unpin(e.first)
	}
	if e.first == nil && e.actor == a {
		e.actor = nil
		c.tidy(e)
	}
	c.forget(job)
}
