package objstore

import (
	"math"
	"slices"
)

// request waits for memory: an object's bytes, size bytes of a slab, or the place of an object that lies in a file.
type request struct {
	process *process
	object  *object // whose bytes are to be kept; else nil
	restore *object // that is to be loaded; else nil
	size    int64
	since   int64
}

func (r *request) asksSlab() bool { return r.object == nil && r.restore == nil }

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
	e := &FullError{Process: r.process.number, Size: r.size, Cause: cause, Disk: s.diskErr, Writing: s.writingBytes, Never: s.never(r), Waited: now - r.since, Holders: s.Explain().Text()}
	if r.restore != nil {
		return append(out, Loaded{r.restore.name, e})
	}
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
	s.againAt = 0
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
					out = s.recall(now, r.size, out)
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
	return s.provide(out)
}

// spareFrom is the size of requests from which on there is to be memory for the next one, too: a program that puts nothing
// larger keeps the node's memory as it is.
const spareFrom = 1 << 20

// provide has an arena made ahead of the next large request, if nobody waits for anything and there is room in plenty. Like
// everything that is empty it goes when memory is wanted otherwise, or when it was not used for long.
func (s *Store) provide(out []Effect) []Effect {
	if s.next == 0 || s.growing != nil || len(s.queue) > 0 {
		return out
	}
	size := max(s.next, min(s.cfg.FirstArena, s.cfg.Budget/16))
	size, s.next = roundUp(size, Grain), 0
	if s.bounded || size > s.cfg.Budget/4 || s.free() < 2*size || s.pool.find(size, Grain) != nil {
		return out
	}
	return s.make(size, true, out)
}

// lend tries to open r.size bytes to a process: in what there is, or, by doing something about it, later.
func (s *Store) lend(now int64, r *request, out []Effect) ([]Effect, bool) {
	p, least := r.process, roundUp(r.size, Grain)
	want := max(least, min(p.next, s.cfg.share()))
	if r.restore != nil { // what is free in slabs is not for it
		p, want = nil, least
	}
	if e, ok := s.grant(now, r, least, want); ok {
		return append(out, e), true
	}
	if a := s.growing; a != nil {
		if a.spare {
			a.spare = false
			out = append(out, Hurry{a.number})
		}
		return out, false
	}
	if out = s.gather(least, out); s.free() >= least {
		return s.grow(max(least, min(s.free(), s.nextArena(want))), out), false
	}
	coming := s.coming(now)
	for s.idle.oldest != nil && coming < least { // OBJ-9
		out, coming = s.evict(now, p, coming, out)
		if e, ok := s.grant(now, r, least, want); ok {
			return append(out, e), true
		}
		if out = s.gather(least, out); s.free() >= least {
			return s.grow(least, out), false
		}
	}
	out = s.recall(now, least, out)
	return s.spill(now, least, out), false
}

// grant gives a request what it is for, if that is there.
func (s *Store) grant(now int64, r *request, least, want int64) (Effect, bool) {
	if r.restore != nil {
		return s.lodge(r.restore)
	}
	e, ok := s.fit(now, r.process, r.size, least, want)
	return e, ok
}

// A question to the agent should bring room for so many values, but amortized at most: it costs as much as writing some MiB does.
const (
	manyValues = 32
	amortized  = 32 << 20
)

// fit opens size bytes or more. What is best: a hole of the process's own slabs, which is warm, if it is not so small
// that the process is back at once; a slab of want bytes; any hole; a slab of at least least bytes.
func (s *Store) fit(now int64, p *process, size, least, want int64) (Lent, bool) {
	size = roundUp(size, Align)
	sp := p.holes.find(max(size, min(want, manyValues*size, amortized)), Align)
	if sp == nil {
		if sp = s.pool.find(want, Grain); sp == nil {
			sp = p.holes.find(size, Align)
		}
	}
	if sp == nil && (s.growing != nil || s.free() < want) { // else a whole slab can be had
		sp = s.pool.find(least, Grain)
	}
	if sp == nil {
		return Lent{}, false
	}
	if sl := sp.slab; sl != nil {
		sl.touched = now
		from, to := sp.off-sl.start, sp.off-sl.start+sp.size
		s.become(sp, sp.off, sp.size, open, sl, nil)
		return Lent{Process: p.number, Slab: sl.number, Arena: sl.arena.number, Start: sl.start, Size: sl.end - sl.start, From: from, To: to}, true
	}
	off, n := sp.usable(Grain)
	if size > spareFrom && s.cfg.Ahead {
		s.next = max(least, min(4*p.next, MaxSlab, s.cfg.share()))
	}
	return s.carve(now, p, sp, off, min(n, want)), true
}

// carve makes a slab.
func (s *Store) carve(now int64, p *process, sp *span, off, size int64) Lent {
	s.lastSlab++
	sl := &slab{number: s.lastSlab, arena: sp.arena, start: off, end: off + size, process: p, touched: now}
	s.slabs[sl.number] = sl
	s.lending = append(s.lending, sl)
	p.slabs = append(p.slabs, sl)
	p.next = min(4*p.next, MaxSlab)
	s.become(sp, off, size, open, sl, nil)
	return Lent{Process: p.number, Slab: sl.number, Arena: sl.arena.number, Start: off, Size: size, To: size, New: true}
}

// share is the most that a process gets as one slab without asking for an object of that size.
func (c Config) share() int64 { return min(MaxSlab, max(roundDown(c.Budget/16, Grain), MinSlab)) }

// free is what arenas may still take.
func (s *Store) free() int64 {
	n := min(s.budget.room(), s.budget.limit-s.cfg.Reserve-s.budget.used[Arenas])
	if s.bounded {
		n = min(n, s.bound-s.budget.used[Arenas])
	}
	return roundDown(max(n, 0), Grain)
}

// Bound says that arenas may take n bytes more and no others, whatever the budget is, because the node's memory is short. What there
// is stays; for what is wanted others are spilled, or it waits.
func (s *Store) Bound(now, n int64, out []Effect) []Effect {
	s.bounded, s.bound = true, s.budget.used[Arenas]+n
	return s.serve(now, out)
}

// Unbound ends that.
func (s *Store) Unbound(now int64, out []Effect) []Effect {
	s.bounded = false
	return s.serve(now, out)
}

func (s *Store) nextArena(want int64) int64 {
	n := max(s.cfg.FirstArena, min(s.budget.used[Arenas], s.cfg.MaxArena))
	return roundUp(max(n, want), Grain)
}

func (s *Store) grow(size int64, out []Effect) []Effect { return s.make(size, false, out) }

func (s *Store) make(size int64, spare bool, out []Effect) []Effect {
	if !s.budget.take(Arenas, size) {
		return out
	}
	s.lastArena++
	s.growing = &arena{number: s.lastArena, size: size, spare: spare}
	return append(out, Grow{Arena: s.lastArena, Size: size, Spare: spare})
}
