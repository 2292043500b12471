package work

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What waits in a circle waits for ever, if nobody cancels or kills. Everything that can't go on waits for others, and goes on when any of those do: a task
// that waits for results, for the tasks that give them; a call, for those that its actor does; what needs a device, for those that have it. So something
// is stuck if from it one comes, from wait to wait, to nothing that goes on; and if one comes back to it, it is in a circle. Of a circle the task or call fails that has not
// started, and has the lowest number: then the others have an answer (WORK-13).
//
// What a task waits for its process says, unless it can't: a task that waits for who knows what goes on, as far as is known here.

const (
	circleAfter = int64(time.Second) // nothing is looked at that waits for less
	maxNamed    = 256                // of so many objects it is taken in that a task waits for them; of more, that it waits
	maxStops    = 10_000             // of what is stuck, so much is looked at at a time
)

// waits is what a blocked task waits for: need of the objects, or that one of them fails.
type waits struct {
	task    *task
	since   int64
	stamp   uint64 // no other wait has it
	need    int
	objects []id.Object // none: that is not known
	timed   bool        // it goes on by itself some time,
	reader  bool        // as it waits for who reads what it gives
}

// whole stands for a task in the place of an index of its results.
const whole = ^uint32(0)

// spot is a place in the graph of waits: an object that is not there, or a task without outcome, as an agent knows it; or room for what is asked for, at
// an agent, or, agent 0, at any.
type spot struct {
	agent id.Agent
	what  id.Object
	room  string
}

// stop is what is at a spot: something that waits, and goes on when anything at one of the spots does for which it waits.
type stop struct {
	spot
	name   string
	stamp  uint64 // another one, if it went on meanwhile and waits again
	queued bool   // it has not started
	found  bool   // its agent has said all this
	to     []spot
}

// trail is what was found from some spots on.
type trail struct {
	stops []*stop
	at    map[spot]*stop
	away  []spot // of other agents
	goes  bool   // something goes on, or is not known: nothing that leads there is stuck
	idle  bool   // actors that do nothing are taken to keep what they have, and no CPU to come free but by an end
}

// onAwaits takes in that a task waits, and for what.
func (c *Core) onAwaits(p *process, f frame) {
	m := c.read.awaits
	if len(f.body) != wire.AwaitsSize || wire.ReadAwaits(f.body, m) != nil || uint64(m.Objects)*objectSize > uint64(len(f.payload)) {
		c.refuse(p, "sent an Awaits that can't be read")
		return
	}
	t := c.running(p.worker, taskOf(m.Task))
	if t == nil { // it ended meanwhile
		c.strays++
		return
	}
	x := waits{need: int(m.Need), timed: m.Timed != 0, reader: m.Timed == forReader}
	for i := uint32(0); m.Objects <= maxNamed && i < m.Objects; i++ {
		x.objects = append(x.objects, objectAt(f.payload, int(i)))
	}
	if m.Need == 0 || m.Need > m.Objects { // nobody can wait so: for what is not known
		x.objects = nil
	}
	c.block(t, x)
}

// block notes that a task waits.
func (c *Core) block(t *task, x waits) {
	if t.blocked {
		return
	}
	w := t.worker
	t.blocked = true
	w.blocked++
	w.process.told = c.now
	c.waits++
	x.task, x.since, x.stamp = t, c.now, c.waits
	w.waits = append(w.waits, x)
	if len(x.objects) > 0 && !x.timed {
		c.saying++
		c.lookLater()
	}
	c.kinAt++
	c.lendCPU(w)
	if w.actor == nil {
		c.recall(w)
	}
	c.watch(w.process)
}

// unwaits forgets what a task waited for.
func (c *Core) unwaits(t *task) {
	w := t.worker
	i := slices.IndexFunc(w.waits, func(x waits) bool { return x.task == t })
	if x := &w.waits[i]; len(x.objects) > 0 && !x.timed {
		c.saying--
	}
	w.waits = slices.Delete(w.waits, i, i+1)
}

// waitsOf is what a blocked task waits for.
func (t *task) waitsOf() *waits {
	return &t.worker.waits[slices.IndexFunc(t.worker.waits, func(x waits) bool { return x.task == t })]
}

// lookLater has circles looked for in a while, as long as anything waits for what it said, and searches be given up.
func (c *Core) lookLater() {
	if c.circleAt == 0 && (c.saying > 0 || len(c.searches) > 0) {
		c.circleAt = c.now + circleAfter
	}
}

// lookForCircles begins with whatever waits and keeps something from starting.
func (c *Core) lookForCircles() {
	c.circleAt = 0
	c.giveUpSearches()
	c.lookLater()
	if c.saying == 0 {
		return
	}
	var begin []spot
	for _, a := range c.actors {
		if a.phase != fb.ActorPhaseAlive && a.create != nil {
			begin = append(begin, c.spotOf(a.create))
		}
	}
	short := slices.ContainsFunc(c.jobs, func(j *job) bool {
		return slices.ContainsFunc(j.active, func(cl *class) bool { return cl.queue.n > 0 && cl.need.sticks })
	})
	for _, w := range c.workers {
		if w.blocked > 0 && (short && w.class.need.sticks || w.actor != nil && w.actor.late()) {
			begin = c.firstOf(begin, w)
		}
	}
	begin = c.roomless(begin)
	for i := range begin { // from another one each time, if not all can be followed
		c.trace(begin[(i+int(c.questions))%len(begin)], false)
	}
}

// late tells whether calls wait for an actor to have room for them.
func (a *actor) late() bool {
	return a.flying > a.worker.blocked || slices.ContainsFunc(a.lanes, func(l *lane) bool { return l.queue.n > 0 })
}

// firstOf adds the first task that waits in a worker, of an actor one of each group of methods: who waits for that group waits for all of them.
func (c *Core) firstOf(list []spot, w *worker) []spot {
	var groups []int
	for t := w.flight.head; t != nil; t = t.listed {
		group := 0
		if t.kind == call {
			group = t.lane.group
		}
		if t.blocked && !slices.Contains(groups, group) {
			groups, list = append(groups, group), append(list, c.spotOf(t))
		}
	}
	return list
}

func (c *Core) spotOf(t *task) spot { return c.here(id.Object{Task: t.id(), Index: whole}) }

func (c *Core) here(o id.Object) spot { return spot{agent: c.cfg.Agent, what: o} }

// walkWaits goes from wait to wait as far as this agent knows, or until it comes to something that goes on.
func (c *Core) walkWaits(l *trail, from []spot) {
	for todo := slices.Clone(from); len(todo) > 0 && !l.goes; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if l.at[s] != nil {
			continue
		}
		k := &stop{spot: s}
		l.at[s] = k
		if s.agent != c.cfg.Agent {
			l.away = append(l.away, s)
			continue
		}
		k.found = true
		l.stops = append(l.stops, k)
		l.goes = !c.stopAt(k, l.idle) || len(l.stops) > maxStops
		todo = append(todo, k.to...)
	}
}

// stopAt fills in a stop of this agent's; false: it goes on, or may. idle: an actor that does nothing does not.
func (c *Core) stopAt(k *stop, idle bool) bool {
	if k.room != "" {
		return c.roomAt(k, idle)
	}
	e := c.entries[k.what.Task]
	if e == nil {
		return false
	}
	t := e.task
	if idle && t != nil && t.state == taskBuilt && k.what.Index == whole {
		return c.idleStop(k, t.actor)
	}
	if k.what.Index != whole {
		o := e.object(k.what.Index)
		if o == nil || !o.missing() {
			return false
		}
		if t == nil && o.foreign && o.state == objectPending && !c.exists(o) {
			p := c.home(o)
			k.name, k.to = objectName(k.what), []spot{{agent: p.agent, what: k.what}}
			return !p.closing && c.lent[o].asked != fb.WantNone
		}
		if o.has(markCached) {
			return c.waitsForMaker(k)
		}
	}
	if t == nil || t.cancelled || t.deadline != 0 || t.rests != 0 || t.owner.closing && !(t.owner.id == 0 && t.kind == call) || c.doomed[t.id()] != "" {
		return false
	}
	k.name, k.stamp = t.name(), uint64(t.since)
	switch t.state {
	case taskWaiting:
		if t.kind == create && t.actor.naming {
			return false
		}
		for i := range int(t.deps) {
			o := c.lookup(objectAt(t.args(), i))
			if o == nil || !o.missing() && !o.here() {
				return false // it is being brought
			}
			if o.missing() {
				k.to = append(k.to, c.here(o.id()))
			}
		}
		return len(k.to) > 0
	case taskQueued:
		k.queued = true
		if t.kind == call {
			return c.waitsForActor(k, t)
		}
		return c.waitsForRoom(k, t, idle)
	case taskGiven:
		w := t.worker
		switch {
		case w == nil || w.shutting || w.actor != nil && w.actor.ending || w.killed != "" || w.process == nil || w.process.closing:
		case w.host != nil:
			k.to = []spot{{agent: w.process.agent, what: k.what}}
			return t.fetching == nil
		case t.blocked:
			return c.waitsForObjects(k, t)
		case t.kind == call: // its actor has it ahead
			k.queued = true
			return c.waitsForActor(k, t)
		}
	}
	return false
}

// waitsForObjects: a task goes on when something that it said it waits for does. false: it may already, or does by itself.
func (c *Core) waitsForObjects(k *stop, t *task) bool {
	x := t.waitsOf()
	if x.timed || len(x.objects) == 0 || c.now < x.since+circleAfter {
		return false
	}
	k.stamp = x.stamp
	for _, name := range x.objects {
		if o := c.lookup(name); o != nil && o.missing() && !c.exists(o) {
			k.to = append(k.to, c.here(name))
		}
	}
	return !c.opened(x) && len(k.to) > 0
}

// opened tells whether enough has come of what a task waits for, so that it goes on once it has heard that.
func (c *Core) opened(x *waits) bool {
	came := 0
	for _, name := range x.objects {
		o := c.lookup(name)
		switch {
		case o == nil || o.state == objectFailed:
			return true
		case !o.missing() || c.exists(o):
			came++
		}
	}
	return came >= x.need && len(x.objects) > 0
}

// waitsForActor: a call that has not started goes on when one of those does that its actor does now, if it does as many as it may.
func (c *Core) waitsForActor(k *stop, t *task) bool {
	a := t.actor
	if a.proxy || a.ending || a.phase == fb.ActorPhaseDead {
		return false
	}
	if a.phase != fb.ActorPhaseAlive {
		k.to = []spot{c.spotOf(a.create)}
		return true
	}
	w := a.worker
	if w == nil || w.host != nil || w.shutting || w.killed != "" || w.process == nil || a.table.Asynchronous {
		return false // of one that is async nobody knows what its calls do
	}
	for o := w.flight.head; o != nil; o = o.listed {
		if o.kind == call && o.blocked && o.lane.group == t.lane.group {
			k.to = append(k.to, c.spotOf(o))
		}
	}
	return len(k.to) >= a.groups[t.lane.group].size
}

// waitsForRoom: a task that needs what waiting does not free goes on when one of those does that have it.
func (c *Core) waitsForRoom(k *stop, t *task, idle bool) bool {
	stage := t.class.stage
	t.class.stage = len(t.class.wishes) // what its kind wishes it waits for a moment only
	defer func() { t.class.stage = stage }()
	if c.elsewhere(t) {
		return c.waitsForAny(k, t, idle)
	}
	n := 0
	for _, g := range c.grants {
		if !t.class.mayUse(g) || g.tooSmall(&t.class.need) >= 0 && g.node == nil {
			continue
		}
		n++
		if !slices.ContainsFunc(t.class.need.parts, func(p part) bool { return c.keptBy(k, g, p, idle) }) {
			return false
		}
	}
	return n > 0
}

// keptBy tells whether those that wait keep so much of a resource of a grant that a part can't be had, and adds them to a stop.
func (c *Core) keptBy(k *stop, g *grant, p part, idle bool) bool {
	if p.resource == resCPU && !idle {
		return false
	}
	kept, to := int64(0), k.to
	if g.group == (id.Task{}) {
		n, by := c.keptOf(p.resource, idle)
		kept, to = n, append(to, by...)
	}
	for _, w := range c.workers {
		n := w.has(p.resource)
		if !w.held || w.grant != g || g.group == (id.Task{}) || w.shutting || n == 0 || !c.clings(w, idle) {
			continue
		}
		kept, to = kept+n, append(to, c.does(w)...)
	}
	if g.ever(p.resource)-kept >= p.amount {
		return false
	}
	k.to = to
	return true
}

// breakCircle fails the first of what has not started in a circle, if it is this agent's; otherwise its own agent does.
func (c *Core) breakCircle(l *trail) {
	var first *stop
	for _, k := range l.knot() {
		if k.queued && (first == nil || k.what.Task.Compare(first.what.Task) < 0) {
			first = k
		}
	}
	if first == nil || first.agent != c.cfg.Agent {
		return
	}
	chain := l.round(first)
	e := c.entries[first.what.Task]
	t := e.task
	var names []string
	for i, k := range chain {
		switch {
		case k.room != "":
			continue
		case i > 0 && chain[i-1].what.Task == k.what.Task: // the same, at the agent that has it
			names = names[:len(names)-1]
		}
		names = append(names, k.name)
	}
	text := "it can never start: "
	if t.kind == call {
		text += fmt.Sprintf("all calls that actor %s does at a time (%d) wait, and in the end for this one; the chain is %s; have the actor do more at a time (max_concurrency, or async methods that await), or get the result outside of it",
			t.actor.title(), t.actor.groups[t.lane.group].size, shorten(names))
	} else {
		text += fmt.Sprintf("those that have what it needs%s wait, and in the end for this one; the chain is %s; ask for less, or get results before asking for more", l.roomText(), shorten(names))
	}
	switch {
	case t.kind == create:
		c.endActor(t.actor, text, false)
	case t.state == taskGiven: // its worker has it, and may not begin it any more
		c.doomed[t.id()] = text
		c.recallOne(t)
	default:
		c.fail(t, codeDeadlock, text)
	}
}

// knot gives stops each of which waits for each, and for nothing else: what waits for those as well may go on once that circle is broken.
func (l *trail) knot() []*stop {
	for x := l.stops[0]; ; {
		all, ways := []*stop{x}, map[*stop][]*stop{x: nil} // ways: from where one comes to it
		for i := 0; i < len(all); i++ {
			for _, s := range all[i].to {
				n := l.at[s]
				if _, seen := ways[n]; !seen {
					all = append(all, n)
				}
				ways[n] = append(ways[n], all[i])
			}
		}
		back := map[*stop]bool{x: true}
		for todo := []*stop{x}; len(todo) > 0; todo = todo[1:] {
			for _, n := range ways[todo[0]] {
				if !back[n] {
					back[n] = true
					todo = append(todo, n)
				}
			}
		}
		i := slices.IndexFunc(all, func(n *stop) bool { return !back[n] })
		if i < 0 {
			return all
		}
		x = all[i]
	}
}

// round gives the shortest way from what a stop waits for back to its task; nil: there is none.
func (l *trail) round(k *stop) []*stop {
	before := map[*stop]*stop{}
	for todo := []*stop{k}; len(todo) > 0; todo = todo[1:] {
		for _, s := range todo[0].to {
			n := l.at[s]
			if n.agent == k.agent && n.what.Task == k.what.Task {
				way := []*stop{k}
				for m := todo[0]; m != nil && m != k; m = before[m] {
					way = append(way, m)
				}
				slices.Reverse(way)
				return way
			}
			if n != k && before[n] == nil {
				before[n] = todo[0]
				todo = append(todo, n)
			}
		}
	}
	return nil
}

// shorten joins the names of a chain, and leaves out the middle of a long one.
func shorten(names []string) string {
	if n := len(names); n > 9 {
		names = slices.Concat(names[:4], []string{fmt.Sprintf("%d more", n-8)}, names[n-4:])
	}
	return strings.Join(names, " -> ")
}
