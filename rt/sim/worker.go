package sim

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// worker runs what it is given one after the other: each takes a while, may start tasks of its own and wait for one,
// put values, raise, or die.
type worker struct {
	*proc
	key     uint64
	from    *proc // its template
	inbox   []*given
	running *given
	kids    []id.Object // that its task waits for
	leaves  bool
}

// given is a task, a call or a constructor.
type given struct {
	task    id.Task
	what    fb.FrameType
	attempt uint32
	returns uint32
	held    []id.Object // that came with it, or that it made
	cancel  bool
	tree    tree
	pace    pace
	behind  bool // another one ran, or waited, when it came
}

// pace is how long each task of a tree takes.
type pace uint8

const (
	steady  pace = iota // 20 ms, about
	quick               // 50 us
	lasting             // a minute
)

// tree is what a task starts and waits for, when it was told to: so many tasks that do the same, less deep; each takes a while, and nothing else happens.
type tree struct{ depth, width uint8 }

func (t tree) payload(p pace) []byte { return []byte{'t', t.depth, t.width, byte(p)} }

func (n *Node) fork(from *proc, key uint64) *worker {
	w := &worker{proc: &proc{}, key: key, from: from}
	w.hears = w.take
	w.ends = func(code, sig int32) {
		w.from.send(&fb.WorkerStateT{Key: key, Pid: w.pid, Phase: fb.RankPhaseEnded, Code: code, Signal: sig}, nil)
	}
	if n.agent == nil || n.agent != from.agent {
		w.c, w.node, w.agent = from.c, n, from.agent
		w.gone = true
		return w
	}
	n.attach(fb.AttachKindWorker, key, w.proc)
	from.send(&fb.WorkerStateT{Key: key, Pid: w.pid, Phase: fb.RankPhaseRunning}, nil)
	return w
}

func (w *worker) take(m wire.Message, _ uint64, payload []byte) {
	switch m := m.(type) {
	case *fb.ResultT:
		o := id.Object{Task: task(m.Task), Index: m.Index}
		mine := w.held[o] != nil
		inside := w.took(m, payload)
		if !mine {
			w.values = append(w.values, inside...) // of an argument
			return
		}
		for _, i := range inside {
			w.drop(i)
		}
		if i := slices.Index(w.kids, o); i >= 0 {
			w.kids = slices.Delete(w.kids, i, i+1)
			w.drop(o)
			if len(w.kids) == 0 {
				w.wake()
			}
		}
	case *fb.SubmitT:
		w.give(&given{task: task(m.Task), what: fb.FrameTypeSubmit, attempt: m.Attempt, returns: m.Returns}, m.Deps, m.Refs, payload)
	case *fb.CallT:
		w.give(&given{task: task(m.Task), what: fb.FrameTypeCall, attempt: m.Attempt, returns: m.Returns}, m.Deps, m.Refs, payload)
	case *fb.CreateT:
		w.give(&given{task: task(m.Actor), what: fb.FrameTypeCreate, returns: 1}, m.Deps, m.Refs, payload)
	case *fb.CancelT:
		for _, g := range append(slices.Clone(w.inbox), w.running) {
			if g != nil && g.task == task(m.Task) {
				g.cancel = true
			}
		}
	case *fb.RecallT:
		w.recall(task(m.Task))
	case *fb.ShutdownT:
		w.leaves = true
		w.next()
	}
}

func (w *worker) give(g *given, deps, refs uint32, payload []byte) {
	for _, o := range objects(payload, int(deps+refs))[deps:] {
		w.delivered(o)
		g.held = append(g.held, o)
	}
	if rest := payload[int(deps+refs)*objectSize:]; len(rest) == 4 && rest[0] == 't' {
		g.tree, g.pace = tree{rest[1], rest[2]}, pace(rest[3])
	}
	g.behind = w.running != nil || len(w.inbox) > 0
	g.held = append(g.held, w.values...)
	w.values = nil
	w.inbox = append(w.inbox, g)
	w.next()
}

func (w *worker) recall(one id.Task) {
	w.inbox = slices.DeleteFunc(w.inbox, func(g *given) bool {
		if g.what != fb.FrameTypeSubmit || !one.IsZero() && g.task != one {
			return false
		}
		w.let(g)
		w.send(&fb.RecalledT{Task: taskT(g.task)}, nil)
		return true
	})
	if w.running != nil && w.running.task == one {
		w.send(&fb.RecalledT{Task: taskT(one), Started: 1}, nil)
	}
}

func (w *worker) let(g *given) {
	for _, o := range g.held {
		w.drop(o)
	}
	g.held = nil
}

// next begins what is next, or ends.
func (w *worker) next() {
	if w.gone || w.running != nil {
		return
	}
	if len(w.inbox) == 0 {
		if w.leaves {
			w.end(0, 0)
		}
		return
	}
	g := w.inbox[0]
	w.running, w.inbox = g, w.inbox[1:]
	if g.behind && g.what == fb.FrameTypeSubmit {
		w.send(&fb.StartedT{Task: taskT(g.task)}, nil)
	}
	w.later(g.pace, func() {
		switch k := w.c.rng.IntN(40); {
		case g.tree.depth > 0:
			w.start(g, treeShape, int(g.tree.width), tree{g.tree.depth - 1, g.tree.width}.payload(g.pace))
		case g.tree.width > 0:
			w.finish(g)
		case k == 0 && !w.c.cfg.Calm:
			w.end(0, 11)
		case k < 6 && g.what != fb.FrameTypeCreate:
			w.start(g, childShapes[k%len(childShapes)], 1+k%2, tree{}.payload(steady))
		default:
			w.finish(g)
		}
	})
}

// later goes on after a while.
func (w *worker) later(p pace, f func()) {
	d := int64(w.c.rng.ExpFloat64() * 20e6)
	switch p {
	case quick:
		d /= 400
	case lasting:
		d = 60e9
	}
	w.c.after(d, "task", uint64(w.pid), w.node.host, func() {
		if !w.gone {
			f()
		}
	})
}

// childShapes are what tasks ask for that others start: a CPU, half of one, nothing, a CPU on any node.
var childShapes = []uint32{1, 6, 5, 4}

// treeShape is that of a tree's tasks: a CPU.
const treeShape = 1

// start starts tasks from within one and waits for them.
func (w *worker) start(g *given, shape uint32, n int, does []byte) {
	define(w.proc)
	for range n {
		t := w.mint()
		w.kids = append(w.kids, id.Object{Task: t})
		w.send(&fb.SubmitT{Task: taskT(t), Parent: taskT(g.task), Function: numberOf("f"), Job: w.at.Job, Shape: shape, Returns: 1}, does)
		w.expect(t, 1)
	}
	w.send(&fb.BlockedT{Task: taskT(g.task)}, nil)
}

// wake goes on with the task that waited.
func (w *worker) wake() {
	g := w.running
	w.send(&fb.UnblockedT{Task: taskT(g.task)}, nil)
	w.later(g.pace, func() { w.finish(g) })
}

// finish sends the results of what runs.
func (w *worker) finish(g *given) {
	m := &fb.ResultT{Task: taskT(g.task), Attempt: g.attempt, Flags: uint32(fb.ResultFlagLast)}
	payload := []byte("value")
	switch {
	case g.cancel || !w.c.cfg.Calm && g.tree.width == 0 && g.what != fb.FrameTypeCreate && w.c.rng.IntN(12) == 0:
		m.Flags |= uint32(fb.ResultFlagError)
		m.Format = fb.FormatError
		payload, _ = wire.Marshal(nil, &fb.FailureT{Code: "USER", Type: "E", Message: "no"})
	case g.tree.width == 0 && g.what != fb.FrameTypeCreate && w.c.rng.IntN(4) == 0: // a reference to what is made here
		o := id.Object{Task: w.mint()}
		w.send(&fb.PutT{Object: objectT(o)}, []byte("inside"))
		r := w.reference(o)
		r.n, r.own = 1, true
		g.held = append(g.held, o)
		m.Refs, payload = 1, append(objectBytes(o), payload...)
	}
	if g.returns > 0 {
		for i := range g.returns - 1 {
			w.send(&fb.ResultT{Task: taskT(g.task), Index: i, Attempt: g.attempt}, []byte("value"))
		}
		m.Index = g.returns - 1
	}
	if w.c.rng.IntN(4) > 0 {
		w.send(&fb.RanT{Task: taskT(g.task), Began: 1, Read: 2, Ran: 3, Took: 4, Failed: m.Flags & uint32(fb.ResultFlagError)}, nil)
	}
	w.send(m, payload)
	w.let(g)
	w.running = nil
	w.next()
}
