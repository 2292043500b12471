package placement

import (
	"cmp"
	"slices"
)

// maxSteps bounds a search: about 50 ms. A request that needs more gets GaveUp, not a wrong answer.
const maxSteps = 1_000_000

// improveSteps bounds the search for a plan on fewer nodes once there is one.
const improveSteps = 100_000

// pack uses as few nodes as it can. For equal bundles the fewest is exact: the roomiest nodes first. Otherwise
// two greedy ways are tried, then a search, which also tries to do with fewer nodes.
func (s *solver) pack() bool {
	if len(s.shapes) == 1 {
		return s.packEqual()
	}
	s.classify()
	least := s.leastNodes()
	nodes, found := s.packGreedy(s.active)
	if !found {
		if found = s.search(len(s.active), s.budget); !found {
			return false
		}
		nodes = s.countNodes()
	}
	for nodes > least {
		unsure, keep := s.unsure, slices.Clone(s.assign)
		ok := s.search(nodes-1, min(improveSteps, s.budget))
		s.unsure = unsure // a plan with more nodes is in hand: this search proves nothing
		if !ok {
			s.assign = keep
			break
		}
		nodes = s.countNodes()
	}
	s.packNearby(nodes)
	return true
}

// packGreedy tries both greedy ways on those rooms and keeps the better one in assign.
func (s *solver) packGreedy(rooms []int32) (nodes int, ok bool) {
	keep := make([]int32, len(s.assign))
	if s.byNode(rooms) {
		nodes, ok = s.countNodes(), true
		copy(keep, s.assign)
	}
	if s.byBundle(rooms) {
		if n := s.countNodes(); !ok || n < nodes {
			return n, true
		}
	}
	if ok {
		copy(s.assign, keep)
	}
	return nodes, ok
}

// packNearby looks for a plan on as few nodes in a smaller part of the network.
func (s *solver) packNearby(nodes int) {
	keep := slices.Clone(s.assign)
	groups := s.groups()
	best := len(s.rooms) + 1
	for _, g := range groups[:min(len(groups), maxGroups)] {
		if len(g) < nodes || len(g) >= best || s.steps > s.budget {
			continue
		}
		if n, ok := s.packGreedy(g); ok && n <= nodes {
			keep, best = slices.Clone(s.assign), len(g)
		}
	}
	s.assign = keep
}

func (s *solver) countNodes() (n int) {
	used := make([]bool, len(s.rooms))
	for _, r := range s.assign {
		if !used[r] {
			used[r] = true
			n++
		}
	}
	return n
}

// leastNodes is a lower bound: for each resource the roomiest nodes first. It reads untouched rooms.
func (s *solver) leastNodes() int {
	least := 1
	free := make([]Amount, len(s.active))
	for c := range s.cols {
		var need, have wide
		for i := range s.shapes {
			need = need.plus(times(s.shapes[i].need[c], len(s.shapes[i].members)))
		}
		for i, r := range s.active {
			free[i] = s.rooms[r].free[c]
		}
		slices.SortFunc(free, func(a, b Amount) int { return cmp.Compare(b, a) })
		n := 0
		for n < len(free) && have.less(need) {
			have = have.add(free[n])
			n++
		}
		least = max(least, n)
	}
	return least
}

// packEqual is pack for one shape.
func (s *solver) packEqual() bool {
	n := len(s.assign)
	room := make([]int, len(s.rooms))
	for _, r := range s.active {
		room[r] = s.capacity(&s.rooms[r], 0, n)
	}
	chosen, ok := s.roomiest(s.active, room)
	if !ok {
		s.short = 0
		return false
	}
	best := len(s.rooms) + 1
	for _, g := range s.groups() {
		if len(g) < len(chosen) || len(g) >= best {
			continue
		}
		if c, ok := s.roomiest(g, room); ok && len(c) <= len(chosen) {
			chosen, best = c, len(g)
		}
	}
	placed := 0
	for _, r := range chosen {
		for range min(room[r], n-placed) {
			s.assign[placed] = r
			placed++
		}
	}
	return true
}

// roomiest picks the fewest rooms that take all bundles, the last of them as tight as possible.
func (s *solver) roomiest(rooms []int32, room []int) ([]int32, bool) {
	order := slices.Clone(rooms)
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(room[b], room[a]), s.better(a, b)) })
	left, k := len(s.assign), 0
	for k < len(order) && left > room[order[k]] {
		left -= room[order[k]]
		k++
	}
	if k == len(order) || room[order[k]] == 0 {
		return nil, false
	}
	last := order[k]
	for _, r := range order[k:] {
		if room[r] < left {
			break
		}
		x, y := &s.rooms[r], &s.rooms[last]
		if cmp.Or(boolCompare(x.spare, y.spare), cmp.Compare(room[r], room[last]), cmp.Compare(s.fullness(x), s.fullness(y)), s.better(r, last)) < 0 {
			last = r
		}
	}
	return append(order[:k:k], last), true
}
