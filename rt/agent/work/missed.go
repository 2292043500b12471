package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A value that could not be fetched. If that is for want of memory here, it is where it was: who asked here is told so, and may ask again.
// Else the agent that told of it can't read it any more: it is made again, here or there, or is lost.

// missed takes in that a value was not fetched.
func (c *Core) missed(p *process, k *fetch, ev Fetched) {
	code, flags := codeLost, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast
	if ev.Here {
		code = codeFull
	}
	why := slices.Clone(c.failure(code, "object "+objectName(k.object)+" did not get to node "+c.cfg.Node+": "+ev.Why, k.object.Task))
	o := c.lookup(k.object)
	if t := c.runningAt(p, k.object.Task); t != nil && t.fetching == k {
		if ev.Here && !t.owner.remote() && !c.ends(p) {
			c.resume(p, t, c.memory.copy(k.frame)) // it stays there
			if o = c.lookup(k.object); o != nil && o.state == objectAway && c.home(o) == p {
				return
			}
		} else {
			m, _ := c.readResult(k.frame)
			c.resume(p, t, c.resultFrame(k.object, m.Attempt, fb.ResultFlag(m.Flags)&^fb.ResultFlagLocated|fb.ResultFlagError, fb.FormatError, 0, why))
		}
		c.releaseTo(p, k.object, 1)
		return
	}
	if o == nil || c.home(o) != p {
		return
	}
	switch l := c.lent[o]; {
	case o.state == objectAway && ev.Here && c.ends(p): // it can't stay
		c.arriveHome(o, c.resultFrame(k.object, 0, flags, fb.FormatError, 0, why))
	case o.state == objectAway && !ev.Here:
		c.mislay(o, "node "+p.node+", which had its value: "+ev.Why)
	case o.state == objectPending && !ev.Here && !l.again: // it may be made again there
		l.asked, l.again = fb.WantNone, true
		if o.waiting != nil {
			c.askFor(o)
		}
	case o.state == objectPending, o.state == objectAway:
		l.asked, l.again = fb.WantNone, false
		c.deny(o, why)
	}
}

// ends tells whether the way to another agent is about to be closed, because the driver of its job is gone.
func (c *Core) ends(p *process) bool { return p.job.over && p.job != c.ways }

// deny answers all who wait for an object with an error, which is not the object's: another one may have its value.
func (c *Core) deny(o *object, why []byte) {
	name := o.id()
	var tasks []id.Task
	c.unwait(o, func(w *waiter) bool {
		switch {
		case w.task != nil:
			tasks = append(tasks, w.task.id())
		case w.process.gone:
		case w.want == fb.WantReadiness: // it has an outcome, which is not here
			c.ready(w.process, o, fb.ObjectStateThere, w.corr)
		default:
			c.forward(w.process, slices.Clone(c.resultFrame(name, 0, fb.ResultFlagError|fb.ResultFlagNotTask|fb.ResultFlagLast, fb.FormatError, 0, why)))
		}
		return true
	})
	for _, name := range tasks { // one may end another
		e := c.entries[name]
		switch {
		case e == nil || e.task == nil || e.task.state != taskWaiting:
		case e.task.kind == create:
			m, _ := wire.Unmarshal(fb.FrameTypeFailure, why) // it was made here, or read before
			c.endActorWith(e.task.actor, m.(*fb.FailureT).Code, "an argument of its constructor: "+m.(*fb.FailureT).Message)
		default:
			c.failWith(e.task, fb.FormatError, 0, why)
		}
	}
}

// full tells whether a value that another agent sent is its word that it has no memory to read the value now.
func full(m *fb.ResultT, payload []byte) bool {
	if m.Flags&uint32(fb.ResultFlagError) == 0 || m.Format != fb.FormatError {
		return false
	}
	msg, err := wire.Unmarshal(fb.FrameTypeFailure, payload)
	return err == nil && msg.(*fb.FailureT).Code == codeFull
}

// onDamaged: what lies in a file can't be read any more, as was seen when another agent wanted it.
func (c *Core) onDamaged(ev Damaged) {
	if o := c.lookup(ev.Object); o != nil && o.placed && !o.has(markComing) {
		c.unreadable(o, ev.Why)
	}
}

// unreadable takes in that an object can't be read from a file. Another agent may still have it.
func (c *Core) unreadable(o *object, why string) {
	if !o.foreign || c.home(o).gone {
		c.mislay(o, "node "+c.cfg.Node+" had written it to a file: "+why)
		return
	}
	o.set(markVoid, o.placed && o.heldBy(c.home(o).agent))
	c.empty(o)
	if c.lent[o].asked, c.lent[o].there = fb.WantNone, false; o.waiting != nil {
		c.ask(o)
	}
}
