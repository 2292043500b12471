package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// WORK-13 between agents: wherever the actors live, the call that can't begin fails, and names all.
func TestCircleOverNodes(t *testing.T) {
	for _, k := range []struct{ first, second int }{{0, 1}, {1, 0}, {1, 1}} {
		r := newRing(t)
		a, b := r.actor(k.first, fb.CreateT{}), r.actor(k.second, fb.CreateT{})
		first, second, third := r.circle(a, b)
		r.stuck("at once", r.homes[b], third, false)
		r.after(4)
		r.stuck("over nodes", r.homes[b], third, true, first, second, third)
		r.stuck("the first one", dwelling{0, 1}, first, false)
		for at, c := range r.cores {
			if len(c.searches)+len(c.doomed) > 0 {
				t.Errorf("agent %d still follows %d, and asks %d calls back", at+1, len(c.searches), len(c.doomed))
			}
		}
	}
}

// What went on between the two times that it was asked about is in no circle.
func TestCircleThatMoves(t *testing.T) {
	for _, k := range []struct {
		name string
		do   func(r *ring, a, b, second, third id.Task)
		is   bool
	}{
		{"nothing moves", func(r *ring, a, b, second, third id.Task) {}, true},
		{"it waits again", func(r *ring, a, b, second, third id.Task) {
			r.say(1, r.homes[b].worker, &fb.UnblockedT{Task: taskT(second)}, nil)
			r.get(r.homes[b], second, third)
		}, false},
		{"it goes on", func(r *ring, a, b, second, third id.Task) {
			r.say(1, r.homes[b].worker, &fb.UnblockedT{Task: taskT(second)}, nil)
		}, false},
		{"its actor is killed", func(r *ring, a, b, second, third id.Task) {
			r.say(0, 1, &fb.CancelT{Task: taskT(b), Force: 1}, nil)
		}, false},
	} {
		r := newRing(t)
		a, b := r.actor(0, fb.CreateT{}), r.actor(1, fb.CreateT{})
		_, second, third := r.circle(a, b)
		r.now += 2 * circleAfter
		asked := false
		r.between = func(kind fb.FrameType) {
			if kind == fb.FrameTypeWaitQuery && !asked {
				asked = true
				return
			}
			if kind == fb.FrameTypeWaitQuery {
				r.between = nil
				k.do(r, a, b, second, third)
			}
		}
		r.step(0, Tick{})
		r.between = nil
		for at := range r.cores {
			if len(r.cores[at].doomed) > 0 != (k.is && at == 0) {
				t.Errorf("%s: agent %d asks %d calls back", k.name, at+1, len(r.cores[at].doomed))
			}
		}
		if !asked {
			t.Fatalf("%s: nothing was asked", k.name)
		}
	}
}

// A circle over three nodes: what one of them has answered stands while another one still looks, and a way that was about to be closed then is opened anew.
func TestCircleOverThreeNodes(t *testing.T) {
	r := newRing(t)
	a, b := r.actor(0, fb.CreateT{}), r.actor(1, fb.CreateT{})
	r.knows(a, b)
	r.knows(b, a)
	value := r.bring(a)
	first := r.pair.call(a)
	second := r.calls(r.homes[a], first, b)
	r.say(0, r.homes[a].worker, &fb.GetT{Object: objectT(value), Want: fb.WantValue}, nil)
	home := r.homes[a]
	r.say(home.at, home.worker, &fb.AwaitsT{Task: taskT(first), Objects: 2, Need: 2}, objectBytes(of(second), value))
	third := r.calls(r.homes[b], second, a)
	r.get(r.homes[b], second, third)
	r.now += 2 * circleAfter
	r.step(0, Tick{})
	for round := range 2 {
		way, corr := r.inquiry(3)
		if way == 0 {
			t.Fatalf("round %d: the third agent is not asked", round)
		}
		for range 2 {
			r.now += circleAfter / 4
			r.step(0, Tick{})
		}
		reply := frameOf(t, &fb.WaitReplyT{Stops: []*fb.WaitStopT{{Task: taskT(value.Task), Name: "h", Stamp: 5, To: []*fb.WaitSpotT{{Agent: 1, Task: taskT(first), Index: whole}}}}}, nil)
		h, _ := wire.ParseHeader(reply)
		h.Corr = corr
		wire.PutHeader(reply, h)
		r.step(0, &Frames{Process: way, Bytes: reply})
	}
	r.after(1)
	r.stuck("over three nodes", r.homes[b], third, true, first, second, third)
}

// A search that has no answer is given up, and the way to who owes it closed, also when nothing waits any more.
func TestSearchWithoutAnAnswer(t *testing.T) {
	r := newRing(t)
	a := r.actor(0, fb.CreateT{})
	value := r.bring(a)
	first := r.pair.call(a)
	r.pair.call(a) // behind it
	r.say(0, r.homes[a].worker, &fb.GetT{Object: objectT(value), Want: fb.WantValue}, nil)
	r.get(r.homes[a], first, value.Task)
	r.now += 2 * circleAfter
	r.step(0, Tick{})
	way, _ := r.inquiry(3)
	if way == 0 {
		t.Fatal("nobody is asked")
	}
	r.say(0, r.homes[a].worker, &fb.UnblockedT{Task: taskT(first)}, nil)
	for c := r.cores[0]; c.NextDeadline() < r.now+2*searchFor; {
		r.now = max(r.now, c.NextDeadline())
		r.step(0, Tick{})
	}
	if n := len(r.cores[0].searches); n > 0 || !r.cores[0].byProcess[way].closing {
		t.Errorf("%d searches go on, and the way is kept: %v", n, !r.cores[0].byProcess[way].closing)
	}
}

// bring has a third agent give an actor's worker at the first one a reference to what that agent is to make.
func (r *ring) bring(actor id.Task) id.Object {
	r.last[0]++
	far, value, brings := r.last[0], id.Object{Task: id.Task{Agent: 3, Process: 1, Counter: 2}}, id.Task{Agent: 3, Process: 1, Counter: 1}
	r.step(0, ProcessUp{Process: far, Kind: Owner, Job: 50, Agent: 3, Node: "n3"})
	r.say(0, far, &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	r.say(0, far, &fb.CallT{Task: taskT(brings), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 50, Shape: 2, Returns: 1, Refs: 1}, objectBytes(value))
	r.answer(actor, brings, "met")
	return value
}

// inquiry gives the process that an agent is to the first one by the way which is no job's, and the number of the last question that it was asked there.
func (r *ring) inquiry(agent id.Agent) (way id.Process, corr uint64) {
	for _, p := range r.cores[0].processes {
		if p.kind != Host || p.agent != agent {
			continue
		}
		for _, f := range r.got[fmt.Sprint("a ", p.id)] {
			if f.kind == fb.FrameTypeWaitQuery && f.corr > corr {
				way, corr = p.id, f.corr
			}
		}
	}
	return way, corr
}

// An actor on a lease of another node keeps what it needs while a call of it waits: who waits for that, and is waited for, is in a circle.
func TestCircleThroughAnActorOnALease(t *testing.T) {
	for _, is := range []bool{true, false} {
		r := newRing(t)
		all := []Amount{{"CPU", one}, {"lic", one}}
		r.step(0, Grant{Resources: []Amount{{"CPU", 2 * one}}, Node: []Amount{{"CPU", 2 * one}}})
		r.step(0, Nodes{2, [][]Amount{all}})
		r.step(1, Grant{Resources: []Amount{{"CPU", 0}}, Node: all})
		r.step(1, Grant{Group: leaseOfPair, Resources: all})
		r.step(0, Place{Group: leaseOfPair, Agent: 2, Node: "n2", Resources: all, Open: true})
		x := r.mint(0, 1)
		r.say(0, 1, &fb.CreateT{Actor: taskT(x), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, MaxPending: -1}, []byte("args"))
		home := dwelling{1, r.worker(x)}
		r.homes[x] = home
		r.say(1, home.worker, &fb.ResultT{Task: taskT(x), Flags: uint32(fb.ResultFlagLast)}, nil)
		g := r.here(1, 4, id.Task{}, nil, nil)
		m := r.callWith(0, 1, x, of(g))
		if is {
			r.say(1, home.worker, &fb.GetT{Object: objectT(of(g)), Want: fb.WantValue}, nil)
			r.get(home, m, g)
		}
		main := r.here(1, 3, id.Task{}, nil, []id.Object{of(m)})
		r.get(dwelling{0, r.last[0]}, main, m)
		r.after(5)
		v := r.says(dwelling{0, 1}, g)
		if is != strings.HasPrefix(v, "DEADLOCK: ") || is && (!strings.Contains(v, g.String()) || !strings.Contains(v, m.String())) {
			t.Errorf("its call waits: %v; what waits for the license is told %q", is, v)
		}
	}
}
