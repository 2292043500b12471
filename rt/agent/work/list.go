package work

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// stateVersion is the version of the replies.
const stateVersion = 1

// listed is the most that a reply names of anything; the count is of all.
const listLimit = 10_000

type jsonReply struct {
	Version int          `json:"version"`
	Count   int          `json:"count,omitempty"`
	Tasks   []jsonTask   `json:"tasks,omitempty"`
	Actors  []jsonActor  `json:"actors,omitempty"`
	Objects []jsonObject `json:"objects,omitempty"`
	Workers []jsonWorker `json:"workers,omitempty"`
	Runs    []jsonRun    `json:"timeline,omitempty"`
	Next    uint64       `json:"next,omitempty"`
	More    bool         `json:"more,omitempty"`
	Lost    uint64       `json:"lost,omitempty"`
	Actor   *jsonActor   `json:"actor,omitempty"`
	Explain *jsonExplain `json:"explain,omitempty"`
	Kind    string       `json:"kind,omitempty"` // of a task: task, call, actor
}

// jsonExplain is what the head answers for groups and nodes, too.
type jsonExplain struct {
	Kind string `json:"kind"` // task, actor, object
	ID   string `json:"id"`
	Why  string `json:"why,omitempty"` // what it waits for; empty: for nothing
	Text string `json:"text"`
}

type jsonTask struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	State   string  `json:"state"` // waiting, queued, given, running, blocked
	Job     uint32  `json:"job"`
	Parent  string  `json:"parent,omitempty"`
	Attempt uint32  `json:"attempt,omitempty"`
	Process uint32  `json:"process,omitempty"` // that it runs in
	PID     uint32  `json:"pid,omitempty"`
	Seconds float64 `json:"seconds"` // in this state
	Waits   string  `json:"waits,omitempty"`
	Node    string  `json:"node,omitempty"` // that has it, if not this one
}

type jsonActor struct {
	ID          string      `json:"id"`
	Class       string      `json:"class"`
	Name        string      `json:"name,omitempty"`
	Namespace   string      `json:"namespace,omitempty"`
	State       string      `json:"state"`
	Reason      string      `json:"reason,omitempty"`
	Incarnation uint32      `json:"incarnation"`
	Job         uint32      `json:"job"`
	PID         uint32      `json:"pid,omitempty"`
	Calls       int         `json:"calls"`             // given to its worker
	Queued      int         `json:"queued"`            // waiting here
	Function    string      `json:"function"`          // number of its class, as in Call
	Methods     []string    `json:"methods,omitempty"` // by number
	Detached    bool        `json:"detached,omitempty"`
	Groups      []jsonGroup `json:"groups,omitempty"` // of methods that have a number of calls of their own
	MaxPending  int32       `json:"max_pending"`
	MaxRetries  int32       `json:"max_task_retries"`
}

type jsonGroup struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

type jsonObject struct {
	ID         string `json:"id"`
	State      string `json:"state"` // pending, there, error, away (at another node), gone (to be made again)
	Size       uint64 `json:"size"`
	Process    uint32 `json:"process"` // that holds it
	PID        uint32 `json:"pid"`
	Made       bool   `json:"made,omitempty"`       // of its own call or put
	Deliveries uint32 `json:"deliveries,omitempty"` // references that it was sent
	Shared     bool   `json:"shared,omitempty"`     // in shared memory
	Pins       uint32 `json:"pins,omitempty"`       // tasks that need it and objects that contain it
	Cached     string `json:"cached,omitempty"`     // its key in the node's cache; of process 0: nobody holds it, and it goes when memory is short
}

type jsonWorker struct {
	Process     uint32   `json:"process,omitempty"`
	PID         uint32   `json:"pid,omitempty"`
	Job         uint32   `json:"job"`
	State       string   `json:"state"` // starting, idle, busy, blocked, actor, ending
	Tasks       int      `json:"tasks"`
	Environment string   `json:"environment,omitempty"`
	Devices     []string `json:"devices,omitempty"`
}

// onQuery answers what is asked about work, and passes on the rest.
func (c *Core) onQuery(p *process, m *fb.StateQueryT, f frame) {
	var r jsonReply
	var err error
	switch m.What {
	case "tasks":
		r.Tasks, r.Count = c.listTasks()
	case "actors":
		r.Actors, r.Count = c.listActors()
	case "objects":
		r.Objects, r.Count = c.listObjects()
	case "workers":
		r.Workers, r.Count = c.listWorkers()
	case "timeline":
		r.Runs, r.Next, r.Lost, err = c.listRuns(m.Id)
		r.More = r.Next < c.runs.n
	case "actor", "named":
		c.findActor(asker{of: p, corr: f.corr, what: m.What, ref: m.Id})
		return
	case "kind":
		r.Kind = c.kindOf(m.Id)
	case "explain":
		var e jsonExplain
		if e, err = c.explain(m.Id); err != nil {
			c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole}) // a group, for all that is known here
			return
		}
		if c.askHost(p, m.Id, f.corr, e) {
			return // what it waits for there
		}
		r.Explain = &e
	default:
		c.out = append(c.out, Effect{Do: Pass, Process: p.id, Bytes: f.whole})
		return
	}
	c.reply(p, f.corr, r, err)
}

// kindOf tells what is known under an ID: a task, a call of an actor, an actor, or "" for nothing that has still to end.
func (c *Core) kindOf(ref string) string {
	name, err := id.ParseTask(ref)
	if err != nil {
		return ""
	}
	switch e := c.entryOf(name); {
	case e == nil:
		return ""
	case e.actor != nil:
		return "actor"
	case e.task != nil && e.task.kind == call:
		return "call"
	case e.task != nil:
		return "task"
	}
	return ""
}

// reply answers a question.
func (c *Core) reply(p *process, corr uint64, r jsonReply, err error) {
	r.Version = stateVersion
	reply := &fb.StateReplyT{}
	var text []byte
	if err == nil {
		text, err = json.Marshal(&r)
	}
	if err != nil {
		reply.Error, text = err.Error(), nil
	}
	c.table(p, reply, corr, text)
}

// explain says what the task, the actor or the object of that ID waits for.
func (c *Core) explain(ref string) (jsonExplain, error) {
	none := jsonExplain{}
	name, index, _ := strings.Cut(strings.TrimSuffix(ref, "]"), "[")
	id, err := id.ParseTask(name)
	if err != nil {
		return none, err
	}
	n := uint64(0)
	if index != "" {
		if n, err = strconv.ParseUint(index, 10, 32); err != nil {
			return none, fmt.Errorf("work: %q names no object: it is of the form agent.process.counter[index]", ref)
		}
	}
	e := c.entryOf(id)
	switch {
	case e == nil:
		return none, fmt.Errorf("work: nothing is known of %s: it is over and nobody holds a result of it, or never was here", ref)
	case e.actor != nil && e.actor.proxy && e.actor.worker.host == nil:
		return jsonExplain{"actor", ref, "", fmt.Sprintf("actor %s is another agent's, and %s", ref, e.actor.reason)}, nil
	case e.actor != nil && e.actor.proxy:
		return jsonExplain{"actor", ref, "", fmt.Sprintf("actor %s is another agent's: it came from node %s", ref, e.actor.worker.host.node)}, nil
	case e.actor != nil && e.actor.create == nil:
		return jsonExplain{"actor", ref, "", fmt.Sprintf("actor %s is dead: %s", e.actor.title(), e.actor.reason)}, nil
	case e.actor != nil:
		why := c.explainTask(e.actor.create)
		return jsonExplain{"actor", ref, why, fmt.Sprintf("actor %s waits for %s", e.actor.title(), why)}, nil
	case e.task != nil:
		why := c.explainTask(e.task)
		return jsonExplain{"task", ref, why, fmt.Sprintf("task %s waits for %s", e.task.name(), why)}, nil
	}
	if o := e.object(uint32(n)); o == nil {
		return none, fmt.Errorf("work: nothing is known of %s: it is over and nobody holds it", ref)
	} else {
		return jsonExplain{"object", ref, "", c.explainObject(ref, o)}, nil
	}
}

// submitters are all processes that have tasks, those of the jobs' own last.
func (c *Core) submitters() []*process {
	out := append([]*process{}, c.processes...)
	for _, j := range c.jobs {
		out = append(out, j.home)
	}
	return append(out, c.ways.home)
}

func (c *Core) listTasks() (out []jsonTask, n int) {
	for _, p := range c.submitters() {
		for t := p.tasks.head; t != nil; t = t.ownedAfter {
			if t.kind == create {
				continue
			}
			if n++; n > listLimit {
				continue
			}
			j := jsonTask{ID: t.id().String(), Name: t.name(), Job: t.class.job.number, Attempt: t.attempt, Seconds: float64(c.now-t.since) / 1e9}
			switch t.state {
			case taskWaiting:
				j.State = "waiting"
			case taskQueued:
				j.State = "queued"
			case taskGiven:
				j.State = "running"
				if t.worker.host != nil {
					j.State, j.Node = "given", t.worker.host.node
					break
				}
				if t.blocked {
					j.State = "blocked"
				} else if t.worker.actor == nil && t != t.worker.flight.head {
					j.State = "given"
				}
				if p := t.worker.process; p != nil {
					j.Process, j.PID = uint32(p.id), p.pid
				}
			}
			if t.parent != nil {
				j.Parent = t.parent.id().String()
			}
			if n <= 100 && t.state != taskGiven {
				j.Waits = c.explainTask(t)
			}
			out = append(out, j)
		}
	}
	for _, p := range c.processes {
		for _, x := range p.piles {
			n += x.n
		}
	}
	return out, n
}

func (c *Core) showActor(a *actor) jsonActor {
	j := jsonActor{ID: a.id().String(), Class: a.function.name, Name: a.table.Name, Namespace: a.table.Namespace_, State: strings.ToLower(a.phase.String()),
		Reason: a.reason, Incarnation: a.incarnation, Job: a.job.number, Calls: a.flying, Function: strconv.FormatUint(a.function.number, 10),
		Methods: a.function.names, Detached: a.detached, MaxPending: a.table.MaxPending, MaxRetries: a.table.MaxTaskRetries}
	for _, g := range a.groups[1:] {
		j.Groups = append(j.Groups, jsonGroup{g.name, g.size})
	}
	if a.worker != nil && a.worker.process != nil {
		j.PID = a.worker.process.pid
	}
	for _, l := range a.lanes {
		j.Queued += l.queue.n
	}
	return j
}

func (c *Core) listActors() (out []jsonActor, n int) {
	for _, a := range c.actors {
		if n++; n <= listLimit {
			out = append(out, c.showActor(a))
		}
	}
	return out, n
}

func (c *Core) listObjects() (out []jsonObject, n int) {
	for _, p := range c.processes {
		for h := p.held; h != nil; h = h.after {
			if n++; n > listLimit {
				continue
			}
			o := h.object
			j := jsonObject{ID: fmt.Sprintf("%v[%d]", o.entry.id, o.index), Size: c.size(o), Process: uint32(p.id), PID: p.pid,
				Made: h.made, Deliveries: h.deliveries, Shared: o.placed, Pins: o.pins, State: "pending"}
			switch o.state {
			case objectThere:
				j.State = "there"
			case objectFailed:
				j.State = "error"
			case objectAway:
				j.State = "away"
			case objectGone:
				j.State = "gone"
			}
			if x := c.cache.byObject[o.id()]; o.has(markCached) {
				j.Cached = x.title()
			}
			out = append(out, j)
		}
	}
	return c.listCached(out, n)
}

func (c *Core) listWorkers() (out []jsonWorker, n int) {
	for _, w := range c.workers {
		if n++; n > listLimit {
			continue
		}
		j := jsonWorker{Job: w.job.number, State: "busy", Tasks: w.flight.n, Environment: w.environment, Devices: w.devices}
		switch {
		case w.process == nil || w.process.mute:
			j.State = "starting"
		case w.shutting:
			j.State = "ending"
		case w.actor != nil:
			j.State = "actor"
		case w.blocked > 0:
			j.State = "blocked"
		case !w.held:
			j.State = "idle"
		}
		if w.process != nil {
			j.Process, j.PID = uint32(w.process.id), w.process.pid
		}
		out = append(out, j)
	}
	return out, n
}

// Left names what is left: nothing, when all jobs are over.
func (c *Core) Left() (left []string) {
	for _, x := range []struct {
		what string
		n    int
	}{{"entries", len(c.entries)}, {"tasks", c.taskRec.used}, {"workers", len(c.workers)}, {"jobs", len(c.jobs)}, {"processes", len(c.processes)}, {"hosts", len(c.hosts)}, {"foreign objects", len(c.lent)}} {
		if x.n > 0 {
			left = append(left, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	return left
}

// Explain says what a task waits for, for people.
func (c *Core) Explain(task id.Task) string {
	e, err := c.explain(task.String())
	if err != nil {
		return err.Error()
	}
	return e.Text
}
