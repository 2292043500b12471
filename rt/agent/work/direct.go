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
	directBytes = 4 << 10 // of a frame on a line
	lineCalls   = 2       // that a worker may have from one: one runs, and one waits
)

// direct are the direct lines of an actor's worker.
type direct struct {
	callers []lineCaller // that have had one, until the worker has ended the last line of one that is gone
	had     bool         // there was one
	caller  *process     // that called last
	class   *class       // and how
	n       int          // short calls of its in a row
	asked   bool         // the worker was told to end the line, and has not answered
	over    bool         // it has: what it does this agent knows
}

// lineCaller is a driver that has had lines to a worker.
type lineCaller struct {
	process id.Process
	after   int    // so many short calls in a row are waited for before the next one
	count   uint64 // so many it had made when it got the last one
	class   *class // of the calls on that
	told    int    // of so many the worker has told since it is gone
}

// of finds a caller; nil: it has had no line.
func (d *direct) of(p id.Process) *lineCaller {
	if i := slices.IndexFunc(d.callers, func(k lineCaller) bool { return k.process == p }); i >= 0 {
		return &d.callers[i]
	}
	return nil
}

// joinDirect has a look at a call of an actor that ends.
func (c *Core) joinDirect(t *task, w *worker) {
	p, a, d := t.owner, t.actor, &w.direct
	alone := p.direct && p.kind == Driver && !p.gone && t.lane.n == 1 && w.process != nil && w.process.direct && w.flight.n == 1
	simple := a.ordered() && len(a.groups) == 1 && a.table.MaxPending < 0 && t.returns == 1 && t.deps|t.refs == 0 && t.deadline == 0 && t.parent == nil && t.attempt == 0
	if !alone || !simple || c.now-t.since > directShort || c.drainUnder(a) != nil {
		d.n = 0
		return
	}
	if d.caller != p || d.class != t.class {
		d.caller, d.class, d.n = p, t.class, 0
	}
	k, after := d.of(p.id), c.cfg.Direct
	if k != nil {
		after = k.after
	}
	if d.n++; d.n < after || !c.linesOver(w) { // be it another driver's, who would keep it for ever
		return
	}
	m := c.stamps.call
	if wire.ReadCall(t.frame[wire.HeaderSize:][:wire.CallSize], m) != nil || c.class(p, t.lane.shape, a.function.language, unsaid{}) != t.class { // a later one was cancelled
		return
	}
	switch {
	case k == nil:
		d.callers = append(d.callers, lineCaller{p.id, 2 * after, m.Sequence, t.class, 0})
	case int64(m.Sequence-k.count)-int64(d.n) > int64(d.n): // the line before was of use
		k.after, k.count, k.class = c.cfg.Direct, m.Sequence, t.class
	default:
		k.after, k.count, k.class = min(2*after, directMost), m.Sequence, t.class
	}
	d.n, d.over, d.had = 0, false, true
	c.out = append(c.out, Effect{Do: Join, Process: p.id, Worker: w.process.id, Line: &fb.LineT{
		Actor: taskT(a.id()), Caller: uint32(p.id), Incarnation: a.incarnation, Shape: t.lane.shape, WorkerShape: t.class.number}})
}

// linesOver tells whether this agent knows of all that an actor's worker does. If not, it has the worker end its line, and the actor is looked at
// again when that has answered.
func (c *Core) linesOver(w *worker) bool {
	d := &w.direct
	if len(d.callers) == 0 || d.over {
		return true
	}
	if !d.asked && w.process != nil {
		d.asked = true
		b := c.start(w.process, fb.FrameTypeLine, wire.LineSize, 0)
		wire.PutLine(b, &fb.LineT{})
	}
	return false
}

// linesGone has workers end the lines that they have to a driver that is gone: until then what they tell of may be its.
func (c *Core) linesGone(p *process) {
	for _, w := range c.workers {
		if w.direct.caller == p {
			w.direct.caller = nil
		}
		if w.direct.of(p.id) != nil && w.killed == "" && !w.shutting && c.linesOver(w) {
			c.forgetCallers(&w.direct)
		}
	}
}

// forgetCallers drops the callers that are gone.
func (c *Core) forgetCallers(d *direct) {
	d.callers = slices.DeleteFunc(d.callers, func(k lineCaller) bool { return c.byProcess[k.process] == nil })
}

// hearsay tells whether all that an actor's worker does is what drivers say of it.
func (w *worker) hearsay() bool {
	return !slices.ContainsFunc(w.flight.all(), func(t *task) bool { return !t.unsure })
}

// onLine takes in that a worker has ended its line, having told of what it has from there. What only a driver told of was never made.
func (c *Core) onLine(p *process, f frame) {
	if p.worker == nil || p.worker.actor == nil || !p.worker.direct.asked {
		c.refuse(p, "ended a line that it was not to end")
		return
	}
	p.worker.direct.asked, p.worker.direct.over = false, true
	c.forgetCallers(&p.worker.direct)
	for _, t := range p.worker.flight.all() {
		if t.unsure {
			c.leave(t)
			c.fail(t, codeSystem, "its driver told of the call, and never made it")
		}
	}
	if p.worker.flight.n == 0 { // it may have been called a moment ago
		p.worker.idleAt = c.now
	}
	c.wantPump(p.worker.actor)
	c.drainsDue(true)
}

// strayDirect tells whether a worker has, or may have, a call that this agent does not know, or not any more: nobody wants its result.
func (c *Core) strayDirect(p *process, name id.Task) bool {
	return p.worker != nil && p.worker.direct.had && name.Agent == c.cfg.Agent && name.Process != 0 && (c.byProcess[name.Process] == nil || p.worker.direct.of(name.Process) != nil)
}

// onTold takes in a call that has gone by a direct line: from its caller, who does not wait there any more, or from the worker, which has it and
// has something to say. Mostly both tell of it, and who comes second says nothing new, unless that it runs.
func (c *Core) onTold(p *process, f frame) {
	m := c.read.call
	if wire.ReadCall(f.body, m) != nil {
		c.refuse(p, "sent a Told that can't be read")
		return
	}
	wire.PutHeader(f.whole, wire.Header{Length: uint32(len(f.whole) - wire.HeaderSize), Body: wire.CallSize, Type: fb.FrameTypeCall, Class: wire.ClassOf(fb.FrameTypeCall)})
	name, life, runs := taskOf(m.Task), m.Incarnation, p.worker != nil && m.Attempt == 0
	if k := c.entryOf(name); k != nil {
		t := k.task
		if t == nil || p.worker == nil || t.worker != p.worker {
			return
		}
		if t.unsure = false; runs {
			t.worker.flight.remove(t)
			t.worker.flight.pushFirst(t)
		}
		return
	}
	caller := p
	if p.worker != nil {
		caller = c.byProcess[name.Process]
	}
	if caller == nil && c.strayDirect(p, name) {
		c.toldOfGone(p, m, f)
		return
	}
	a, cl := c.toldOfActor(p, caller, m)
	switch {
	case cl == nil && p.worker != nil && c.strayDirect(p, name): // the actor is over, or its caller has let go of it
		return
	case cl != nil && p.worker != nil && !c.affords(caller, uint32(len(f.payload))): // it is for its caller to know
		return
	case cl == nil || m.Deps|m.Refs != 0 || m.Returns != 1 || len(f.whole) > directBytes || !c.affords(caller, uint32(len(f.payload))):
		c.refuse(p, "told of a call past its agent that is none for a line")
		return
	case p == caller && c.livesHere(a) && slices.ContainsFunc(a.worker.flight.all(), func(t *task) bool { return t.unsure && t.owner == p }):
		c.refuse(p, "told of two calls past its agent that their worker does not know")
		return
	case !c.acceptable(caller, f, name, m.Job, 0, 0, 1):
		return
	}
	t := c.newCall(caller, m, f, a, cl)
	switch {
	case c.livesHere(a) && life == a.incarnation:
		if t.unsure = p == caller; t.unsure {
			a.worker.direct.over = false // the worker can say whether it has it
		}
		c.flies(t, a.worker, runs)
	case a.phase == fb.ActorPhaseDead:
		c.failCall(t)
	case t.retry():
		t.attempt++
		c.stamp(t)
		c.begin(t)
	default:
		c.fail(t, codeActorAway, "actor "+a.title()+": its worker died, and it is made again; the call may have run")
	}
}

// toldOfGone takes in a call that its worker tells of and whose driver is gone. It goes on as others do that an actor has when their callers go, and nobody
// has its result.
func (c *Core) toldOfGone(p *process, m *fb.CallT, f frame) {
	a, k := p.worker.actor, p.worker.direct.of(taskOf(m.Task).Process)
	switch {
	case k == nil || a == nil || !c.livesHere(a) || m.Incarnation != a.incarnation: // it ends with its worker
		return
	case k.told == lineCalls || taskOf(m.Actor) != a.id() || m.Job != k.class.job.number || m.Deps|m.Refs != 0 || m.Returns != 1 || len(f.whole) > directBytes:
		c.refuse(p, "told of a call past its agent that is none for a line")
		return
	}
	k.told++
	j, runs := k.class.job, m.Attempt == 0
	if !slices.Contains(c.jobs, j) {
		c.jobs = append(c.jobs, j)
	}
	t := c.newCall(j.home, m, f, a, k.class)
	t.retries = 0
	c.unhold(c.holderOf(j.home, t.entry.first))
	c.flies(t, p.worker, runs)
}

// livesHere tells whether an actor has a worker of this node, which has begun.
func (c *Core) livesHere(a *actor) bool {
	return !a.proxy && a.phase == fb.ActorPhaseAlive && a.worker != nil && a.worker.host == nil && a.worker.process != nil
}

// toldOfActor gives the actor of a call that a driver, or its worker, tells of, and its class; nil: none that the caller may have called by a line.
func (c *Core) toldOfActor(p, caller *process, m *fb.CallT) (*actor, *class) {
	name, e := taskOf(m.Task), c.entries[taskOf(m.Actor)]
	if caller == nil || caller.kind != Driver || name.Process != caller.id || name.Agent != c.cfg.Agent || m.Job != caller.job.number {
		return nil, nil
	}
	c.standIn(e, caller)
	if e == nil || e.actor == nil || e.first == nil || !c.mayName(caller, e.first) {
		return nil, nil
	}
	a := e.actor
	if p.worker != nil && (p.worker != a.worker || p.worker.direct.of(caller.id) == nil) || c.livesHere(a) && m.Incarnation == a.incarnation && a.worker.direct.of(caller.id) == nil {
		return nil, nil
	}
	return a, c.class(caller, m.Shape, a.function.language, unsaid{})
}

// flies notes a call that a worker has already. runs: it says so.
func (c *Core) flies(t *task, w *worker, runs bool) {
	t.actor.groups[t.lane.group].flying++
	t.actor.flying++
	if w.flight.n == 0 {
		w.since = c.now
	}
	t.worker, t.state, t.since = w, taskGiven, c.now
	if runs {
		w.flight.pushFirst(t)
	} else {
		w.flight.push(t)
	}
}
