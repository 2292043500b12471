package work

import (
	"slices"
	"sort"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// pile is what a driver submitted to a class whose queue is deep already: frames and no more, so that a million tasks
// that wait cost a sixth of what as many that are queued do, and so that their driver has its credit back and is not
// held up. They go on into the queue, the oldest first, when that has become shorter; and one by one when they are named.
type pile struct {
	class  *class
	blocks []*pileBlock // the oldest first; no empty one
	n      int          // tasks
}

// pileBlock is some of a pile's tasks, in the order of their counters.
type pileBlock struct {
	frames []byte // Submit, one after the other
	tasks  []piledTask
	from   int // those before it are gone
	n      int // that are still here
}

type piledTask struct {
	counter  uint64
	at       uint32 // in frames
	gone     bool   // it was named, and is an entry since
	released bool   // its driver let go of the result
}

const pileBlockSize = 64 << 10

// piles tells whether a task that a process submits to a class is put on a pile. Only what has neither arguments to wait
// for nor a deadline nor a parent, and one result, comes to nothing else than being run.
func (c *Core) piles(p *process, m *fb.SubmitT, size int, cl *class) bool {
	if p.kind != Driver || m.Deps|m.Refs != 0 || m.Returns != 1 || m.Deadline != 0 || !taskOf(m.Parent).IsZero() || c.piled+size > c.cfg.Piled {
		return false
	}
	if cl.queue.n < c.cfg.Deep && !slices.ContainsFunc(p.piles, func(x *pile) bool { return x.class == cl && x.n > 0 }) {
		return false
	}
	return c.pileOf(p, cl).last() < m.Task.Counter
}

// pileOf gives the pile of a process for a class.
func (c *Core) pileOf(p *process, cl *class) *pile {
	for _, x := range p.piles {
		if x.class == cl {
			return x
		}
	}
	x := &pile{class: cl}
	p.piles = append(p.piles, x)
	return x
}

// last is the newest task's counter.
func (x *pile) last() uint64 {
	if len(x.blocks) == 0 {
		return 0
	}
	b := x.blocks[len(x.blocks)-1]
	return b.tasks[len(b.tasks)-1].counter
}

// pile puts a task on a pile.
func (c *Core) pile(p *process, f frame, m *fb.SubmitT, cl *class) {
	x := c.pileOf(p, cl)
	var b *pileBlock
	if n := len(x.blocks); n > 0 && len(x.blocks[n-1].frames)+len(f.whole) <= pileBlockSize {
		b = x.blocks[n-1]
	} else {
		b = &pileBlock{frames: make([]byte, 0, max(pileBlockSize, len(f.whole)))}
		x.blocks = append(x.blocks, b)
		c.piled += cap(b.frames)
	}
	b.tasks = append(b.tasks, piledTask{counter: m.Task.Counter, at: uint32(len(b.frames))})
	b.frames = append(b.frames, f.whole...)
	b.n++
	x.n++
	c.giveBack(p, uint32(len(f.payload)))
}

// unpile moves tasks from piles to queues that have become short, and tells whether there were any.
func (c *Core) unpile() (moved bool) {
	if c.piled == 0 {
		return false
	}
	for _, p := range c.processes {
		for i := 0; i < len(p.piles); i++ {
			x := p.piles[i]
			for x.n > 0 && x.class.queue.n < c.cfg.Deep {
				b := x.blocks[0]
				for b.tasks[b.from].gone {
					b.from++
				}
				c.enter(p, x, 0, b.from)
				moved = true
			}
		}
		p.piles = slices.DeleteFunc(p.piles, func(x *pile) bool { return x.n == 0 })
	}
	return moved
}

// enter makes a task of what lies on a pile.
func (c *Core) enter(p *process, x *pile, block, i int) {
	b := x.blocks[block]
	k := &b.tasks[i]
	f, _, _ := cut(b.frames[k.at:])
	m := c.read.piled
	if wire.ReadSubmit(f.body, m) != nil {
		return // it was read before
	}
	k.gone = true
	b.n--
	x.n--
	if b.n == 0 {
		x.blocks = slices.Delete(x.blocks, block, block+1)
		c.piled -= cap(b.frames)
	}
	t := c.newTask(p, f, plain, taskOf(m.Task), nil, 0, 0, 1)
	if k.released {
		c.unhold(c.holderOf(p, t.entry.first))
	}
	c.submit(t, p.job.functions[m.Function], x.class, m)
}

// onPile finds a task of this agent's on a pile; nil: it lies on none.
func (c *Core) onPile(t id.Task) (p *process, x *pile, block, i int) {
	if c.piled == 0 || t.Agent != c.cfg.Agent {
		return nil, nil, 0, 0
	}
	if p = c.byProcess[t.Process]; p == nil {
		return nil, nil, 0, 0
	}
	for _, x := range p.piles {
		if x.n == 0 || x.last() < t.Counter {
			continue
		}
		block := sort.Search(len(x.blocks), func(k int) bool { return x.blocks[k].tasks[len(x.blocks[k].tasks)-1].counter >= t.Counter })
		tasks := x.blocks[block].tasks
		i, found := slices.BinarySearchFunc(tasks, t.Counter, func(k piledTask, counter uint64) int {
			switch {
			case k.counter < counter:
				return -1
			case k.counter > counter:
				return 1
			}
			return 0
		})
		if found && !tasks[i].gone {
			return p, x, block, i
		}
	}
	return nil, nil, 0, 0
}

// entryOf finds what is known of a task. One that lies on a pile is known from now on.
func (c *Core) entryOf(t id.Task) *entry {
	if e := c.entries[t]; e != nil {
		return e
	}
	if p, x, block, i := c.onPile(t); p != nil {
		c.enter(p, x, block, i)
		return c.entries[t]
	}
	return nil
}

// releasePiled ends the driver's hold on the result of a task that lies on a pile; false: there is none, or it is let go of.
func (c *Core) releasePiled(p *process, m *fb.ReleaseT) bool {
	if c.piled == 0 || m.Deliveries != 0 || m.Object.Index != 0 {
		return false
	}
	of, x, block, i := c.onPile(taskOf(m.Object.Task))
	if of != p || x.blocks[block].tasks[i].released {
		return false
	}
	x.blocks[block].tasks[i].released = true
	return true
}

// dropPiles forgets what a process that is gone submitted and nobody has begun.
func (c *Core) dropPiles(p *process) {
	for _, x := range p.piles {
		for _, b := range x.blocks {
			c.piled -= cap(b.frames)
		}
	}
	p.piles = nil
}
