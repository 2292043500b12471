package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// aheadMax is how many tasks that name a bundle of another agent may be there before there is room for them.
const aheadMax = 256

// place is a bundle that another agent has. That agent decides what starts on it; what is counted here is what
// this one has sent there.
type place struct {
	group   id.Task
	bundle  int32
	agent   id.Agent
	node    string
	open    bool   // for tasks of no group,
	where   string // that are to run there
	shut    bool   // nothing goes there any more: it was refused there
	drained bool   // the same, for now: its node is being drained
	total   []int64
	free    []int64
	n       int       // tasks and actors of ours
	uses    []hostUse // by what these have started there
}

// host is another agent as one that runs tasks and actors of a job. Frames to it and from it are those of a
// worker, but that it has any number of tasks.
type host struct {
	agent   id.Agent
	node    string
	job     *job
	process *process  // nil: the errand to it is being opened
	tasks   *worker   // stands for it as the worker of tasks
	actors  []*worker // and for each actor that lives there
	known   map[*function]bool
	methods map[*function]bool
	shapes  map[hostShape]uint32
	asks    []asker // for when it is open
	lists   []id.Object
}

// hostShape is what a shape there is made of: the class and the place's group.
type hostShape struct {
	class  *class
	group  id.Task
	bundle int32
}

// onPlace takes a bundle of another agent, which may be used from now on or no more.
func (c *Core) onPlace(ev Place) {
	c.restless = c.restless || !ev.More
	if ev.Recalled {
		for _, p := range c.places {
			p.shut = p.shut || p.group == ev.Group
		}
		return
	}
	if ev.Gone {
		c.places = slices.DeleteFunc(c.places, func(p *place) bool {
			return (ev.Agent == 0 || p.agent == ev.Agent) && (ev.Group == (id.Task{}) || p.group == ev.Group)
		})
		return
	}
	p := &place{group: ev.Group, bundle: ev.Bundle, agent: ev.Agent, node: ev.Node, open: ev.Open, where: ev.Where}
	for _, r := range ev.Resources {
		p.total = add(p.total, c.index(r.Name), r.Amount)
	}
	p.free = slices.Clone(p.total)
	c.closePlace(p)
	for i, old := range c.places {
		if old.group == p.group && old.bundle == p.bundle {
			if old.agent == p.agent {
				old.shut = false
				return
			}
			c.places[i] = p
			return
		}
	}
	c.places = append(c.places, p)
}

// mayGo tells whether tasks of a class may go to a place.
func (cl *class) mayGo(p *place) bool {
	return !p.shut && !p.drained && cl.suits(p)
}

func (cl *class) suits(p *place) bool {
	if p.open {
		if cl.meets(p.where) {
			return !cl.home
		}
		suits := !cl.wishing() && cl.where == p.where || p.where == "" && (cl.where == spread || cl.where == "node="+p.node)
		return cl.group == (id.Task{}) && suits && !cl.home
	}
	return p.group == cl.group && (cl.table.Bundle < 0 || cl.table.Bundle == p.bundle)
}

// holds tells whether an amount of resources has room for a demand.
func (d *demand) fits(have []int64) bool {
	return !slices.ContainsFunc(d.parts, func(p part) bool { return get(have, p.resource) < p.amount })
}

func (p *place) take(j *job, d *demand, sign int64) {
	for _, x := range d.parts {
		p.free = add(p.free, x.resource, -sign*x.amount)
		if p.open {
			j.held = add(j.held, x.resource, sign*x.amount)
		}
	}
	p.n += int(sign)
}

// sendAway gives the next task of a class to another agent that has a place for it. even: only if not more is there
// than here. only: to that agent and no other, 0: to any. One with arguments that lie elsewhere waits for them then.
func (c *Core) sendAway(cl *class, even bool, only id.Agent) bool {
	t := cl.queue.head
	if len(c.places) == 0 || t == nil || t.owner.kind == Owner { // what came from elsewhere goes no further
		return false
	}
	var best *place
	here := 0
	if even {
		here = c.atHome(cl)
	}
	for _, p := range c.places {
		if !cl.mayGo(p) || !cl.need.fits(p.total) || even && c.load(p.agent) > here || only != 0 && p.agent != only {
			continue
		}
		if p.open && p.where == "" && c.stays(t, p) {
			continue
		}
		named := !p.open && cl.table.Bundle == p.bundle && (t.kind == create || p.n < aheadMax)
		if (named || cl.need.fits(p.free)) && (best == nil || c.nearer(t, p, best)) {
			best = p
		}
	}
	if best == nil {
		return false
	}
	h := c.hostOf(cl.job, best)
	if h.process == nil || h.process.closing {
		return false
	}
	if !c.lieWith(t, h.process) { // they stayed elsewhere, or were lost since it was queued
		c.fetchArgs(t)
		return true
	}
	t.in.remove(t)
	w := h.tasks
	if t.kind == create {
		w = &worker{host: h, process: h.process, job: cl.job, class: cl, actor: t.actor, id: t.id()}
		h.actors = append(h.actors, w)
		t.actor.worker = w
		c.table(h.process, &fb.ActorStateT{Actor: taskT(t.id()), Phase: t.actor.phase, Incarnation: t.actor.incarnation}, 0, nil)
	} else {
		cl.flying++
	}
	t.place = best
	best.take(cl.job, &cl.need, 1)
	cl.job.served = c.now
	if t.kind == create {
		w.place, t.place = best, nil
		w.need = &cl.need
	}
	c.giveAway(t, w, best.group, best.bundle)
	return true
}

// hostOf gives the host that a place's agent is to a job. The first time it has an errand opened.
func (c *Core) hostOf(j *job, p *place) *host {
	for _, h := range c.hosts {
		if h.job == j && h.agent == p.agent {
			return h
		}
	}
	h := &host{agent: p.agent, node: p.node, job: j, known: map[*function]bool{}, methods: map[*function]bool{}, shapes: map[hostShape]uint32{}}
	c.hosts = append(c.hosts, h)
	c.out = append(c.out, Effect{Do: NeedHost, Key: uint64(p.agent), Need: &Need{Job: j.number}})
	return h
}

// hostUp: an errand to another agent is open; nil if nobody asked for it, or its job is over.
func (c *Core) hostUp(ev ProcessUp) *host {
	for _, h := range c.hosts {
		if h.agent == ev.Agent && h.job.number == ev.Job && h.process == nil {
			return h
		}
	}
	return nil
}

// giveAway sends a task to another agent, with what that has to know first.
func (c *Core) giveAway(t *task, w *worker, group id.Task, bundle int32) {
	p := w.process
	number := c.introduceAway(w.host, t, group, bundle)
	for i := range int(t.deps) {
		c.sendValue(p, c.lookup(objectAt(t.args(), i)))
	}
	for i := int(t.deps); i < int(t.deps+t.refs); i++ {
		c.deliver(p, objectAt(t.args(), i))
	}
	if t.in != nil {
		t.in.remove(t)
	}
	w.flight.push(t)
	t.worker, t.state, t.since = w, taskGiven, c.now
	if t.kind == create {
		m := *t.actor.table
		// Whether it is made again, and what it is called, is decided here.
		m.Shape, m.MaxRestarts, m.MaxTaskRetries, m.Name, m.Detached, m.MaxPending = number, 0, 0, "", false, -1
		m.Deps, m.Refs = t.deps, t.refs
		c.table(p, &m, 0, t.args())
		return
	}
	frame := slices.Clone(t.frame)
	body := frame[wire.HeaderSize:]
	if t.kind == call {
		m := c.stamps.call
		_ = wire.ReadCall(body[:wire.CallSize], m) // it was read before
		m.Shape, m.Incarnation = number, 0
		wire.PutCall(body, m)
	} else {
		m := c.stamps.submit
		_ = wire.ReadSubmit(body[:wire.SubmitSize], m)
		m.Shape = number
		wire.PutSubmit(body, m)
	}
	c.forward(p, frame)
	c.tellTaken(t)
}

// introduceAway tells a host of a task's function and shape, and gives the number that the shape has there.
func (c *Core) introduceAway(h *host, t *task, group id.Task, bundle int32) uint32 {
	if fn := t.function; fn != nil && fn.frame != nil {
		if !h.known[fn] {
			h.known[fn] = true
			c.forward(h.process, fn.frame)
		}
		if fn.methods != nil && !h.methods[fn] {
			h.methods[fn] = true
			c.forward(h.process, fn.methods)
		}
	}
	k := hostShape{t.class, group, bundle}
	n, ok := h.shapes[k]
	if !ok {
		n = uint32(len(h.shapes))
		h.shapes[k] = n
		table := *t.class.table
		table.Number, table.Group, table.Bundle = n, taskT(group), bundle
		table.Node, table.Strategy, table.Labels, table.Fallbacks = "", "", nil, nil // it is there
		table.Lent = t.class.group == (id.Task{}) && group != (id.Task{})
		c.table(h.process, &table, 0, nil)
	}
	return n
}

// hostFrame takes in what a host says of the tasks that it has.
func (c *Core) hostFrame(p *process, f frame) {
	switch f.kind {
	case fb.FrameTypeResult:
		c.onResult(p, f)
	case fb.FrameTypeRelease:
		c.onRelease(p, f)
	case fb.FrameTypeGet:
		c.onGet(p, f)
	case fb.FrameTypeReady:
		c.onReady(p, f)
	case fb.FrameTypeCall:
		c.onCall(p, f)
	case fb.FrameTypeCancel:
		c.onCancel(p, f)
	case fb.FrameTypeShape:
		c.onTable(p, f)
	case fb.FrameTypeStateQuery:
		c.agentAsks(p, f)
	case fb.FrameTypeStateReply:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.onReply(p, m.(*fb.StateReplyT), f)
		}
	case fb.FrameTypeWaitReply:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.onWaitReply(p, m.(*fb.WaitReplyT), f)
		}
	case fb.FrameTypeActorState:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.hostActor(p, m.(*fb.ActorStateT), f.whole)
		}
	case fb.FrameTypeLeaseUse:
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
			c.hostUses(p, m.(*fb.LeaseUseT))
		}
	case fb.FrameTypeRankOutput, fb.FrameTypeNotice:
		c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole})
	default:
		c.strays++
	}
	if p.early = p.early && f.kind == fb.FrameTypeResult; !p.early {
		c.settleLent(p)
	}
}

// hostOfProcess finds the host at the other end of an errand.
func (c *Core) hostOfProcess(p *process) *host {
	for _, h := range c.hosts {
		if h.process == p {
			return h
		}
	}
	return nil
}

// hostActor: an actor that lives at a host is over there. What becomes of it, its owner decides.
func (c *Core) hostActor(p *process, m *fb.ActorStateT, whole []byte) {
	h := c.hostOfProcess(p)
	if h == nil {
		return
	}
	i := slices.IndexFunc(h.actors, func(w *worker) bool { return w.id == taskOf(m.Actor) })
	if i < 0 {
		c.proxyState(p, m) // an actor of its own
		return
	}
	if m.Phase != fb.ActorPhaseDead {
		return
	}
	w := h.actors[i]
	if d := c.drainOf(h.agent); d != nil && d.due {
		w.actor.moved = true
	}
	if c.endBehind(w, whole) {
		return
	}
	h.actors = slices.Delete(h.actors, i, i+1)
	if w.killed != "" {
		m.Code, m.Reason = "", w.killed
	}
	if m.Code == codeMemory { // it may be made again
		m.Code, w.starved = "", true
	}
	if m.Code == codeActorGroup && !c.over(w.class) && w.actor.table.MaxRestarts != 0 { // the bundle went, not the group
		m.Code, w.actor.moved = "", true
	}
	c.actorGone(w, m.Code, m.Reason)
}

// actorGone: an actor of ours has lost its place at a host. code: for good.
func (c *Core) actorGone(w *worker, code, why string) {
	a := w.actor
	w.place.take(w.job, w.need, -1)
	c.restless = true
	if a.worker != w {
		return
	}
	if code != "" && a.phase != fb.ActorPhaseDead {
		a.ending, a.reason = true, why
	}
	if w.starved && !a.returns() && a.code == "" {
		a.code = codeMemory
	}
	c.callsLost(a, w, why)
	a.worker, a.starved = nil, w.starved
	switch {
	case code != "":
		c.endActorWith(a, code, why)
	case a.ending && w.killed == "":
		c.endActor(a, why, false)
	default:
		c.actorLost(a, why)
	}
}

// hostGone: another agent is dead, or can't be reached, or will have no more of a job. What it had is tried again
// or fails; of nothing is it known whether it ran.
func (c *Core) hostGone(h *host, why string) {
	c.hosts = slices.DeleteFunc(c.hosts, func(k *host) bool { return k == h })
	for _, p := range c.places {
		p.note(hostUse{host: h})
	}
	c.restless = true
	why = fmt.Sprintf("node %s: %s", h.node, why)
	for _, w := range h.actors {
		if w.killed != "" {
			why = w.killed
		}
		w.actor.moved = w.actor.moved || c.drainOf(h.agent) != nil
		c.actorGone(w, "", why)
	}
	for _, k := range h.asks { // it was being closed when they came
		c.askAgent(h.agent, h.node, k)
	}
	for _, name := range h.lists {
		c.askListing(name)
	}
	for t := h.tasks.flight.tail; t != nil; t = h.tasks.flight.tail {
		c.leave(t)
		switch {
		case t.cancelled:
			c.fail(t, codeCancelled, "it was cancelled; "+why)
		case c.once(t, h.agent):
			c.again(t)
		default:
			c.fail(t, codeNodeDied, "it ran on "+why+triedText(t))
		}
	}
}

// hostSays handles an error that a host itself gives a task; true: the task is not over by it.
func (c *Core) hostSays(t *task, m *fb.ResultT, payload []byte) bool {
	if m.Flags&uint32(fb.ResultFlagNotTask) == 0 || m.Format != fb.FormatError || t.cancelled {
		return false
	}
	msg, err := wire.Unmarshal(fb.FrameTypeFailure, payload)
	if err != nil || taskOf(msg.(*fb.FailureT).Task) != t.id() { // it is an argument's
		return false
	}
	switch code := msg.(*fb.FailureT).Code; {
	case t.kind != plain:
		if t.actor.proxy {
			return false
		}
		return code == codeActorDied || code == codeActorGroup || code == codeActorAway // ActorState says so, too, and decides
	case code == codeCancelled && t.moving:
		c.again(t)
		return true
	case code == codeGroupRemoved && !c.over(t.class): // the bundle went, not the group
		if t.place != nil {
			t.place.shut = true
		}
		if t.mayMove() { // which is nobody's fault
			c.again(t)
			return true
		}
	}
	return false
}

// cancelAway asks a host to end a task or an actor.
func (c *Core) cancelAway(p *process, name id.Task, force uint32, recursive bool) {
	m := fb.CancelT{Task: taskT(name), Force: force}
	if recursive {
		m.Recursive = 1
	}
	if !p.gone {
		wire.PutCancel(c.start(p, fb.FrameTypeCancel, wire.CancelSize, 0), &m)
	}
}

// endHosts ends the errands of a job whose driver is gone, but for those with actors that outlive it.
func (c *Core) endHosts(j *job) {
	for _, h := range slices.Clone(c.hosts) {
		if h.job != j || h.process == nil {
			continue
		}
		for t := h.tasks.flight.head; t != nil; t = t.listed {
			c.cancelAway(h.process, t.id(), 1, true)
		}
		if !slices.ContainsFunc(h.actors, func(w *worker) bool { return w.actor.detached && w.killed == "" }) && !c.bringHome(h.process) {
			c.end(h.process, "its driver ended")
		}
	}
}

// idleHosts ends the errands of jobs that are over once nothing is left there.
func (c *Core) idleHosts() {
	for _, h := range c.hosts {
		if h.job.over && h.process != nil && len(h.actors) == 0 && h.tasks.flight.n == 0 && (h.job != c.ways || c.unused(h)) && !c.bringHome(h.process) {
			c.end(h.process, "its driver ended")
		}
	}
}
