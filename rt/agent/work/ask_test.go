package work

import (
	"fmt"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// ask asks for an object in one of the ways that there are.
func (p *peer) ask(o id.Object) {
	r := p.held[o]
	switch r.want = fb.Want(1 + p.h.rng.IntN(4)); r.want {
	case fb.WantReadiness:
		r.gets++
	case fb.WantHere:
		r.gets += 2 // it may hear first that it is elsewhere
		r.asked++   // or that there is no memory for it
	default:
		r.want = fb.WantValue
		r.asked++
	}
	p.send(&fb.GetT{Object: objectT(o), Want: r.want}, nil)
}

// answers tells whether that is all that a Get of this kind is told.
func answers(want fb.Want, state fb.ObjectState) bool {
	return want == fb.WantReadiness || want == fb.WantHere && state != fb.ObjectStateThere
}

// states are what a process was told of whether an object is there, one after the other.
func (p *pair) states(who string, o id.Object) (told []fb.ObjectState) {
	p.t.Helper()
	for _, f := range p.got[who] {
		if m, err := wire.Unmarshal(f.kind, f.body); err == nil && f.kind == fb.FrameTypeReady {
			if r := m.(*fb.ReadyT); objectOf(r.Object) == o {
				told = append(told, r.State)
			}
		}
	}
	return told
}

func (p *pair) asks(at int, process id.Process, o id.Object, want fb.Want) {
	p.t.Helper()
	p.say(at, process, &fb.GetT{Object: objectT(o), Want: want}, nil)
}

func (p *pair) hears(who string, o id.Object, fetches int, states ...fb.ObjectState) {
	p.t.Helper()
	if got := p.states(who, o); !slices.Equal(got, states) || len(p.wanted) != fetches {
		p.t.Errorf("%s is told %v of %v, and %d values are to be fetched; want %v and %d", who, got, o, len(p.wanted), states, fetches)
	}
}

// A large result that stayed away is brought for who wants it at its node, who hears before that it is there.
func TestResultIsBroughtForWhoWantsItHere(t *testing.T) {
	p := newPair(t)
	first, second := p.submit(nil, nil), p.submit(nil, nil)
	p.runs(first)
	p.asks(0, 1, of(first), fb.WantHere)
	p.hears("a 1", of(first), 1, fb.ObjectStateThere)
	p.fetched("")
	p.hears("a 1", of(first), 0, fb.ObjectStateThere, fb.ObjectStateHere)
	p.asks(0, 1, of(first), fb.WantHere)
	p.hears("a 1", of(first), 0, fb.ObjectStateThere, fb.ObjectStateHere, fb.ObjectStateHere)

	p.asks(0, 1, of(second), fb.WantHere)
	p.hears("a 1", of(second), 0)
	p.runs(second)
	p.hears("a 1", of(second), 1, fb.ObjectStateThere)
	p.fetched("")
	p.hears("a 1", of(second), 0, fb.ObjectStateThere, fb.ObjectStateHere)
	for _, task := range []id.Task{first, second} {
		p.release(0, 1, of(task), 0)
	}
	p.empty(0)
	p.empty(1)
}

// To know whether an object of another agent is there does not bring it.
func TestReadinessIsAskedForElsewhere(t *testing.T) {
	p := newPair(t)
	large, late, fails := p.large(), p.submit(nil, nil), p.submit(nil, nil)
	asker := p.submit(nil, []id.Object{large, of(late), of(fails)})
	p.result(late, nil, "late")
	w := p.worker(asker)
	who := fmt.Sprintf("b %d", w)
	p.asks(1, w, large, fb.WantReadiness)
	p.asks(1, w, large, fb.WantReadiness)
	p.hears(who, large, 0, fb.ObjectStateThere, fb.ObjectStateThere)
	p.asks(1, w, large, fb.WantHere)
	p.hears(who, large, 1, fb.ObjectStateThere, fb.ObjectStateThere, fb.ObjectStateThere)
	p.asks(1, w, of(fails), fb.WantReadiness)
	p.hears(who, of(fails), 1)
	p.fetched("")
	p.hears(who, large, 0, fb.ObjectStateThere, fb.ObjectStateThere, fb.ObjectStateThere, fb.ObjectStateHere)
	p.asks(1, w, of(late), fb.WantReadiness)
	p.hears(who, of(late), 0, fb.ObjectStateThere)
	if v := p.told(who, of(late)); v != "" {
		t.Errorf("its value came: %q", v)
	}
	p.asks(1, w, of(late), fb.WantValue)
	if v := p.told(who, of(late)); v != "late" {
		t.Errorf("its value is %q", v)
	}
}
