package work

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// copyCounts are what became of copies in random histories.
type copyCounts struct{ dropped, late, again, stayed int }

func (k *copyCounts) add(o copyCounts) {
	k.dropped, k.late, k.again, k.stayed = k.dropped+o.dropped, k.late+o.late, k.again+o.again, k.stayed+o.stayed
}

// dropSome has the store of a site drop copies, as memory is short there. The core hears of it at once, or after what it hears next.
func (h *history) dropSome(s *site) {
	for _, o := range s.store.copies { // processes are asked whether they look there
		for _, p := range slices.Sorted(maps.Keys(s.store.views[o])) {
			if h.rng.IntN(2) == 0 {
				s.store.Leave(p, o)
			}
		}
	}
	for _, o := range s.store.loose() {
		if len(s.late) > 0 || h.rng.IntN(2) == 0 || !slices.Contains(s.store.loose(), o) {
			continue
		}
		h.copies.dropped++
		s.dropped[o] = true
		ev := s.store.drop(o)
		if h.rng.IntN(4) == 0 {
			h.copies.late++
			s.late = append(s.late, ev)
			continue
		}
		h.dropped(s, ev)
	}
}

func (h *history) dropped(s *site, ev Evicted) {
	if o := s.core.lookup(ev.Object); o != nil && o.has(markCopy) {
		if p := s.core.home(o); p.gone {
			h.t.Fatalf("seed %d: REF-8: agent %d dropped %v, whose home is lost", h.seed, s.agent, ev.Object)
		}
	}
	delete(s.store.dropped, ev.Object)
	h.step(s, ev)
}

// dropWhatCanBeHad has stores drop all copies of what lies at their homes.
func (h *history) dropWhatCanBeHad() {
	for _, s := range h.sites {
		for _, o := range s.store.loose() {
			if !slices.Contains(s.store.loose(), o) {
				continue
			}
			home := h.siteOf(s.core.home(s.core.lookup(o)).agent)
			if x := home.core.lookup(o); x != nil && x.state == objectThere && x.placed {
				h.copies.dropped++
				s.dropped[o] = true
				h.dropped(s, s.store.drop(o))
			}
		}
	}
}

// copiesOf lists the copies at an agent whose home a process is, or may come to be.
func (h *history) copiesOf(s *site, p id.Process) (list []id.Object) {
	q := s.core.byProcess[p]
	if q == nil {
		return nil
	}
	for _, o := range q.lends {
		if o.has(markCopy) && !s.store.dropped[o.id()] {
			list = append(list, o.id())
		}
	}
	return list
}

// checkStay: REF-8: copies whose home is lost are still there, as long as anybody needs them, and stay unless their owner has them.
func (h *history) checkStay(s *site, list []id.Object) {
	for _, o := range list {
		x := s.core.lookup(o)
		switch {
		case x == nil || x.holders == nil && x.pins == 0:
		case x.state != objectThere || s.store.views[o] == nil:
			h.t.Fatalf("seed %d: REF-8: agent %d had a copy of %v, whose home is lost, and has it no more", h.seed, s.agent, o)
		case !x.has(markCopy):
			h.copies.stayed++
		}
	}
}

// copyAt tells whether an agent has a value of another one, which that one has as well.
func (s *site) copyAt(o id.Object) bool {
	x := s.core.lookup(o)
	return x != nil && x.has(markCopy)
}

// checkCopies: what the Store may let go of, and nothing else, is a copy that no other agent holds.
func checkCopies(s *site) error {
	for name, e := range s.core.entries {
		for i := range len(e.others()) + 1 {
			o := e.object(uint32(i))
			if o == nil {
				continue
			}
			copied, loose := o.has(markCopy), slices.Contains(s.store.copies, o.id())
			if copied && (!o.foreign || !o.placed || o.state != objectThere || s.core.home(o).gone) {
				return fmt.Errorf("REF-8: %v[%d] is a copy of nothing", name, i)
			}
			if loose && (!copied || o.heldAfar()) {
				return fmt.Errorf("REF-8: %v[%d] may be dropped, and is no copy, or held by another agent", name, i)
			}
			if copied && !loose && !o.heldAfar() && s.store.moved[o.id()] == 0 && !s.store.filed[o.id()] && !s.store.dropped[o.id()] {
				return fmt.Errorf("REF-8: %v[%d] is a copy, and may not be dropped", name, i)
			}
		}
	}
	for _, o := range s.store.copies {
		if x := s.core.lookup(o); x == nil || !x.has(markCopy) {
			return fmt.Errorf("REF-8: %v may be dropped, and is no copy", o)
		}
	}
	return nil
}

// drops has the store of an agent drop a copy, at which nobody looks any more.
func (p *pair) drops(at int, o id.Object) {
	p.t.Helper()
	l := p.stores[at]
	for who := range l.views[o] {
		l.Leave(who, o)
	}
	if !slices.Contains(l.loose(), o) {
		p.t.Fatalf("%v may not be dropped", o)
	}
	ev := l.drop(o)
	delete(l.dropped, o)
	p.step(at, ev)
}

// REF-8: a copy that was dropped is fetched once more for who wants it: who asks, and a task that is given it.
func TestCopyIsFetchedOnceMore(t *testing.T) {
	p := newPair(t)
	put := p.large()
	first := p.submit([]id.Object{put}, nil)
	p.fetched("")
	w := p.worker(first)
	who := fmt.Sprint("b ", w)
	p.drops(1, put)
	if len(p.wanted) > 0 {
		t.Fatal("it is fetched, and nobody wants it")
	}
	p.got[who] = p.got[who][len(p.got[who])-1:] // the task
	p.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantReadiness}, nil)
	if !slices.ContainsFunc(p.got[who], func(f frame) bool { return f.kind == fb.FrameTypeReady }) || len(p.wanted) > 0 {
		t.Errorf("it is not there for who wants to know, or %d are fetched", len(p.wanted))
	}
	p.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil)
	p.fetched("")
	if !p.lies(who, put) {
		t.Errorf("the worker is told %q", p.told(who, put))
	}
	p.drops(1, put)
	second := p.submit([]id.Object{put}, nil)
	p.result(first, nil, "done")
	if len(p.wanted) != 1 {
		t.Fatalf("for the next task %d are fetched", len(p.wanted))
	}
	p.fetched("")
	p.result(second, nil, "done")
	for _, task := range []id.Task{first, second} {
		p.release(0, 1, of(task), 0)
	}
	for key, w := range p.keys[1] {
		delete(p.keys[1], key)
		p.gone(1, w, "over")
	}
	p.empty(1)
	p.release(0, 1, put, 0)
	p.empty(0)
}

// REF-8: the core hears a moment later that a copy is gone. Who was to be told where it lies waits for it to come once more.
func TestCopyThatIsGoneAMomentAgo(t *testing.T) {
	p := newPair(t)
	put := p.large()
	task := p.submit(nil, []id.Object{put})
	w := p.worker(task)
	who := fmt.Sprint("b ", w)
	get := func() { p.say(1, w, &fb.GetT{Object: objectT(put), Want: fb.WantValue}, nil) }
	get()
	p.fetched("")
	l := p.stores[1]
	l.Leave(w, put)
	ev := l.drop(put)
	p.got[who] = nil
	get()
	if v := p.told(who, put); v != "" || len(l.brought) != 1 {
		t.Fatalf("the worker is told %q, %d are to be brought", v, len(l.brought))
	}
	delete(l.dropped, put)
	p.step(1, ev)
	l.brought = nil
	p.step(1, Brought{Object: put, Why: "it is not here"})
	p.fetched("")
	if !p.lies(who, put) {
		t.Errorf("the worker is told %q", p.told(who, put))
	}
	p.say(1, w, &fb.ResultT{Task: taskT(task), Flags: uint32(fb.ResultFlagLast)}, []byte("done"))
	p.release(0, 1, of(task), 0)
	p.release(0, 1, put, 0)
}

// REF-8: a copy whose home is lost is the value, and stays; so does one whose owner, of which it came by way of another node, does not have the value.
func TestLastCopyStays(t *testing.T) {
	for _, damaged := range []bool{false, true} {
		x := newTrio(t)
		o := of(x.mint(0, 1))
		x.say(0, 1, &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 1 << 20}, nil)
		w := x.passed(o)
		if v := x.gets(2, o); len(v) != wire.LocationSize {
			t.Fatalf("the driver is told %q", v)
		}
		loose := func() bool { return slices.Contains(x.stores[2].copies, o) }
		if !loose() {
			t.Error("what came from n2 is no copy")
		}
		if damaged {
			x.stores[0].Leave(1, o)
			x.step(0, Damaged{Object: o, Why: "its bytes are not those that were written"})
		}
		x.later()
		x.release(1, w, o, 1)
		if loose() == damaged {
			t.Errorf("n1 has lost it: %v; it may be dropped: %v", damaged, loose())
		}
		if !damaged {
			x.dies(0)
		}
		if loose() {
			t.Error("the last one may be dropped")
		}
		if v := x.gets(2, o); len(v) != wire.LocationSize {
			t.Errorf("the driver is told %q", v)
		}
	}
}

// REF-8: what another agent holds from here stays as long as it does.
func TestCopyThatIsHeldAfarStays(t *testing.T) {
	x := newTrio(t)
	o := of(x.mint(0, 1))
	x.say(0, 1, &fb.SealT{Object: objectT(o), Slab: 1, Offset: 64, Size: 1 << 20}, nil)
	keeper, w := x.make(1, "keeper")
	x.find(0, "keeper")
	x.result(1, w, x.call(0, keeper, o), "kept")
	x.say(1, w, &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	got := x.wanted[0]
	x.wanted = nil
	x.stores[1].views[o] = map[id.Process]int{}
	x.step(1, Fetched{Process: got.Process, Object: o, Arena: 5, Offset: 64})
	x.find(2, "keeper")
	loose := func() bool { return slices.Contains(x.stores[1].copies, o) }
	if !loose() {
		t.Fatal("it may not be dropped")
	}
	x.result(1, w, x.call(2, keeper), "given", o)
	if loose() {
		t.Error("n3 has it from here, and it may be dropped")
	}
	x.later()
	if !loose() {
		t.Error("n3 has it from n1, and it may not be dropped")
	}
}

// A task that needs all its arguments at once to go elsewhere does not have them drop one another for ever: what was dropped stays when it has come once more.
func TestArgumentsThatDropOneAnother(t *testing.T) {
	p := newPair(t)
	d := p.drive(1)
	p.drive(0)
	actor, w := p.make(0, 1, "it", false)
	p.find(1, d, "it")
	a, b := p.large(), p.large()
	p.say(0, w, &fb.ResultT{Task: taskT(p.callWith(0, 1, actor, a, b)), Flags: uint32(fb.ResultFlagLast)}, nil)
	p.say(0, w, &fb.ResultT{Task: taskT(p.callWith(1, d, actor)), Flags: uint32(fb.ResultFlagLast), Refs: 2}, objectBytes(a, b))
	call := p.mint(1, d)
	p.say(1, d, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: uint32(d), Shape: 2, Returns: 1, Deps: 2}, objectBytes(a, b))
	p.fetched("")
	p.drops(1, a)
	p.fetched("") // b, so that all have come
	p.drops(1, b)
	p.fetched("") // a
	if slices.Contains(p.stores[1].copies, a) || p.given(0, w, call) > 0 {
		t.Error("the first may be dropped again, or the call went without the second")
	}
	p.fetched("")
	if p.given(0, w, call) != 1 || len(p.wanted) > 0 {
		t.Errorf("the call did not go, or %d are fetched", len(p.wanted))
	}
}
