package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// An actor of another agent is out of reach when the connection to that is lost for good, and the head has not said that the agent is dead. Calls that were on
// their way fail then, as nobody knows whether they ran, or are tried again if they may be. Each call that comes after has the actor's agent asked for a new
// handle, for as long as a connection is tried for, and goes there when it comes; that agent keeps the actor for so long, though nobody may have a handle of it.
const (
	seekAgain = int64(time.Second) // calls that may be tried again have it asked again after so long
	cutGrace  = int64(time.Minute) // an agent that was lost may come back for its handles
)

// outOfReach: the agent of an actor is, and may live.
func (c *Core) outOfReach(a *actor, why string) {
	a.phase, a.cut, a.reason = fb.ActorPhaseRestarting, true, why
	if a.entry.actor == a {
		c.tell(a)
	}
	c.wayLost(a, a.entry.actor == a, why, "actor "+a.title()+" is out of reach: "+why+"; it may live, and the call may have run")
	if a.waits() && a.entry.actor == a {
		c.seek(a)
	}
}

// wayLost ends the calls that were on their way to an actor of another agent, of which nobody knows whether they ran; or has them go again, whoever they are
// of, if they may and there is a way, or one is looked for.
func (c *Core) wayLost(a *actor, again bool, why, text string) {
	for t := a.worker.flight.tail; t != nil; t = a.worker.flight.tail {
		c.leave(t)
		switch {
		case t.cancelled:
			c.fail(t, codeCancelled, "it was cancelled; "+why)
		case again && t.retry():
			c.again(t)
		default:
			c.fail(t, codeActorAway, text)
		}
	}
}

// waits tells whether calls wait for an actor.
func (a *actor) waits() bool {
	return slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.queue.n > 0 })
}

// seek asks the agent of an actor that is out of reach for a new handle.
func (c *Core) seek(a *actor) {
	switch agent := a.id().Agent; {
	case a.seeking || a.entry.actor != nil && a.entry.actor != a:
	case agent == c.cfg.Agent:
		c.proxyOver(a, "it was this node's, and is over")
	default:
		a.seeking, a.entry.actor = true, a
		c.askAgent(agent, "", asker{what: "handle", ref: a.id().String(), actor: a.id()})
	}
}

// handleCame: the agent of an actor has sent a handle, or says why there is none.
func (c *Core) handleCame(p *process, name id.Task, fault string) {
	var a *actor
	if e := c.entries[name]; e != nil && e.actor != nil && e.actor.seeking {
		a = e.actor
		a.seeking = false
	}
	if fault != "" {
		if a != nil {
			c.proxyOver(a, fault)
		}
		return
	}
	c.receive(p, id.Object{Task: name})
}

// inReach has the calls that wait for an actor go the way by which a handle of it has come.
func (c *Core) inReach(a *actor) {
	p := c.proxy(a.entry)
	if p == nil {
		return
	}
	c.tell(p)
	for _, l := range slices.Clone(a.lanes) {
		for t := l.queue.head; t != nil; t = l.queue.head {
			c.redirect(t)
		}
	}
}

// handleLost: the way to the agent of an actor is lost again, before it has answered.
func (c *Core) handleLost(p *process, name id.Task, why string) {
	e := c.entries[name]
	if e == nil || e.actor == nil || !e.actor.seeking {
		return
	}
	a := e.actor
	a.seeking, a.reason = false, fmt.Sprintf("node %s: %s", p.node, why)
	if !p.cut {
		c.proxyOver(a, a.reason)
		return
	}
	for _, l := range slices.Clone(a.lanes) {
		for t := l.queue.head; t != nil; {
			next := t.listed
			if t.owner.kind == Owner || !t.retry() {
				c.fail(t, codeActorAway, "actor "+a.title()+" is out of reach: "+a.reason+"; it may live, and this call did not run")
			}
			t = next
		}
	}
	if a.waits() {
		c.at(c.now+seekAgain, timerSeek, name, 0, 0)
	}
}

// proxyOver ends what calls of an actor that is another agent's wait for: it is dead.
func (c *Core) proxyOver(a *actor, why string) {
	a.phase, a.cut, a.code, a.reason = fb.ActorPhaseDead, false, codeActorDied, why
	c.tell(a)
	for _, l := range slices.Clone(a.lanes) {
		for t := l.queue.head; t != nil; t = l.queue.head {
			c.failCall(t)
		}
	}
}

// handOver gives another agent, which had a handle of an actor and was out of reach, a new one.
func (c *Core) handOver(p *process, ref string, corr uint64) {
	name, err := id.ParseTask(ref)
	e := c.entries[name]
	switch {
	case err != nil || e == nil || e.actor == nil || e.actor.proxy || e.first == nil:
		err = fmt.Errorf("work: actor %s is over", ref)
	case e.actor.phase == fb.ActorPhaseDead:
		err = fmt.Errorf("work: actor %s is dead: %s", e.actor.title(), e.actor.reason)
	default:
		c.hold(p, e.first).deliveries++
		c.tellOne(e.actor, p)
	}
	c.reply(p, corr, jsonReply{}, err)
}

// keepActors keeps those of which an agent had handles that is out of reach, for as long as it may come back.
func (c *Core) keepActors(p *process) {
	if !p.cut {
		return
	}
	for h := p.held; h != nil; h = h.after {
		o := h.object
		if a := o.entry.actor; a != nil && o.index == 0 && !a.proxy && a.phase != fb.ActorPhaseDead && !o.hosts(p) {
			a.kept++
			o.pins++
			c.at(c.now+cutGrace, timerKept, a.id(), 0, 0)
		}
	}
}
