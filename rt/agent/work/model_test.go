package work

import (
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// peer is a process as an honest SDK makes it: what it has sent and the core has not read, what the
// core has sent and it has not read, and its own count of references.
type peer struct {
	h      *history
	at     *site
	id     id.Process
	kind   Kind
	job    uint32
	next   uint64
	out    []byte
	in     [][]byte
	held   map[id.Object]*refs
	before map[id.Object]*refs // what was held
	keys   []id.Object         // of held, in the order in which they came
	dead   bool
	mute   bool // it was greeted, and has said nothing
	doomed bool // the core wants it to end

	inbox   []*job1
	running []*job1
	actor   *fb.CreateT
	last    map[id.Task]uint64 // of calls, by caller: the counter of the last
	calls   map[id.Task]int    // calls on their way or done, by actor
	shapes  bool
	said    map[uint32]bool // numbers of classes, to a worker
	looks   int             // names that it looks for
	flows   []*flow
	severed bool // the agent for which it works is out of reach
	line    *modelLine
	talk    id.Task     // its last call of an actor
	making  []id.Object // for the cache
}

// refs is what a process counts for one object.
type refs struct {
	n, seen   uint32
	own       bool // result of its own task, or its own put
	came      int  // values that came
	asked     int
	gets      int     // readiness asked
	want      fb.Want // asked for last
	readies   int
	watches   int // that it wants to be told when it alone has it
	unsettled bool
	failed    string // why it can't be had
}

// job1 is a task in a worker.
type job1 struct {
	id      id.Task
	kind    taskKind
	shape   uint32
	attempt uint32
	returns uint32
	args    []id.Object
	blocked bool
	awaits  []id.Task // what it has said it waits for,
	need    int       // and of them
	timed   bool      // or it goes on by itself
	cancel  bool
	once    bool
	away    []id.Object // arguments that were not sent along
	line    *modelLine  // by which it came
	frame   []byte      // that tells of it, unless that was sent
	known   bool        // its agent knows that it waits

	items, index, wanted uint32 // of a stream: to be given still, the next one, and that its reader is at
	held                 bool   // it waits for that
}

func (p *peer) send(m wire.Message, payload []byte) {
	p.tellDirect()
	p.out = append(p.out, frameOf(p.h.t, m, payload)...)
}

func (p *peer) ref(o id.Object) *refs {
	r := p.held[o]
	if r == nil {
		r = &refs{}
		if old := p.before[o]; old != nil {
			*r = refs{own: old.own, came: old.came, asked: old.asked, gets: old.gets, readies: old.readies, watches: old.watches}
		}
		p.held[o] = r
		p.keys = append(p.keys, o)
	}
	return r
}

func (p *peer) delivered(o id.Object) {
	r := p.ref(o)
	r.n++
	r.seen++
}

// drop ends one reference; the last one is told.
func (p *peer) drop(o id.Object) {
	r := p.held[o]
	if r == nil || r.n == 0 {
		p.h.t.Fatalf("seed %d: the model dropped %v twice", p.h.seed, o)
	}
	if r.n--; r.n > 0 {
		return
	}
	delete(p.held, o)
	p.before[o] = r // an answer may be under way
	p.keys = slices.DeleteFunc(p.keys, func(k id.Object) bool { return k == o })
	p.dropsMaking(o)
	p.send(&fb.ReleaseT{Object: objectT(o), Deliveries: r.seen}, nil)
}

func (p *peer) mint() id.Task {
	p.next++
	return id.Task{Agent: p.at.agent, Process: p.id, Counter: p.next}
}

// define says the function, the shapes and the class, once.
func (p *peer) define() {
	if p.shapes {
		return
	}
	p.shapes = true
	for _, name := range []string{"f", "g", "C"} {
		p.send(&fb.FunctionT{Hash: hashOf(name), Name: name, Language: "python"}, []byte("code"))
	}
	p.send(&fb.MethodsT{Function: numberOf("C"), Names: []string{"a", "b"}}, nil)
	for i := range modelShapes {
		p.shape(i)
	}
}

// some gives up to n of what p holds.
func (p *peer) some(n int) (list []id.Object) {
	for range p.h.rng.IntN(n + 1) {
		if len(p.keys) > 0 {
			o := p.keys[p.h.rng.IntN(len(p.keys))]
			if !slices.Contains(list, o) {
				list = append(list, o)
			}
		}
	}
	return list
}

func (p *peer) submit(parent id.Task) {
	p.define()
	rng := p.h.rng
	deps, in := p.some(2), p.some(2)
	t := p.mint()
	if t.Counter%4 == 0 {
		p.forget(int(t.Counter/4) % len(modelShapes))
	}
	shape := 1 + rng.IntN(5)
	if rng.IntN(2) == 0 {
		shape = 1
	}
	returns := uint32(1)
	if rng.IntN(6) == 0 {
		returns = uint32(rng.IntN(4))
	} else if rng.IntN(8) == 0 {
		returns = stream | uint32(1+rng.IntN(mostAhead))
	}
	name := "f"
	if rng.IntN(3) == 0 {
		name = "g"
	}
	p.send(&fb.SubmitT{Task: taskT(t), Parent: taskT(parent), Function: numberOf(name), Job: p.job, Shape: uint32(shape), Returns: returns,
		Deps: uint32(len(deps)), Refs: uint32(len(in))}, objectBytes(append(deps, in...)...))
	if returns >= stream {
		p.flows = append(p.flows, &flow{task: t})
	} else {
		p.expect(t, returns)
	}
	if shape == 2 {
		p.h.once[t] = true
	}
	p.h.submitted++
}

func (p *peer) expect(t id.Task, returns uint32) {
	for i := range returns {
		r := p.ref(id.Object{Task: t, Index: i})
		r.n, r.own, r.unsettled = 1, true, true
	}
}

func (p *peer) create() {
	p.define()
	t := p.mint()
	m := &fb.CreateT{Actor: taskT(t), Function: numberOf("C"), Job: p.job, Shape: 6, MaxRestarts: int32(p.h.rng.IntN(3) - 1), MaxTaskRetries: int32(p.h.rng.IntN(2)),
		MaxPending: -1, Concurrency: uint32(p.h.rng.IntN(3)), OutOfOrder: p.h.rng.IntN(5) == 0}
	p.h.lined(m)
	deps := p.some(1)
	m.Deps = uint32(len(deps))
	if p.h.rng.IntN(3) == 0 {
		m.Shape = 4
	}
	p.name(m)
	p.send(m, objectBytes(deps...))
	p.expect(t, 1)
	p.h.actors[t] = m
}

func (p *peer) call() {
	for _, o := range p.keys {
		if p.h.actors[o.Task] != nil && p.h.rng.IntN(2) == 0 && !(p.h.direct && p.h.rng.IntN(4) > 0) {
			p.callOf(o.Task)
			return
		}
	}
}

// there is some that has a value: what contains only such is in no cycle, which counting never finds.
func (p *peer) there(n int) []id.Object {
	return slices.DeleteFunc(p.some(n), func(o id.Object) bool {
		x := p.at.core.lookup(o)
		return x == nil || x.state == objectPending
	})
}

func (p *peer) put() {
	if p.wantCached() {
		return
	}
	in := p.there(2)
	t := p.mint()
	if p.h.rng.IntN(2) == 0 {
		p.seal(id.Object{Task: t}, in)
		r := p.ref(id.Object{Task: t})
		r.n, r.own = 1, true
		return
	}
	p.send(&fb.PutT{Object: objectT(id.Object{Task: t}), Refs: uint32(len(in))}, append(objectBytes(in...), "value"...))
	r := p.ref(id.Object{Task: t})
	r.n, r.own = 1, true
	p.watch(t)
}

func (p *peer) seal(o id.Object, in []id.Object) {
	p.send(&fb.SealT{Object: objectT(o), Slab: 1, Size: 1 << 20, Refs: uint32(len(in))}, objectBytes(in...))
}

// placed tells whether a result says where its value lies, and thereby delivers the object itself.
func placed(m *fb.ResultT, payload []byte) bool {
	return m.Flags&uint32(fb.ResultFlagLocated) != 0 && len(payload) > 0
}

func (p *peer) get() {
	for _, o := range p.some(1) {
		p.ask(o)
	}
}

// read takes in what the core has sent at once.
func (p *peer) read(chunk []byte) {
	var values []*fb.ResultT
	var bodies [][]byte
	p.readLine()
	for b := chunk; len(b) > 0; {
		f, rest, _ := cut(b)
		b = rest
		m, err := wire.Unmarshal(f.kind, f.body)
		if err != nil {
			p.h.t.Fatal(err)
		}
		switch m := m.(type) {
		case *fb.ResultT:
			values, bodies = append(values, m), append(bodies, f.payload)
		case *fb.ShapeT:
			p.hearShape(m)
		case *fb.SubmitT:
			p.knows(m.Shape)
			values, bodies = p.given(&job1{id: taskOf(m.Task), shape: m.Shape, attempt: m.Attempt, returns: m.Returns, once: p.h.once[taskOf(m.Task)]}, m.Deps, m.Refs, f.payload, values, bodies)
		case *fb.CallT:
			p.knows(m.Shape)
			values, bodies = p.given(&job1{id: taskOf(m.Task), shape: m.Shape, kind: call, attempt: m.Attempt, returns: m.Returns}, m.Deps, m.Refs, f.payload, values, bodies)
			p.inOrder(m)
		case *fb.CreateT:
			p.actor = m
			p.knows(m.Shape)
			values, bodies = p.given(&job1{id: taskOf(m.Actor), shape: m.Shape, kind: create, returns: 1}, m.Deps, m.Refs, f.payload, values, bodies)
		case *fb.CachedT:
			p.cached(m)
		case *fb.GetT:
			p.readerAt(objectOf(m.Object))
		case *fb.ReadyT:
			p.ready(m)
		case *fb.CancelT:
			for _, j := range append(slices.Clone(p.inbox), p.running...) {
				j.cancel = j.cancel || j.id == taskOf(m.Task)
			}
		case *fb.RecallT:
			p.recall(taskOf(m.Task))
		case *fb.LineT:
			p.endLine()
		case *fb.StateReplyT:
			p.found(m, f.payload)
		case *fb.ShutdownT:
			p.doomed = true
		}
	}
	for i, m := range values {
		p.result(m, bodies[i])
	}
}

// result is a value that was pushed or asked for.
func (p *peer) result(m *fb.ResultT, payload []byte) {
	for i := range int(m.Refs) {
		p.delivered(objectAt(payload, i))
	}
	o := id.Object{Task: taskOf(m.Task), Index: m.Index}
	if f := p.flowOf(o.Task); f != nil && m.Flags&uint32(fb.ResultFlagNotTask) == 0 && p.held[o] == nil && p.before[o] == nil {
		p.item(f, m)
	}
	p.line.settled(o.Task)
	if r := p.held[o]; r != nil {
		limit := r.asked
		if r.own {
			limit++
		}
		if r.came++; r.came > limit {
			p.h.t.Fatalf("seed %d: WORK-1: process %d got %v %d times", p.h.seed, p.id, o, r.came)
		}
		if r.unsettled, r.failed = false, failure(m, payload); p.flowOf(o.Task) != nil && strings.Contains(r.failed, o.Task.String()+") ended without") {
			p.h.t.Fatalf("seed %d: WORK-1: process %d never gets %v, which its task gave: %s", p.h.seed, p.id, o, r.failed)
		}
		if strings.Contains(r.failed, "ended without this result") {
			p.h.t.Fatalf("seed %d: LIN-6: process %d is told of %v: %s", p.h.seed, p.id, o, r.failed)
		}
	}
	if m.Flags&uint32(fb.ResultFlagLast) != 0 && m.Flags&uint32(fb.ResultFlagError) != 0 && o.Task.Process == p.id && o.Task.Agent == p.at.agent {
		for i := range uint32(4) { // the others of the task have this error, too
			if s := p.held[id.Object{Task: o.Task, Index: i}]; s != nil {
				s.unsettled = false
			}
		}
	}
	if placed(m, payload) {
		p.delivered(o)
		if p.h.rng.IntN(2) == 0 {
			p.drop(o)
		}
	}
	for i := range int(m.Refs) { // the value is read and forgotten, at times
		if p.h.rng.IntN(2) == 0 {
			p.drop(objectAt(payload, i))
		}
	}
}

// release lets go of what came with a task. Actors keep some of it.
func (p *peer) release(j *job1) {
	for _, o := range j.args {
		if p.actor == nil || p.h.calm || p.h.rng.IntN(2) == 0 {
			p.drop(o)
		}
	}
	j.args = nil
}

// work lets a worker go on with something.
func (p *peer) work() {
	rng := p.h.rng
	width := 1
	if p.actor != nil {
		width = max(int(p.actor.Concurrency), 1)
	}
	if rng.IntN(2) == 0 {
		p.readLine()
	}
	if len(p.inbox) > 0 && len(p.running) < width {
		j := p.inbox[0]
		p.inbox = p.inbox[1:]
		p.running = append(p.running, j)
		if p.mute {
			p.mute = false
			p.h.step(p.at, &Frames{Process: p.id, Bytes: frameOf(p.h.t, &fb.StartedT{Task: &fb.TaskIDT{}}, nil)})
		}
		if p.severed { // what it does nobody will hear of
			return
		}
		if w := p.h.runs[j.id]; w != nil && !w.dead && w != p {
			p.h.t.Fatalf("seed %d: WORK-3: task %v runs in two workers", p.h.seed, j.id)
		}
		if j.once && p.h.starts[j.id] > 0 {
			p.h.t.Fatalf("seed %d: WORK-3: task %v must not run twice", p.h.seed, j.id)
		}
		p.getAway(j)
		p.h.runs[j.id] = p
		p.h.starts[j.id]++
		return
	}
	if len(p.running) == 0 {
		return
	}
	j := p.running[rng.IntN(len(p.running))]
	if p.h.rings != nil {
		p.circle(j)
		return
	}
	if rng.IntN(3) == 0 && p.reads() {
		return
	}
	k := rng.IntN(10)
	if j.returns >= stream && !j.blocked && (j.held || k > 5 || p.h.calm) && p.gives(j) {
		return
	}
	switch {
	case p.h.calm && j.blocked, !p.h.calm && k == 0 && !j.blocked && j.kind != create, j.blocked && k < 4:
		p.waits(j)
	case j.blocked:
	case !p.h.calm && k < 3 && j.kind != create:
		if p.submit(j.id); rng.IntN(2) == 0 {
			p.waits(j)
		}
	case !p.h.calm && k == 3:
		p.put()
	case !p.h.calm && k == 4:
		p.get()
	case !p.h.calm && k == 5:
		p.call()
	case !p.h.calm && k == 6 && len(p.at.core.actors) < 4 && rng.IntN(4) == 0:
		p.create()
	default:
		p.finish(j)
	}
}

func (p *peer) finish(j *job1) {
	rng := p.h.rng
	if p.answer(j) {
		return
	}
	failed := j.cancel || rng.IntN(8) == 0 && j.kind != create
	n := max(j.returns, 1)
	if failed {
		n = 1
	}
	if j.returns >= stream {
		n = 0
		p.ends(j, failed)
	}
	for i := range n {
		in := p.there(2)
		m := &fb.ResultT{Task: taskT(j.id), Index: i, Attempt: j.attempt, Refs: uint32(len(in))}
		payload := append(objectBytes(in...), "result"...)
		if i == n-1 {
			p.send(&fb.RanT{Task: taskT(j.id), Began: 1, Took: 4}, nil)
			m.Flags = uint32(fb.ResultFlagLast)
		}
		if failed {
			m.Flags, m.Format, m.Refs = uint32(fb.ResultFlagLast|fb.ResultFlagError), fb.FormatError, 0
			payload, _ = wire.Marshal(nil, &fb.FailureT{Code: "USER", Type: "E", Message: "no"})
		}
		if !failed && j.kind != create && rng.IntN(2) == 0 {
			p.seal(id.Object{Task: j.id, Index: i}, in)
			m.Flags |= uint32(fb.ResultFlagLocated)
			m.Refs, payload = 0, nil
		}
		p.send(m, payload)
	}
	p.running = slices.DeleteFunc(p.running, func(k *job1) bool { return k == j })
	if p.h.runs[j.id] == p {
		delete(p.h.runs, j.id)
	}
	p.release(j)
}
