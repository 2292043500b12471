package objstore

import (
	"math"
	"slices"
)

// request waits for memory: an object's bytes, or size bytes of a slab.
type request struct {
	process *process
	object  *object // nil: a slab
	size    int64
	since   int64
}

func (s *Store) wait(now int64, r *request, out []Effect) []Effect {
	r.since = now
	if s.never(r) { // OBJ-6
		return s.refuse(now, r, nil, out)
	}
	s.queue = append(s.queue, r)
	out = s.serve(now, out)
	if s.cfg.Patience == 0 && s.growing == nil {
		if i := slices.Index(s.queue, r); i >= 0 {
			s.queue = slices.Delete(s.queue, i, i+1)
			out = s.refuse(now, r, nil, out)
		}
	}
	return out
}

func (s *Store) refuse(now int64, r *request, cause error, out []Effect) []Effect {
	e := &FullError{Process: r.process.number, Size: r.size, Cause: cause, Never: s.never(r), Waited: now - r.since, Holders: s.Explain().Text()}
	f := Refused{Process: r.process.number, Err: e}
	if r.object != nil {
		f.Object = r.object.name
	}
	return append(out, f)
}

// never tells whether the request would not even fit into an empty store.
func (s *Store) never(r *request) bool {
	if r.object != nil {
		return r.size > s.budget.limit
	}
	return r.size > math.MaxInt64/2 || roundUp(r.size, Grain) > s.budget.limit-s.cfg.Reserve
}

// serve gives memory to those who wait, in order. Inline values and slabs are two lines: a value is small,
// and often what ends a task whose arguments fill the memory that a slab waits for.
func (s *Store) serve(now int64, out []Effect) []Effect {
	stuck := [2]bool{} // values, slabs
	for i := 0; i < len(s.queue); {
		r, line, done := s.queue[i], 0, false
		if r.object == nil {
			line = 1
		}
		if !stuck[line] {
			if r.object != nil {
				out = s.makeRoom(now, r.size, out)
				if done = s.store(r.object); done {
					out = append(out, Stored{r.object.name})
				} else {
					out = s.recall(r.size, out)
				}
			} else {
				out, done = s.lend(now, r, out)
			}
			stuck[line] = !done
		}
		if !done {
			i++
			continue
		}
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	return out
}

// lend tries to open r.size bytes to a process: in a hole of its own slabs, in a new slab, or, by doing
// something about it, later.
func (s *Store) lend(now int64, r *request, out []Effect) ([]Effect, bool) {
	p := r.process
	size := roundUp(r.size, Align)
	sp := p.holes.find(max(size, p.next/4), Align)
	if sp == nil {
		sp = p.holes.find(size, Align)
	}
	if sp != nil {
		sl := sp.slab
		from, size := sp.off-sl.start, sp.size
		s.become(sp, sp.off, sp.size, open, sl, nil)
		return append(out, Lent{Process: p.number, Slab: sl.number, Arena: sl.arena.number,
			Start: sl.start, Size: sl.end - sl.start, From: from, To: from + size}), true
	}
	own := p.number == Agent
	pool := &s.pools[which(own)]
	least := roundUp(r.size, Grain)
	if p.next > s.cfg.share() { // slabs of a process don't grow past its share
		p.next = max(s.cfg.share(), Grain)
	}
	want := max(least, p.next)
	sp = pool.find(want, Grain)
	if sp == nil {
		sp = pool.find(least, Grain)
		if sp != nil && s.growing == nil && s.free() >= want && s.tiny(sp, want) {
			sp = nil // a real slab can be had
		}
	}
	if sp != nil {
		off, size := sp.usable(Grain)
		return append(out, s.carve(p, sp, off, min(size, want))), true
	}
	if s.growing != nil {
		return out, false
	}
	if out = s.dropEmpty(least, out); s.free() >= least {
		return s.grow(max(least, min(s.free(), s.nextArena(want))), own, out), false
	}
	for s.oldest != nil {
		out = s.evict(now, out)
		if sp := pool.find(least, Grain); sp != nil {
			off, size := sp.usable(Grain)
			return append(out, s.carve(p, sp, off, min(size, want))), true
		}
		if out = s.dropEmpty(least, out); s.free() >= least {
			return s.grow(least, own, out), false
		}
	}
	return s.recall(least, out), false
}

// tiny tells whether a span is so much smaller than the slab wanted that its process would be back at once.
func (s *Store) tiny(sp *span, want int64) bool {
	_, size := sp.usable(Grain)
	return size < want/4
}

// carve makes a slab.
func (s *Store) carve(p *process, sp *span, off, size int64) Lent {
	s.lastSlab++
	sl := &slab{number: s.lastSlab, arena: sp.arena, start: off, end: off + size, process: p}
	s.slabs[sl.number] = sl
	p.slabs = append(p.slabs, sl)
	p.next = min(2*p.next, MaxSlab)
	s.become(sp, off, size, open, sl, nil)
	return Lent{Process: p.number, Slab: sl.number, Arena: sl.arena.number, Start: off, Size: size, To: size, New: true}
}

// share is the most that a process gets as one slab without asking for an object of that size.
func (c Config) share() int64 { return min(MaxSlab, max(roundDown(c.Budget/16, Grain), MinSlab)) }

// free is what arenas may still take.
func (s *Store) free() int64 {
	return roundDown(max(min(s.budget.room(), s.budget.limit-s.cfg.Reserve-s.budget.used[Arenas]), 0), Grain)
}

func (s *Store) nextArena(want int64) int64 {
	n := max(s.cfg.FirstArena, min(s.budget.used[Arenas], s.cfg.MaxArena))
	return roundUp(max(n, want), Grain)
}

func (s *Store) grow(size int64, own bool, out []Effect) []Effect {
	if !s.budget.take(Arenas, size) {
		return out
	}
	s.lastArena++
	s.growing = &arena{number: s.lastArena, size: size, own: own}
	return append(out, Grow{Arena: s.lastArena, Size: size, Own: own})
}
