package work

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// An actor keeps what it has until it ends, be it that it does nothing any more. If only such actors keep what a task needs, on all nodes, it waits until somebody
// lets one go; and if that somebody is the driver, and waits for the task, for ever. No agent knows that: a driver may have other threads, an actor a thread that ends it, and others
// may kill it. So its driver is told, and nothing fails (docs/adr/0054). It is found as circles are (circle.go), with actors that have done nothing for
// a while as what keeps, and CPUs as what is kept, and with the same two rounds over nodes.
const idleAfterwards = int64(10 * time.Second) // so long a task has waited, and its actors have done nothing, before it is looked at, and again

// clings tells whether a worker keeps what it has until something else happens: what it does waits, or, idle, it is an actor that has done nothing for long.
func (c *Core) clings(w *worker, idle bool) bool {
	return w.blocked > 0 || idle && c.idles(w)
}

// idles tells whether a worker is an actor that has done nothing for long, here or at another agent, and will not by itself.
func (c *Core) idles(w *worker) bool {
	a := w.actor
	if a == nil || a.phase != fb.ActorPhaseAlive || a.ending || a.create == nil || w.killed != "" || w.flight.n > 0 || c.now < w.idleAt+idleAfterwards {
		return false
	}
	if slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.queue.head != nil && l.queue.head.state == taskQueued }) {
		return false
	}
	return w.host != nil || c.linesOver(w) // what goes by a line is not known here
}

// idleStop fills in a stop of an actor that does nothing: it waits for nothing that is known.
func (c *Core) idleStop(k *stop, a *actor) bool {
	w := a.worker
	if w == nil || w.host != nil || !c.idles(w) {
		return false
	}
	k.name, k.stamp = fmt.Sprintf("actor %s on node %s", a.title(), c.cfg.Node), uint64(w.idleAt)
	return true
}

// does lists what a worker does, or else that it is an actor.
func (c *Core) does(w *worker) (out []spot) {
	for t := w.flight.head; t != nil; t = t.listed {
		out = append(out, c.spotOf(t))
	}
	if len(out) == 0 {
		out = append(out, c.spotOf(w.actor.create))
	}
	return out
}

// lookForIdle has it looked by a time whether idle actors keep what tasks wait for.
func (c *Core) lookForIdle(at int64) {
	if c.idleLook == 0 || at < c.idleLook {
		c.idleLook = at
	}
}

// lookAtIdle looks at the first task of each class that has waited for long.
func (c *Core) lookAtIdle() {
	c.idleLook = 0
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if !cl.hungry || cl.queue.n == 0 {
				continue
			}
			due := cl.since + idleAfterwards
			if c.now >= due {
				due, cl.kept = c.now+idleAfterwards, ""
				t := cl.queue.head
				for ; t != nil && t.owner.kind == Owner; t = t.listed { // what another agent sends had room when it did
				}
				if t != nil {
					c.trace(c.spotOf(t), true)
				}
			}
			c.lookForIdle(due)
		}
	}
	c.lookLater() // searches are to be given up
}

// sayIdle tells the driver of a task that only actors which do nothing keep what it needs: once, as long as its kind waits and it is the same ones.
func (c *Core) sayIdle(s *search) {
	t := c.entries[s.from.what.Task].task
	names := s.trail.keepers(s.trail.stops[0])
	if len(names) == 0 { // it is in a circle, or waits for others that are told
		return
	}
	if n := len(names); n > 4 {
		names = append(names[:4], fmt.Sprintf("%d more", n-4))
	}
	cl, needs := t.class, []string{}
	for _, p := range t.class.need.parts {
		needs = append(needs, amountOf(p.amount, c.names[p.resource]))
	}
	cl.kept = fmt.Sprintf("%s, of which actors that do nothing keep too much: %s", strings.Join(needs, ", "), strings.Join(names, ", "))
	if cl.toldKept == cl.kept || t.owner.id == 0 {
		return
	}
	cl.toldKept = cl.kept
	more := ""
	if n := cl.queue.n - 1; n > 0 {
		more = fmt.Sprintf(" and %d more of its kind", n)
	}
	c.out = append(c.out, Effect{Do: Say, Process: t.owner.id, Code: codeKept, Text: fmt.Sprintf(
		"%s%s has waited for %v for %s; an actor gives back what it has when its last handle goes, or when it is killed: make fewer, or have them ask for less",
		t.name(), more, time.Duration(c.now-cl.since).Round(time.Second), cl.kept)})
}

// keepers names the actors that do nothing and keep what a stop needs; not those for which others wait in turn.
func (l *trail) keepers(k *stop) (names []string) {
	for _, s := range k.to {
		switch n := l.at[s]; {
		case n.room != "":
			names = append(names, l.keepers(n)...)
		case len(n.to) == 0:
			names = append(names, n.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
