package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// domain is the nodes that have one value of the label that a request stays within.
type domain struct {
	value string
	rooms []int32
}

// domains gathers the rooms by their value of a label; nodes without it are in none.
func (s *solver) domains(key string) (list []domain) {
	for i := range s.rooms {
		value, has := s.rooms[i].node.label(key)
		if !has {
			continue
		}
		at, known := slices.BinarySearchFunc(list, value, func(d domain, value string) int { return strings.Compare(d.value, value) })
		if !known {
			list = slices.Insert(list, at, domain{value: value})
		}
		list[at].rooms = append(list[at].rooms, int32(i))
	}
	return list
}

// within tries each value of the request's label, and keeps the one that suits the strategy best: PACK the one with the fewest nodes used, SPREAD
// that with the most, and of those that are equal the one that has least left, so that others find room. The steps are shared out among them.
func (s *solver) within() bool {
	list := s.domains(s.req.Within)
	for i := range list { // those with least left come first
		slices.Sort(list[i].rooms)
	}
	left := func(d domain) (sum float64) {
		for _, i := range d.rooms {
			sum += s.fullness(&s.rooms[i])
		}
		return sum
	}
	slices.SortStableFunc(list, func(a, b domain) int { return cmp.Compare(left(a), left(b)) })
	s.budget /= max(len(list), 1)
	var best []int32
	most, unsure := 0, false
	used := s.steps
	for _, d := range list {
		s.steps = 0 // each has its own share
		s.active, s.unsure, s.short = d.rooms, false, -1
		found := s.possible() && s.place()
		unsure = unsure || s.unsure
		if found {
			n := s.countNodes()
			if s.req.Strategy != Spread {
				n = -n
			}
			if best == nil || n > most {
				best, most = slices.Clone(s.assign), n
			}
		}
		s.fresh()
		used += s.steps
	}
	s.steps = used
	s.unsure = unsure && best == nil
	if best == nil {
		if len(list) != 1 { // no bundle is the one that is short
			s.short = -1
		}
		return false
	}
	copy(s.assign, best)
	return true
}

// only is the solver with those rooms alone.
func (s *solver) only(d domain) *solver {
	few := *s
	few.rooms, few.active = nil, nil
	for i, at := range d.rooms {
		few.rooms, few.active = append(few.rooms, s.rooms[at]), append(few.active, int32(i))
	}
	return &few
}

// within says for each value of the request's label why its nodes are not enough.
func (x *explainer) within() string {
	list := x.s.domains(x.r.Within)
	if len(list) == 0 {
		return "no node that is open has label " + x.r.Within
	}
	var text []string
	for i, d := range list {
		if i == 3 {
			text = append(text, fmt.Sprintf("%d more", len(list)-i))
			break
		}
		y := *x
		y.s = x.s.only(d)
		text = append(text, fmt.Sprintf("%s: %s", d.value, y.short()))
	}
	return fmt.Sprintf("all bundles go to nodes with the same %s, and none has room for all; %s", x.r.Within, strings.Join(text, "; "))
}
