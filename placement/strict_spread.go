package placement

import (
	"cmp"
	"slices"
)

// strictSpread gives every bundle a node of its own. That is a matching, so the answer is exact; of the places
// in the network that have one, the innermost and then the tightest is taken, and in it the emptiest nodes.
func (s *solver) strictSpread() bool {
	s.byEmptiness(s.active)
	m := s.newMatching(s.active)
	if sh := m.all(); sh >= 0 {
		s.short = sh
		return false
	}
	tried := 0
	best := -1
	for _, g := range s.groups() {
		if len(g) < len(s.assign) || best >= 0 && len(g) >= best {
			continue
		}
		if tried++; tried > maxGroups {
			break
		}
		s.byEmptiness(g)
		if inner := s.newMatching(g); inner.all() < 0 {
			m, best = inner, len(g)
		}
	}
	next := make([]int, len(s.shapes))
	for i, sh := range m.of {
		if sh >= 0 {
			s.assign[s.shapes[sh].members[next[sh]]] = m.rooms[i]
			next[sh]++
		}
	}
	return true
}

// maxGroups bounds how many subtrees of the network are tried.
const maxGroups = 64

func (s *solver) byEmptiness(rooms []int32) {
	free := make([]float64, len(s.rooms))
	for _, i := range rooms {
		free[i] = s.fullness(&s.rooms[i])
	}
	slices.SortFunc(rooms, func(a, b int32) int {
		return cmp.Or(boolCompare(s.rooms[a].spare, s.rooms[b].spare), cmp.Compare(free[b], free[a]), s.better(a, b))
	})
}
