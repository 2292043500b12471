package work

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// How each task went in the worker that had it is kept for timelines: of the last runs on this node, whosever tasks they were. A worker
// tells by its own clock, in a Ran before its last result; of one that died the agent's has to do.
const (
	runsKept   = 1 << 16 // runs: 6 MiB
	runsToTell = 4096    // in one reply
)

// runEnd is how a run ended.
type runEnd uint8

const (
	runFinished runEnd = iota
	runFailed
	runDied // with its worker
)

// run is one attempt of a task. It has no pointers, so that nothing has to look through all of them.
type run struct {
	task, actor            id.Task
	began, read, ran, took int64 // wall; and from then on, in ns
	title                  uint32
	job, attempt           uint32
	process, pid           uint32
	end                    runEnd
}

// title is what a run is called. class: of the actor whose method, or constructor, it is.
type title struct{ class, name string }

// runs are the last ones, and what they are called.
type runs struct {
	ring   []run
	n      uint64 // that there ever were
	titles []struct {
		title
		uses int
	}
	at   map[title]uint32
	free []uint32
	last uint32
}

// add gives the place of a new run, which is that of the oldest one.
func (r *runs) add(name title) *run {
	i := r.number(name)
	at := r.n % runsKept
	if r.titles[i].uses++; len(r.ring) < runsKept {
		r.ring = append(r.ring, run{title: i})
	} else {
		r.forget(r.ring[at].title)
		r.ring[at] = run{title: i}
	}
	r.n++
	return &r.ring[at]
}

// number gives the place of a title in titles.
func (r *runs) number(name title) uint32 {
	if len(r.titles) > 0 && r.titles[r.last].uses > 0 && r.titles[r.last].title == name {
		return r.last
	}
	i, known := r.at[name]
	switch last := len(r.free) - 1; {
	case known:
	case last >= 0:
		i, r.free = r.free[last], r.free[:last]
	default:
		i, r.titles = uint32(len(r.titles)), append(r.titles, struct {
			title
			uses int
		}{})
	}
	if !known {
		if r.at == nil {
			r.at = map[title]uint32{}
		}
		r.at[name], r.titles[i].title = i, name
	}
	r.last = i
	return i
}

// forget ends one use of a title.
func (r *runs) forget(i uint32) {
	x := &r.titles[i]
	if x.uses--; x.uses == 0 {
		delete(r.at, x.title)
		x.title = title{}
		r.free = append(r.free, i)
	}
}

// title is what timelines call the task.
func (t *task) title() title {
	switch {
	case t.kind == create:
		return title{t.function.name, "__init__"}
	case t.kind == call:
		name := ""
		if n := int(t.method & methodMask); n < len(t.actor.function.names) {
			name, _, _ = strings.Cut(t.actor.function.names[n], "\t")
		}
		return title{t.actor.function.name, name}
	case t.class.table.Name != "":
		return title{name: t.class.table.Name}
	case t.function != nil:
		return title{name: t.function.name}
	}
	return title{}
}

// onRan takes in how a task went whose last result comes next.
func (c *Core) onRan(p *process, f frame) {
	m := c.read.ran
	if len(f.body) != wire.RanSize || wire.ReadRan(f.body, m) != nil {
		c.refuse(p, "sent a Ran that can't be read")
		return
	}
	t := c.running(p.worker, taskOf(m.Task))
	if t == nil {
		c.strays++
		return
	}
	x := c.note(t)
	x.began, x.read, x.ran, x.took = signed(m.Began), signed(m.Read), signed(m.Ran), signed(m.Took)
	if m.Failed != 0 {
		x.end = runFailed
	}
}

func signed(n uint64) int64 { return int64(min(n, 1<<62)) }

// noteDeath takes in that a worker died with a task.
func (c *Core) noteDeath(t *task) {
	x := c.note(t)
	x.began, x.end = max(t.worker.since, t.since), runDied
	x.ran, x.took = c.now-x.began, c.now-x.began
}

// note keeps that a task ran where it is.
func (c *Core) note(t *task) *run {
	x := c.runs.add(t.title())
	x.task, x.job, x.attempt = t.id(), t.class.job.number, t.attempt
	if t.actor != nil {
		x.actor = t.actor.id()
	}
	if p := t.worker.process; p != nil {
		x.process, x.pid = uint32(p.id), p.pid
	}
	return x
}

type jsonRun struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Class   string `json:"class,omitempty"`
	State   string `json:"state"` // finished, failed, died (its worker)
	Job     uint32 `json:"job"`
	Attempt uint32 `json:"attempt,omitempty"`
	Actor   string `json:"actor,omitempty"`
	Process uint32 `json:"process"`
	PID     uint32 `json:"pid"`
	Began   int64  `json:"began"` // ns since the Unix epoch; the others count from then on
	Read    int64  `json:"read"`
	Ran     int64  `json:"ran"`
	Took    int64  `json:"took"`
}

// listRuns tells of the runs from the one of that number on, as many as go into a reply: which one is next, and how many of those
// asked for are not kept any more.
func (c *Core) listRuns(from string) (out []jsonRun, next, lost uint64, err error) {
	r, n := &c.runs, uint64(0)
	if from != "" {
		if n, err = strconv.ParseUint(from, 10, 64); err != nil {
			return nil, 0, 0, fmt.Errorf("work: timeline %q: a number of a run is wanted, from which on to tell", from)
		}
	}
	if oldest := r.n - uint64(len(r.ring)); n < oldest {
		n, lost = oldest, oldest-n
	}
	for ; n < r.n && len(out) < runsToTell; n++ {
		x := &r.ring[n%runsKept]
		name := r.titles[x.title].title
		j := jsonRun{ID: x.task.String(), Name: name.name, Class: name.class, State: [...]string{"finished", "failed", "died"}[x.end],
			Job: x.job, Attempt: x.attempt, Process: x.process, PID: x.pid, Began: x.began, Read: x.read, Ran: x.ran, Took: x.took}
		if !x.actor.IsZero() {
			j.Actor = x.actor.String()
		}
		out = append(out, j)
	}
	return out, n, lost, nil
}
