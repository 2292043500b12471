package work

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// onCancel ends a task, or an actor. force: a task's worker is killed; 1 ends an actor for good, 2 lets
// it be made again if it has restarts left, 0 lets it end what it has begun.
func (c *Core) onCancel(p *process, f frame) {
	m := c.read.cancel
	if wire.ReadCancel(f.body, m) != nil {
		c.refuse(p, "sent a Cancel that can't be read")
		return
	}
	name := taskOf(m.Task)
	e := c.entryOf(name)
	if e == nil {
		if name.Process == p.id && name.Agent == c.cfg.Agent || p.remote() {
			c.strays++ // it is over
			return
		}
		c.refuse(p, "cancelled a task that it did not submit and holds no result of")
		return
	}
	if !c.mayCancel(p, e) {
		if p.remote() {
			c.strays++ // it is over, and known here by another way
			return
		}
		c.refuse(p, "cancelled a task that it did not submit and holds no result of")
		return
	}
	force, recursive := m.Force, m.Recursive != 0
	if e.actor != nil {
		c.killActor(e.actor, force)
		return
	}
	if e.task != nil {
		c.cancelTask(e.task, force != 0, recursive)
	} else if e.first != nil && e.first.foreign && e.first.state != objectAway && p != c.home(e.first) {
		c.cancelAway(c.home(e.first), name, force, recursive)
	}
}

func (c *Core) mayCancel(p *process, e *entry) bool {
	if e.task != nil && e.task.owner == p {
		return true
	}
	if e.first != nil && c.mayName(p, e.first) {
		return true
	}
	for _, o := range e.others() {
		if o != nil && c.holderOf(p, o) != nil {
			return true
		}
	}
	return e.id.Agent == c.cfg.Agent && e.id.Process == p.id
}

// cancelTask ends a task that waits, asks one that runs to end, or kills its worker.
func (c *Core) cancelTask(t *task, force, recursive bool) {
	if recursive {
		t.recursive = true
		// Children first: to end the parent is to forget whose they are. Chains are not looked at meanwhile: one that is found ends another child.
		checking := c.checking
		c.checking = true
		for k := t.child; k != nil; {
			next := k.elder
			if k.kind != create && !k.remade {
				c.cancelTask(k, force, true)
			}
			k = next
		}
		c.checking = checking
	}
	if t.kind == create {
		return
	}
	again := t.cancelled
	t.cancelled = true
	switch {
	case t.state == taskWaiting, t.state == taskQueued:
		c.fail(t, codeCancelled, "it was cancelled before it started")
	case t.worker.host != nil:
		n := uint32(0)
		if force {
			n = 1
		}
		c.cancelAway(t.worker.process, t.id(), n, recursive)
	case force && t.kind == plain && !t.forced:
		t.forced = true
		c.kill(t.worker, "its task was cancelled by force")
	case again:
	case t == t.worker.flight.head || t.kind == call && t.worker.actor.parallel():
		c.sendCancel(t)
	default:
		c.recallOne(t)
	}
}

func (c *Core) sendCancel(t *task) {
	if t.worker.process == nil {
		return
	}
	recursive := uint32(0)
	if t.recursive {
		recursive = 1
	}
	b := c.start(t.worker.process, fb.FrameTypeCancel, wire.CancelSize, 0)
	wire.PutCancel(b, &fb.CancelT{Task: taskT(t.id()), Recursive: recursive})
}

// overdue ends a task whose deadline has passed.
func (c *Core) overdue(t *task) {
	if t.kind == create {
		return
	}
	if t.state == taskGiven {
		c.cancelTask(t, false, true)
		return
	}
	c.fail(t, codeTimeout, "its deadline passed before it started: it waited for "+c.explainTask(t))
}
