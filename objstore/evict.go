package objstore

import "slices"

// makeRoom tries to have n bytes free in the budget for what is not in arenas.
func (s *Store) makeRoom(now, n int64, out []Effect) []Effect {
	if s.budget.room() >= n || n > s.budget.limit {
		return out
	}
	for {
		out = s.drop(func(*arena) bool { return s.budget.room() < n }, out)
		if s.budget.room() >= n || s.oldest == nil {
			return out
		}
		out = s.evict(now, out)
	}
}

// dropEmpty gives empty arenas back until a new one of n bytes may be made, if that helps at all.
func (s *Store) dropEmpty(n int64, out []Effect) []Effect {
	could := s.free()
	for _, a := range s.arenas {
		if a.empty() {
			could += a.size
		}
	}
	if could < n {
		return out
	}
	return s.drop(func(*arena) bool { return s.free() < n }, out)
}

// dropIdle gives back arenas that have been empty for long.
func (s *Store) dropIdle(now int64, out []Effect) []Effect {
	return s.drop(func(a *arena) bool { return a.idle+int64(s.cfg.KeepWarm) <= now }, out)
}

// drop gives back the empty arenas for which f says so.
func (s *Store) drop(f func(*arena) bool, out []Effect) []Effect {
	s.arenas = slices.DeleteFunc(s.arenas, func(a *arena) bool {
		if !a.empty() || !f(a) {
			return false
		}
		a.first.unlist()
		s.budget.give(Arenas, a.size)
		out = append(out, Drop{a.number})
		return true
	})
	return out
}

// evict discards the copy that nobody has used for longest.
func (s *Store) evict(now int64, out []Effect) []Effect {
	o := s.oldest
	s.discard(now, o)
	return append(out, Evicted{o.name})
}

// recall asks processes for slabs of which they use only a part, until n bytes are on their way. First those
// in which nothing is open.
func (s *Store) recall(n int64, out []Effect) []Effect {
	var coming int64
	for _, sl := range s.lentSlabs() {
		if sl.recalled {
			coming += sl.opened + sl.holes
		}
	}
	for _, idle := range []bool{true, false} {
		for _, sl := range s.lentSlabs() {
			if coming >= n {
				return out
			}
			if sl.recalled || sl.opened+sl.holes == 0 || idle != (sl.opened == 0) {
				continue
			}
			s.withhold(sl)
			coming += sl.opened + sl.holes
			out = append(out, Recall{Process: sl.process.number, Slab: sl.number})
		}
	}
	return out
}

// withhold keeps what is free in a slab from being opened to its process again.
func (s *Store) withhold(sl *slab) {
	spans := s.holesOf(sl)
	sl.recalled = true
	for _, sp := range spans {
		sp.unlist()
		s.home(sp).push(sp)
	}
}

// lentSlabs gives all slabs in the order of lending.
func (s *Store) lentSlabs() []*slab {
	all := make([]*slab, 0, len(s.slabs))
	for _, sl := range s.slabs {
		all = append(all, sl)
	}
	slices.SortFunc(all, func(a, b *slab) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return all
}
