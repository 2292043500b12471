package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// actor is a class of a user that lives in a worker of its own.
type actor struct {
	entry       *entry
	job         *job
	class       *class
	function    *function
	create      *task // its construction, for as long as it may be done again
	phase       fb.ActorPhase
	worker      *worker
	incarnation uint32
	restarts    int32
	table       *fb.CreateT
	groups      []callGroup // the first one is for methods that are in none
	method      []uint8     // group of each method
	lanes       []*lane
	byCaller    map[laneKey]*lane
	flying      int
	turn        int // lane that is next
	pumping     bool
	detached    bool
	named       bool    // it has its name
	naming      bool    // it asks for it, and waits
	claims      int     // times that it asked again
	rival       string  // node that has it
	askers      []asker // who look for the name
	ending      bool    // nobody has a handle: it ends when it has done what was asked
	pinned      bool    // detached
	proxy       bool    // it is another agent's
	starved     bool    // its worker was ended for want of memory
	moved       bool    // its worker was ended so that it is made again elsewhere, which is not counted
	cut         bool    // it is another agent's, which is out of reach
	seeking     bool    // that agent is asked for a handle of it
	kept        int     // pins for agents that are out of reach
	lost        bool    // its worker died: it might be made again, if it were not for its restarts
	code        string  // of the error that its calls get when it is dead
	reason      string
}

// callGroup are methods that share so many calls at a time.
type callGroup struct {
	name   string
	size   int
	flying int
}

// lane are the calls of one process to one actor, or to one group of its methods.
type lane struct {
	process *process
	group   int
	queue   list   // in the order in which they go
	n       int    // calls of the process that have no outcome, in any group of this lane
	shape   uint32 // of the last one, in the process's numbers
}

type laneKey struct {
	process *process
	group   int
}

// beside is the name of a group that the SDKs' own methods are in, which an actor does beside the user's (docs/adr/0042).
const beside = "__maniple_tensors__"

// ordered tells whether calls of a process have to arrive in their order, even if an argument of one is missing.
func (a *actor) ordered() bool {
	of := a.groups
	if last := len(of) - 1; of[last].name == beside {
		of = of[:last]
	}
	return !a.table.OutOfOrder && !a.table.Asynchronous && of[0].size == 1 && len(of) == 1
}

// parallel tells whether the actor does several calls at a time.
func (a *actor) parallel() bool {
	return a.table.Asynchronous || a.groups[0].size > 1 || len(a.groups) > 1
}

func (a *actor) id() id.Task { return a.entry.id }

func (a *actor) title() string {
	if a.table.Name != "" {
		return fmt.Sprintf("%s %q (%v)", a.function.name, a.table.Name, a.id())
	}
	return fmt.Sprintf("%s (%v)", a.function.name, a.id())
}

func (c *Core) onCreate(p *process, m *fb.CreateT, f frame) {
	fn := p.job.functions[m.Function]
	if fn == nil {
		c.refuse(p, "created an actor of a class that was not defined")
		return
	}
	// One that needs nothing in particular may as well be on any node.
	cl := c.class(p, m.Shape, fn.language, unsaid{p.captures(), !m.Detached})
	if cl == nil {
		c.refuse(p, "created an actor of a shape that it did not define")
		return
	}
	if len(m.Groups) > 200 {
		c.refuse(p, "created an actor with more than 200 groups of methods")
		return
	}
	if !c.acceptable(p, f, taskOf(m.Actor), m.Job, m.Deps, m.Refs, 1) {
		return
	}
	t := c.newTask(p, f, create, taskOf(m.Actor), c.entries[taskOf(m.Parent)], m.Deps, m.Refs, 1)
	c.giveBack(p, t.cost)
	incarnation := uint32(1)
	if p.kind == Owner && p.nextActor == t.id() {
		incarnation = p.nextLife
	}
	old := t.entry.actor
	if old != nil && old.proxy {
		c.endProxy(old)
	}
	a := c.newActor(t, m, f, fn, cl, incarnation)
	c.redirectAll(old)
	if m.Name != "" && !c.nameActor(a) {
		return
	}
	c.begin(t)
	c.drop(a.entry.first) // whose handle may have come before, and be of no use to anybody here any more
}

// newActor makes an actor of the task that constructs it.
func (c *Core) newActor(t *task, m *fb.CreateT, f frame, fn *function, cl *class, incarnation uint32) *actor {
	a := &actor{entry: t.entry, job: t.owner.job, class: cl, function: fn, create: t, incarnation: incarnation, table: m, detached: m.Detached, byCaller: map[laneKey]*lane{}}
	t.kind, t.class, t.function, t.actor = create, cl, fn, a
	t.entry.actor = a
	c.actors = append(c.actors, a)
	a.job.actors++
	a.limits()
	// To workers it goes with the agent's number of its shape.
	table := *m
	table.Shape, table.Job = cl.number, a.job.number
	if frame := c.encode(&table, 0, f.payload); frame != nil {
		c.memory.give(t.frame)
		t.frame, t.argsAt = frame, uint32(len(frame)-len(f.payload))
	}
	if a.detached {
		a.pinned = true
		a.entry.first.pins++
	}
	return a
}

// nameActor has an actor wait for its name; false: it is taken, and the actor dead.
func (c *Core) nameActor(a *actor) bool {
	if other := c.named(a.table.Namespace_, a.table.Name); other != nil {
		c.nameTaken(a, other.title())
		return false
	}
	a.naming = true
	a.create.missing++ // the name
	c.claim(a)
	return true
}

// limits works out how many calls each group of methods may have at a time.
func (a *actor) limits() {
	size := max(int(a.table.Concurrency), 1)
	if a.table.Asynchronous && a.table.Concurrency == 0 {
		size = 1000
	}
	a.groups = []callGroup{{"", size, 0}}
	a.method = make([]uint8, len(a.function.names))
	for _, g := range a.table.Groups {
		a.groups = append(a.groups, callGroup{g.Name, max(int(g.Size), 1), 0})
		for _, name := range g.Methods {
			if i := slices.Index(a.function.names, name); i >= 0 {
				a.method[i] = uint8(len(a.groups) - 1)
			}
		}
	}
}

// settleIn gives an actor its worker.
func (c *Core) settleIn(a *actor, w *worker) {
	a.worker, w.actor = w, a
	c.stick(w, 1)
	if a.create.in != nil {
		a.create.in.remove(a.create)
	}
	a.create.state = taskGiven
}

// construct has the worker make the actor.
func (c *Core) construct(a *actor) {
	w, t := a.worker, a.create
	if w.process == nil || w.process.gone {
		return
	}
	c.introduce(w, a.function, a.class)
	if a.function.methods != nil {
		c.forward(w.process, a.function.methods)
	}
	c.table(w.process, &fb.ActorStateT{Actor: taskT(a.id()), Phase: a.phase, Incarnation: a.incarnation, Node: c.cfg.Node}, 0, nil)
	c.give(t, w)
}

// constructed: the constructor has ended. What its worker holds stays held.
func (c *Core) constructed(a *actor, failed bool, payload []byte) {
	t := a.create
	w := a.worker
	c.leave(t)
	t.state = taskBuilt
	if failed {
		text := "its constructor failed"
		if m, err := wire.Unmarshal(fb.FrameTypeFailure, payload); err == nil {
			e := m.(*fb.FailureT)
			text += fmt.Sprintf(": %s: %s", e.Type, e.Message)
			if e.Traceback != "" {
				text += "\n" + e.Traceback
			}
		}
		w.killed = "its actor's constructor failed"
		c.endActor(a, text, false)
		return
	}
	a.phase = fb.ActorPhaseAlive
	c.tell(a)
	if a.table.MaxRestarts == 0 {
		c.unpinArgs(t)
	}
	c.wantPump(a)
	if a.ending {
		c.endGently(a)
	}
}

// unpinArgs lets go of what the constructor was given, once it can't run again.
func (c *Core) unpinArgs(t *task) {
	for i := range int(t.deps + t.refs) {
		c.unpin(c.lookup(objectAt(t.args(), i)))
	}
	t.deps, t.refs = 0, 0
}

// tell tells an actor's state to all who have a handle.
func (c *Core) tell(a *actor) {
	if o := a.entry.first; o != nil {
		for h := o.holders; h != nil; h = h.next {
			c.tellOne(a, h.process)
		}
	}
}

func (c *Core) tellOne(a *actor, p *process) {
	m := &fb.ActorStateT{Actor: taskT(a.id()), Phase: a.phase, Incarnation: a.incarnation, Reason: a.reason, Node: c.cfg.Node}
	if a.worker != nil && a.worker.host != nil {
		m.Node = a.worker.host.node
	}
	if a.phase == fb.ActorPhaseDead && (!a.lost || a.code == codeMemory) {
		m.Code = a.code
	}
	c.table(p, m, 0, nil)
}

// actorLost: its worker is over. It is made again, if it may be.
func (c *Core) actorLost(a *actor, why string) {
	switch {
	case a.phase == fb.ActorPhaseDead:
	case !a.returns():
		a.lost = !a.ending
		if a.starved {
			c.endActorWith(a, codeMemory, "its worker died: "+why)
			return
		}
		c.endActor(a, "its worker died: "+why, false)
	default:
		if !a.moved {
			a.restarts++
		}
		a.incarnation++
		if a.named && a.detached {
			c.claim(a) // the head counts them
		}
		c.restart(a)
	}
}

// returns tells whether the actor would be made again if its worker died now.
func (a *actor) returns() bool {
	limit := a.table.MaxRestarts
	return a.phase != fb.ActorPhaseDead && !a.ending && (limit < 0 || a.restarts < limit || a.moved && limit > 0)
}

// restart queues an actor's construction.
func (c *Core) restart(a *actor) {
	a.moved = false
	if a.incarnation > 1 {
		a.phase = fb.ActorPhaseRestarting
		c.tell(a)
	}
	t := a.create
	if t.worker != nil {
		c.leave(t)
	}
	if a.starved {
		a.starved = false
		c.pause(t)
		return
	}
	c.enqueue(t)
}
