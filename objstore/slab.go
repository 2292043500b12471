package objstore

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Agent is the process that stands for the node's agent itself, which writes what comes from other nodes. It is
// always there.
const Agent id.Process = 0

// process is a client as the store sees it.
type process struct {
	number      id.Process
	slabs       []*slab // in order of lending
	holes       pool
	next        int64 // size of the next slab
	opened      int64
	viewed      map[id.Object]*object
	viewedBytes int64
	late        bool // it did not answer in time when it was asked last whether it looks at something
}

// ProcessName is what texts call a process.
func ProcessName(p id.Process) string {
	if p == Agent {
		return "the agent"
	}
	return fmt.Sprintf("process %d", p)
}

// Attach makes a process known. Numbers are not used twice.
func (s *Store) Attach(p id.Process) error {
	if s.processes[p] != nil {
		return fmt.Errorf("objstore: attach %s: %w", ProcessName(p), ErrExists)
	}
	s.processes[p] = &process{number: p, next: MinSlab, viewed: map[id.Object]*object{}}
	return nil
}

// Died takes back all that a process had: it has ended, so nothing of it maps anything any more. A closed
// connection alone does not say that, since a program may close it and go on; a pidfd that is readable does.
func (s *Store) Died(now int64, p id.Process, out []Effect) ([]Effect, error) {
	proc := s.processes[p]
	if proc == nil || p == Agent {
		return out, fmt.Errorf("objstore: %s died: %w", ProcessName(p), ErrUnknown)
	}
	s.queue = slices.DeleteFunc(s.queue, func(r *request) bool { return r.process == proc && r.asksSlab() })
	for len(proc.slabs) > 0 {
		s.dissolve(now, proc.slabs[0])
	}
	names := make([]id.Object, 0, len(proc.viewed))
	for n := range proc.viewed {
		names = append(names, n)
	}
	slices.SortFunc(names, compare)
	for _, n := range names {
		o := proc.viewed[n]
		i := slices.IndexFunc(o.views, func(v view) bool { return v.process == proc })
		s.unview(proc, o, i)
		out = s.settled(now, o, out)
	}
	delete(s.processes, p)
	return s.serve(now, out), nil
}

// slabOf gives a slab that p holds.
func (s *Store) slabOf(p id.Process, number uint64) (*slab, error) {
	sl := s.slabs[number]
	switch {
	case sl == nil:
		return nil, fmt.Errorf("slab %d: %w", number, ErrUnknown)
	case sl.process.number != p:
		return nil, fmt.Errorf("slab %d is lent to %s: %w", number, ProcessName(sl.process.number), ErrForbidden)
	}
	return sl, nil
}

// opening gives the open span that holds [offset, offset+size) of a slab of p.
func (s *Store) opening(p id.Process, number uint64, offset, size int64) (*span, error) {
	sl, err := s.slabOf(p, number)
	if err != nil {
		return nil, err
	}
	length := sl.end - sl.start
	if offset < 0 || offset%Align != 0 || size <= 0 || offset > length || size > length-offset {
		return nil, fmt.Errorf("[%d, +%d) of slab %d: %w", offset, size, number, ErrForbidden)
	}
	from, end := sl.start+offset, sl.start+offset+roundUp(size, Align)
	for sp := sl.open.head; sp != nil; sp = sp.lnext {
		if sp.off <= from && end <= sp.off+sp.size {
			return sp, nil
		}
	}
	return nil, fmt.Errorf("[%d, +%d) of slab %d is not open: %w", offset, size, number, ErrForbidden)
}

// Seal takes an object over that a process has written whole. For that process it is delivered once.
func (s *Store) Seal(now int64, p id.Process, x Sealed) error {
	sp, err := s.opening(p, x.Slab, x.Offset, x.Size)
	if err != nil {
		return fmt.Errorf("objstore: %s seals %s: %w", ProcessName(p), name(x.Object), err)
	}
	if !s.vacate(s.processes[p], x.Object) {
		return fmt.Errorf("objstore: %s seals %s: %w", ProcessName(p), name(x.Object), ErrExists)
	}
	o := s.newObject(x.Object, x.Size, x.Format)
	o.secondary, o.copied, o.job, o.version = x.Secondary, x.Secondary, s.jobOf(x.Job), cmp.Or(x.Version, o.version)
	sp.slab.touched = now
	o.at = s.become(sp, sp.slab.start+x.Offset, roundUp(x.Size, Align), live, sp.slab, o)
	s.objects[x.Object] = o
	s.tally(o, 1)
	s.deliver(s.processes[p], o)
	return nil
}

// Forgo takes back a part of what is open to a process: it writes nothing there any more, but keeps it mapped.
func (s *Store) Forgo(now int64, p id.Process, number uint64, offset, size int64, out []Effect) ([]Effect, error) {
	sp, err := s.opening(p, number, offset, size)
	if err != nil {
		return out, fmt.Errorf("objstore: %s forgoes %w", ProcessName(p), err)
	}
	sl := sp.slab
	sl.touched = now
	s.become(sp, sl.start+offset, roundUp(size, Align), free, sl, nil)
	return s.serve(now, out), nil
}

// Return takes back a slab that its process has unmapped. What is sealed in it stays.
func (s *Store) Return(now int64, p id.Process, number uint64, out []Effect) ([]Effect, error) {
	sl, err := s.slabOf(p, number)
	if err != nil {
		return out, fmt.Errorf("objstore: %s returns %w", ProcessName(p), err)
	}
	s.dissolve(now, sl)
	return s.serve(now, out), nil
}

// dissolve ends a slab: what is not live in it becomes the arena's.
func (s *Store) dissolve(now int64, sl *slab) {
	spans := s.holesOf(sl)
	for sp := sl.open.head; sp != nil; sp = sp.lnext {
		spans = append(spans, sp)
	}
	for _, sp := range spans {
		s.become(sp, sp.off, sp.size, free, nil, nil)
	}
	p := sl.process
	p.slabs = slices.DeleteFunc(p.slabs, func(x *slab) bool { return x == sl })
	s.lending = slices.DeleteFunc(s.lending, func(x *slab) bool { return x == sl })
	delete(s.slabs, sl.number)
	sl.process = nil
	s.vacated(now, sl.arena.first)
}

// holesOf gives the holes of a slab.
func (s *Store) holesOf(sl *slab) (spans []*span) {
	for sp := sl.back.head; sp != nil; sp = sp.lnext {
		spans = append(spans, sp)
	}
	for i := range sl.process.holes.bins {
		for sp := sl.process.holes.bins[i].head; sp != nil; sp = sp.lnext {
			if sp.slab == sl {
				spans = append(spans, sp)
			}
		}
	}
	return spans
}
