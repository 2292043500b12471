package work

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// inherits gives a site some of the values that stayed away at an agent which is about to be gone.
func (h *history) inherits(s *site, at id.Process) {
	for _, x := range s.core.Estates(at) {
		if h.rng.IntN(2) == 0 || s.store.views[x.Object] != nil {
			continue
		}
		s.store.views[x.Object], s.store.filed[x.Object] = map[id.Process]int{}, true
		h.inherited++
		h.step(s, Inherited{Process: at, Object: x.Object})
	}
}

// A value that outlived the agent where it was made is there, in a file, and nothing is made again for it.
func TestInherited(t *testing.T) {
	p := newPair(t)
	task, other := p.submit(nil, nil), p.submit(nil, nil)
	p.runs(task)
	p.runs(other)
	o := of(task)
	list := p.cores[0].Estates(p.errand[0])
	if len(list) != 2 || list[0].Object != o || list[0].Size == 0 || list[0].Job != 1 {
		t.Fatalf("the estates are %+v", list)
	}
	p.get(of(other)) // which is on its way when its agent dies, and lies in no file
	p.stores[0].views[o], p.stores[0].filed[o] = map[id.Process]int{}, true
	p.step(0, Inherited{p.errand[0], o})
	p.cut()
	if s := p.explained(o); !strings.HasSuffix(s, "is there") {
		t.Errorf("explain says %q", s)
	}
	p.get(o)
	if len(p.stores[0].brought) != 1 || p.stores[0].brought[0] != o {
		t.Fatalf("brought from files: %v", p.stores[0].brought)
	}
	delete(p.stores[0].filed, o)
	p.step(0, Brought{Object: o})
	if !p.lies("a 1", o) {
		t.Errorf("the driver is told %v", p.got["a 1"])
	}
	if n := p.cores[0].remade; n != 1 {
		t.Errorf("%d tasks ran again, of which one had to", n)
	}
	gone := id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 500}}
	p.stores[0].views[gone] = map[id.Process]int{}
	p.step(0, Inherited{p.errand[0], gone})
	if p.stores[0].views[gone] != nil {
		t.Error("what nobody wants is kept")
	}
}

// Who waits for a value as such, and not for its bytes, goes on when it was inherited, also if there is no memory to read it.
func TestInheritedWithoutMemory(t *testing.T) {
	p := newPair(t)
	p.drive(0)
	task := p.submit(nil, nil)
	p.runs(task)
	o := of(task)
	p.get(o)
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 2, MaxPending: -1, Deps: 1}, objectBytes(o))
	if a := p.cores[0].entries[actor].actor; a.worker != nil {
		t.Fatal("the actor does not wait for its argument")
	}
	p.stores[0].views[o], p.stores[0].filed[o] = map[id.Process]int{}, true
	p.step(0, Inherited{p.errand[0], o})
	p.cut()
	p.step(0, Brought{Object: o, Why: "there is none", Full: true})
	if v := p.told("a 1", o); !strings.HasPrefix(v, "STORE_FULL: ") {
		t.Errorf("who wants the bytes is told %q", v)
	}
	if a := p.cores[0].entries[actor].actor; a.worker == nil {
		t.Error("the actor is not made")
	}
}
