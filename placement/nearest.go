package placement

import (
	"fmt"
	"slices"
	"sort"
)

// nearest looks for what would fit: fewer of the bundles, else smaller ones; now, else with everything free.
func (x *explainer) nearest(e *Explanation) {
	for _, empty := range []bool{false, true} {
		when := "now"
		if empty {
			if x.u.Verdict != Infeasible {
				return // the request itself would fit
			}
			when = "with everything free"
		}
		if n := x.most(x.r.Bundles, empty); n > 0 {
			e.Nearest = &Request{Strategy: x.r.Strategy, Bundles: slices.Clone(x.r.Bundles[:n]), Within: x.r.Within, Seed: x.r.Seed}
			e.Advice = fmt.Sprintf("%d of the %d bundles would fit %s", n, len(x.r.Bundles), when)
			return
		}
		if small, ok := x.smaller(empty); ok {
			bundles := slices.Repeat([]Bundle{small}, len(x.r.Bundles))
			n := x.most(bundles, empty)
			if n == 0 {
				continue
			}
			e.Nearest = &Request{Strategy: x.r.Strategy, Bundles: bundles[:n], Within: x.r.Within, Seed: x.r.Seed}
			e.Advice = fmt.Sprintf("%s of %v would fit %s", count(n, "bundle"), small.Resources, when)
			return
		}
	}
}

// most is the largest number of bundles, from the first on, that fit. What fits also fits with one less.
func (x *explainer) most(bundles []Bundle, empty bool) int {
	return sort.Search(len(bundles), func(n int) bool {
		s := newSolver(x.v, &Request{Strategy: x.r.Strategy, Bundles: bundles[:n+1], Within: x.r.Within, Seed: x.r.Seed}, empty)
		s.budget = explainSteps
		return !s.run()
	})
}

// smaller is the first bundle cut down to what the best node has: the one that needs the least cutting.
func (x *explainer) smaller(empty bool) (Bundle, bool) {
	b := x.r.Bundles[0]
	s := newSolver(x.v, &Request{Bundles: []Bundle{b}}, empty)
	best, share := -1, 0.0
	cut := func(r *room, c int, need Amount) Amount {
		have := r.free[c]
		if r.devs != nil && r.devs[c].has && have > 0 {
			switch d := &r.devs[c]; {
			case need >= One && d.whole > 0:
				have = Whole(int64(d.whole))
			case d.whole > 0:
				have = One
			default:
				have = d.parts[0]
			}
		}
		if have > One && s.cols[c] == GPU {
			have -= have % One
		}
		return min(need, have)
	}
	for i := range s.rooms {
		r := &s.rooms[i]
		if r.allowed != nil && !r.allowed[0] {
			continue
		}
		least := 1.0
		for _, c := range s.shapes[0].cols {
			need := s.shapes[0].need[c]
			least = min(least, float64(cut(r, c, need))/float64(need))
		}
		if least > share {
			best, share = i, least
		}
	}
	if best < 0 {
		return Bundle{}, false
	}
	for _, c := range s.shapes[0].cols {
		b.Resources = b.Resources.With(s.cols[c], cut(&s.rooms[best], c, s.shapes[0].need[c]))
	}
	return b, len(b.Resources) > 0
}
