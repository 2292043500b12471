package work

import (
	"testing"

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
