package work

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Submit.returns of tasks that don't say how many results they have: a stream has the upper bit; a
// dynamic one has a single result that names all.
const (
	stream  = 1 << 31
	dynamic = 1<<32 - 1
)

type taskKind uint8

const (
	plain taskKind = iota
	call
	create
)

type taskState uint8

const (
	taskWaiting taskState = iota // for arguments
	taskQueued                   // for its turn: in its class's queue, or in its lane
	taskGiven                    // to a worker
	taskBuilt                    // of an actor that lives: its construction is over
)

// task is a Submit, a Call, or the construction of an actor.
type task struct {
	entry    *entry
	owner    *process // that submitted it
	class    *class
	function *function
	frame    []byte // as it goes to a worker
	kind     taskKind
	state    taskState
	worker   *worker
	actor    *actor // call, create
	lane     *lane
	method   uint32
	stamped  uint32 // incarnation in the frame of a call

	missing    uint32 // arguments that are not there
	deps, refs uint32
	argsAt     uint32 // where in frame the payload begins
	returns    uint32
	items      uint32 // of a stream, that came
	taken      uint32 // of a stream, by its reader
	attempt    uint32
	tried      int32 // retries used up
	retries    int32 // -1: no bound
	cost       uint32
	spent      bool   // cost, and is given back when it ends
	gone       string // why results are, of one that is kept to be run again
	deadline   int64
	since      int64 // in its state
	rests      int64 // it is tried again then; 0: it does not wait for that
	starved    int   // so often its worker was ended for want of memory

	cancelled, forced, recursive bool
	blocked                      bool
	moving                       bool     // it is asked back from a node that is being drained
	place                        *place   // of another agent, at which it is
	recalled, unsure             bool     // asked back; only its driver says that its worker has it
	fetching                     *fetch   // a value that it gave at another agent is on its way,
	behind                       [][]byte // and these frames wait for it
	afar                         bool     // an argument stayed at another agent, or did when it was looked at last
	chained                      bool     // it or an ancestor holds what waiting does not free
	remade                       bool     // it runs again, for who waits for a value of its

	parent             *task
	child              *task // the youngest
	elder, younger     *task
	ownedBefore        *task
	ownedAfter         *task
	listBefore, listed *task
	in                 *list
}

// list is a queue of tasks. A task is in one at most.
type list struct {
	head, tail *task
	n          int
}

func (l *list) push(t *task) {
	t.in, t.listBefore, t.listed = l, l.tail, nil
	if l.tail == nil {
		l.head = t
	} else {
		l.tail.listed = t
	}
	l.tail = t
	l.n++
}

func (l *list) pushFirst(t *task) {
	t.in, t.listBefore, t.listed = l, nil, l.head
	if l.head == nil {
		l.tail = t
	} else {
		l.head.listBefore = t
	}
	l.head = t
	l.n++
}

func (l *list) remove(t *task) {
	if t.listBefore == nil {
		l.head = t.listed
	} else {
		t.listBefore.listed = t.listed
	}
	if t.listed == nil {
		l.tail = t.listBefore
	} else {
		t.listed.listBefore = t.listBefore
	}
	t.in, t.listBefore, t.listed = nil, nil, nil
	l.n--
}

func (t *task) id() id.Task   { return t.entry.id }
func (t *task) streams() bool { return t.returns != dynamic && t.returns&stream != 0 }

// count is how many results the task is known to have.
func (t *task) count() uint32 {
	switch {
	case t.returns == dynamic:
		return 1
	case t.streams():
		return t.items
	}
	return t.returns
}

// args are the IDs that the task's payload begins with: deps, then refs.
func (t *task) args() []byte { return t.frame[t.argsAt:] }

// wanted tells whether anybody has use for a result of the task.
func (t *task) wanted() bool {
	for i := range t.count() {
		if o := t.entry.object(i); o != nil && (o.holders != nil || o.pins > 0) {
			return true
		}
	}
	return false
}

// name is what messages call the task.
func (t *task) name() string {
	name := ""
	switch {
	case t.kind == call:
		name = t.actor.function.name + "."
		if n := int(t.method & methodMask); n < len(t.actor.function.names) {
			method, _, _ := strings.Cut(t.actor.function.names[n], "\t") // behind it, what handles have to know
			name += method
		}
	case t.class.table.Name != "":
		name = t.class.table.Name
	case t.function != nil:
		name = t.function.name
	}
	return fmt.Sprintf("%s (%v)", name, t.id())
}

func (c *Core) onSubmit(p *process, f frame) {
	m := c.read.submit
	if wire.ReadSubmit(f.body, m) != nil {
		c.refuse(p, "sent a Submit that can't be read")
		return
	}
	fn := p.last
	if fn == nil || fn.number != m.Function {
		if fn = p.job.functions[m.Function]; fn == nil {
			c.refuse(p, "submitted a function that was not defined")
			return
		}
		p.last = fn
	}
	cl := c.class(p, m.Shape, fn.language, unsaid{group: p.captures()})
	if cl == nil {
		c.refuse(p, "submitted a task of a shape that it did not define")
		return
	}
	if !c.acceptable(p, f, taskOf(m.Task), m.Job, m.Deps, m.Refs, m.Returns) {
		return
	}
	if c.piles(p, m, len(f.whole), cl) {
		c.pile(p, f, m, cl)
		return
	}
	t := c.newTask(p, f, plain, taskOf(m.Task), c.entries[taskOf(m.Parent)], m.Deps, m.Refs, m.Returns)
	t.spent = true
	c.submit(t, fn, cl, m)
}

// submit begins a task that was made of a Submit.
func (c *Core) submit(t *task, fn *function, cl *class, m *fb.SubmitT) {
	t.class, t.function, t.retries = cl, fn, cl.table.Retries
	t.deadline = int64(min(m.Deadline, 1<<62))
	m.Shape, m.Attempt, m.Job = cl.number, 0, t.owner.job.number
	wire.PutSubmit(t.frame[wire.HeaderSize:], m)
	c.begin(t)
}

// acceptable checks what all kinds of tasks have in common, and spends credit on one. false: it was refused.
func (c *Core) acceptable(p *process, f frame, name id.Task, job, deps, refs, returns uint32) bool {
	switch {
	case !c.minted(p, name):
		c.refuse(p, "submitted a task under an ID that is not its own, or is used")
		return false
	case job != p.job.number && !p.remote():
		c.refuse(p, "submitted a task for another job")
		return false
	case returns > maxReturns && returns&stream == 0:
		c.refuse(p, "submitted a task with more than 1048576 results")
		return false
	}
	return (deps|refs == 0 || c.holdsAll(p, f.payload, deps, refs)) && c.spend(p, uint32(len(f.payload)))
}

// newTask makes a task of a frame that is acceptable, with parent as what is known of the task that submitted it.
func (c *Core) newTask(p *process, f frame, kind taskKind, name id.Task, up *entry, deps, refs, returns uint32) *task {
	e := c.entries[name]
	if e == nil {
		e = c.newEntry(name)
	}
	t := c.taskRec.take()
	t.entry, t.owner, t.frame, t.returns, t.deps, t.refs = e, p, c.memory.copy(f.whole), returns, deps, refs
	t.kind, t.argsAt, t.cost, t.since = kind, uint32(len(f.whole)-len(f.payload)), uint32(len(f.payload)), c.now
	e.task = t
	p.tasks.add(t)
	if up != nil && up.task != nil && p.worker != nil && up.task.worker == p.worker { // else a thread outlived its task, which is tried again elsewhere
		c.adopt(up.task, t)
	}
	for i := range t.count() {
		c.hold(p, c.renewed(t, i)).made = true
	}
	for i := range int(deps + refs) {
		c.lookup(objectAt(t.args(), i)).pins++
	}
	return t
}

// adopt makes t a child of up.
func (c *Core) adopt(up, t *task) {
	t.parent, t.elder = up, up.child
	if up.child != nil {
		up.child.younger = t
	}
	up.child = t
	t.chained = up.chained || up.worker != nil && up.worker.class != nil && up.worker.class.need.sticks
	t.recursive = up.recursive
}

// begin lets a new task wait for its arguments, or queues it.
func (c *Core) begin(t *task) {
	if t.deadline != 0 {
		c.at(t.deadline, timerTask, t.id(), 0, 0)
	}
	if t.parent != nil && t.parent.cancelled && t.recursive && t.kind != create {
		c.cancelTask(t, false, true)
		return
	}
	if c.ends(t.owner) && t.owner.id != 0 && !(t.owner.worker != nil && t.owner.worker.actor != nil) {
		c.fail(t, codeCancelled, "the driver of its job ended")
		return
	}
	failed := false
	for i := range int(t.deps) {
		switch o := c.lookup(objectAt(t.args(), i)); o.state {
		case objectPending, objectAway, objectGone:
			if o.state == objectAway && t.follows() {
				t.afar = true // it may go where its argument lies
				continue
			}
			t.missing++
			c.await(o, waiter{task: t})
		case objectFailed:
			failed = true
		}
	}
	switch {
	case failed:
		c.failing = append(c.failing, t.id())
	case t.missing == 0:
		c.enqueue(t)
	case t.kind == call && t.owner.id != 0: // one that is made again has none
		c.line(t) // it keeps its place
	}
}

// arrived: an argument has a value now, or failed.
func (c *Core) arrived(t *task, o *object) {
	t.missing--
	if o.state == objectFailed {
		c.failing = append(c.failing, t.id())
		return
	}
	if t.missing == 0 {
		c.enqueue(t)
	}
}

// failPoisoned ends tasks whose arguments failed: with the argument's error.
func (c *Core) failPoisoned() {
	for len(c.failing) > 0 {
		name := c.failing[len(c.failing)-1]
		c.failing = c.failing[:len(c.failing)-1]
		e := c.entries[name]
		if e == nil || e.task == nil {
			continue
		}
		t := e.task
		for i := range int(t.deps) {
			o := c.lookup(objectAt(t.args(), i))
			if o == nil || o.state != objectFailed {
				continue
			}
			m, payload := c.readResult(o.value)
			if t.kind == create {
				c.endActor(t.actor, "an argument of its constructor failed", false)
			} else {
				c.failWith(t, m.Format, m.Refs, payload)
			}
			break
		}
	}
}

// enqueue puts a task whose arguments are here where it waits for its turn.
func (c *Core) enqueue(t *task) {
	t.state, t.since = taskQueued, c.now
	if t.kind == call {
		c.line(t)
		return
	}
	cl := t.class
	if c.over(cl) {
		c.removed(t)
		return
	}
	cl.queue.push(t)
	c.seekKin(t)
	c.activate(cl)
	if t.parent != nil && t.parent.blocked && t.chained {
		c.watch(t.parent.worker.process)
	}
}

func (c *Core) unschedulable(t *task, code, why string) {
	if t.kind == create {
		c.endActorWith(t.actor, code, why)
		return
	}
	c.fail(t, code, why)
}

// fail ends a task with an error of the runtime.
func (c *Core) fail(t *task, code, text string) {
	c.failWith(t, fb.FormatError, 0, c.failure(code, fmt.Sprintf("task %s: %s", t.name(), text), t.id()))
}

// failWith ends a task: all its results that have not come have this error. Payload may be an object's.
func (c *Core) failWith(t *task, format fb.Format, refs uint32, payload []byte) {
	first, n := uint32(0), t.count()
	if t.streams() {
		first, n = t.items, t.items+1
		c.newItem(t)
	}
	if n-first > 1 {
		payload = slices.Clone(payload) // what one wakes may write where it is
	}
	if n == 0 && t.owner.remote() { // it waits for the end
		n = 1
	}
	told := false
	for i := first; i < n; i++ {
		o := t.entry.object(i)
		if o != nil && !o.missing() {
			c.sendAgain(t, o, i == n-1)
			continue
		}
		flags := fb.ResultFlagError | fb.ResultFlagLast
		if t.owner.remote() {
			flags |= fb.ResultFlagNotTask // an agent's word, which it may take otherwise than the task's
		}
		frame := c.resultFrame(id.Object{Task: t.id(), Index: i}, t.attempt, flags, format, refs, payload)
		if !told && (o == nil || o.state != objectGone || t.owner.remote()) && (n-first > 1 || t.streams() || t.returns == 0 || o != nil && c.holderOf(t.owner, o) != nil) {
			told = true
			m, body := c.readResult(frame)
			c.push(t.owner, frame, m, body)
		}
		if o == nil {
			c.memory.give(frame)
			continue
		}
		c.settle(o, frame)
	}
	c.finish(t)
}

// newItem makes the object of a stream's next item.
func (c *Core) newItem(t *task) *object {
	o := c.renewed(t, t.items)
	t.items++
	if t.owner.gone {
		c.drop(o)
	} else {
		c.hold(t.owner, o).made = true
	}
	return o
}

// finish forgets a task that has its outcome.
func (c *Core) finish(t *task) {
	for i := 0; t.missing > 0 && i < int(t.deps); i++ {
		if o := c.lookup(objectAt(t.args(), i)); o != nil {
			c.unwait(o, func(w *waiter) bool { return w.task == t })
		}
	}
	keep := t.remembers()
	for i := range int(t.deps + t.refs) {
		o := c.lookup(objectAt(t.args(), i))
		if keep {
			o.kin++
		}
		c.unpin(o)
	}
	if t.worker != nil {
		c.leave(t)
	}
	if t.in != nil {
		t.in.remove(t)
		c.restless = true // those behind it may go now
		if t.kind == call {
			c.wantPump(t.actor)
		}
	}
	if t.kind == call {
		c.unline(t)
		c.unpin(t.actor.entry.first)
	}
	for i := uint32(0); t.owner.remote() && i < t.count(); i++ {
		c.sentHome(t.owner, t.entry.object(i))
	}
	t.owner.tasks.remove(t)
	if t.spent {
		c.giveBack(t.owner, t.cost)
	}
	if t.owner.id == 0 && t.owner.tasks.n == 0 {
		c.forget(t.owner.job)
	}
	up := t.parent
	c.leaveFamily(t)
	e := t.entry
	e.task = nil
	delete(c.doomed, e.id)
	if keep {
		c.remember(t)
	} else {
		c.memory.give(t.frame)
		c.taskRec.give(t)
		c.tidy(e)
	}
	if up != nil && up.blocked && up.child != nil && up.child.chained {
		c.watch(up.worker.process)
	}
}

func (c *Core) leaveFamily(t *task) {
	for k := t.child; k != nil; {
		next := k.elder
		k.parent, k.elder, k.younger = nil, nil, nil
		k = next
	}
	if t.parent != nil {
		if t.parent.child == t {
			t.parent.child = t.elder
		}
		if t.elder != nil {
			t.elder.younger = t.younger
		}
		if t.younger != nil {
			t.younger.elder = t.elder
		}
	}
	t.parent, t.child, t.elder, t.younger = nil, nil, nil, nil
}
