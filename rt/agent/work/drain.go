package work

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A node that is being drained takes nothing new (docs/adr/0043). What is there of this agent's, be that its own node or another one, moves by what may be tried
// again: actors that restart when no call of theirs runs, all of it when the time is over; nothing of that counts as a retry or a restart. Values that
// stayed there are fetched. What may not be tried again, what belongs to a group, and what has nowhere to go stays for as long as the node does.

// maxDrains is how many nodes are remembered, the last ones: those that are gone among them.
const maxDrains = 1000

// drain is what is known of one.
type drain struct {
	Drain
	due bool // its time is over, and what is to be done then was done
}

func (c *Core) onDrain(ev Drain) {
	c.restless = true
	c.drains = slices.DeleteFunc(c.drains, func(d drain) bool { return d.Agent == ev.Agent || ev.takesBack(d.Node) })
	if !ev.Undo {
		if len(c.drains) == maxDrains {
			c.drains = slices.Delete(c.drains, 0, 1)
		}
		c.drains = append(c.drains, drain{Drain: ev})
	}
	if ev.Agent == c.cfg.Agent {
		c.going = !ev.Undo
	}
	if ev.Undo {
		c.tighten(ev)
	}
	for _, p := range c.places {
		c.closePlace(p)
	}
	for _, h := range c.hosts {
		if h.agent == ev.Agent && h.process != nil && !ev.Undo {
			c.bringHome(h.process)
		}
	}
	c.moveOff() // or it is not to move any more
	c.drainsDue(false)
}

// takesBack tells whether a node is not drained any more, whichever agents it had when that was said.
func (ev Drain) takesBack(node string) bool { return ev.Undo && ev.Node != "" && ev.Node == node }

// drainOf finds what is known of an agent's drain; nil: there is none.
func (c *Core) drainOf(agent id.Agent) *drain {
	if i := slices.IndexFunc(c.drains, func(d drain) bool { return d.Agent == agent }); i >= 0 {
		return &c.drains[i]
	}
	return nil
}

// closePlace lets nothing new go to a place of a node that is being drained. Bundles of a group are its own until the time is over.
func (c *Core) closePlace(p *place) {
	d := c.drainOf(p.agent)
	p.drained = d != nil && (p.open || d.due)
}

// closed tells whether nothing new starts on a grant, since this node is being drained.
func (c *Core) closed(g *grant) bool { return c.going && g.group == (id.Task{}) }

// loosened is where tasks of a class would be that may be anywhere, as that node is being drained.
type loosened struct {
	class *class
	agent id.Agent
	node  string
	home  bool
	where string
}

// loosen lets tasks run anywhere that would rather be on a node which is being drained.
func (c *Core) loosen(cl *class) {
	for i := range c.drains {
		d := &c.drains[i]
		if cl.table.Soft && (cl.home && d.Agent == c.cfg.Agent || cl.where == "node="+d.Node || cl.where == fmt.Sprint("node=", d.Agent)) {
			c.loose = append(c.loose, loosened{cl, d.Agent, d.Node, cl.home, cl.where})
			cl.home, cl.where, cl.nowhere = false, "", ""
		}
	}
}

// tighten has tasks be where they would rather be, now that a node takes new work again.
func (c *Core) tighten(ev Drain) {
	c.loose = slices.DeleteFunc(c.loose, func(l loosened) bool {
		its := l.agent == ev.Agent || ev.takesBack(l.node)
		if its {
			l.class.home, l.class.where, l.class.nowhere = l.home, l.where, ""
		}
		return its
	})
}

// moveOff has actors looked at whose node is being drained.
func (c *Core) moveOff() {
	for _, a := range c.actors {
		c.wantPump(a)
	}
}

// agentOf is where a worker is.
func (c *Core) agentOf(w *worker) id.Agent {
	if w.host != nil {
		return w.host.agent
	}
	return c.cfg.Agent
}

// drainUnder gives the drain of the node on which an actor lives that is to be made again elsewhere; nil: it stays.
func (c *Core) drainUnder(a *actor) *drain {
	w := a.worker
	if len(c.drains) == 0 || w == nil || a.phase != fb.ActorPhaseAlive || a.proxy || a.ending || a.create == nil || a.create.owner.kind == Owner || a.table.MaxRestarts == 0 {
		return nil
	}
	d := c.drainOf(c.agentOf(w))
	if d == nil || !c.somewhere(a.class) {
		return nil
	}
	return d
}

// moves ends an actor where it lives, if it is to move and does nothing; true: it gets no calls now. An actor that does several at a time gets them all
// the same, since they may wait for one another.
func (c *Core) moves(a *actor) bool {
	if a.moved {
		return true
	}
	d := c.drainUnder(a)
	switch {
	case d == nil:
		return false
	case a.worker.killed == "" && a.worker.hearsay():
		if c.linesOver(a.worker) {
			c.moveActor(a, d)
		}
		return true
	}
	return !a.parallel()
}

// moveActor ends an actor where it lives, so that it is made again elsewhere.
func (c *Core) moveActor(a *actor, d *drain) {
	a.moved = true
	c.kill(a.worker, d.why())
}

func (d *drain) why() string {
	if d == nil { // it was among the oldest of very many
		return "this node is being drained"
	}
	return fmt.Sprintf("node %s is being drained: %s", d.Node, d.Reason)
}

// drainsDue moves what runs where the time is over. again: there may be a place now for what had none.
func (c *Core) drainsDue(again bool) {
	for i := range c.drains {
		d := &c.drains[i]
		if d.due && !again || d.Until == 0 || c.now < d.Until {
			continue
		}
		d.due = true
		for _, p := range c.places {
			c.closePlace(p)
		}
		c.moveTasks(d)
		for _, a := range slices.Clone(c.actors) {
			if c.drainUnder(a) == d && a.worker.killed == "" && !slices.ContainsFunc(a.worker.flight.all(), func(t *task) bool { return !t.mayMove() }) && c.linesOver(a.worker) {
				c.moveActor(a, d)
			}
		}
	}
}

// all lists the tasks.
func (l *list) all() (out []*task) {
	for t := l.head; t != nil; t = t.listed {
		out = append(out, t)
	}
	return out
}

// moveTasks has tasks that run on a node tried again elsewhere.
func (c *Core) moveTasks(d *drain) {
	if d.Agent == c.cfg.Agent {
		for _, w := range slices.Clone(c.workers) {
			if t := w.flight.head; w.actor == nil && w.killed == "" && t != nil && c.movable(t) {
				w.moved = true
				c.kill(w, d.why())
			}
		}
	}
	for _, h := range c.hosts {
		if h.agent != d.Agent || h.process == nil {
			continue
		}
		for _, t := range h.tasks.flight.all() {
			if !t.moving && c.movable(t) {
				t.moving = true
				c.cancelAway(h.process, t.id(), 1, false)
			}
		}
	}
}

// mayMove tells whether a task may be tried again when it was not its own fault, which is not counted.
func (t *task) mayMove() bool { return t.retries != 0 && !t.cancelled }

// movable tells whether a task that runs where nothing is to run any more is this agent's, may be tried again, and has somewhere to go.
func (c *Core) movable(t *task) bool {
	return t.owner.kind != Owner && t.mayMove() && c.somewhere(t.class)
}

// once tells whether a task may be tried once more that was lost with a worker at an agent, and counts it, unless that one's node was to go.
func (c *Core) once(t *task, agent id.Agent) bool {
	if c.drainOf(agent) != nil && t.owner.kind != Owner && (agent != c.cfg.Agent || t.class.group == (id.Task{})) && t.mayMove() {
		return true
	}
	return t.retry()
}

// somewhere tells whether a node that is not being drained has enough for a class, be it that others use that now. What belongs to a group is where that is.
func (c *Core) somewhere(cl *class) bool {
	if cl.group != (id.Task{}) || !cl.table.Soft && (cl.home || strings.HasPrefix(cl.where, "node=")) {
		return false
	}
	if !c.going {
		for _, g := range c.grants {
			if g.group == (id.Task{}) && cl.need.fits(g.node) {
				return true
			}
		}
	}
	return slices.ContainsFunc(c.others, func(has []Amount) bool {
		return !slices.ContainsFunc(cl.need.parts, func(p part) bool { return amountIn(has, c.names[p.resource]) < p.amount })
	})
}

func amountIn(list []Amount, name string) int64 {
	for _, a := range list {
		if a.Name == name {
			return a.Amount
		}
	}
	return 0
}
