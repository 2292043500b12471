package work

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// job is a driver and what it started. It is kept while a process or a detached actor of it is there.
type job struct {
	number    uint32
	processes int
	over      bool // its driver is gone; only what is detached goes on
	functions map[uint64]*function
	classes   map[string]*class
	grouped   []*class // those of a group that has not ended, which processes can name or have tasks waiting
	active    []*class // with tasks in their queues, in the order in which they came to have some
	turn      int      // class that is next
	held      []int64  // of what all jobs share: by index of the resource
	served    int64    // when it had its last lease
	share     float64  // of this pass
	idle      []*worker
	home      *process // submitter of what outlived its own; nothing is sent to it
	actors    int      // that live
}

// function is code of a job, and how long it takes.
type function struct {
	number   uint64
	name     string
	language string
	frame    []byte // as it came, for workers
	methods  []byte
	names    []string // of methods
	mean     int64    // of its tasks, ns; 0: unknown
}

// took notes that a task of the function took so long. The mean goes down slowly and up at once to a
// long one: putting a task behind a long one is dearer than a round trip.
func (f *function) took(d int64) {
	switch {
	case f.mean == 0 || d > 4*f.mean && d > shortTask:
		f.mean = max(d, 1)
	default:
		f.mean = max(f.mean+(d-f.mean)/8, 1)
	}
}

// shape is what a process calls a class by; the class depends on the language of the function, too.
type shape struct {
	number  uint32
	table   *fb.ShapeT
	key     string
	classes []*class
}

// class is a shape that all processes of a job share: tasks that can stand in for one another as far
// as a worker and its resources are concerned.
type class struct {
	number     uint32 // on connections to workers
	job        *job
	key        string // in the job's classes
	said       int    // shapes of processes that it belongs to; without any it is found no more, and lives as long as its tasks
	language   string
	frame      []byte // Shape with that number
	table      *fb.ShapeT
	unsaid     unsaid
	group      id.Task
	over       bool   // the group has ended
	listed     bool   // in the job's grouped
	where      string // its tasks are to run, "": anywhere
	home       bool   // on this node
	wishes     []wish // where they would rather be,
	needs      wish   // what they need at least
	wishFrom   int64  // when they began to wait for the first wish
	stage      int    // wish that they wait for, as many as there are: none
	spreadFrom int64  // when what is to be spread began to wait for places on other nodes
	nowhere    string // why there is nothing for it, as the head says
	kept       string // of which idle actors keep too much, and which those are
	toldKept   string // what of that its driver was told last
	need       demand
	lease      []Amount // the same, for Wants
	queue      list
	leased     []*worker // that hold a lease for it, actors not among them
	starting   int       // of these, not attached yet
	flying     int       // tasks of it that workers have
	active     bool
	hungry     bool   // no room in the last pass
	noKin      uint64 // nothing in its queue was kin of what waits, at that count
	since      int64  // hungry since
	failed     int    // workers in a row that did not start
	failedKey  uint64 // those asked for up to it are counted
	hireAt     int64  // when another one is tried, with workers at work
	why        string // of the last of them
}

func (c *Core) jobOf(number uint32) *job {
	for _, j := range c.jobs {
		if j.number == number && !j.over {
			return j
		}
	}
	j := newJob(number)
	c.jobs = append(c.jobs, j)
	return j
}

func newJob(number uint32) *job {
	j := &job{number: number, functions: map[uint64]*function{}, classes: map[string]*class{}}
	j.home = &process{job: j, gone: true, closing: true}
	return j
}

// forget drops a job of which nothing is left.
func (c *Core) forget(j *job) {
	if j.over && j.processes == 0 && j.actors == 0 && j.home.tasks.n == 0 {
		c.jobs = slices.DeleteFunc(c.jobs, func(k *job) bool { return k == j })
		c.loose = slices.DeleteFunc(c.loose, func(l loosened) bool { return l.class.job == j })
	}
}

// endJob ends what a driver started, now that it is gone: tasks, actors that aren't detached, and the
// workers of both.
func (c *Core) endJob(j *job, driver *process) {
	j.over = true
	for _, a := range slices.Clone(c.actors) {
		if a.job == j && !a.detached {
			c.endActor(a, "its driver ended", false)
		}
	}
	for _, p := range c.processes {
		if p.job == j && p.worker != nil && (p.worker.actor == nil || !p.worker.actor.detached) {
			c.dropTasks(p)
		}
	}
	c.dropTasks(driver)
	c.dropTasks(j.home)
	c.endHosts(j)
	for _, w := range slices.Clone(c.workers) {
		if w.job == j && w.actor == nil {
			c.kill(w, "its driver ended")
		}
	}
}

// outlives tells whether an actor that lives on has a call already: then it has to end there. It goes on without its caller, and is not tried again, unless
// it gives a stream, which is of no use without its reader.
func (t *task) outlives() bool {
	return t.kind == call && t.worker != nil && t.actor.phase != fb.ActorPhaseDead && t.worker.killed == ""
}

// dropTasks cancels what a process submitted. Those that run end with their workers, or, in actors that live on, by themselves.
func (c *Core) dropTasks(p *process) {
	for t := p.tasks.head; t != nil; {
		next := t.ownedAfter
		switch {
		case t.kind == create:
		case t.outlives() && !t.comesAgain(p):
			t.retries = 0
		case t.outlives() && p.cut:
			if !t.cancelled {
				c.cancelTask(t, false, false)
			}
		default:
			t.cancelled = true
			if t.worker != nil && p.remote() && !t.outlives() { // which may send it again before its worker has ended
				c.leave(t)
			}
			if t.worker == nil {
				c.fail(t, codeCancelled, "the driver of its job ended")
				next = p.tasks.head // what waited for it may have failed, too
			}
		}
		t = next
	}
}

func (c *Core) onFunction(p *process, m *fb.FunctionT, f frame) {
	if len(m.Hash) != 32 || m.Language == "" {
		c.refuse(p, "sent a function without its hash or language")
		return
	}
	number := binary.LittleEndian.Uint64(m.Hash)
	if p.job.functions[number] != nil {
		return // said by another process
	}
	p.job.functions[number] = &function{number: number, name: m.Name, language: m.Language, frame: slices.Clone(f.whole)}
}

func (c *Core) onMethods(p *process, m *fb.MethodsT, f frame) {
	fn := p.job.functions[m.Function]
	if fn == nil {
		c.refuse(p, "named methods of a class that it did not define")
		return
	}
	if fn.methods == nil {
		fn.methods, fn.names = slices.Clone(f.whole), m.Names
	}
}

func (c *Core) onShape(p *process, m *fb.ShapeT) {
	at, known := p.findShape(m.Number)
	switch {
	case m.Over:
		if known {
			s := p.shapes[at]
			p.shapes, p.named = slices.Delete(p.shapes, at, at+1), nil
			c.unsay(s)
		}
		return
	case known:
		c.refuse(p, "gave two shapes one number")
		return
	case len(p.shapes) >= maxShapes && !p.remote():
		c.refuse(p, "has more than 65536 shapes at a time")
		return
	}
	for _, r := range m.Resources {
		if r == nil || r.Amount < 0 || r.Name == "" {
			c.refuse(p, "sent a shape with a negative or nameless resource")
			return
		}
	}
	number := m.Number
	m.Number = 0
	m.Lent = m.Lent && p.kind == Owner
	body, err := wire.Marshal(c.builder, m)
	if err != nil {
		c.refuse(p, "sent a shape that can't be kept")
		return
	}
	p.shapes = slices.Insert(p.shapes, at, &shape{number: number, table: m, key: string(body)})
}

// findShape gives the place of a shape among those of a process, and whether it is there.
func (p *process) findShape(number uint32) (int, bool) {
	return slices.BinarySearchFunc(p.shapes, number, func(s *shape, n uint32) int { return cmp.Compare(s.number, n) })
}

// shape gives what a process calls by a number; nil: nothing.
func (p *process) shape(number uint32) *shape {
	if p.named == nil || p.named.number != number {
		at, known := p.findShape(number)
		if !known {
			return nil
		}
		p.named = p.shapes[at]
	}
	return p.named
}

// unsay: a process has a shape no more. Of classes that none has nothing is kept but what tasks need that were submitted before; a worker to which
// the class was said, and that has none of them and is no actor of it, forgets it, too.
func (c *Core) unsay(s *shape) {
	for _, cl := range s.classes {
		if cl.said--; cl.said > 0 {
			continue
		}
		delete(cl.job.classes, cl.key)
		if !cl.active {
			cl.unroll()
		}
		for _, w := range c.workers {
			c.forgetClass(w, cl)
		}
	}
}

// forgetClass has a worker forget a class that no process says any more, unless it has a task of it or is an actor of it.
func (c *Core) forgetClass(w *worker, cl *class) {
	if cl.said > 0 || !w.shapes[cl] || w.process == nil || w.process.gone || w.killed != "" || w.actor != nil && w.class == cl {
		return
	}
	for t := w.flight.head; t != nil; t = t.listed {
		if t.class == cl {
			return
		}
	}
	delete(w.shapes, cl)
	c.table(w.process, &fb.ShapeT{Number: cl.number, Over: true}, 0, nil)
}

// captures gives the group that what a process starts belongs to, too, because that was asked for with what runs on it; zero: none.
func (p *process) captures() id.Task {
	if p.worker == nil || p.worker.class == nil || !p.worker.class.table.Capture {
		return id.Task{}
	}
	return p.worker.class.group
}

// hasRoomIn tells whether a bundle of a group, as far as they are known here, could ever have what a shape needs.
func (c *Core) hasRoomIn(group id.Task, table *fb.ShapeT) bool {
	need := c.demand(table.Resources)
	return slices.ContainsFunc(c.grants, func(g *grant) bool { return g.group == group && g.tooSmall(&need) < 0 }) ||
		slices.ContainsFunc(c.places, func(p *place) bool { return p.group == group && need.fits(p.total) })
}

// unsaid is where tasks of a shape that says nothing of it are to run.
type unsaid struct {
	group  id.Task // that captured them
	spread bool    // on all nodes
}

// class gives the class of a shape by its number on p's connection, for code in a language; nil if
// there is no such number.
func (c *Core) class(p *process, number uint32, language string, where unsaid) *class {
	s := p.shape(number)
	if s == nil {
		return nil
	}
	if where != (unsaid{}) && (taskOf(s.table.Group) != (id.Task{}) || s.table.Strategy != "" || s.table.Node != "" || len(s.table.Labels)+len(s.table.Fallbacks) > 0) {
		where = unsaid{}
	}
	if where.group != (id.Task{}) && !c.hasRoomIn(where.group, s.table) {
		where.group = id.Task{} // it would wait for ever
	}
	asks := slices.ContainsFunc(s.table.Resources, func(r *fb.ResourceT) bool { return r.Amount > 0 })
	where.spread = where.spread && !asks && where.group == (id.Task{}) && c.nodes > 1
	for _, cl := range s.classes {
		if cl.language == language && cl.unsaid == where {
			return cl
		}
	}
	key := language + "\x00" + s.key
	if where != (unsaid{}) {
		key += fmt.Sprint("\x00", where)
	}
	cl := p.job.classes[key]
	if cl == nil {
		c.nextClass++
		table := *s.table
		table.Number = c.nextClass
		if where.group != (id.Task{}) {
			table.Group, table.Bundle, table.Capture = taskT(where.group), -1, true
		}
		if where.spread {
			table.Strategy = spread // as far as the shell is concerned
		}
		cl = &class{number: c.nextClass, job: p.job, key: key, language: language, table: &table, unsaid: where, group: taskOf(table.Group)}
		c.choose(cl)
		if where.spread {
			cl.where = anyNode
		}
		cl.frame = c.encode(&table, 0, nil)
		cl.need = c.demand(table.Resources)
		for _, p := range cl.need.parts {
			cl.lease = append(cl.lease, Amount{c.names[p.resource], p.amount})
		}
		p.job.classes[key] = cl
		cl.over = c.over(cl)
		c.enroll(cl)
	}
	s.classes = append(s.classes, cl)
	cl.said++
	return cl
}

// enroll has a class hear when its group ends, and asks where that is if nothing of it is known here.
func (c *Core) enroll(cl *class) {
	if cl.group == (id.Task{}) || cl.listed || c.over(cl) {
		return
	}
	cl.listed = true
	cl.job.grouped = append(cl.job.grouped, cl)
	if c.grantsOf(cl) == 0 && !slices.ContainsFunc(c.places, cl.mayGo) {
		c.out = append(c.out, Effect{Do: Watch, Group: cl.group})
	}
}

// unroll forgets a class that no process can name and none of whose tasks waits, until one does.
func (cl *class) unroll() {
	if cl.listed {
		cl.listed = false
		cl.job.grouped = slices.DeleteFunc(cl.job.grouped, func(k *class) bool { return k == cl })
	}
}
