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

// toFile has what lies in an agent's store lie in a file, where nobody looks at it.
func (p *pair) toFile(at int, o id.Object) {
	for who := range p.stores[at].views[o] {
		p.stores[at].Leave(who, o)
	}
	p.stores[at].filed[o] = true
}

// unread has an agent find that it can't read what it has written to a file.
func (p *pair) unread(at int, o id.Object) {
	p.t.Helper()
	if i := slices.Index(p.stores[at].brought, o); i >= 0 {
		p.stores[at].brought = slices.Delete(p.stores[at].brought, i, i+1)
		p.step(at, Brought{Object: o, Why: "its bytes are not those that were written"})
		return
	}
	p.step(at, Damaged{Object: o, Why: "its bytes are not those that were written"})
}

// When a value can't be brought because there is no memory here, who asked is told so and may ask again: the value is where it was, also if it can't be
// made again.
func TestNoMemoryForAValue(t *testing.T) {
	p := newPair(t)
	p.once()
	stays := p.submit(nil, nil)
	p.runs(stays)
	once := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(once), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, Returns: 1}, nil)
	p.runs(once)
	p.fetched(storeFull)
	if !p.ready("a 1", of(once)) {
		t.Errorf("of one that came home by itself the driver is told %q", p.told("a 1", of(once)))
	}
	for _, task := range []id.Task{stays, once} {
		p.get(of(task))
		p.fetched(storeFull)
		if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "STORE_FULL: ") || !strings.Contains(v, "node n1: the store is full") {
			t.Errorf("the driver is told %q", v)
		}
		p.get(of(task))
		p.fetched("")
		if !p.lies("a 1", of(task)) || p.cores[0].remade > 0 {
			t.Errorf("when there is room the driver is told %q", p.told("a 1", of(task)))
		}
		p.release(0, 1, of(task), 1)
	}
	p.empty(0)
	p.empty(1)

	// What came from another agent, too.
	put := p.large()
	task := p.submit(nil, []id.Object{put})
	w := p.worker(task)
	who := fmt.Sprint("b ", w)
	for _, why := range []string{storeFull, ""} {
		p.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil)
		p.fetched(why)
		if v := p.told(who, put); why != "" && !strings.HasPrefix(v, "STORE_FULL: ") || why == "" && !p.lies(who, put) {
			t.Errorf("the worker is told %q", v)
		}
	}
}

// A value that the agent which has it can't read any more is made again, at whatever agent somebody wants it; if it can't be made again, that is said.
func TestValueThatCanNotBeRead(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	p.runs(task)
	p.get(of(task))
	p.toFile(1, of(task))
	p.unread(1, of(task))
	p.fetched("node n2: its bytes are not those that were written")
	p.runs(task)
	p.fetched("")
	if !p.lies("a 1", of(task)) || p.cores[0].remade != 1 {
		t.Fatalf("the driver is told %q, of %d tasks that ran again", p.told("a 1", of(task)), p.cores[0].remade)
	}

	// It lies with the driver now. A task elsewhere wants it, and it can't be read.
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1, Retries: 3}, nil)
	made := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(made), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1}, nil)
	home := p.last[0]
	p.seal(0, home, of(made), fb.ResultFlagLast)
	wants := p.submit(nil, []id.Object{of(made)})
	w := p.worker(wants)
	p.say(1, w, &fb.GetT{Object: objectT(of(made)), Want: fb.WantValue}, nil)
	p.release(0, 1, of(made), 1)
	p.toFile(0, of(made))
	p.unread(0, of(made))
	p.fetched("node n1: its bytes are not those that were written")
	p.say(0, home, &fb.SealT{Object: objectT(of(made)), Slab: 1, Size: 1 << 20}, nil)
	p.say(0, home, &fb.ResultT{Task: taskT(made), Attempt: 1, Flags: uint32(fb.ResultFlagLast | fb.ResultFlagLocated)}, nil)
	p.fetched("")
	if who := fmt.Sprint("b ", w); !p.lies(who, of(made)) {
		t.Errorf("the worker is told %q", p.told(who, of(made)))
	}

	// What was put can't be made again.
	put := p.large()
	wants = p.submit(nil, []id.Object{put})
	w = p.worker(wants)
	p.toFile(0, put)
	p.unread(0, put)
	p.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil)
	if v := p.told(fmt.Sprint("b ", w), put); !strings.HasPrefix(v, "OBJECT_LOST: ") || !strings.Contains(v, "node n1 had written it to a file: its bytes are not") {
		t.Errorf("the worker is told %q", v)
	}
}

// An argument that was lost since its task was queued, or its call, is made again before that goes to another agent, in its turn.
func TestArgumentThatIsLostInTheQueue(t *testing.T) {
	p := newPair(t)
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, MaxPending: -1}, []byte("args"))
	arg := p.submit(nil, nil)
	p.runs(arg)
	p.get(of(arg))
	p.fetched("")
	p.say(0, 1, &fb.CallT{Task: taskT(p.mint(0, 1)), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 1, Shape: 2, Returns: 1, Deps: 1}, objectBytes(of(arg)))
	first, second := id.Task{Agent: 1, Process: 1, Counter: p.next}, p.call(actor)
	blocker := p.submit(nil, nil)
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: -1, Group: taskT(groupOfPair)}, nil)
	task := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1, Deps: 1}, objectBytes(of(arg)))
	p.toFile(0, of(arg))
	p.get(of(arg))
	p.got["a 1"] = nil
	p.unread(0, of(arg)) // the get has it made again, when there is room
	p.worker(blocker)
	if s := p.cores[0].explainTask(p.cores[0].entries[task].task); !strings.Contains(s, "CPU") {
		t.Fatalf("the task waits for %s", s)
	}
	p.result(actor, nil, "made")
	if a := p.cores[0].entries[actor].actor; a.flying != 0 {
		t.Errorf("%d calls went there", a.flying)
	}
	p.result(blocker, nil, "done")
	p.runs(arg)
	p.fetched("")
	for _, k := range []id.Task{first, second, task} {
		p.result(k, nil, "done")
		if v := p.told("a 1", of(k)); v != "done" {
			t.Errorf("of %v the driver is told %q", k, v)
		}
	}
}

// A value that is freed and made again while it is brought from a file has its name to itself.
func TestValueThatIsMadeAgainWhileItIsRead(t *testing.T) {
	w, l := stored(t)
	w.submit("t")
	w.seal("w1", "t", 0, 1)
	w.told("w1", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "")
	w.submit("u", "t")
	w.seal("w1", "u", 0, 1)
	w.told("w1", "u", fb.ResultFlagLast|fb.ResultFlagLocated, "")
	for _, name := range []string{"t", "u"} {
		for who := range l.views[w.object(name)] {
			l.Leave(who, w.object(name))
		}
		l.filed[w.object(name)] = true
		w.send("d", &fb.GetT{Object: objectT(w.object(name)), Want: fb.WantValue}, nil)
	}
	w.release("d", "t", 1)
	w.release("w1", "t", 1)
	w.step(Brought{Object: w.object("u"), Why: "its bytes are not those that were written"})
	w.seal("w1", "t", 0, 1)
	w.send("w1", &fb.ResultT{Task: taskT(w.task("t")), Attempt: 1, Flags: uint32(fb.ResultFlagLast | fb.ResultFlagLocated)}, nil)
	if w.core.remade != 2 {
		t.Errorf("%d tasks ran again", w.core.remade)
	}
	w.step(Brought{Object: w.object("t")}) // for who does not want it any more
}

// A call that fails at another agent because an argument of it is a dead actor's has that for its outcome: it says nothing of the actor that it is to.
func TestErrorOfAnArgumentAtAnotherAgent(t *testing.T) {
	p := newPair(t)
	actor := p.create(0)
	call := p.call(actor)
	p.worker(call)
	payload, err := wire.Marshal(nil, &fb.FailureT{Code: codeActorDied, Message: "another one is dead", Task: taskT(p.mint(0, 1))})
	if err != nil {
		t.Fatal(err)
	}
	p.step(0, &Frames{Process: p.errand[0], Bytes: frameOf(t, &fb.ResultT{Task: taskT(call), Format: fb.FormatError,
		Flags: uint32(fb.ResultFlagLast | fb.ResultFlagError | fb.ResultFlagNotTask)}, payload)})
	if v := p.told("a 1", of(call)); v != "ACTOR_DIED: another one is dead" {
		t.Errorf("the driver is told %q", v)
	}
}

// A task that runs again may have a handle that nothing but lineage has kept: its calls are told that the actor is over.
func TestHandleThatOnlyLineageNames(t *testing.T) {
	w, l := stored(t)
	a, task := w.mint("d", "a"), w.mint("d", "t")
	w.send("d", &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	w.send("d", &fb.CreateT{Actor: taskT(a), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, MaxPending: -1}, nil)
	w.told("w1", "a", fb.ResultFlagLast, "")
	w.send("d", &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1, Refs: 1}, objectBytes(w.object("a")))
	w.seal("w2", "t", 0, 1)
	w.told("w2", "t", fb.ResultFlagLast|fb.ResultFlagLocated, "")
	w.step(ProcessGone{Process: w.procs["w1"], Why: "it ended"})
	w.release("w2", "a", 1)
	w.release("d", "a", 0)
	for who := range l.views[w.object("t")] {
		l.Leave(who, w.object("t"))
	}
	l.filed[w.object("t")] = true
	w.send("d", &fb.GetT{Object: objectT(w.object("t")), Want: fb.WantValue}, nil)
	w.step(Brought{Object: w.object("t"), Why: "its bytes are not those that were written"})
	if w.core.remade != 1 {
		t.Fatal("the task does not run again")
	}
	w.log = nil
	w.send("w2", &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	w.send("w2", &fb.CallT{Task: taskT(w.mint("w2", "c")), Parent: &fb.TaskIDT{}, Actor: taskT(a), Job: 1, Shape: 2, Returns: 1}, nil)
	if log := strings.Join(w.log, "\n"); !strings.Contains(log, "w2 <- Result c[0] last error ACTOR_DIED") {
		t.Errorf("the caller is told %s", log)
	}
}

// A result that was not kept, as one of an attempt before was there, which is lost before the task tells of its own, is an error and no place where nothing lies.
func TestResultThatIsLostWhileItIsMadeAgain(t *testing.T) {
	w, l := stored(t)
	task := w.mint("d", "t")
	w.send("d", &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 2}, nil)
	o := w.object("t")
	w.seal("w1", "t", 0, 1)
	w.told("w1", "t", fb.ResultFlagLocated, "")
	w.step(ProcessGone{Process: w.procs["w1"], Why: "killed by signal 9"})
	w.seal("w2", "t", 0, 1)
	for who := range l.views[o] {
		l.Leave(who, o)
	}
	l.filed[o] = true
	w.step(Damaged{Object: o, Why: "its bytes are not those that were written"})
	w.send("w2", &fb.ResultT{Task: taskT(task), Attempt: 1, Flags: uint32(fb.ResultFlagLocated)}, nil)
	w.log = nil
	w.send("d", &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	if log := strings.Join(w.log, "\n"); !strings.Contains(log, "OBJECT_LOST: object") || !strings.Contains(log, "could not be read any more") {
		t.Errorf("the driver is told %s", log)
	}
}

// One of several results that came, and is lost while its task runs again and has passed it, is made by one more run if anybody wants it; if there is none left
// that is said.
func TestOneOfSeveralResultsIsLost(t *testing.T) {
	for _, retries := range []int32{1, 2} {
		w, l := stored(t)
		w.send("d", &fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Bundle: -1, Retries: retries}, nil)
		task := w.mint("d", "t")
		w.send("d", &fb.SubmitT{Task: taskT(task), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, Returns: 3}, nil)
		o := w.object("t")
		w.seal("w1", "t", 0, 1)
		w.told("w1", "t", fb.ResultFlagLocated, "")
		w.step(ProcessGone{Process: w.procs["w1"], Why: "killed by signal 9"})
		w.seal("w2", "t", 0, 1)
		w.send("w2", &fb.ResultT{Task: taskT(task), Attempt: 1, Flags: uint32(fb.ResultFlagLocated)}, nil)
		for who := range l.views[o] {
			l.Leave(who, o)
		}
		l.filed[o] = true
		w.step(Damaged{Object: o, Why: "its bytes are not those that were written"})
		rest := func(process string, attempt uint32) {
			w.send(process, &fb.ResultT{Task: taskT(task), Index: 1, Attempt: attempt}, []byte("one"))
			w.send(process, &fb.ResultT{Task: taskT(task), Index: 2, Attempt: attempt, Flags: uint32(fb.ResultFlagLast)}, []byte("two"))
		}
		rest("w2", 1)
		w.log = nil
		w.send("d", &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
		log := strings.Join(w.log, "\n")
		if retries == 1 {
			if !strings.Contains(log, "OBJECT_LOST: object") || !strings.Contains(log, "its bytes are not those that were written; its task ran still") {
				t.Errorf("without another run the driver is told %s", log)
			}
			continue
		}
		if w.core.remade != 1 {
			t.Fatalf("the driver is told %s", log)
		}
		w.log = nil
		w.send("w2", &fb.ResultT{Task: taskT(task), Attempt: 2}, []byte("nought"))
		rest("w2", 2)
		if log := strings.Join(w.log, "\n"); strings.Count(log, "d <- Result t[") != 1 || !strings.Contains(log, "nought") {
			t.Errorf("the driver is told %s", log)
		}
		for i, deliveries := range []uint32{1, 0, 0} { // it was told where the first one lay
			w.send("d", &fb.ReleaseT{Object: objectT(id.Object{Task: task, Index: uint32(i)}), Deliveries: deliveries}, nil)
		}
		if err := check(w.core); err != nil || w.core.taskRec.used > 0 || len(w.core.entries) > 0 {
			t.Errorf("%v; %d tasks and %d entries are left", err, w.core.taskRec.used, len(w.core.entries))
		}
	}
}
