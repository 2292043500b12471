package work

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// When the node's memory is nearly used up one worker is ended before the kernel ends anything: it would choose without knowing what can be tried
// again. Idle workers go first, then those whose work may be tried again, then the others; of them the submitter's that has
// most, the newest first: that loses least. Who has little by comparison is spared, for that would help nobody (WORK-12).

const (
	memoryTries = 5                       // so often a task is tried again whose worker was ended for want of memory,
	memoryRest  = int64(time.Second)      // the first time so much later, then twice that, and so on
	memoryWait  = int64(2 * time.Second)  // so long a worker that was told to end is waited for before another one is
	memorySay   = int64(30 * time.Second) // between two words on that nobody can be ended
	memoryLong  = int64(10 * time.Second) // so long after it was short what waits for a worker may wait because of that
	little      = 4                       // who has less than a quarter of the largest is spared
	namedUses   = 5                       // so many processes a text names
)

// Short: the node's memory is nearly used up.
type Short struct {
	Text string // how much is used, of what
	Uses []Used
}

// Used is what a process, with those that it started, has of the node's memory.
type Used struct {
	Process id.Process // of a worker; 0: of something else
	PID     int
	Name    string // of something else
	Bytes   int64
}

func (Short) event() {}

// rank of a worker among those that may be ended.
type rank uint8

const (
	idleRank  rank = iota // it has nothing to do
	retryRank             // what it does may be tried again
	lastRank
	ranks
)

// victim is a worker that may be ended.
type victim struct {
	w     *worker
	owner *process // that submitted what it does
	rank  rank
	bytes int64
}

func (c *Core) onShort(ev Short) {
	c.shortAt = c.now
	if slices.ContainsFunc(c.workers, func(w *worker) bool { return w.starved && c.now-c.starvedAt < memoryWait }) {
		return
	}
	slices.SortStableFunc(ev.Uses, func(a, b Used) int { return cmp.Compare(b.Bytes, a.Bytes) })
	text := fmt.Sprintf("node %s has nearly used up its memory, %s: %s", c.cfg.Node, ev.Text, c.usesText(ev.Uses))
	c.shortText = text
	v := c.victim(ev.Uses)
	if v == nil {
		if c.now-c.shortSaid >= memorySay {
			c.shortSaid = c.now
			c.out = append(c.out, Effect{Do: Say, Code: codeMemoryShort, Text: text + "; no task and no actor has so much of it that ending it would help"})
		}
		return
	}
	what := "an idle worker"
	if v.w.actor != nil {
		what = "actor " + v.w.actor.title()
	} else if t := v.w.flight.head; t != nil {
		what = "the worker of " + t.name()
	}
	what = fmt.Sprintf("%s (pid %d), which had %s,", what, v.w.process.pid, bytesText(v.bytes))
	c.starvedAt = c.now
	v.w.starved = true
	c.out = append(c.out, Effect{Do: Say, Process: v.w.process.id, Code: codeMemoryShort, Text: text + "; " + what + " is ended before the kernel ends anything"})
	c.kill(v.w, what+" was ended: "+text)
}

// victim chooses whom to end; nil: nobody, because all of them together have little.
func (c *Core) victim(uses []Used) *victim {
	var list [ranks][]*victim
	var sum [ranks]int64
	largest := int64(0) // of what is no worker's
	for _, u := range uses {
		p := c.byProcess[u.Process]
		if u.Process == 0 || p == nil || p.worker == nil {
			largest = max(largest, u.Bytes)
			continue
		}
		if w := p.worker; w.starved || p.closing || w.actor != nil && w.actor.create == nil {
			continue // it ends
		}
		v := c.ranked(p.worker)
		v.bytes = u.Bytes
		list[v.rank] = append(list[v.rank], v)
		sum[v.rank] += u.Bytes
	}
	for r := range list {
		for later := r + 1; later < len(list); later++ {
			for _, v := range list[later] {
				if sum[r]*little < v.bytes {
					sum[r] = 0
				}
			}
		}
		if sum[r] > 0 && sum[r]*little >= largest {
			return newest(list[r])
		}
	}
	return nil
}

// ranked says what is lost with a worker.
func (c *Core) ranked(w *worker) *victim {
	v := &victim{w: w, rank: lastRank}
	t := w.flight.head
	switch {
	case w.actor != nil:
		v.owner = w.actor.create.owner
		if w.actor.returns() {
			v.rank = retryRank
		}
	case t == nil:
		v.rank = idleRank
	default:
		v.owner = t.owner
		if t.cancelled || t.mayRest() {
			v.rank = retryRank
		}
	}
	return v
}

// newest gives of those that do not have little the one that began last, of the submitter that has most of them.
func newest(list []*victim) *victim {
	most := slices.MaxFunc(list, func(a, b *victim) int { return cmp.Compare(a.bytes, b.bytes) }).bytes
	list = slices.DeleteFunc(list, func(v *victim) bool { return v.bytes*little < most })
	of := func(v *victim) (n int) {
		for _, x := range list {
			if x.owner == v.owner {
				n++
			}
		}
		return n
	}
	return slices.MaxFunc(list, func(a, b *victim) int {
		return cmp.Or(cmp.Compare(of(a), of(b)), cmp.Compare(a.began(), b.began()), cmp.Compare(a.w.key, b.w.key))
	})
}

// began is when what a worker does came to it.
func (v *victim) began() int64 {
	switch {
	case v.w.actor != nil:
		return v.w.actor.create.since
	case v.w.flight.head != nil:
		return v.w.flight.head.since
	}
	return v.w.idleAt
}

// mayRest tells whether a task may be tried again when its worker was ended for want of memory. That counts apart from its retries.
func (t *task) mayRest() bool { return !t.cancelled && t.retries != 0 && t.starved < memoryTries }

// pause has a task that has left its worker wait a while before it is tried again.
func (c *Core) pause(t *task) {
	t.starved = min(t.starved+1, memoryTries+1)
	t.state, t.since, t.recalled, t.missing = taskWaiting, c.now, false, 1
	t.rests = c.now + memoryRest<<(t.starved-1)
	c.at(t.rests, timerRest, t.id(), 0, 0)
}

// unpause: a task may be tried again.
func (c *Core) unpause(t *task) {
	t.rests, t.missing = 0, 0
	c.requeue(t)
}

// pressed tells whether a task waits because workers are ended for want of memory, and made again.
func (c *Core) pressed(t *task) bool {
	switch {
	case c.shortText == "" || c.now-c.shortAt >= memoryLong:
		return false
	case t.rests != 0:
		return true
	case t.kind == call:
		return false
	case t.state == taskGiven:
		return t.worker == nil || t.worker.host == nil && t.worker.process == nil
	}
	return t.state == taskQueued && (t.class.starting > 0 || slices.ContainsFunc(c.workers, func(w *worker) bool { return w.starved }))
}

// starvedText says how often a task was tried.
func starvedText(t *task) string {
	switch {
	case t.retries == 0:
		return "; it is not tried again: max_retries=0"
	case t.starved > 0:
		return fmt.Sprintf("; so it went %d times", t.starved+1)
	}
	return ""
}

func (c *Core) usesText(uses []Used) string {
	var names []string
	for i, u := range uses {
		if i == namedUses {
			names = append(names, fmt.Sprintf("%d more", len(uses)-i))
			break
		}
		name := u.Name
		if p := c.byProcess[u.Process]; p != nil && p.worker != nil {
			switch t := p.worker.flight.head; {
			case p.worker.actor != nil:
				name = "actor " + p.worker.actor.title()
			case t != nil:
				name = t.name()
			default:
				name = "idle worker"
			}
		}
		names = append(names, fmt.Sprintf("%s %s (pid %d)", bytesText(u.Bytes), name, u.PID))
	}
	return strings.Join(names, ", ")
}

func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
