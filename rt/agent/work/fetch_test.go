package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// wanted is a value that the core of an agent wants fetched.
type wanted struct {
	at int
	Effect
}

// storeFull is why a value can't be fetched that stays where it is.
const storeFull = "the store is full"

// madeAnew is why a value has to be fetched once more: another one has its name now.
const madeAnew = "its value was made anew"

// fetched answers the oldest Fetch. why: it can't be had.
func (p *pair) fetched(why string) {
	p.t.Helper()
	if len(p.wanted) == 0 {
		p.t.Fatal("no value is to be fetched")
	}
	w := p.wanted[0]
	p.wanted = p.wanted[1:]
	ev := Fetched{Process: w.Process, Object: w.Object, Why: why, Here: why == storeFull || why == madeAnew, Anew: why == madeAnew}
	if why == "" {
		if w.Key != 1<<20 {
			p.t.Errorf("%d bytes of %v are to be fetched", w.Key, w.Object)
		}
		p.stores[w.at].views[w.Object] = map[id.Process]int{}
		ev.Arena, ev.Offset = 5, 64
	}
	p.step(w.at, ev)
}

// hasten takes in that what is to be fetched is more urgent.
func hasten(t testing.TB, list []wanted, at int, e Effect) {
	t.Helper()
	for i := range list {
		if w := &list[i]; w.at == at && w.Process == e.Process && w.Object == e.Object && w.Urgency > e.Urgency {
			w.Urgency = e.Urgency
			return
		}
	}
	t.Errorf("agent %d hastens %v, which is not on its way, or as urgent", at+1, e.Object)
}

// A value that comes home by itself is fetched after all that somebody needs; once a task needs it before those, and once somebody waits for it first.
func TestHowUrgentAValueIs(t *testing.T) {
	p := newPair(t)
	task := p.mint(0, 1)
	p.once()
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, Returns: 1}, []byte("args"))
	p.seal(1, p.worker(task), of(task), fb.ResultFlagLast)
	urgent := func(what string, u Urgency) {
		t.Helper()
		if len(p.wanted) != 1 || p.wanted[0].Urgency != u {
			t.Errorf("%s: to be fetched are %+v", what, p.wanted)
		}
	}
	urgent("nobody asks", Unasked)
	p.say(0, 1, &fb.GetT{Object: objectT(of(task)), Want: fb.WantReadiness}, nil)
	urgent("somebody wants to know whether it is there", Unasked)
	p.submit([]id.Object{of(task)}, nil)
	urgent("a task needs it", Argument)
	p.say(0, 1, &fb.GetT{Object: objectT(of(task)), Want: fb.WantValue}, nil)
	urgent("somebody waits for it", Awaited)
	p.fetched("")
	if !p.lies("a 1", of(task)) {
		t.Error("it has not come")
	}
	p.wanted = nil // for the task
	put := p.mint(0, 1)
	p.seal(0, 1, of(put), 0)
	p.submit([]id.Object{of(put)}, nil)
	urgent("a task on another node", Argument)
}

// What was made anew while it came is fetched once more, as urgently as before, and nobody hears of it.
func TestValueThatWasMadeAnewIsFetchedOnceMore(t *testing.T) {
	p := newPair(t)
	task := p.mint(0, 1)
	p.once()
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, Returns: 1}, []byte("args"))
	p.seal(1, p.worker(task), of(task), fb.ResultFlagLast)
	p.say(0, 1, &fb.GetT{Object: objectT(of(task)), Want: fb.WantValue}, nil)
	for range 2 {
		p.fetched(madeAnew)
		if len(p.wanted) != 1 || p.wanted[0].Object != of(task) || p.wanted[0].Urgency != Awaited || p.told("a 1", of(task)) != "" {
			t.Fatalf("to be fetched are %+v, and the driver is told %q", p.wanted, p.told("a 1", of(task)))
		}
	}
	p.fetched("")
	if !p.lies("a 1", of(task)) {
		t.Error("it has not come")
	}
}

// seal has a process tell of a MiB in shared memory: by a Seal of its own, or as a result of a task.
func (p *pair) seal(at int, process id.Process, o id.Object, flags fb.ResultFlag, in ...id.Object) {
	p.t.Helper()
	p.say(at, process, &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 1 << 20, Refs: uint32(len(in))}, objectBytes(in...))
	if p.cores[at].entries[o.Task].task != nil {
		p.say(at, process, &fb.ResultT{Task: taskT(o.Task), Index: o.Index, Flags: uint32(flags | fb.ResultFlagLocated)}, nil)
	}
}

// once has the driver define a shape, 4, of tasks at b that run once only.
func (p *pair) once() {
	p.say(0, 1, &fb.ShapeT{Number: 4, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: 0, Group: taskT(groupOfPair)}, nil)
}

// lies tells whether a process was last told of an object that it lies in its node's memory.
func (p *pair) lies(who string, o id.Object) bool {
	return len(p.told(who, o)) == wire.LocationSize
}

// A result in shared memory that can't be made again comes home by itself: the driver hears of it, and of what came behind it, when it is here; and
// there it is kept until then, and no longer.
func TestResultInMemoryComesHome(t *testing.T) {
	p := newPair(t)
	task := p.mint(0, 1)
	p.once()
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, Returns: 3}, []byte("args"))
	w := p.worker(task)
	inside := p.mint(1, w)
	p.say(1, w, &fb.PutT{Object: objectT(of(inside))}, []byte("inside"))
	p.seal(1, w, id.Object{Task: task, Index: 0}, 0, of(inside))
	p.release(1, w, of(inside), 0)
	p.say(1, w, &fb.ResultT{Task: taskT(task), Index: 1}, []byte("small"))
	p.seal(1, w, id.Object{Task: task, Index: 2}, fb.ResultFlagLast)
	for i := range uint32(3) {
		if v := p.told("a 1", id.Object{Task: task, Index: i}); v != "" {
			t.Fatalf("before it is here the driver is told %q of result %d", v, i)
		}
	}
	p.fetched("")
	if !p.lies("a 1", of(task)) || p.told("a 1", id.Object{Task: task, Index: 1}) != "small" || p.lies("a 1", id.Object{Task: task, Index: 2}) {
		t.Errorf("when the first is here the driver is told %v", p.got["a 1"])
	}
	p.fetched("")
	if !p.lies("a 1", id.Object{Task: task, Index: 2}) {
		t.Error("of the last result the driver is told nothing")
	}
	if n := len(p.stores[1].views); n > 0 {
		t.Errorf("there %d values are kept", n)
	}
	p.say(0, 1, &fb.GetT{Object: objectT(of(inside)), Want: fb.WantValue}, nil)
	if v := p.told("a 1", of(inside)); v != "inside" {
		t.Errorf("what it names is %q", v)
	}
	p.release(0, 1, of(inside), 1)
	for i := range uint32(3) {
		deliveries := uint32(1)
		if i == 1 {
			deliveries = 0
		}
		p.release(0, 1, id.Object{Task: task, Index: i}, deliveries)
	}
	p.empty(0)
	p.empty(1)
}

// An argument in shared memory is fetched for the task that needs it, and for the next one it is there.
func TestArgumentInMemory(t *testing.T) {
	p := newPair(t)
	put := p.mint(0, 1)
	p.seal(0, 1, of(put), 0)
	first := p.submit([]id.Object{of(put)}, nil)
	second := p.submit([]id.Object{of(put)}, nil)
	if len(p.wanted) != 1 || len(p.keys[1]) > 0 {
		t.Fatalf("%d values are to be fetched, %d workers run", len(p.wanted), len(p.keys[1]))
	}
	p.fetched("")
	for _, task := range []id.Task{first, second} {
		if w := p.worker(task); !p.lies(fmt.Sprintf("b %d", w), of(put)) {
			t.Errorf("of its argument the worker is told %q", p.told(fmt.Sprintf("b %d", w), of(put)))
		}
		p.result(task, nil, "done")
		p.release(0, 1, of(task), 0)
	}
	for key, w := range p.keys[1] { // which look at it still
		delete(p.keys[1], key)
		p.gone(1, w, "over")
	}
	p.empty(1)
	p.release(0, 1, of(put), 0)
	p.empty(0)
}

// Of a value that nobody wants any more nothing is kept; one that was on its way when its agent was lost is made again.
func TestValuesThatDoNotCome(t *testing.T) {
	p := newPair(t)
	dropped := p.submit(nil, nil)
	p.runs(dropped)
	p.get(of(dropped))
	p.release(0, 1, of(dropped), 0)
	p.fetched("")
	p.empty(0)
	p.empty(1)

	lost := p.submit(nil, nil)
	p.runs(lost)
	p.get(of(lost))
	p.got = map[string][]frame{}
	p.cutOff("it died")
	if p.cores[0].entries[lost].task == nil || p.cores[0].entries[lost].task.tried != 1 {
		t.Fatal("it is not tried again")
	}
	p.fetched("") // that of before, which crossed the end
	p.runs(lost)
	p.fetched("")
	if !p.lies("a 1", of(lost)) {
		t.Errorf("the driver is told %q", p.told("a 1", of(lost)))
	}
	p.release(0, 1, of(lost), 1)
	p.empty(0)
	p.empty(1)
}

// An actor that ends while a value of its is on the way has given that value all the same.
func TestActorThatEndsBehindAValue(t *testing.T) {
	p := newPair(t)
	actor := p.create(0)
	call := p.call(actor)
	w := p.worker(call)
	p.seal(1, w, of(call), fb.ResultFlagLast)
	p.gone(1, w, "killed by signal 9")
	p.fetched("")
	if !p.lies("a 1", of(call)) {
		t.Errorf("of the call the driver is told %q", p.told("a 1", of(call)))
	}
	if v := p.told("a 1", of(p.call(actor))); !strings.HasPrefix(v, "ACTOR_DIED: ") {
		t.Errorf("of the next one the driver is told %q", v)
	}
}
