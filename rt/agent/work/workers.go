package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// worker is a process that runs tasks, or will once it has started.
type worker struct {
	key         uint64
	process     *process // nil: it starts
	job         *job
	environment string
	language    string
	devices     []string // that it sees; fixed when it starts
	threads     int64    // that its libraries were told to use; they look once
	actor       *actor

	class  *class // lease
	grant  *grant
	held   bool // it holds what its class needs
	lent   bool // but for the CPUs: it waits
	kin    bool // and has it because an ancestor of its task waits there
	fresh  bool // its lease has given it nothing yet
	flight list // tasks given to it, the first one runs
	since  int64

	blocked  int
	waits    []waits // of those
	calls    uint32  // tasks with a max_calls
	touched  bool
	deep     bool
	shutting bool // takes nothing more
	killed   string
	slow     string // why it is not there yet
	evicted  bool
	starved  bool // it is ended for want of memory
	moved    bool // it is ended so that its task goes on elsewhere, which is not counted
	idleAt   int64
	returned id.Task // the last task that it gave back
	ended    id.Task // that it gave the last result of, last
	attempt  uint32  // of that
	known    map[*function]bool
	shapes   map[*class]bool
	last     *function
	direct   direct

	// Of one that stands for another agent.
	host  *host
	id    id.Task // of its actor
	place *place
	need  *demand
}

func (c *Core) workerOf(key uint64) *worker {
	for _, w := range c.workers {
		if w.key == key {
			return w
		}
	}
	return nil
}

// touch has a worker looked at at the end of the turn.
func (c *Core) touch(w *worker) {
	if !w.touched && w.actor == nil {
		w.touched = true
		c.touched = append(c.touched, w)
	}
}

// idleFor finds an idle worker for a class and the devices it would get: the one used last.
func (c *Core) idleFor(cl *class, devices []string) *worker {
	idle := cl.job.idle
	for i := len(idle) - 1; i >= 0; i-- {
		w := idle[i]
		if w.environment == cl.table.Environment && w.language == cl.language && w.threads == cl.threads() && slices.Equal(w.devices, devices) {
			cl.job.idle = slices.Delete(idle, i, i+1)
			return w
		}
	}
	return nil
}

// threads is how many a worker's libraries are to use: one for each CPU.
func (cl *class) threads() int64 { return max(1, cl.need.cpu/10_000) }

// hire asks for a new worker, which holds its lease from now on. At the cap, an idle one has to go first:
// false says that there is none.
func (c *Core) hire(cl *class, g *grant, devices []string, forActor *actor, kin bool) bool {
	if len(c.workers) >= c.cfg.Processes {
		c.endOneIdle()
		return false
	}
	c.nextKey++
	w := &worker{key: c.nextKey, job: cl.job, environment: cl.table.Environment, language: cl.language, threads: cl.threads(), known: map[*function]bool{}, shapes: map[*class]bool{}}
	c.workers = append(c.workers, w)
	c.lease(w, cl, g, devices, kin)
	c.out = append(c.out, Effect{Do: NeedWorker, Key: w.key, Need: &Need{Key: w.key, Job: cl.job.number, Environment: w.environment,
		Language: w.language, Devices: devices, Actor: forActor != nil, Threads: w.threads}})
	if forActor != nil {
		c.settleIn(forActor, w)
	} else {
		cl.leased = append(cl.leased, w)
		cl.starting++
	}
	return true
}

// endOneIdle makes room for another worker: the one longest idle goes.
func (c *Core) endOneIdle() {
	var oldest *worker
	for _, j := range c.jobs {
		for _, w := range j.idle {
			if oldest == nil || w.idleAt < oldest.idleAt {
				oldest = w
			}
		}
	}
	if oldest != nil {
		c.retire(oldest, "its place is needed")
	}
}

// workerUp: a worker that was asked for has attached.
func (c *Core) workerUp(w *worker) {
	if w.killed != "" {
		c.out = append(c.out, Effect{Do: KillWorker, Key: w.key, Process: w.process.id, Text: w.killed})
		return
	}
	if !w.process.mute {
		w.class.failed = 0
	}
	if w.actor != nil {
		c.construct(w.actor)
		return
	}
	w.class.starting--
	c.touch(w)
	c.restless = true
}

// speaks: a worker that was attached before it was there says its first word.
func (c *Core) speaks(p *process) {
	p.mute = false
	if p.worker != nil {
		p.worker.class.failed = 0
	}
}

// onFailed: a worker could not be started.
func (c *Core) onFailed(ev WorkerFailed) {
	if w := c.workerOf(ev.Key); w != nil && w.process == nil {
		c.unborn(w, ev.Why, ev.Final)
	}
}

// stillborn: a worker is over that never said a word. What it was given goes back as if it had not been.
func (c *Core) stillborn(w *worker, why string) {
	for t := w.flight.tail; t != nil; t = w.flight.tail {
		c.leave(t)
		switch {
		case t.cancelled:
			c.fail(t, codeCancelled, "it was cancelled; "+why)
		case t.kind != create:
			c.requeue(t)
		}
	}
	c.unborn(w, why, false)
}

// unborn: a worker never ran. Its class gives up after the third in a row, or at once if it is for good. Those that were on their way
// together count as one.
func (c *Core) unborn(w *worker, why string, final bool) {
	cl, a := w.class, w.actor
	c.remove(w)
	if a != nil {
		a.worker = nil
	}
	if w.killed != "" { // says nothing of others
		if a != nil {
			c.actorLost(a, w.killed)
		}
		return
	}
	if w.key > cl.failedKey {
		cl.failed++
		cl.failedKey = c.nextKey
		cl.hireAt = c.now + againAfter
	}
	cl.why = why
	if !final && (cl.failed < maxRestarts || cl.works()) {
		if a != nil {
			c.restart(a)
		}
		return
	}
	cl.failed = 0
	if a != nil {
		c.endActorWith(a, codeEnvironment, "no worker could be started for it: "+why)
	}
	for t := cl.queue.head; t != nil; t = cl.queue.head {
		if t.kind == create {
			c.endActorWith(t.actor, codeEnvironment, "no worker could be started for it: "+why)
		} else {
			c.fail(t, codeEnvironment, "no worker could be started for it: "+why)
		}
	}
}

// works tells whether the class has a worker that is there and waits for nothing.
func (cl *class) works() bool {
	return slices.ContainsFunc(cl.leased, func(w *worker) bool { return w.process != nil && w.blocked == 0 })
}

// shut lets a worker take nothing more.
func (c *Core) shut(w *worker) {
	if w.shutting {
		return
	}
	w.shutting = true
	if i := slices.Index(w.job.idle, w); i >= 0 {
		w.job.idle = slices.Delete(w.job.idle, i, i+1)
	}
	if w.class != nil && w.actor == nil {
		c.unlease(w)
	}
}

// unlease takes a worker off its class's list; what it holds stays held.
func (c *Core) unlease(w *worker) {
	if i := slices.Index(w.class.leased, w); i >= 0 {
		w.class.leased = slices.Delete(w.class.leased, i, i+1)
		if w.process == nil {
			w.class.starting--
		}
	}
}

// retire ends a worker once it has nothing to do. It holds what it has until it is gone, because devices
// and memory are in use until then.
func (c *Core) retire(w *worker, why string) {
	c.shut(w)
	c.recall(w)
	w.killed = why
	if w.flight.n == 0 && w.process != nil {
		c.end(w.process, why)
	}
}

// kill ends a worker at once.
func (c *Core) kill(w *worker, why string) {
	if w == nil {
		return
	}
	if w.host != nil {
		w.killed = why
		force := uint32(1)
		if w.actor.phase != fb.ActorPhaseDead { // it may be made again: not before its worker there is over
			force = 2
		}
		c.cancelAway(w.process, w.id, force, false)
		return
	}
	c.shut(w)
	w.killed = why
	e := Effect{Do: KillWorker, Key: w.key, Text: why}
	if w.process != nil {
		e.Process = w.process.id
		w.process.closing = true
		c.unseal(w.process) // another one may come to seal it
		c.flush(w.process)
	}
	c.out = append(c.out, e)
}

// remove forgets a worker.
func (c *Core) remove(w *worker) {
	c.shut(w)
	if w.class != nil {
		c.release(w)
	}
	c.setDeep(w, false)
	c.workers = slices.DeleteFunc(c.workers, func(v *worker) bool { return v == w })
	c.touched = slices.DeleteFunc(c.touched, func(v *worker) bool { return v == w })
	c.restless = true
}

// workerGone: a worker is over. What it ran is tried again or fails; what it had not started goes back.
func (c *Core) workerGone(w *worker, why string) {
	if w.killed != "" {
		why = w.killed
	} else if w.process.mute {
		c.stillborn(w, why)
		return
	}
	a := w.actor
	exited := a != nil && w.killed == "" && w.process.goodbye
	if exited {
		why = "it ended by itself"
		a.ending, a.reason = true, why
	}
	if t := w.flight.head; t != nil {
		c.noteDeath(t)
	}
	if a != nil {
		if w.starved && !a.returns() && a.code == "" {
			a.code = codeMemory
		}
		c.callsLost(a, w, why)
	}
	for t := w.flight.tail; t != nil && a == nil; t = w.flight.tail {
		runs := t == w.flight.head
		c.leave(t)
		switch {
		case t.cancelled:
			c.fail(t, codeCancelled, "it was cancelled; "+why)
		case !runs:
			c.requeue(t)
		case w.evicted:
			c.fail(t, codeGroupRemoved, why)
		case w.starved && t.mayRest():
			t.attempt++
			c.stamp(t)
			c.pause(t)
		case w.starved:
			c.fail(t, codeMemory, why+starvedText(t))
		case w.moved && t.mayMove() || c.once(t, c.cfg.Agent):
			c.again(t)
		default:
			c.fail(t, codeWorkerDied, "its worker died: "+why+triedText(t))
		}
	}
	c.remove(w)
	if a == nil {
		return
	}
	a.worker = nil
	if exited || a.ending && w.killed == "" {
		c.endActor(a, why, false)
	} else {
		a.starved = w.starved
		c.actorLost(a, why)
	}
}

func triedText(t *task) string {
	if t.tried == 0 {
		return ""
	}
	return fmt.Sprintf(" (try %d of %d)", t.tried+1, t.retries+1)
}

// leave takes a task from the worker that has it.
func (c *Core) leave(t *task) {
	w := t.worker
	if t.blocked {
		c.unblock(t)
	}
	t.unsure = false
	delete(c.doomed, t.id()) // a worker that is gone gives nothing back
	first := t == w.flight.head
	w.flight.remove(t)
	t.worker = nil
	if t.fetching != nil {
		c.dropBehind(w.process, t)
	}
	if t.place != nil {
		t.place.take(t.class.job, &t.class.need, -1)
		t.place, c.restless = nil, true
	}
	if w.actor != nil {
		c.forgetClass(w, t.class)
		if w.flight.n == 0 {
			w.idleAt = c.now
		}
		if t.kind == call {
			w.actor.gone(t)
			c.wantPump(w.actor)
		}
		return
	}
	t.class.flying--
	if w.host != nil {
		return
	}
	if first {
		w.since = c.now
	}
	c.setDeep(w, w.flight.n > 1)
	if w.killed != "" && w.shutting && w.flight.n == 0 && w.process != nil && !w.process.closing {
		c.end(w.process, w.killed)
		return
	}
	c.touch(w)
}

func (c *Core) setDeep(w *worker, deep bool) {
	if w.deep != deep {
		w.deep = deep
		if deep {
			c.deep++
		} else {
			c.deep--
		}
	}
}

// recallOverdue has workers give back what waits behind a task that runs too long.
func (c *Core) recallOverdue() {
	for _, w := range c.workers {
		if w.deep && c.now-w.since >= recallAfter {
			c.recall(w)
		}
	}
}

// give sends a task to a worker, with what it needs to know first.
func (c *Core) give(t *task, w *worker) {
	if w.host != nil {
		c.giveAway(t, w, id.Task{}, -1)
		return
	}
	p := w.process
	c.introduce(w, t.function, t.class)
	for i := range int(t.deps) {
		if o := c.lookup(objectAt(t.args(), i)); !o.here() || !c.sendValue(p, o) {
			c.tellElsewhere(p, o) // it asks for it when it comes to it
		}
	}
	for i := int(t.deps); i < int(t.deps+t.refs); i++ {
		c.deliver(p, objectAt(t.args(), i))
	}
	if t.in != nil {
		t.in.remove(t)
	}
	if w.flight.n == 0 {
		w.since = c.now
	}
	w.flight.push(t)
	t.worker, t.state, t.since = w, taskGiven, c.now
	c.forward(p, t.frame)
	c.tellTaken(t)
}

// introduce tells a worker of a function and a class, unless it knows them.
func (c *Core) introduce(w *worker, fn *function, cl *class) {
	if fn != nil && fn != w.last && !w.known[fn] {
		w.known[fn] = true
		c.forward(w.process, fn.frame)
	}
	w.last = fn
	if !w.shapes[cl] {
		w.shapes[cl] = true
		c.forward(w.process, cl.frame)
	}
}

// rest ends a lease whose worker has nothing to do.
func (c *Core) rest(w *worker) {
	c.unlease(w)
	c.forgetClass(w, w.class)
	c.release(w)
	w.idleAt = c.now
	w.job.idle = append(w.job.idle, w)
	if c.calm == 0 {
		c.calm = c.now + idleAfter
	}
	c.restless = true
}

// endIdle ends workers that were idle for long, but for as many as there are CPUs.
func (c *Core) endIdle() {
	cpus := 0
	for _, g := range c.grants {
		cpus += int(get(g.total, resCPU) / one)
	}
	n := 0
	for _, j := range c.jobs {
		n += len(j.idle)
	}
	for _, j := range c.jobs {
		for n > cpus && len(j.idle) > 0 && c.now-j.idle[0].idleAt >= idleAfter {
			c.retire(j.idle[0], "it was idle")
			n--
		}
	}
	c.calm = 0
	if n > cpus {
		c.calm = c.now + idleAfter
	}
}
