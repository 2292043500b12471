package placement

import (
	"cmp"
	"slices"
)

// byNode fills one node after the other, each time the one that takes most of what is left.
func (s *solver) byNode(rooms []int32) bool {
	s.fresh()
	left := make([]int, len(s.shapes))
	total := 0
	for i := range s.shapes {
		left[i] = len(s.shapes[i].members)
		total += left[i]
	}
	open := slices.Clone(rooms)
	slices.SortFunc(open, s.better)
	limit := s.steps + s.budget/4
	var last int32
	seen := make([]bool, len(s.rooms)) // by class
	for total > 0 {
		best, bestAt := -1.0, -1
		clear(seen)
		for at, i := range open {
			if s.steps > limit {
				return false
			}
			r := &s.rooms[i]
			if seen[r.class] {
				continue
			}
			seen[r.class] = true
			n, weight := s.fill(r, left, nil)
			s.unfill(r, left, n)
			weight -= s.fullness(r) * 1e-6 // of those that take the same, the tightest
			if len(n) > 0 && (bestAt < 0 || weight > best) {
				best, bestAt = weight, at
			}
		}
		if bestAt < 0 {
			return false
		}
		last = open[bestAt]
		open = slices.Delete(open, bestAt, bestAt+1)
		n, _ := s.fill(&s.rooms[last], left, func(sh, k int) {
			members := s.shapes[sh].members
			s.assign[members[len(members)-1-k]] = last
		})
		total -= len(n)
	}
	s.tighten(last, open)
	return true
}

// fill puts what is left into a room, the hardest first; it says what it put and how much that weighs.
func (s *solver) fill(r *room, left []int, took func(sh, left int)) (put []int, weight float64) {
	for _, sh := range s.hard {
		for left[sh] > 0 {
			if _, ok := s.fit(r, sh); !ok {
				break
			}
			s.put(r, sh)
			left[sh]--
			if took != nil {
				took(sh, left[sh])
			}
			put = append(put, sh)
			weight += s.shapes[sh].weight + 1e-9
		}
	}
	return put, weight
}

func (s *solver) unfill(r *room, left []int, put []int) {
	for _, sh := range put {
		s.pull(r, sh)
		left[sh]++
	}
}

// tighten moves what the last node took to the untouched node that it fits most tightly.
func (s *solver) tighten(last int32, open []int32) {
	var bundles []int32
	for b, r := range s.assign {
		if r == last {
			bundles = append(bundles, int32(b))
		}
	}
	best := last
	full := s.fullness(&s.rooms[last]) // after placing: what is left over
	for _, i := range open {
		r := &s.rooms[i]
		n := 0
		for _, b := range bundles {
			if _, ok := s.fit(r, int(s.shape[b])); !ok {
				break
			}
			s.put(r, int(s.shape[b]))
			n++
		}
		left := s.fullness(r)
		for _, b := range bundles[:n] {
			s.pull(r, int(s.shape[b]))
		}
		if n < len(bundles) || s.rooms[i].placed > 0 {
			continue
		}
		if cmp.Or(boolCompare(r.spare, s.rooms[best].spare), cmp.Compare(left, full)) < 0 {
			best, full = i, left
		}
	}
	for _, b := range bundles {
		s.assign[b] = best
	}
}

// byBundle places the hardest bundle first on the tightest node in use that takes it, else on a new one.
func (s *solver) byBundle(rooms []int32) bool {
	s.fresh()
	fresh := slices.Clone(rooms)
	slices.SortFunc(fresh, func(a, b int32) int {
		return cmp.Or(boolCompare(s.rooms[a].spare, s.rooms[b].spare), cmp.Compare(s.fullness(&s.rooms[b]), s.fullness(&s.rooms[a])), s.better(a, b))
	})
	var used []int32
	limit := s.steps + s.budget/4
	for _, sh := range s.hard {
		for _, b := range s.shapes[sh].members {
			if s.steps > limit {
				return false
			}
			best := int32(-1)
			var left float64
			for _, i := range used {
				if _, ok := s.fit(&s.rooms[i], sh); ok {
					if f := s.fullness(&s.rooms[i]); best < 0 || f < left {
						best, left = i, f
					}
				}
			}
			if best < 0 {
				at := slices.IndexFunc(fresh, func(i int32) bool { _, ok := s.fit(&s.rooms[i], sh); return ok })
				if at < 0 {
					return false
				}
				best = fresh[at]
				fresh = slices.Delete(fresh, at, at+1)
				used = append(used, best)
			}
			s.put(&s.rooms[best], sh)
			s.assign[b] = best
		}
	}
	return true
}
