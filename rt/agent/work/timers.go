package work

import "github.com/maniple-hpc/maniple/transport/wire/id"

// timers are deadlines of tasks and of questions, and ends of actors, earliest first. One that became
// void is dropped when its time comes.
type timers struct {
	heap  []timer
	limit int // length at which void ones are looked for
}

type timer struct {
	at    int64
	order uint64
	what  timerKind
	task  id.Task
	index uint32
	who   id.Process
}

type timerKind uint8

const (
	timerTask timerKind = iota
	timerGet
	timerActor
	timerName
	timerRest
	timerChain
	timerBorrow
	timerSeek
	timerKept
)

func (a timer) before(b timer) bool { return a.at < b.at || a.at == b.at && a.order < b.order }

func (t *timers) next() int64 {
	if len(t.heap) == 0 {
		return never
	}
	return t.heap[0].at
}

func (t *timers) push(x timer) {
	t.heap = append(t.heap, x)
	for i := len(t.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !t.heap[i].before(t.heap[up]) {
			break
		}
		t.heap[i], t.heap[up] = t.heap[up], t.heap[i]
		i = up
	}
}

func (t *timers) pop() timer {
	first, last := t.heap[0], len(t.heap)-1
	t.heap[0] = t.heap[last]
	t.heap = t.heap[:last]
	for i := 0; ; {
		least := i
		for k := 2*i + 1; k <= 2*i+2 && k < last; k++ {
			if t.heap[k].before(t.heap[least]) {
				least = k
			}
		}
		if least == i {
			return first
		}
		t.heap[i], t.heap[least] = t.heap[least], t.heap[i]
		i = least
	}
}

// at asks for a look at something at a time.
func (c *Core) at(when int64, what timerKind, task id.Task, index uint32, who id.Process) {
	if len(c.timers.heap) >= max(c.timers.limit, 1024) {
		c.dropVoid()
	}
	c.nextKey++
	c.timers.push(timer{at: when, order: c.nextKey, what: what, task: task, index: index, who: who})
}

func (c *Core) dueTimers() {
	for c.timers.next() <= c.now {
		x := c.timers.pop()
		if p := c.byProcess[x.who]; x.what == timerChain && p != nil {
			p.watched = false
			c.checkWaits(p)
		}
		e := c.entries[x.task]
		if e == nil {
			continue
		}
		switch x.what {
		case timerTask:
			if t := e.task; t != nil && t.deadline != 0 && t.deadline <= c.now {
				c.overdue(t)
			}
		case timerGet:
			if o := e.object(x.index); o != nil {
				c.stopWaiting(o, x.who)
			}
		case timerRest:
			if t := e.task; t != nil && t.rests != 0 && t.rests <= c.now {
				c.unpause(t)
			}
		case timerName:
			if a := e.actor; a != nil && a.naming {
				c.claim(a)
			}
		case timerBorrow:
			if o := e.object(x.index); o != nil {
				c.enlist(o, x.who)
			}
		case timerSeek:
			if a := e.actor; a != nil && a.cut && a.waits() {
				c.seek(a)
			}
		case timerKept:
			if a := e.actor; a != nil && a.kept > 0 {
				a.kept--
				c.unpin(e.first)
			}
		case timerActor:
			if a := e.actor; a != nil && a.ending && a.worker != nil {
				c.kill(a.worker, "it did not end within 30 s of the last handle's end")
			}
		}
	}
}

// dropVoid forgets timers of what is over, so that they stay in proportion to what lives.
func (c *Core) dropVoid() {
	old := c.timers.heap
	c.timers.heap = old[:0]
	for _, x := range old { // a heap is never longer than what was read of the old one
		if c.entries[x.task] != nil || x.what == timerChain && c.byProcess[x.who] != nil {
			c.timers.push(x)
		}
	}
	c.timers.limit = 2 * len(c.timers.heap)
}
