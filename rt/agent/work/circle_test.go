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

// ring is a pair with actors at one agent or both, that call each other and wait.
type ring struct {
	*pair
	homes map[id.Task]dwelling
	only  id.Task // an actor of which the calls run
}

// dwelling is where an actor lives: its agent's place in the pair, and its process there.
type dwelling struct {
	at     int
	worker id.Process
}

func newRing(t *testing.T) *ring {
	r := &ring{pair: licensed(t), homes: map[id.Task]dwelling{}}
	r.say(0, 1, &fb.ShapeT{Number: 6, Bundle: -1, Node: "n1"}, nil)
	return r
}

// actor has the driver make one, here or at the other agent.
func (r *ring) actor(at int, m fb.CreateT) id.Task {
	r.t.Helper()
	m.Actor, m.Parent, m.Function, m.Job, m.MaxPending = taskT(r.mint(0, 1)), &fb.TaskIDT{}, numberOf("f"), 1, -1
	m.Shape = []uint32{3, 1}[at]
	a := taskOf(m.Actor)
	r.say(0, 1, &m, []byte("args"))
	home := dwelling{0, r.last[0]}
	if at == 1 {
		home = dwelling{1, r.worker(a)}
	}
	r.homes[a] = home
	r.say(home.at, home.worker, &fb.ResultT{Task: taskT(a), Flags: uint32(fb.ResultFlagLast)}, nil)
	return a
}

// knows has a process be sent the handle of an actor.
func (r *ring) knows(who, of id.Task) {
	t := r.mint(0, 1)
	r.say(0, 1, &fb.CallT{Task: taskT(t), Parent: &fb.TaskIDT{}, Actor: taskT(who), Job: 1, Shape: 2, Returns: 1, Refs: 1}, append(objectBytes(id.Object{Task: of}), "args"...))
	r.answer(who, t, "met")
}

func (r *ring) answer(actor, call id.Task, value string) {
	k := r.homes[actor]
	r.say(k.at, k.worker, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte(value))
}

// calls has a task of a process call an actor.
func (r *ring) calls(from dwelling, parent, actor id.Task) id.Task {
	r.t.Helper()
	c := r.cores[from.at].byProcess[from.worker]
	job := c.job.number
	if len(c.shapes) == 0 {
		r.say(from.at, from.worker, &fb.ShapeT{Number: 2, Bundle: -1}, nil)
	}
	n := r.mint(from.at, from.worker)
	shape := uint32(2)
	r.say(from.at, from.worker, &fb.CallT{Task: taskT(n), Parent: taskT(parent), Actor: taskT(actor), Job: job, Shape: shape, Returns: 1}, []byte("args"))
	return n
}

func (r *ring) get(at dwelling, t id.Task, of ...id.Task) { r.gets(at, t, len(of), 0, of...) }

func (r *ring) gets(at dwelling, t id.Task, need int, timed uint32, of ...id.Task) {
	r.t.Helper()
	var list []id.Object
	for _, n := range of {
		list = append(list, id.Object{Task: n})
	}
	r.say(at.at, at.worker, &fb.AwaitsT{Task: taskT(t), Objects: uint32(len(list)), Need: uint32(need), Timed: timed}, objectBytes(list...))
}

// after lets some seconds pass; workers give back the calls that are asked back, and have not begun.
func (r *ring) after(seconds int, begun ...id.Task) {
	r.t.Helper()
	for range 2 * seconds {
		r.now += circleAfter / 2
		for at := range r.cores {
			r.step(at, Tick{})
		}
		for at := range r.cores {
			for _, w := range r.cores[at].processes {
				who := fmt.Sprintf("%c %d", 'a'+at, w.id)
				for i, f := range r.got[who] {
					if f.kind != fb.FrameTypeRecall || w.worker == nil || w.worker.actor == nil {
						continue
					}
					m, _ := wire.Unmarshal(f.kind, f.body)
					t := taskOf(m.(*fb.RecallT).Task)
					r.got[who] = slices.Delete(r.got[who], i, i+1)
					started := uint32(0)
					if slices.Contains(begun, t) {
						started = 1
					}
					r.say(at, w.id, &fb.RecalledT{Task: taskT(t), Started: started}, nil)
					break
				}
			}
		}
	}
}

// says gives what a process was told of a task.
func (r *ring) says(at dwelling, t id.Task) string {
	return r.told(fmt.Sprintf("%c %d", 'a'+at.at, at.worker), of(t))
}

// circle has an actor a call b, and that a, each waiting for what it called.
func (r *ring) circle(a, b id.Task) (first, second, third id.Task) {
	r.t.Helper()
	r.knows(a, b)
	r.knows(b, a)
	first = r.pair.call(a)
	second = r.calls(r.homes[a], first, b)
	r.get(r.homes[a], first, second)
	third = r.calls(r.homes[b], second, a)
	r.get(r.homes[b], second, third)
	return first, second, third
}

// stuck (WORK-13) looks at what one that waits was told: after some seconds an error that has all names, if the circle is one.
func (r *ring) stuck(name string, at dwelling, t id.Task, is bool, names ...id.Task) {
	r.t.Helper()
	v := r.says(at, t)
	if !is && v != "" {
		r.t.Errorf("%s: it is told %q", name, v)
	}
	if !is {
		return
	}
	if !strings.HasPrefix(v, "DEADLOCK: ") || strings.Count(v, " -> ") != len(names)-1 {
		r.t.Errorf("%s: it is told %q", name, v)
	}
	for _, k := range names {
		if !strings.Contains(v, k.String()) {
			r.t.Errorf("%s: %v is not in %q", name, k, v)
		}
	}
}

// Two actors that wait for each other: the call that can't begin fails and names the chain, and the others go on with that.
func TestActorsThatWaitForEachOther(t *testing.T) {
	for _, k := range []struct {
		name  string
		of    fb.CreateT // the first one
		begin func(r *ring, a id.Task)
		is    bool
	}{
		{name: "one call at a time", is: true},
		{name: "two at a time", of: fb.CreateT{Concurrency: 2}},
		{name: "async", of: fb.CreateT{Asynchronous: true}},
		{name: "a method of another group", of: fb.CreateT{Groups: []*fb.ConcurrencyGroupT{{Name: "g", Size: 1}}}, is: true},
		{name: "two at a time, the other one runs", of: fb.CreateT{Concurrency: 2}, begin: func(r *ring, a id.Task) { r.pair.call(a) }},
	} {
		r := newRing(t)
		a, b := r.actor(0, k.of), r.actor(0, fb.CreateT{})
		if k.begin != nil {
			k.begin(r, a)
		}
		first, second, third := r.circle(a, b)
		r.stuck(k.name+", at once", r.homes[b], third, false)
		r.after(3)
		r.stuck(k.name, r.homes[b], third, k.is, first, second, third)
		r.stuck(k.name, dwelling{0, 1}, first, false)
		if len(r.cores[0].doomed) > 0 || len(r.said) > 0 {
			t.Errorf("%s: %d calls are still asked back; %q", k.name, len(r.cores[0].doomed), r.said)
		}
	}
}

// An actor that gets a call of itself.
func TestActorThatWaitsForItself(t *testing.T) {
	r := newRing(t)
	a := r.actor(0, fb.CreateT{})
	first := r.pair.call(a)
	second := r.calls(r.homes[a], first, a)
	r.get(r.homes[a], first, second)
	behind := r.pair.call(a)
	r.after(3)
	r.stuck("itself", r.homes[a], second, true, first, second)
	r.stuck("one behind it", dwelling{0, 1}, behind, false)
}

// Of an actor's two calls that wait for it one is enough to be told.
func TestActorWithTwoThatWaitForIt(t *testing.T) {
	r := newRing(t)
	a := r.actor(0, fb.CreateT{Concurrency: 2})
	first, second := r.pair.call(a), r.pair.call(a)
	own := r.calls(r.homes[a], first, a)
	r.get(r.homes[a], first, own)
	r.after(3)
	r.stuck("one of two", r.homes[a], own, false)
	other := r.calls(r.homes[a], second, a)
	r.get(r.homes[a], second, other)
	r.after(5)
	r.stuck("the first one", r.homes[a], own, true, first, own)
	r.stuck("the second one", r.homes[a], other, false)
}

// Whatever may still end what a circle waits for is waited for.
func TestWhatIsNoCircle(t *testing.T) {
	for _, k := range []struct {
		name string
		do   func(r *ring, b, second, third, runs id.Task)
	}{
		{"a get with a timeout", func(r *ring, b, second, third, runs id.Task) { r.gets(r.homes[b], second, 1, 1, third) }},
		{"a wait for one of two", func(r *ring, b, second, third, runs id.Task) { r.gets(r.homes[b], second, 1, 0, third, runs) }},
		{"a get of two, of which one may fail", func(r *ring, b, second, third, runs id.Task) { r.gets(r.homes[b], second, 2, 0, third, runs) }},
		{"who knows what", func(r *ring, b, second, third, runs id.Task) { r.gets(r.homes[b], second, 0, 0) }},
		{"what came already", func(r *ring, b, second, third, runs id.Task) {
			r.gets(r.homes[b], second, 1, 0, third, runs)
			r.answer(r.only, runs, "came")
		}},
		{"a call that has begun", nil},
	} {
		r := newRing(t)
		a, b := r.actor(0, fb.CreateT{}), r.actor(0, fb.CreateT{})
		other := r.actor(0, fb.CreateT{Concurrency: 9})
		r.knows(a, b)
		r.knows(b, a)
		r.knows(b, other)
		first := r.pair.call(a)
		second := r.calls(r.homes[a], first, b)
		r.get(r.homes[a], first, second)
		third := r.calls(r.homes[b], second, a)
		r.only = other
		runs := r.calls(r.homes[b], second, other)
		if k.do != nil {
			k.do(r, b, second, third, runs)
			r.after(5)
		} else {
			r.get(r.homes[b], second, third)
			r.after(5, third)
		}
		r.stuck(k.name, r.homes[b], third, false)
	}
}
