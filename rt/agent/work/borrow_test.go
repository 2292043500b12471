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

// trio is three agents, 1 to 3 at nodes n1 to n3, with a driver each, as process 1. What one says to another comes at once, by errands that are
// opened as they are asked for.
type trio struct {
	t      *testing.T
	cores  [3]*Core
	stores [3]*ledger
	now    int64
	last   [3]id.Process
	links  []*link
	got    map[string][]frame // frames to processes, "1 5"
	queue  []func()
	busy   bool
	next   uint64
	names  *registry
	wanted []wanted
	dead   [3]bool
}

// link is an errand: ends[0] has opened it.
type link struct {
	ends    [2]int
	process [2]id.Process
}

func newTrio(t *testing.T) *trio {
	x := &trio{t: t, now: 1e9, got: map[string][]frame{}, names: newRegistry()}
	for i := range x.cores {
		x.stores[i] = newLedger(t)
		x.cores[i] = New(Config{Agent: id.Agent(i + 1), Node: fmt.Sprint("n", i+1), Store: x.stores[i]})
		x.last[i] = 1
		x.step(i, Grant{Resources: []Amount{{"CPU", 4 * one}}})
		x.step(i, ProcessUp{Process: 1, Kind: Driver, Job: uint32(i + 1)})
		x.say(i, 1, &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
		x.say(i, 1, &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
		x.say(i, 1, &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	}
	return x
}

func (x *trio) step(at int, ev Event) {
	x.t.Helper()
	x.queue = append(x.queue, func() { x.one(at, ev) })
	for !x.busy && len(x.queue) > 0 {
		do := x.queue[0]
		x.queue, x.busy = x.queue[1:], true
		do()
		x.busy = false
	}
}

func (x *trio) one(at int, ev Event) {
	x.t.Helper()
	if x.dead[at] {
		return
	}
	var effects []Effect
	for _, e := range x.cores[at].Step(x.now, ev, nil) {
		e.Bytes = slices.Clone(e.Bytes)
		effects = append(effects, e)
	}
	err := check(x.cores[at])
	if err == nil {
		err = checkViews(&site{core: x.cores[at], store: x.stores[at]})
	}
	if err != nil {
		x.t.Fatalf("agent %d after %T: %v", at+1, ev, err)
	}
	for _, e := range effects {
		switch k, end := x.link(at, e.Process); {
		case e.Do == Append && k != nil:
			x.step(k.ends[1-end], &Frames{Process: k.process[1-end], Bytes: e.Bytes})
		case e.Do == Append:
			for b := e.Bytes; len(b) > 0; {
				f, rest, _ := cut(b)
				b = rest
				who := fmt.Sprint(at+1, " ", e.Process)
				x.got[who] = append(x.got[who], f)
			}
		case e.Do == NeedWorker:
			x.last[at]++
			x.step(at, ProcessUp{Process: x.last[at], Kind: Worker, Key: e.Key})
		case e.Do == KillWorker:
			x.step(at, ProcessGone{Process: e.Process, Why: e.Text})
		case e.Do == NeedHost:
			x.open(at, int(e.Key)-1, e.Need.Job)
		case e.Do == CloseProcess && k != nil:
			x.cut(k, e.Text)
		case e.Do == Fetch:
			x.wanted = append(x.wanted, wanted{at, e})
		case e.Do == Hasten:
			hasten(x.t, x.wanted, at, e)
		case e.Do == Say:
			x.t.Errorf("agent %d: %s", at+1, e.Text)
		case e.Do == Claim || e.Do == Free || e.Do == Find:
			if ev := x.names.answer(x.cores[at], e); ev != nil {
				x.step(at, ev)
			}
		}
	}
}

func (x *trio) link(at int, process id.Process) (*link, int) {
	for _, k := range x.links {
		for end := range k.ends {
			if k.ends[end] == at && k.process[end] == process {
				return k, end
			}
		}
	}
	return nil, 0
}

func (x *trio) open(at, to int, job uint32) {
	x.last[at]++
	x.last[to]++
	k := &link{[2]int{at, to}, [2]id.Process{x.last[at], x.last[to]}}
	x.links = append(x.links, k)
	x.step(to, ProcessUp{Process: k.process[1], Kind: Owner, Job: uint32(1000 + k.process[1]), Agent: id.Agent(at + 1), Node: fmt.Sprint("n", at+1)})
	x.step(at, ProcessUp{Process: k.process[0], Kind: Host, Job: job, Agent: id.Agent(to + 1), Node: fmt.Sprint("n", to+1)})
	if x.dead[to] {
		x.cut(k, "it died")
	}
}

func (x *trio) cut(k *link, why string) {
	x.links = slices.DeleteFunc(x.links, func(l *link) bool { return l == k })
	for i := range k.ends {
		x.step(k.ends[i], ProcessGone{Process: k.process[i], Why: why})
	}
}

// dies has an agent be lost to the others.
func (x *trio) dies(at int) {
	x.dead[at] = true
	for _, k := range slices.Clone(x.links) {
		if slices.Contains(k.ends[:], at) {
			x.cut(k, "it died")
		}
	}
}

func (x *trio) say(at int, process id.Process, m wire.Message, payload []byte) {
	x.t.Helper()
	x.step(at, &Frames{Process: process, Bytes: frameOf(x.t, m, payload)})
}

func (x *trio) mint(at int, process id.Process) id.Task {
	x.next++
	return id.Task{Agent: id.Agent(at + 1), Process: process, Counter: x.next}
}

// later lets a while go by at all agents.
func (x *trio) later() {
	x.now += 2 * borrowAfter
	for i := range x.cores {
		x.step(i, Tick{})
	}
}

// make has an agent's driver create an actor of a name, and gives its worker.
func (x *trio) make(at int, name string) (actor id.Task, worker id.Process) {
	x.t.Helper()
	actor = x.mint(at, 1)
	x.say(at, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: uint32(at + 1), Shape: 2, MaxPending: -1, Namespace_: "s", Name: name}, []byte("args"))
	worker = x.cores[at].entries[actor].actor.worker.process.id
	x.say(at, worker, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	return actor, worker
}

// find has an agent's driver look for a name.
func (x *trio) find(at int, name string) {
	x.t.Helper()
	x.next++
	x.step(at, &Frames{Process: 1, Bytes: numbered(frameOf(x.t, &fb.StateQueryT{What: "actor", Id: "s/" + name}, nil), x.next)})
}

// call has an agent's driver call an actor with references.
func (x *trio) call(at int, actor id.Task, refs ...id.Object) id.Task {
	x.t.Helper()
	t := x.mint(at, 1)
	x.say(at, 1, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(at + 1), Shape: 2, Returns: 1, Refs: uint32(len(refs))}, objectBytes(refs...))
	return t
}

func (x *trio) result(at int, worker id.Process, t id.Task, value string, refs ...id.Object) {
	x.t.Helper()
	x.say(at, worker, &fb.ResultT{Task: taskT(t), Flags: uint32(fb.ResultFlagLast), Refs: uint32(len(refs))}, append(objectBytes(refs...), value...))
}

func (x *trio) release(at int, process id.Process, o id.Object, deliveries uint32) {
	x.t.Helper()
	x.say(at, process, &fb.ReleaseT{Object: objectT(o), Deliveries: deliveries}, nil)
}

// gets has an agent's driver ask for a value, and gives it, or an error's code and text.
func (x *trio) gets(at int, o id.Object) string {
	x.t.Helper()
	x.say(at, 1, &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	for len(x.wanted) > 0 {
		w := x.wanted[0]
		x.wanted = x.wanted[1:]
		x.stores[w.at].views[w.Object] = map[id.Process]int{}
		x.step(w.at, Fetched{Process: w.Process, Object: w.Object, Arena: 5, Offset: 64})
	}
	return x.told(at, 1, o)
}

func (x *trio) told(at int, process id.Process, o id.Object) string {
	p := &pair{t: x.t, got: x.got}
	return p.told(fmt.Sprint(at+1, " ", process), o)
}

// passed has the driver of n1 make something and give it to an actor of n2, from which the driver of n3 has a reference to it, and lets it go itself.
func (x *trio) passed(o id.Object) (worker id.Process) {
	x.t.Helper()
	keeper, w := x.make(1, "keeper")
	x.find(0, "keeper")
	kept := x.call(0, keeper, o)
	x.result(1, w, kept, "kept")
	x.find(2, "keeper")
	given := x.call(2, keeper)
	x.result(1, w, given, "given", o)
	x.release(0, 1, of(kept), 0)
	x.release(0, 1, o, 0)
	x.release(2, 1, of(given), 0)
	return w
}

// drop has a driver let go of all that it has of an object.
func (x *trio) drop(at int, o id.Object) {
	x.t.Helper()
	c := x.cores[at]
	x.release(at, 1, o, c.holderOf(c.byProcess[1], c.lookup(o)).deliveries)
}

// empty tells that an agent keeps nothing of an object.
func (x *trio) empty(at int, o id.Object) {
	x.t.Helper()
	if x.cores[at].lookup(o) != nil {
		x.t.Errorf("n%d keeps %v", at+1, o)
	}
}

// A reference that came by way of a third node outlives that, also if nobody else has one; it keeps nothing there.
func TestReferenceOutlivesTheMiddle(t *testing.T) {
	for _, large := range []bool{false, true} {
		x := newTrio(t)
		o := of(x.mint(0, 1))
		want := "a value"
		if large {
			want = strings.Repeat("l", wire.LocationSize)
			x.say(0, 1, &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 1 << 20}, nil)
		} else {
			x.say(0, 1, &fb.PutT{Object: objectT(o)}, []byte(want))
		}
		w := x.passed(o)
		x.later()
		x.release(1, w, o, 1)
		x.empty(1, o)
		x.dies(1)
		if v := x.gets(2, o); len(v) != len(want) || !large && v != want {
			t.Errorf("when the node in the middle is gone the driver is told %q", v)
		}
		x.drop(2, o)
		for _, at := range []int{0, 2} {
			x.empty(at, o)
			if n := len(x.links); n > 0 {
				t.Errorf("%d ways are open", n)
			}
		}
	}
}

// Only the owner's end loses it, and that is said with its name; so is that the owner has it no more when the way by which it came is lost too early.
func TestReferenceEndsWithItsOwner(t *testing.T) {
	x := newTrio(t)
	put := of(x.mint(0, 1))
	x.say(0, 1, &fb.PutT{Object: objectT(put)}, []byte("a value"))
	x.passed(put)
	x.later()
	x.dies(0)
	if v := x.gets(2, put); !strings.HasPrefix(v, "OWNER_DIED: ") || !strings.Contains(v, "its owner, node n1, which put it or submitted its task, is gone: it died; make it again") {
		t.Errorf("the driver is told %q", v)
	}
	x.drop(2, put)
	x.empty(2, put)
}

// When the node in the middle is lost before the owner was asked, the owner is asked then; it may have it for somebody else's sake.
func TestMiddleThatIsLostAtOnce(t *testing.T) {
	for _, kept := range []bool{true, false} {
		x := newTrio(t)
		put := of(x.mint(0, 1))
		x.say(0, 1, &fb.PutT{Object: objectT(put)}, []byte("a value"))
		if kept {
			x.say(0, 1, &fb.PutT{Object: objectT(of(x.mint(0, 1))), Refs: 1}, objectBytes(put))
		}
		x.passed(put)
		x.dies(1)
		v := x.gets(2, put)
		if kept && v != "a value" || !kept && (!strings.HasPrefix(v, "OBJECT_LOST: ") || !strings.Contains(v, "node n1, its owner, has it no more, and the node by way of which it came is gone")) {
			t.Errorf("kept by another one: %v; the driver is told %q", kept, v)
		}
		x.drop(2, put)
		x.empty(2, put)
		if len(x.links) > 0 {
			t.Errorf("%d ways are open", len(x.links))
		}
	}
}

// A handle of an actor goes on by its owner's way when the node in the middle is lost: calls that were on their way may have run, those behind them
// are sent, in order.
func TestHandleOutlivesTheMiddle(t *testing.T) {
	for _, busy := range []bool{false, true} {
		x := newTrio(t)
		actor, home := x.make(0, "")
		x.passed(of(actor))
		var first id.Task
		if busy {
			first = x.call(2, actor)
		}
		x.later()
		if spare := x.cores[2].lent[x.cores[2].lookup(of(actor))].spare != nil; spare != busy {
			t.Errorf("with a call on its way: %v; it comes by two ways: %v", busy, spare)
		}
		x.dies(1)
		var calls []id.Task
		for range 3 {
			calls = append(calls, x.call(2, actor))
		}
		if v := x.told(2, 1, of(first)); busy && (!strings.HasPrefix(v, "ACTOR_UNAVAILABLE: ") || !strings.Contains(v, "node n2: it died")) {
			t.Errorf("of the call that was on its way the driver is told %q", v)
		}
		var got []id.Task
		for _, f := range x.got[fmt.Sprint("1 ", home)] {
			if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeCall && taskOf(m.(*fb.CallT).Task) != first {
				got = append(got, taskOf(m.(*fb.CallT).Task))
			}
		}
		if !slices.Equal(got, calls) {
			t.Errorf("it was called %v, of %v", got, calls)
		}
		for _, k := range calls {
			x.result(0, home, k, "called")
			if v := x.told(2, 1, of(k)); v != "called" {
				t.Errorf("the driver is told %q", v)
			}
		}
	}
}

// While calls go by the old way those to come do, too; once there are none the owner's is taken, and the node in the middle has the handle no more.
func TestHandleMovesBetweenCalls(t *testing.T) {
	x := newTrio(t)
	actor, home := x.make(0, "")
	w := x.passed(of(actor))
	first := x.call(2, actor)
	x.later()
	second := x.call(2, actor)
	x.release(1, w, of(actor), 1)
	if x.cores[1].lookup(of(actor)) == nil {
		t.Error("with calls on their way the node in the middle has let go of it")
	}
	x.result(0, home, first, "one")
	x.result(0, home, second, "two")
	if v := x.told(2, 1, of(first)) + x.told(2, 1, of(second)); v != "onetwo" {
		t.Errorf("the driver is told %q", v)
	}
	x.empty(1, of(actor))
	x.result(0, home, x.call(2, actor), "three")
	x.drop(2, of(actor))
	if x.cores[0].byProcess[home] == nil {
		t.Error("it ended, and calls of it are here")
	}
}

// A value that is on its way from the node in the middle when that is lost comes from the owner.
func TestValueOnItsWayFromTheMiddle(t *testing.T) {
	x := newTrio(t)
	put := of(x.mint(0, 1))
	x.say(0, 1, &fb.SealT{Object: objectT(put), Slab: 1, Offset: 64, Size: 1 << 20}, nil)
	w := x.passed(put)
	x.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil)
	x.say(2, 1, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil)
	fetched := func(at int) {
		t.Helper()
		k := x.wanted[0]
		if x.wanted = x.wanted[1:]; k.at != at {
			t.Fatalf("n%d fetches", k.at+1)
		}
		x.stores[at].views[put] = map[id.Process]int{}
		x.step(at, Fetched{Process: k.Process, Object: put, Arena: 5, Offset: 64})
	}
	fetched(1)
	x.later()
	x.wanted = nil // that of n3 does not come
	x.dies(1)
	fetched(2)
	if v := x.told(2, 1, put); len(v) != wire.LocationSize {
		t.Errorf("the driver is told %q", v)
	}
}

// Of thousands of references that went by the middle nothing is left anywhere when they are let go of, before their owner was asked or after.
func TestManyReferencesByTheMiddle(t *testing.T) {
	for _, late := range []bool{false, true} {
		x := newTrio(t)
		keeper, w := x.make(1, "keeper")
		x.find(0, "keeper")
		x.find(2, "keeper")
		var before [3]int
		for i, c := range x.cores {
			before[i] = len(c.entries)
		}
		var refs []id.Object
		var puts, own, releases []byte // at once: all is recounted after each batch
		for range 3000 {
			put := of(x.mint(0, 1))
			refs = append(refs, put)
			puts = append(puts, frameOf(t, &fb.PutT{Object: objectT(put)}, nil)...)
			own = append(own, frameOf(t, &fb.ReleaseT{Object: objectT(put)}, nil)...)
			releases = append(releases, frameOf(t, &fb.ReleaseT{Object: objectT(put), Deliveries: 1}, nil)...)
		}
		x.step(0, &Frames{Process: 1, Bytes: puts})
		kept := x.call(0, keeper, refs...)
		x.result(1, w, kept, "")
		x.release(0, 1, of(kept), 0)
		given := x.call(2, keeper)
		x.result(1, w, given, "", refs...)
		x.release(2, 1, of(given), 0)
		if late {
			x.later()
		}
		x.step(0, &Frames{Process: 1, Bytes: own})
		x.step(1, &Frames{Process: w, Bytes: releases})
		x.step(2, &Frames{Process: 1, Bytes: releases})
		x.later()
		for i, c := range x.cores {
			questions := 0
			for _, p := range c.processes {
				questions += len(p.listings) + len(p.spares)
			}
			if n := len(c.entries); n != before[i] || questions+len(c.timers.heap) > 0 || len(c.lent) > 1 {
				t.Errorf("n%d has %d entries, and had %d; %d questions, %d timers, %d objects of others", i+1, n, before[i], questions, len(c.timers.heap), len(c.lent))
			}
		}
	}
}
