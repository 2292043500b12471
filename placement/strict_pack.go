package placement

import "cmp"

// strictPack puts all bundles on the node that has the least left beside them. One test per node is exact:
// sums for what is counted, a packing for parts of devices.
func (s *solver) strictPack() bool {
	best := int32(-1)
	var left float64
	for _, i := range s.active {
		r := &s.rooms[i]
		if !s.takesAll(r) {
			continue
		}
		free := s.fullness(r)
		if best >= 0 && cmp.Or(boolCompare(r.spare, s.rooms[best].spare), cmp.Compare(free, left), s.better(i, best)) >= 0 {
			continue
		}
		best, left = i, free
	}
	if best < 0 {
		s.short = -1
		return false
	}
	for b := range s.assign {
		s.assign[b] = best
	}
	return true
}

// takesAll tells whether an untouched room takes the whole request.
func (s *solver) takesAll(r *room) bool {
	for c := range s.cols {
		var need wide
		for i := range s.shapes {
			need = need.plus(times(s.shapes[i].need[c], len(s.shapes[i].members)))
		}
		if (wide{}).add(r.free[c]).less(need) {
			return false
		}
	}
	// Now every sum is in range, so placing them one shape after the other can't overflow.
	ok := true
	done := make([]int, len(s.shapes))
	for _, sh := range s.hard {
		for range s.shapes[sh].members {
			if _, ok = s.fit(r, sh); !ok {
				break
			}
			s.put(r, sh)
			done[sh]++
		}
		if !ok {
			break
		}
	}
	for sh, n := range done {
		for range n {
			s.pull(r, sh)
		}
	}
	return ok
}

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
