package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// pair is two agents: a (1, node n1), where the driver is, and b (2, node n2), which has a bundle of a group. What
// one says to the other comes at once.
type pair struct {
	t      *testing.T
	cores  [2]*Core
	stores [2]*ledger
	wanted []wanted // values to be fetched
	now    int64
	last   [2]id.Process
	errand [2]id.Process // the process that each is to the other
	keys   [2]map[uint64]id.Process
	got    map[string][]frame // frames to processes, "a 1"
	said   []string
	next   uint64
	open   bool
	queue  []func() // events, in the order in which they come
	busy   bool
	names  *registry
	ways   []*way
	mute   bool // the head says nothing
	down   bool // neither reaches the other by a way that it opens, or, dead, ever will
	dead   bool

	between func(fb.FrameType) // something happens before a frame goes by a way
}

var groupOfPair = id.Task{Agent: 1, Process: 1, Counter: 999}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, now: 1e9, got: map[string][]frame{}, names: newRegistry()}
	for i := range p.cores {
		p.stores[i] = newLedger(t)
		p.cores[i] = New(Config{Agent: id.Agent(i + 1), Node: fmt.Sprintf("n%d", i+1), Store: p.stores[i]})
		p.keys[i] = map[uint64]id.Process{}
		p.last[i] = 1
	}
	p.step(0, ProcessUp{Process: 1, Kind: Driver, Job: 1})
	p.step(0, Place{Group: groupOfPair, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", 2 * one}}})
	p.step(1, Grant{Group: groupOfPair, Resources: []Amount{{"CPU", 2 * one}}})
	p.say(0, 1, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	p.say(0, 1, &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
	p.say(0, 1, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 1, Bundle: 0, Group: taskT(groupOfPair)}, nil)
	p.say(0, 1, &fb.ShapeT{Number: 2, Bundle: -1}, nil) // of calls
	return p
}

func (p *pair) step(at int, ev Event) {
	p.t.Helper()
	p.queue = append(p.queue, func() { p.one(at, ev) })
	for !p.busy && len(p.queue) > 0 {
		do := p.queue[0]
		p.queue, p.busy = p.queue[1:], true
		do()
		p.busy = false
	}
}

func (p *pair) one(at int, ev Event) {
	p.t.Helper()
	var effects []Effect
	for _, e := range p.cores[at].Step(p.now, ev, nil) {
		e.Bytes = slices.Clone(e.Bytes)
		effects = append(effects, e)
	}
	for i, c := range p.cores {
		err := check(c)
		if err == nil {
			err = checkViews(&site{core: c, store: p.stores[i]})
		}
		if err != nil {
			p.t.Fatalf("agent %d after %T at %d: %v", i+1, ev, at+1, err)
		}
	}
	for _, e := range effects {
		switch e.Do {
		case Append:
			if k := p.wayOf(at, e.Process); k != nil {
				for b := e.Bytes; p.between != nil && len(b) > 0; {
					f, rest, _ := cut(b)
					b = rest
					p.between(f.kind)
				}
				p.step(1-at, &Frames{Process: k.process[1-at], Bytes: e.Bytes})
				continue
			}
			if e.Process == p.errand[at] && p.open {
				p.step(1-at, &Frames{Process: p.errand[1-at], Bytes: e.Bytes})
				continue
			}
			for b := e.Bytes; len(b) > 0; {
				f, rest, _ := cut(b)
				b = rest
				k := fmt.Sprintf("%c %d", 'a'+at, e.Process)
				p.got[k] = append(p.got[k], f)
			}
		case NeedWorker:
			p.last[at]++
			p.keys[at][e.Key] = p.last[at]
			p.step(at, ProcessUp{Process: p.last[at], Kind: Worker, Key: e.Key})
		case KillWorker:
			p.gone(at, e.Process, e.Text)
		case NeedHost:
			if e.Need.Job == 0 && e.Key <= 2 {
				p.openWay(at)
				continue
			}
			p.last[0]++
			if e.Key != 2 { // a third one, of which nothing is heard
				p.step(0, ProcessUp{Process: p.last[0], Kind: Host, Job: e.Need.Job, Agent: id.Agent(e.Key), Node: fmt.Sprint("n", e.Key)})
				continue
			}
			p.last[1]++
			p.errand = p.last
			p.open = true
			p.step(1, ProcessUp{Process: p.errand[1], Kind: Owner, Job: uint32(p.errand[1]), Agent: 1, Node: "n1"})
			p.step(0, ProcessUp{Process: p.errand[0], Kind: Host, Job: e.Need.Job, Agent: 2, Node: "n2"})
		case CloseProcess:
			p.said = append(p.said, fmt.Sprintf("close %d %d: %s", at+1, e.Process, e.Text))
			if e.Process == p.errand[at] && p.open {
				p.cutOff(e.Text)
			} else if k := p.wayOf(at, e.Process); k != nil {
				p.cutWay(k, e.Text)
			}
		case Fetch, Slice:
			p.wanted = append(p.wanted, wanted{at, e})
		case Unslice:
			p.wanted = slices.DeleteFunc(p.wanted, func(w wanted) bool { return w.at == at && w.Do == Slice && w.Object == e.Object })
		case Hasten:
			hasten(p.t, p.wanted, at, e)
		case Say:
			p.said = append(p.said, e.Text)
		case Survey: // b has room for all
			p.step(at, Surveyed{Key: e.Key, Agents: []id.Agent{2}, Issued: 2})
		case Claim, Free, Find:
			if p.mute {
				continue
			}
			if ev := p.names.answer(p.cores[at], e); ev != nil {
				p.step(at, ev)
			}
		}
	}
}

// cutOff ends the errand at both ends.
func (p *pair) cutOff(why string) {
	p.open = false
	old := p.errand
	p.step(1, ProcessGone{Process: old[1], Why: why}) // first: the owner may open the next at once
	p.step(0, ProcessGone{Process: old[0], Why: why})
}

func (p *pair) gone(at int, process id.Process, why string) {
	p.step(at, ProcessGone{Process: process, Why: why})
}

func (p *pair) say(at int, process id.Process, m wire.Message, payload []byte) {
	p.t.Helper()
	p.step(at, &Frames{Process: process, Bytes: frameOf(p.t, m, payload)})
}

// mint names a task of a process.
func (p *pair) mint(at int, process id.Process) id.Task {
	p.next++
	return id.Task{Agent: id.Agent(at + 1), Process: process, Counter: p.next}
}

// submit has the driver submit a task to the bundle at b, with dependencies and then references.
func (p *pair) submit(deps, refs []id.Object) id.Task {
	p.t.Helper()
	t := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1,
		Deps: uint32(len(deps)), Refs: uint32(len(refs))}, append(objectBytes(append(deps, refs...)...), "args"...))
	return t
}

// worker gives the worker of b that was given a task, or a call.
func (p *pair) worker(t id.Task) id.Process {
	p.t.Helper()
	for _, w := range p.keys[1] {
		for _, f := range p.got[fmt.Sprintf("b %d", w)] {
			if m, err := wire.Unmarshal(f.kind, f.body); err == nil {
				switch m := m.(type) {
				case *fb.SubmitT:
					if taskOf(m.Task) == t {
						return w
					}
				case *fb.CallT:
					if taskOf(m.Task) == t {
						return w
					}
				case *fb.CreateT:
					if taskOf(m.Actor) == t {
						return w
					}
				}
			}
		}
	}
	p.t.Fatalf("no worker of n2 was given %v", t)
	return 0
}

func (p *pair) result(t id.Task, refs []id.Object, value string) {
	p.t.Helper()
	p.say(1, p.worker(t), &fb.ResultT{Task: taskT(t), Flags: uint32(fb.ResultFlagLast), Refs: uint32(len(refs))}, append(objectBytes(refs...), value...))
}

// told gives what a process was last told of an object: its value, or an error's code and text.
func (p *pair) told(who string, o id.Object) (text string) {
	p.t.Helper()
	for _, f := range p.got[who] {
		if f.kind != fb.FrameTypeResult {
			continue
		}
		m, _ := wire.Unmarshal(f.kind, f.body)
		r := m.(*fb.ResultT)
		if taskOf(r.Task) != o.Task || r.Index != o.Index {
			continue
		}
		text = string(f.payload[r.Refs*objectSize:])
		if r.Format == fb.FormatError {
			e, _ := wire.Unmarshal(fb.FrameTypeFailure, f.payload)
			text = e.(*fb.FailureT).Code + ": " + e.(*fb.FailureT).Message
		}
	}
	return text
}

func (p *pair) release(at int, process id.Process, o id.Object, deliveries uint32) {
	p.t.Helper()
	p.say(at, process, &fb.ReleaseT{Object: objectT(o), Deliveries: deliveries}, nil)
}

// empty tells that an agent knows of no object and no task.
func (p *pair) empty(at int) {
	p.t.Helper()
	if n := len(p.cores[at].entries); n > 0 || len(p.cores[at].lent)+len(p.stores[at].views) > 0 {
		p.t.Errorf("agent %d knows of %d tasks and objects after all is over, and keeps %d values in memory", at+1, n, len(p.stores[at].views))
	}
}

func of(t id.Task) id.Object { return id.Object{Task: t} }

// A task whose bundle another agent has runs there, with the values of its arguments; its result comes home, and
// there nothing is left of it.
func TestTaskAtAnotherAgent(t *testing.T) {
	p := newPair(t)
	put := p.mint(0, 1)
	p.say(0, 1, &fb.PutT{Object: objectT(of(put))}, []byte("an argument"))
	task := p.submit([]id.Object{of(put)}, nil)
	w := p.worker(task)
	if v := p.told(fmt.Sprintf("b %d", w), of(put)); v != "an argument" {
		t.Errorf("its worker has %q as argument", v)
	}
	p.result(task, nil, "done")
	if v := p.told("a 1", of(task)); v != "done" {
		t.Errorf("the driver is told %q", v)
	}
	p.empty(1)
	p.release(0, 1, of(task), 0)
	p.release(0, 1, of(put), 0)
	p.empty(0)
	if n := p.cores[0].places[0].n; n != 0 {
		t.Errorf("%d tasks are still counted there", n)
	}
}

// What an agent had when it is lost is tried again, or fails with an error that names its node.
func TestAgentThatIsLost(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	p.worker(task)
	p.cutOff("it died")
	if p.cores[0].entries[task].task.tried != 1 {
		t.Fatal("it is not tried again")
	}
	p.worker(task)
	p.step(0, Place{Agent: 2, Gone: true})
	p.cutOff("it died")
	if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "NODE_DIED: ") || !strings.Contains(v, "node n2: it died") {
		t.Errorf("the driver is told %q", v)
	}
	p.empty(1)
	waits := p.submit(nil, nil)
	if why := p.cores[0].explainTask(p.cores[0].entries[waits].task); !strings.Contains(why, "no bundle that it may use") {
		t.Errorf("the next one waits for %s", why)
	}
}

func TestCancelAtAnotherAgent(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	w := p.worker(task)
	p.say(0, 1, &fb.CancelT{Task: taskT(task), Force: 1}, nil)
	if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "CANCELLED: ") {
		t.Errorf("the driver is told %q", v)
	}
	if p.cores[1].byProcess[w] != nil {
		t.Error("its worker goes on")
	}
}

func (p *pair) create(restarts int32) id.Task {
	p.t.Helper()
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, MaxRestarts: restarts, MaxPending: -1}, []byte("args"))
	p.result(actor, nil, "made")
	return actor
}

// TestCallOfAnActorElsewhere: a handle that was found by its actor's name is as good as at home.
func TestCallOfAnActorElsewhere(t *testing.T) {
	p := newPair(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, MaxPending: -1, Name: "it"}, []byte("args"))
	home := p.keys[0][1]
	p.say(0, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	task := p.submit(nil, nil)
	w := p.worker(task)
	p.say(1, w, &fb.StateQueryT{What: "actor", Id: "/it"}, nil)
	p.say(1, w, &fb.StateQueryT{What: "actor", Id: "/nobody"}, nil)
	if n := len(p.cores[1].asked); n > 0 {
		t.Errorf("%d questions have no answer", n)
	}
	p.say(1, w, &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	var calls []id.Task
	for range 3 {
		call := p.mint(1, w)
		calls = append(calls, call)
		p.say(1, w, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 1, Returns: 1}, []byte("args"))
	}
	for _, f := range p.got[fmt.Sprintf("a %d", home)] {
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeCall {
			at := taskOf(m.(*fb.CallT).Task)
			if at != calls[0] {
				t.Fatalf("it was called as %v, and %v is next", at, calls[0])
			}
			calls = calls[1:]
			p.say(0, home, &fb.ResultT{Task: taskT(at), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
			if v := p.told(fmt.Sprintf("b %d", w), of(at)); v != "called" {
				t.Errorf("the caller is told %q", v)
			}
			p.release(1, w, of(at), 0)
		}
	}
	if len(calls) > 0 {
		t.Fatalf("%d calls did not get there", len(calls))
	}
	p.say(0, 1, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	late := p.mint(1, w)
	p.say(1, w, &fb.CallT{Task: taskT(late), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 1, Returns: 1}, []byte("args"))
	if v := p.told(fmt.Sprintf("b %d", w), of(late)); !strings.HasPrefix(v, "ACTOR_DIED: ") || !strings.Contains(v, "it was killed") {
		t.Errorf("of a dead actor the caller is told %q", v)
	}
	p.release(1, w, of(late), 0)
	p.result(task, nil, "done")
	p.release(1, w, of(actor), 1)
	p.empty(1)
	p.gone(0, 1, "it ended")
	p.empty(0)
}

func (p *pair) call(actor id.Task) id.Task {
	p.t.Helper()
	t := p.mint(0, 1)
	p.say(0, 1, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Shape: 2, Returns: 1}, []byte("args"))
	return t
}

// An actor lives at another agent, and who owns it decides what becomes of it.
func TestActorAtAnotherAgent(t *testing.T) {
	p := newPair(t)
	actor := p.create(1)
	first := p.call(actor)
	p.result(first, nil, "one")
	if v := p.told("a 1", of(first)); v != "one" {
		t.Errorf("the driver is told %q", v)
	}
	lost := p.call(actor)
	p.gone(1, p.worker(lost), "killed by signal 9")
	if v := p.told("a 1", of(lost)); !strings.HasPrefix(v, "ACTOR_UNAVAILABLE: ") {
		t.Errorf("of a call that it was killed in the driver is told %q", v)
	}
	if a := p.cores[0].entries[actor].actor; a.incarnation != 2 {
		t.Fatal("it is not made again")
	}
	p.got = map[string][]frame{"b " + fmt.Sprint(p.last[1]): p.got["b "+fmt.Sprint(p.last[1])]}
	p.result(actor, nil, "made again")
	second := p.call(actor)
	p.result(second, nil, "two")
	if v := p.told("a 1", of(second)); v != "two" {
		t.Errorf("in its second life the driver is told %q", v)
	}
	p.say(0, 1, &fb.CancelT{Task: taskT(actor), Force: 1}, nil)
	if v := p.told("a 1", of(p.call(actor))); !strings.HasPrefix(v, "ACTOR_DIED: ") || !strings.Contains(v, "it was killed") {
		t.Errorf("when it was killed the driver is told %q", v)
	}
	if n := len(p.cores[1].workers); n > 0 {
		t.Errorf("%d workers are left at n2", n)
	}
	p.empty(1)
}

// A reference that came from another agent keeps what it names there, as long as somebody here needs it (REF-5).
func TestReferencesBetweenAgents(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	w := p.worker(task)
	made := p.mint(1, w)
	p.say(1, w, &fb.PutT{Object: objectT(of(made))}, []byte("made there"))
	p.result(task, []id.Object{of(made)}, "with a reference")
	p.release(1, w, of(made), 0)
	if p.cores[1].lookup(of(made)) == nil {
		t.Fatal("what the driver has a reference to is gone")
	}
	p.say(0, 1, &fb.GetT{Object: objectT(of(made)), Want: fb.WantValue}, nil)
	if v := p.told("a 1", of(made)); v != "made there" {
		t.Errorf("the driver gets %q", v)
	}
	p.release(0, 1, of(task), 0)
	p.release(0, 1, of(made), 1)
	p.empty(0)
	p.empty(1)

	// The other way: a value of the driver's, inside another one.
	put := p.mint(0, 1)
	p.say(0, 1, &fb.PutT{Object: objectT(of(put))}, []byte("made here"))
	task = p.submit(nil, []id.Object{of(put)})
	w = p.worker(task)
	p.release(0, 1, of(put), 0)
	p.say(1, w, &fb.GetT{Object: objectT(of(put)), Want: fb.WantValue}, nil)
	if v := p.told(fmt.Sprintf("b %d", w), of(put)); v != "made here" {
		t.Errorf("its worker gets %q", v)
	}
	p.result(task, []id.Object{of(put)}, "and back")
	p.release(1, w, of(put), 1)
	if p.cores[0].lookup(of(put)) == nil {
		t.Fatal("what came back is gone")
	}
	p.release(0, 1, of(put), 1)
	p.release(0, 1, of(task), 0)
	p.empty(0)
	p.empty(1)
}

// A value that only a lost agent had is an error that names its node, and no silence.
func TestValueThatIsLost(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	w := p.worker(task)
	made := p.mint(1, w)
	p.say(1, w, &fb.PutT{Object: objectT(of(made))}, []byte("made there"))
	p.result(task, []id.Object{of(made)}, "with a reference")
	p.cutOff("it died")
	p.say(0, 1, &fb.GetT{Object: objectT(of(made)), Want: fb.WantValue}, nil)
	if v := p.told("a 1", of(made)); !strings.HasPrefix(v, "OWNER_DIED: ") || !strings.Contains(v, "n2") {
		t.Errorf("the driver is told %q", v)
	}
}

// A job that is over leaves nothing at another agent.
func TestDriverThatEndsWithTasksElsewhere(t *testing.T) {
	p := newPair(t)
	p.create(0)
	p.submit(nil, nil)
	p.gone(0, 1, "it ended")
	for i, c := range p.cores {
		p.empty(i)
		if len(c.jobs)+len(c.workers)+len(c.hosts)+len(c.actors) > 0 {
			t.Errorf("agent %d has %d jobs, %d workers, %d hosts and %d actors left", i+1, len(c.jobs), len(c.workers), len(c.hosts), len(c.actors))
		}
	}
}
