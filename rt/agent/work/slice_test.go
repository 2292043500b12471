package work

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// slice wants a range of something that is held, or wants to know what that is, and asks for it.
func (p *peer) slice() {
	for _, of := range p.some(1) {
		o := id.Object{Task: p.mint()}
		p.send(&fb.SliceT{Object: objectT(o), Of: objectT(of), Size: uint64(p.h.rng.IntN(2)) << 20}, nil)
		r := p.ref(o)
		r.n, r.own = 1, true
		p.ask(o)
	}
}

// sliced answers a Slice of an agent.
func (h *history) sliced(s *site, w Effect, k *errand) {
	there := k.ends[1-k.end(s)]
	agent, size, _ := there.core.Lies(w.Part.Of)
	ev := Fetched{Process: w.Process, Object: w.Object, Size: w.Key}
	switch {
	case agent == 0 || agent == s.agent || k.gone[1-k.end(s)] || !h.calm && h.rng.IntN(3) == 0:
		ev.Why = "it can't be had"
	case w.Key == 0:
		h.step(s, Measured{Object: w.Object, Size: size, Version: 1})
		return
	default:
		h.returned["of ranges"]++
		s.store.views[w.Object] = map[id.Process]int{}
		ev.Arena, ev.Offset = 5, 64
	}
	h.step(s, ev)
}

// unsliced ends one that is on its way.
func (h *history) unsliced(s *site, e Effect) {
	i := slices.IndexFunc(s.wanted, func(f Effect) bool { return f.Do == Slice && f.Object == e.Object })
	if i < 0 {
		h.t.Fatalf("seed %d: agent %d ends a range %v, which is not on its way", h.seed, s.agent, e.Object)
	}
	s.wanted = slices.Delete(s.wanted, i, i+1)
	h.returned["not, of ranges that nobody wanted any more"]++
}

// slice has the driver, or a worker of the other agent, want 4 KiB of an object, or to know what it is, and gives the name of that.
func (p *pair) slice(at int, process id.Process, of id.Object, size uint64) id.Object {
	p.t.Helper()
	o := id.Object{Task: p.mint(at, process)}
	p.say(at, process, &fb.SliceT{Object: objectT(o), Of: objectT(of), Offset: 100, Size: size, Version: 6}, nil)
	p.say(at, process, &fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	return o
}

// A range of a value that stayed at another agent comes alone, and that of one that is here, or can't be had there, is nothing: then all of it is got. What is held for
// a range is let go of with its answer, and what is brought when nobody wants it any more.
func TestRangesOfWhatIsElsewhere(t *testing.T) {
	p := newPair(t)
	task := p.submit(nil, nil)
	p.seal(1, p.worker(task), of(task), fb.ResultFlagLast)
	what := p.slice(0, 1, of(task), 0)
	if len(p.wanted) != 1 || p.wanted[0].Do != Slice || p.wanted[0].Key != 0 || p.wanted[0].Part.Of != of(task) {
		t.Fatalf("to be fetched are %+v", p.wanted)
	}
	agent, size, _ := p.cores[1].Lies(of(task))
	if home, n, _ := p.cores[0].Lies(of(task)); agent != 2 || home != 2 || size != 1<<20 || n != size {
		t.Errorf("%d bytes lie at agent %d; its owner knows %d at %d", size, agent, n, home)
	}
	p.wanted = nil
	p.step(0, Measured{Object: what, Size: size, Format: fb.FormatPickle5, Version: 7})
	if v := p.told("a 1", what); len(v) != 16 || binary.LittleEndian.Uint64([]byte(v)) != size || v[8] != byte(fb.FormatPickle5) || v[12] != 7 {
		t.Errorf("of what it is the driver is told %x", v)
	}
	part := p.slice(0, 1, of(task), 4096)
	w := p.wanted[0]
	p.wanted = nil
	if *w.Part != (Part{of(task), 100, 6}) || w.Key != 4096 || p.cores[0].lookup(of(task)).pins != 1 {
		t.Errorf("it wants %+v of %+v", w.Effect, w.Part)
	}
	p.stores[0].views[part] = map[id.Process]int{}
	p.step(0, Fetched{Process: w.Process, Object: part, Size: 4096, Arena: 5, Offset: 64})
	if !p.lies("a 1", part) || p.cores[0].lookup(of(task)).pins != 0 {
		t.Errorf("the driver is told %q", p.told("a 1", part))
	}
	p.release(0, 1, part, 1)
	if len(p.stores[0].views[part]) > 0 || p.cores[0].lookup(part) != nil {
		t.Error("it stays when nobody needs it")
	}

	lost := p.slice(0, 1, of(task), 4096)
	w = p.wanted[0]
	p.wanted = nil
	p.step(0, Fetched{Process: w.Process, Object: lost, Why: "it is not there"})
	dropped := p.slice(0, 1, of(task), 4096)
	w = p.wanted[0]
	p.release(0, 1, dropped, 0)
	if len(p.wanted) > 0 || p.cores[0].lookup(of(task)).pins != 0 {
		t.Errorf("what nobody wants any more is on its way: %+v", p.wanted)
	}
	p.stores[0].views[dropped] = map[id.Process]int{}
	p.step(0, Fetched{Process: w.Process, Object: dropped, Size: 4096, Arena: 5, Offset: 64})
	if _, there := p.stores[0].views[dropped]; there {
		t.Error("what nobody wants any more stays")
	}
	cut := p.slice(0, 1, of(task), 4096)
	p.cutOff("the way is lost")
	for name, o := range map[string]id.Object{"could not be had": lost, "was on its way": cut} {
		if !p.heard("a 1", o) || p.told("a 1", o) != "" {
			t.Errorf("instead of what %s the driver is told %q", name, p.told("a 1", o))
		}
	}
	if len(p.cores[0].slices) > 0 {
		t.Errorf("%d are on their way", len(p.cores[0].slices))
	}
	put := p.mint(0, 1)
	p.seal(0, 1, of(put), 0)
	if here := p.slice(0, 1, of(put), 4096); !p.heard("a 1", here) || p.told("a 1", here) != "" {
		t.Errorf("of what is here the driver is told %q", p.told("a 1", here))
	}
}

// Verifies REF-3 and WORK-8.
func TestRangesThatNobodyMayWant(t *testing.T) {
	for name, m := range map[string]*fb.SliceT{
		"of what is not held": {Object: objectT(id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 50}}), Of: objectT(id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 51}}), Size: 1},
		"as another's object": {Object: objectT(id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: 50}}), Of: objectT(id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 40}}), Size: 1},
		"of too many bytes":   {Object: objectT(id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 50}}), Of: objectT(id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 40}}), Size: 1 << 63},
	} {
		p := newPair(t)
		put := id.Object{Task: id.Task{Agent: 1, Process: 1, Counter: 40}}
		p.say(0, 1, &fb.PutT{Object: objectT(put)}, []byte("own"))
		before := len(p.said)
		p.say(0, 1, m, nil)
		if len(p.said) == before {
			t.Errorf("%s: %s is taken", name, wire.TypeOf(m))
		}
	}
}

// heard tells whether a process has got an answer about an object.
func (p *pair) heard(who string, o id.Object) bool {
	return slices.ContainsFunc(p.got[who], func(f frame) bool {
		m, err := wire.Unmarshal(f.kind, f.body)
		r, is := m.(*fb.ResultT)
		return err == nil && is && taskOf(r.Task) == o.Task && r.Index == o.Index
	})
}
