package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// resultFinal is a flag of a worker's Result with an error: the error is not one of those that the task is
// to be tried again for.
const resultFinal = 16

// bothFlags no Result has.
const bothFlags = uint32(fb.ResultFlagError | fb.ResultFlagLocated)

// running finds a task that a worker has; nil if it has none of that name.
func (c *Core) running(w *worker, name id.Task) *task {
	if w == nil {
		return nil
	}
	if t := w.flight.head; t != nil && t.entry.id == name {
		return t
	}
	if e := c.entries[name]; e != nil && e.task != nil && e.task.worker == w && e.task.in == &w.flight {
		return e.task
	}
	return nil
}

// runningAt finds a task that another agent has; nil if it has none of that name.
func (c *Core) runningAt(p *process, name id.Task) *task {
	if e := c.entries[name]; e != nil && e.task != nil && e.task.worker != nil && e.task.worker.host != nil && e.task.worker.process == p {
		return e.task
	}
	return nil
}

// onResult takes in a result of a task from the worker that has it.
func (c *Core) onResult(p *process, f frame) {
	m := c.read.result
	if wire.ReadResult(f.body, m) != nil {
		c.refuse(p, "sent a Result that can't be read")
		return
	}
	t := c.running(p.worker, taskOf(m.Task))
	if p.remote() {
		switch t = c.runningAt(p, taskOf(m.Task)); {
		case t == nil:
			c.onValue(p, f)
			return
		case t.fetching != nil:
			t.behind = append(t.behind, slices.Clone(f.whole))
			return
		}
		m.Attempt = t.attempt // it counts its own
	}
	switch {
	case t == nil && c.strayDirect(p, taskOf(m.Task)), (t == nil || t.attempt != m.Attempt) && p.worker.repeats(m):
		c.unseal(p)
		c.strays++
		return
	case t == nil || t.attempt != m.Attempt:
		c.refuse(p, "sent a result of a task that it was not given")
		return
	case p.remote() && m.Flags&bothFlags == bothFlags:
		c.refuse(p, "sent an error as a place")
		return
	case p.remote() && m.Flags&uint32(fb.ResultFlagLocated) != 0:
		if !c.holdsAll(p, f.payload, 0, m.Refs) || c.toldOf(p, t, m, &f) {
			return
		}
	case p.sealed.is || m.Flags&uint32(fb.ResultFlagLocated) != 0:
		if f, m = c.placed(p, t, m, f); m == nil {
			return
		}
	case m.Refs != 0 && !c.holdsAll(p, f.payload, 0, m.Refs):
		return
	default:
		m.Size = uint64(len(f.payload)) - uint64(m.Refs)*objectSize
	}
	c.outcome(p, t, m, f)
}

// repeats tells whether a result is of the task that ended last at this worker, which nobody wants: when a signal's handler of the user's raises before
// Python has noted that a result went out, that is sent as another.
func (w *worker) repeats(m *fb.ResultT) bool {
	return w != nil && m.Flags&uint32(fb.ResultFlagLast) != 0 && w.ended == taskOf(m.Task) && w.attempt == m.Attempt
}

// outcome takes in a result whose value is here.
func (c *Core) outcome(p *process, t *task, m *fb.ResultT, f frame) {
	if p.remote() && c.hostSays(t, m, f.payload) {
		return
	}
	final := m.Flags&resultFinal != 0 || p.remote() // it has tried again what is to be
	m.Flags &= uint32(fb.ResultFlagLast | fb.ResultFlagError | fb.ResultFlagLocated)
	last, failed := m.Flags&uint32(fb.ResultFlagLast) != 0, m.Flags&uint32(fb.ResultFlagError) != 0
	if w := p.worker; last && w != nil {
		w.ended, w.attempt = t.id(), m.Attempt
	}
	if failed && last && !final && t.kind != create && t.class.table.RetryExceptions && !t.cancelled && t.retry() {
		c.again(t)
		return
	}
	taken := c.take(t, m, f, failed, last)
	c.unseal(p)
	if !taken {
		c.refuse(p, "sent a result that its task does not have")
		return
	}
	if !last {
		return
	}
	if t.kind == create {
		c.constructed(t.actor, failed, f.payload)
		return
	}
	c.complete(t, m, failed, f.payload)
}

// take gives one result to its object and to the submitter. false: the task has none of that index.
func (c *Core) take(t *task, m *fb.ResultT, f frame, failed, last bool) bool {
	if last {
		t.moveOn(m, failed)
	}
	var o *object
	switch {
	case t.streams() && m.Index == t.items && last && !failed: // the end, no item
		wire.PutResult(f.body, m)
		c.push(t.owner, f.whole, m, f.payload)
		return true
	case t.streams() && m.Index < t.items:
		c.strays++ // the attempt before has brought it, and it may be read and gone
		return true
	case t.streams() && m.Index == t.items:
		o = c.newItem(t)
	case t.returns == 0 && t.kind != create && m.Index == 0:
		if t.owner.remote() { // it waits for the end
			wire.PutResult(f.body, m)
			c.push(t.owner, f.whole, m, f.payload)
		}
		return true
	case m.Index >= t.count() && t.kind != create || t.kind == create && m.Index != 0:
		return false
	default:
		o = t.entry.object(m.Index)
	}
	switch {
	case o == nil && m.Flags&uint32(fb.ResultFlagLocated) != 0: // it was let go of while it was sealed or fetched
		c.unlocated(m, &f)
	case o != nil && o.missing() && placeless(m, f.payload) && t.worker.host == nil:
		if o.state == objectGone && t.remakable() {
			c.strays++ // it was not kept, as one of an attempt before was there, which has been lost since: complete sees to that
			return true
		}
		c.discarded(t, m, &f)
	}
	// The body is written back as the agent sees it; the event's bytes are the core's until Step returns.
	wire.PutResult(f.body, m)
	if o != nil && !o.missing() {
		c.sendAgain(t, o, last)
		if t.streams() {
			c.sentHome(t.owner, o)
		}
		c.strays++ // an item that the attempt before has brought, or an actor that was made again
		return true
	}
	if o != nil && o.state == objectGone && !t.owner.remote() {
		// Of what is made again who submitted it has heard; to another agent each attempt is a task of its own.
	} else if last && t.count() > 1 || t.streams() || o != nil && c.holderOf(t.owner, o) != nil {
		c.push(t.owner, f.whole, m, f.payload)
	}
	if o != nil && placeless(m, f.payload) {
		c.stayAway(t.worker.process, o, f.whole)
	} else if o != nil {
		c.settle(o, c.memory.copy(f.whole))
		if t.streams() {
			c.sentHome(t.owner, o)
		}
	}
	return true
}

// discarded makes an error of a result that was not kept when it was sealed, as one of an attempt before was here, which has been lost since.
func (c *Core) discarded(t *task, m *fb.ResultT, f *frame) {
	name, flags := id.Object{Task: t.id(), Index: m.Index}, fb.ResultFlag(m.Flags)&^fb.ResultFlagLocated|fb.ResultFlagError
	why := c.failure(codeLost, "object "+objectName(name)+" is lost: an attempt of its task before had given it, and it could not be read any more when this one ended", t.id())
	*f, _, _ = cut(c.resultFrame(name, m.Attempt, flags, fb.FormatError, 0, why))
	_ = wire.ReadResult(f.body, m)
}

// sendAgain tells another agent, for which each attempt is a task of its own, of a result that is here since one before.
func (c *Core) sendAgain(t *task, o *object, last bool) {
	if !t.owner.remote() {
		return
	}
	frame := slices.Clone(o.value)
	m, _ := c.readResult(frame)
	m.Attempt, m.Flags = t.attempt, m.Flags&uint32(fb.ResultFlagError|fb.ResultFlagLocated)
	if last {
		m.Flags |= uint32(fb.ResultFlagLast)
	}
	wire.PutResult(frame[wire.HeaderSize:], m)
	c.sendHome(t.owner, frame)
}

// moveOn gives the last result of an attempt the place where the attempt before it ended: an error goes
// to the first result that has not come, and a stream ends behind what came of it.
func (t *task) moveOn(m *fb.ResultT, failed bool) {
	if t.streams() {
		if m.Index < t.items {
			m.Index = t.items
		}
		return
	}
	if o := t.entry.object(m.Index); !failed || o == nil || o.state == objectPending {
		return
	}
	for _, state := range [...]objectState{objectPending, objectGone} {
		for i := range t.count() {
			if o := t.entry.object(i); o != nil && o.state == state {
				m.Index = i
				return
			}
		}
	}
}

// complete ends a task whose last result has come. Results that did not come have its error; of a stream all have, whatever became of them since.
// What came, and was lost while the task ran still, is gone: it is made again once somebody wants it.
func (c *Core) complete(t *task, m *fb.ResultT, failed bool, payload []byte) {
	format, refs := m.Format, m.Refs
	remakable := t.remakable()
	for i := uint32(0); i < t.count() && !t.streams(); i++ {
		o := t.entry.object(i)
		if o == nil || !o.missing() {
			continue
		}
		if o.state == objectGone && !failed {
			if remakable {
				c.sought = append(c.sought, o.id())
			} else {
				c.lose(o, codeLost, t.gone+"; its task ran still, had given it before, and may not run once more (max_retries, max_task_retries)")
			}
			continue
		}
		if !failed {
			payload = slices.Clone(c.failure(codeSystem, "task "+t.name()+" ended without this result", t.id()))
			format, refs, failed = fb.FormatError, 0, true
		}
		c.keep(o, fb.ResultFlagError|fb.ResultFlagLast, format, refs, payload)
	}
	w := t.worker
	if w.host != nil {
		c.finish(t)
		return
	}
	if w.actor != nil && t.kind == call {
		c.joinDirect(t, w)
	}
	if w.actor == nil && t.state == taskGiven {
		d := c.now - max(w.since, t.since)
		t.function.took(max(min(int64(m.CpuTime), d), d-tripTime))
	}
	if limit := t.class.table.MaxCalls; limit > 0 && t.kind == plain {
		if w.calls++; w.calls >= limit {
			c.retire(w, "it has done its max_calls")
		}
	}
	c.finish(t)
}

// retry tells whether the task may be tried once more, and counts it.
func (t *task) retry() bool {
	if t.cancelled || t.retries >= 0 && t.tried >= t.retries {
		return false
	}
	t.tried++
	return true
}

// again takes a task from its worker and gives it its next attempt, before those that wait.
func (c *Core) again(t *task) {
	if t.worker != nil {
		c.leave(t)
	}
	t.attempt++
	t.moving = false
	c.stamp(t)
	c.requeue(t)
}

// requeue puts a task that was given to a worker back at the head of where it waited.
func (c *Core) requeue(t *task) {
	t.state, t.since, t.recalled = taskQueued, c.now, false
	if t.kind == call {
		t.lane.queue.pushFirst(t)
		c.wantPump(t.actor)
		return
	}
	if c.over(t.class) {
		c.removed(t)
		return
	}
	t.class.queue.pushFirst(t)
	c.seekKin(t)
	c.activate(t.class)
}

// stamp writes what the agent decides into the task's frame.
func (c *Core) stamp(t *task) {
	body := t.frame[wire.HeaderSize:]
	switch t.kind {
	case plain:
		m := c.stamps.submit
		if wire.ReadSubmit(body[:wire.SubmitSize], m) == nil {
			m.Attempt, m.Deadline = t.attempt, uint64(t.deadline)
			wire.PutSubmit(body, m)
		}
	case call:
		m := c.stamps.call
		if wire.ReadCall(body[:wire.CallSize], m) == nil {
			m.Attempt, m.Incarnation, m.Shape, m.Deadline = t.attempt, t.actor.incarnation, t.class.number, uint64(t.deadline)
			wire.PutCall(body, m)
		}
	}
}

// onState takes in Blocked, Unblocked and Started. A task that ended meanwhile is nobody's.
func (c *Core) onState(p *process, f frame) {
	m := c.read.task
	if len(f.body) != wire.BlockedSize || wire.ReadBlocked(f.body, m) != nil {
		c.refuse(p, "sent a "+f.kind.String()+" that can't be read")
		return
	}
	t := c.running(p.worker, taskOf(m.Task))
	if t == nil {
		if m.Task.Counter != 0 { // else it is a worker's first word
			c.strays++
		}
		return
	}
	w := p.worker
	switch {
	case f.kind == fb.FrameTypeStarted:
		if w.actor == nil {
			w.since = c.now
		}
	case f.kind == fb.FrameTypeBlocked:
		c.block(t, waits{})
	case f.kind == fb.FrameTypeUnblocked && t.blocked:
		c.unblock(t)
	}
}

func (c *Core) unblock(t *task) {
	c.unwaits(t)
	t.blocked = false
	w := t.worker
	if w.blocked--; w.blocked == 0 {
		c.takeCPU(w)
		c.touch(w)
	}
}

// recall asks a worker for what it has not started.
func (c *Core) recall(w *worker) {
	if w.flight.n < 2 || w.process == nil || w.process.gone {
		return
	}
	asked := false
	for t := w.flight.head.listed; t != nil; t = t.listed {
		asked = asked || !t.recalled
		t.recalled = true
	}
	if asked {
		w.flight.head.recalled = true // it may not have started either, and then comes along
		b := c.start(w.process, fb.FrameTypeRecall, wire.RecallSize, 0)
		clear(b[:wire.RecallSize])
	}
}

// recallOne asks a worker for one task, if it has not started.
func (c *Core) recallOne(t *task) {
	t.recalled = true
	b := c.start(t.worker.process, fb.FrameTypeRecall, wire.RecallSize, 0)
	wire.PutRecall(b, &fb.RecallT{Task: taskT(t.id())})
}

// onRecalled takes back a task that a worker had not started, or learns that it had.
func (c *Core) onRecalled(p *process, f frame) {
	m := c.read.recalled
	if wire.ReadRecalled(f.body, m) != nil {
		c.refuse(p, "sent a Recalled that can't be read")
		return
	}
	t := c.running(p.worker, taskOf(m.Task))
	if t == nil || !t.recalled {
		c.strays++
		return
	}
	if m.Started != 0 {
		t.recalled = false
		delete(c.doomed, t.id())
		if t.cancelled {
			c.sendCancel(t)
		}
		return
	}
	w := t.worker
	why, doomed := c.doomed[t.id()]
	c.leave(t)
	if t.cancelled {
		if t.deadline != 0 && t.deadline <= c.now {
			c.fail(t, codeTimeout, "its deadline passed before it started")
		} else {
			c.fail(t, codeCancelled, "it was cancelled before it started")
		}
		return
	}
	if doomed {
		c.fail(t, codeDeadlock, why)
		return
	}
	// Those given back come in order; each goes behind those before it.
	t.state, t.since, t.recalled = taskQueued, c.now, false
	if t.kind == call {
		t.lane.queue.pushFirst(t)
		c.wantPump(t.actor)
		return
	}
	if e := c.entries[w.returned]; e != nil && e.task != nil && e.task.in == &t.class.queue && e.task.since == c.now {
		t.class.queue.pushAfter(e.task, t)
	} else {
		t.class.queue.pushFirst(t)
	}
	w.returned = t.id()
	c.seekKin(t)
	c.activate(t.class)
}

func (l *list) pushAfter(at, t *task) {
	if at.listed == nil {
		l.push(t)
		return
	}
	t.in, t.listBefore, t.listed = l, at, at.listed
	at.listed.listBefore = t
	at.listed = t
	l.n++
}
