package work

import (
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// given puts a task into the inbox; the last of the values before it are its arguments.
func (p *peer) given(j *job1, deps, in uint32, payload []byte, values []*fb.ResultT, bodies [][]byte) ([]*fb.ResultT, [][]byte) {
	if int(deps) > len(values) {
		p.h.t.Fatalf("seed %d: task %v came without its arguments", p.h.seed, j.id)
	}
	first := len(values) - int(deps)
	for i := range int(deps) {
		m := values[first+i]
		if (id.Object{Task: taskOf(m.Task), Index: m.Index}) != objectAt(payload, i) {
			p.h.t.Fatalf("seed %d: argument %d of %v is another object", p.h.seed, i, j.id)
		}
		for k := range int(m.Refs) {
			o := objectAt(bodies[first+i], k)
			p.delivered(o)
			j.args = append(j.args, o)
		}
		if m.Flags&uint32(fb.ResultFlagLocated) != 0 && len(bodies[first+i]) == 0 {
			j.away = append(j.away, objectAt(payload, i))
		}
		if placed(m, bodies[first+i]) {
			p.delivered(objectAt(payload, i))
			j.args = append(j.args, objectAt(payload, i))
		}
	}
	for i := range int(in) {
		o := objectAt(payload, int(deps)+i)
		p.delivered(o)
		j.args = append(j.args, o)
	}
	j.items = uint32(j.id.Counter % 8) // in each attempt
	p.inbox = append(p.inbox, j)
	return values[:first], bodies[:first]
}

// inOrder: WORK-5.
func (p *peer) inOrder(m *fb.CallT) {
	if p.actor.OutOfOrder || p.actor.Concurrency > 1 || m.Attempt > 0 || p.h.again(taskOf(m.Task)) {
		return
	}
	who, n := taskOf(m.Task), m.Task.Counter
	who.Counter = 0
	if n <= p.last[who] {
		p.h.t.Fatalf("seed %d: WORK-5: call %d of process %d came after %d", p.h.seed, n, who.Process, p.last[who])
	}
	p.last[who] = n
}

func (p *peer) recall(one id.Task) {
	keep := p.inbox[:0]
	for i, j := range p.inbox {
		// Of what is not started all but what would start now.
		if (one == (id.Task{}) && (i > 0 || len(p.running) > 0) && j.kind == plain || j.id == one) && j.kind != create {
			p.release(j)
			p.send(&fb.RecalledT{Task: taskT(j.id)}, nil)
			continue
		}
		keep = append(keep, j)
	}
	p.inbox = keep
	for _, j := range p.running {
		if j.id == one {
			p.send(&fb.RecalledT{Task: taskT(one), Started: 1}, nil)
		}
	}
}
