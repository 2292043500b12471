package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// flow is a stream as the process knows it that has submitted its task.
type flow struct {
	task  id.Task
	come  uint32
	taken uint32
	ended bool
	left  bool // nobody reads any more
}

// mostAhead is how many items a stream may be ahead of its reader in the histories.
const mostAhead = 3

// reads has a process take an item of one of its streams, and tell that. Some it leaves, without having taken all.
func (p *peer) reads() bool {
	for _, f := range p.flows {
		if f.left || f.ended || f.taken == f.come {
			continue
		}
		if f.taken++; !p.h.calm && p.h.rng.IntN(12) == 0 {
			f.left, f.taken = true, allTaken
		}
		p.send(&fb.GetT{Object: objectT(id.Object{Task: f.task, Index: f.taken}), Want: fb.WantTaken}, nil)
		return true
	}
	return false
}

// flowOf is the stream that a task of this process gives; nil: it gives none.
func (p *peer) flowOf(t id.Task) *flow {
	if i := slices.IndexFunc(p.flows, func(f *flow) bool { return f.task == t }); i >= 0 {
		return p.flows[i]
	}
	return nil
}

// item takes in an item of a stream, or its end: they come in order, and once.
func (p *peer) item(f *flow, m *fb.ResultT) {
	last, failed := m.Flags&uint32(fb.ResultFlagLast) != 0, m.Flags&uint32(fb.ResultFlagError) != 0
	switch {
	case f.ended || m.Index != f.come:
		p.h.t.Fatalf("seed %d: WORK-1: process %d got item %d of %v behind %d, ended: %v", p.h.seed, p.id, m.Index, f.task, f.come, f.ended)
	case !last || failed:
		f.come++
		r := p.ref(id.Object{Task: f.task, Index: m.Index})
		r.n, r.own = 1, true
	}
	if f.ended = last; last {
		p.h.ended++
	}
}

// readerAt tells a worker how far the reader of a stream is.
func (p *peer) readerAt(o id.Object) {
	for _, j := range append(slices.Clone(p.inbox), p.running...) {
		if j.id == o.Task {
			j.wanted = max(j.wanted, o.Index)
		}
	}
}

// gives has a task go on that gives a stream: by its next item, or by waiting for its reader. false: it may end.
func (p *peer) gives(j *job1) bool {
	ahead := uint64(j.returns &^ stream)
	held := !j.cancel && uint64(j.index) >= uint64(j.wanted)+ahead
	switch {
	case held != j.held:
		if j.held = held; held {
			p.h.held++
			p.send(&fb.AwaitsT{Task: taskT(j.id), Timed: forReader}, nil)
		} else {
			p.send(&fb.UnblockedT{Task: taskT(j.id)}, nil)
		}
		return true
	case held:
		return true
	case j.cancel || j.items == 0:
		return false
	}
	j.items--
	in := p.there(1)
	m := &fb.ResultT{Task: taskT(j.id), Index: j.index, Attempt: j.attempt, Refs: uint32(len(in))}
	payload := append(objectBytes(in...), "item"...)
	if p.h.rng.IntN(2) == 0 {
		p.seal(id.Object{Task: j.id, Index: j.index}, in)
		m.Flags, m.Refs, payload = uint32(fb.ResultFlagLocated), 0, nil
	}
	p.send(m, payload)
	j.index++
	return true
}

// ends is the last that a stream's task says.
func (p *peer) ends(j *job1, failed bool) {
	m := &fb.ResultT{Task: taskT(j.id), Index: j.index, Attempt: j.attempt, Flags: uint32(fb.ResultFlagLast)}
	var payload []byte
	if failed {
		m.Flags, m.Format = uint32(fb.ResultFlagLast|fb.ResultFlagError), fb.FormatError
		payload, _ = wire.Marshal(nil, &fb.FailureT{Code: "USER", Type: "E", Message: "no"})
	}
	p.send(&fb.RanT{Task: taskT(j.id), Began: 1, Took: 4}, nil)
	p.send(m, payload)
}
