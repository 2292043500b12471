package work

import (
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// callWith calls an actor by its handle, with references.
func (p *pair) callWith(at int, process id.Process, actor id.Task, refs ...id.Object) id.Task {
	p.t.Helper()
	t := p.mint(at, process)
	p.say(at, process, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(process), Shape: 2, Returns: 1, Refs: uint32(len(refs))}, objectBytes(refs...))
	return t
}

// given tells whether a process was given a call.
func (p *pair) given(at int, process id.Process, call id.Task) (n int) {
	for _, f := range p.got[fmt.Sprintf("%c %d", 'a'+at, process)] {
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeCall && taskOf(m.(*fb.CallT).Task) == call {
			n++
		}
	}
	return n
}

// Who waits for a value to be brought hears once that it is elsewhere, also if it is lost there and made again.
func TestElsewhereIsToldOnce(t *testing.T) {
	p := newPair(t)
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 5, Bundle: 0, Group: taskT(groupOfPair)}, nil)
	task := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1}, nil)
	p.asks(0, 1, of(task), fb.WantHere)
	p.runs(task)
	p.hears("a 1", of(task), 1, fb.ObjectStateThere)
	p.cut()
	p.runs(task)
	p.hears("a 1", of(task), 1, fb.ObjectStateThere)
	p.fetched("")
	p.hears("a 1", of(task), 0, fb.ObjectStateThere, fb.ObjectStateHere)
}

// A call that brings a handle, for which others waited to call its actor, is itself and no other.
func TestCallThatBringsAHandle(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", false)
	p.find(1, d, "it")
	other, w2 := p.make(1, d, "other", false)
	p.find(0, 1, "other")
	p.say(1, d, &fb.ShapeT{Number: 3, Bundle: -1, Retries: -1}, nil)
	p.down = true
	p.cutWay(p.ways[0], connectionLost)
	waits := p.mint(1, d)
	p.say(1, d, &fb.CallT{Task: taskT(waits), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(d), Shape: 3, Returns: 1}, []byte("args"))
	brings := p.callWith(0, 1, other, of(actor))
	if n := p.given(1, w2, brings); n != 1 {
		t.Errorf("the call is given to its actor %d times", n)
	}
	if n := p.given(0, w, waits); n != 1 {
		t.Errorf("the one that waited is given to its actor %d times", n)
	}
}

// twoWays has an actor of b's own keep a reference to a large value that a task of a's driver gave at b, and a let go of it.
func twoWays(t *testing.T) (p *pair, w id.Process, o id.Object) {
	p = newPair(t)
	actor, w := p.make(1, p.drive(1), "it", false)
	p.find(0, 1, "it")
	task := p.submit(nil, nil)
	p.runs(task)
	call := p.callWith(0, 1, actor, of(task))
	p.say(1, w, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, nil)
	p.release(0, 1, of(call), 0)
	p.release(0, 1, of(task), 0)
	for i, c := range p.cores {
		if c.lookup(of(task)) == nil {
			t.Fatalf("agent %d has let go of what an actor has a reference to", i+1)
		}
	}
	return p, w, of(task)
}

// What was made here for another agent and came back by another way than its task goes with the last that has a reference.
func TestValueThatTwoWaysKeep(t *testing.T) {
	p, w, o := twoWays(t)
	p.release(1, w, o, 1)
	for i, c := range p.cores {
		if c.lookup(o) != nil || len(p.stores[i].views) > 0 {
			t.Errorf("agent %d keeps what nobody has a reference to", i+1)
		}
	}
}

// So it does when it can't be read any more where it was made.
func TestValueThatTwoWaysKeepAndNoneCanRead(t *testing.T) {
	p, w, o := twoWays(t)
	p.toFile(1, o)
	p.step(1, Damaged{Object: o, Why: "its bytes are not those that were written"})
	p.release(1, w, o, 1)
	for i, c := range p.cores {
		if c.lookup(o) != nil || len(p.stores[i].views) > 0 {
			t.Errorf("agent %d keeps what nobody has a reference to", i+1)
		}
	}
}

// An actor that is ended to be made again is so only once its worker is over, at whatever node that is: two lives are never there at once.
func TestActorThatIsKilledElsewhere(t *testing.T) {
	p := newPair(t)
	actor := p.create(1)
	p.worker(actor)
	p.open = false // what the agents say to each other is seen here
	p.say(0, 1, &fb.CancelT{Task: taskT(actor), Force: 2}, nil)
	said := p.got[fmt.Sprint("a ", p.errand[0])]
	if len(said) != 1 || said[0].kind != fb.FrameTypeCancel {
		t.Fatalf("its host is told %v", said)
	}
	kills := 0
	for _, e := range p.cores[1].Step(p.now, &Frames{Process: p.errand[1], Bytes: said[0].whole}, nil) {
		if e.Do == KillWorker {
			kills++
		} else if e.Do == Append && e.Process == p.errand[1] {
			t.Errorf("its owner is told of it before its worker is over")
		}
	}
	if kills != 1 {
		t.Errorf("%d workers are killed", kills)
	}
	p.open = true
	p.gone(1, p.worker(actor), "killed by signal 9")
	if a := p.cores[0].entries[actor].actor; a.incarnation != 2 || a.worker == nil {
		t.Errorf("it is not made again: life %d", a.incarnation)
	}
}

// A call that came from an agent is not sent to that one when its actor is made there, also if the way on which it came is gone.
func TestCallThatWouldGoBack(t *testing.T) {
	p := newPair(t)
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1, Group: taskT(groupOfPair)}, nil)
	first, second := p.submit(nil, nil), p.submit(nil, nil)
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, MaxPending: -1}, []byte("args"))
	caller := p.submit(nil, []id.Object{of(actor)})
	p.result(first, nil, "done")
	w := p.worker(caller)
	p.say(1, w, &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	call, next := p.mint(1, w), p.mint(1, w)
	p.say(1, w, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 2, Returns: 1}, []byte("args"))
	p.say(1, w, &fb.CallT{Task: taskT(next), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(p.errand[1]), Shape: 2, Returns: 1, Refs: 1}, objectBytes(of(call)))
	p.cut()
	if e := p.cores[0].entries[call]; e == nil || e.task == nil {
		t.Fatal("the call does not wait for its actor any more")
	}
	p.result(second, nil, "done")
	p.result(caller, nil, "done")
	p.result(actor, nil, "made")
	if v := p.told("a 1", of(actor)); v != "made" || len(p.said) > 0 {
		t.Errorf("of the actor the driver is told %q, of agents is said %q", v, p.said)
	}
	if e := p.cores[0].entries[call]; e != nil && e.task != nil {
		t.Error("the call still waits")
	}
}

// An owner that had forgotten a value and has got a reference back lists nobody for it: it may have that from who asks, and both would have it from each other.
func TestOwnerThatHasItFromElsewhere(t *testing.T) {
	p := newPair(t)
	actor, _ := p.make(1, p.drive(1), "it", false)
	p.find(0, 1, "it")
	way, forgotten, put := p.ways[0].process[0], of(id.Task{Agent: 1, Process: 9, Counter: 9}), of(p.mint(0, 1))
	p.say(0, 1, &fb.PutT{Object: objectT(put)}, []byte("its own"))
	var frames []byte
	for _, call := range []id.Task{p.invoke(0, 1, actor), p.invoke(0, 1, actor)} {
		frames = append(frames, frameOf(t, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast), Refs: 1}, objectBytes(forgotten))...)
	}
	for _, o := range []id.Object{forgotten, put} {
		frames = append(frames, frameOf(t, &fb.GetT{Object: objectT(o), Want: fb.WantListing}, nil)...)
	}
	var told []fb.ObjectState
	for _, e := range p.cores[0].Step(p.now, &Frames{Process: way, Bytes: frames}, nil) {
		for b := e.Bytes; e.Do == Append && e.Process == way && len(b) > 0; {
			f, rest, _ := cut(b)
			b = rest
			if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeReady {
				told = append(told, m.(*fb.ReadyT).State)
			}
		}
	}
	if len(told) != 2 || told[0] != fb.ObjectStateUnlisted || told[1] != fb.ObjectStateListed {
		t.Errorf("who asks is told %v", told)
	}
}

// A value that was made here for its owner, a reference to which came by a third agent and is of no use any more when the owner lists this one, goes with the last that
// has a reference there.
func TestValueThatCameByAThirdAgent(t *testing.T) {
	p := newPair(t)
	task, first := p.mint(0, 1), id.Task{Agent: 3, Process: 1, Counter: 1}
	p.last[1]++
	far := p.last[1]
	p.step(1, ProcessUp{Process: far, Kind: Owner, Job: 60, Agent: 3, Node: "n3"})
	p.say(1, far, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	p.say(1, far, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: 0, Group: taskT(groupOfPair)}, nil)
	p.say(1, far, &fb.SubmitT{Task: taskT(first), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 60, Shape: 1, Returns: 1, Refs: 1}, objectBytes(of(task)))
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)
	p.runs(task)
	w := p.worker(first)
	p.release(1, w, of(task), 1)
	p.say(1, w, &fb.ResultT{Task: taskT(first), Flags: uint32(fb.ResultFlagLast)}, nil) // before its owner is asked
	p.now += 2 * borrowAfter
	p.step(1, Tick{})
	p.release(0, 1, of(task), 0)
	for i, c := range p.cores {
		if c.lookup(of(task)) != nil || len(p.stores[i].views) > 0 {
			t.Errorf("agent %d keeps what nobody has a reference to", i+1)
		}
	}
}
