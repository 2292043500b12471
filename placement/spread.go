package placement

import (
	"cmp"
	"slices"
)

// spread lays bundles as evenly as it can: in rounds, each of which gives a node one more bundle at most.
func (s *solver) spread() bool {
	if len(s.shapes) == 1 {
		return s.spreadEqual()
	}
	s.byEmptiness(s.active)
	next := make([]int, len(s.shapes))
	left := len(s.assign)
	for left > 0 {
		if s.steps > s.budget {
			break
		}
		m := s.newMatching(s.active)
		for sh := range s.shapes {
			m.left[sh] -= next[sh]
		}
		got := m.most()
		if got == 0 {
			break
		}
		left -= got
		for i, sh := range m.of {
			if sh >= 0 {
				s.put(&s.rooms[m.rooms[i]], int(sh))
				s.assign[s.shapes[sh].members[next[sh]]] = m.rooms[i]
				next[sh]++
			}
		}
		// Those with the fewest bundles choose first in the next round.
		slices.SortStableFunc(s.active, func(a, b int32) int { return cmp.Compare(s.rooms[a].placed, s.rooms[b].placed) })
	}
	if left == 0 {
		return true
	}
	// The even way was a dead end; any way will do.
	s.fresh()
	slices.Sort(s.active)
	return s.search(len(s.active), s.budget)
}

// spreadEqual raises the level of all nodes together, as water does.
func (s *solver) spreadEqual() bool {
	s.byEmptiness(s.active)
	n := len(s.assign)
	room := make([]int, len(s.active))
	for i, r := range s.active {
		room[i] = s.capacity(&s.rooms[r], 0, n)
	}
	placed := 0
	for placed < n {
		before := placed
		for i, r := range s.active {
			if room[i] > 0 && placed < n {
				room[i]--
				s.assign[placed] = r
				placed++
			}
		}
		if placed == before {
			s.short = 0
			return false
		}
	}
	return true
}
