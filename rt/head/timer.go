package head

import (
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// timerKind says what is to be looked at when a timer fires. Timers are not taken back: whoever
// looks checks whether its own deadline has come.
type timerKind uint8

const (
	timerMember timerKind = iota // a member's link or registration
	timerGroup                   // a group's wait, owner or explanation
	timerJoin                    // the join timeout
	timerIdle
	timerDrain
	timerWatch // somebody asked for a group that is not there yet
	timerRecall
	timerLeave // agents had their time to say goodbye
	timerGather
)

type timer struct {
	at   int64
	seq  uint64
	kind timerKind
	key  uint64 // agent number, or index in order of creation of the group: see groupKey
	task id.Task
}

// timers is a heap by (at, seq), so that timers of one moment fire in the order they were set.
type timers struct {
	heap []timer
	seq  uint64
}

func (t *timers) less(i, j int) bool {
	a, b := &t.heap[i], &t.heap[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (t *timers) add(at int64, kind timerKind, key uint64) {
	t.push(timer{at: at, kind: kind, key: key})
}

func (t *timers) addGroup(at int64, task id.Task) {
	t.push(timer{at: at, kind: timerGroup, task: task})
}

func (t *timers) push(n timer) {
	t.seq++
	n.seq = t.seq
	t.heap = append(t.heap, n)
	for i := len(t.heap) - 1; i > 0; {
		p := (i - 1) / 2
		if !t.less(i, p) {
			break
		}
		t.heap[i], t.heap[p] = t.heap[p], t.heap[i]
		i = p
	}
}

func (t *timers) next() int64 {
	if len(t.heap) == 0 {
		return 0
	}
	return t.heap[0].at
}

func (t *timers) pop() timer {
	top, last := t.heap[0], len(t.heap)-1
	t.heap[0] = t.heap[last]
	t.heap[last] = timer{}
	t.heap = t.heap[:last]
	for i := 0; ; {
		l, r := 2*i+1, 2*i+2
		m := i
		if l < last && t.less(l, m) {
			m = l
		}
		if r < last && t.less(r, m) {
			m = r
		}
		if m == i {
			return top
		}
		t.heap[i], t.heap[m] = t.heap[m], t.heap[i]
		i = m
	}
}

// fire handles the timers that are due.
func (c *Core) fire() {
	for at := c.timers.next(); at != 0 && at <= c.now; at = c.timers.next() {
		t := c.timers.pop()
		if c.full && t.kind != timerLeave {
			continue
		}
		switch t.kind {
		case timerMember:
			if m := c.state.byAgent[id.Agent(t.key)]; m != nil {
				c.memberDue(m)
			}
		case timerGroup:
			if g := c.state.byID[t.task]; g != nil && g.phase != fb.GroupPhaseEnded {
				c.groupDue(g)
			}
		case timerJoin:
			c.joinOver = true
			c.changed()
			if missing := c.missing(); len(missing) > 0 {
				c.notice(fb.LevelWarning, "NODES_MISSING", fmt.Sprintf("%d of %d nodes joined in %v, missing %s: going on without",
					len(c.cfg.Expect)-len(missing), len(c.cfg.Expect), time.Duration(c.cfg.joinTimeout()), placement.FoldNames(missing)), nil)
			}
		case timerIdle:
			c.idleDue()
		case timerWatch:
			c.watchEarly()
		case timerDrain, timerRecall:
			c.drainDue = true // settle goes on with drains, and with what is to be recalled
		case timerGather:
			c.gatherDue(t.key)
		case timerLeave:
			c.exit()
		}
	}
}
