package placement

import "slices"

// Solve finds a plan on what is free, or says that there is none and of what kind the no is. It changes nothing.
func Solve(v *View, r *Request) (*Plan, *Unplaced) {
	s := newSolver(v, r, false)
	if s.run() {
		return s.plan(), nil
	}
	e := newSolver(v, r, true)
	u := &Unplaced{Bundle: s.shortBundle()}
	switch {
	case e.run():
		u.Verdict = NotNow
		if s.unsure {
			u.Verdict = GaveUp
		}
	case e.unsure:
		u.Verdict = GaveUp
	default:
		u.Verdict, u.Bundle = Infeasible, e.shortBundle()
	}
	u.Steps = s.steps + e.steps
	return nil, u
}

func (s *solver) shortBundle() int {
	if s.short < 0 {
		return -1
	}
	return int(s.shapes[s.short].members[0])
}

func (s *solver) run() bool {
	if len(s.req.Bundles) == 0 {
		return true
	}
	if s.req.Within != "" {
		return s.within()
	}
	return s.possible() && s.place()
}

// place places what may be possible on the rooms in play, as the strategy wants it.
func (s *solver) place() bool {
	switch s.req.Strategy {
	case StrictPack:
		return s.strictPack()
	case StrictSpread:
		return s.strictSpread()
	case Spread:
		return s.spread()
	default:
		return s.pack()
	}
}

// plan turns the assignment into places: equal bundles in order of nodes, then devices and CPUs by identity.
func (s *solver) plan() *Plan {
	for i := range s.shapes {
		members := s.shapes[i].members
		rooms := make([]int32, len(members))
		for j, b := range members {
			rooms[j] = s.assign[b]
		}
		slices.Sort(rooms)
		for j, b := range members {
			s.assign[b] = rooms[j]
		}
	}
	p := &Plan{Places: make([]Place, len(s.assign))}
	byRoom := make([]int32, len(s.assign))
	for b := range byRoom {
		byRoom[b] = int32(b)
	}
	slices.SortStableFunc(byRoom, func(a, b int32) int { return int(s.assign[a] - s.assign[b]) })
	for lo := 0; lo < len(byRoom); {
		at := s.assign[byRoom[lo]]
		hi := lo
		for hi < len(byRoom) && s.assign[byRoom[hi]] == at {
			b := byRoom[hi]
			p.Places[b] = Place{Bundle: int(b), Node: s.rooms[at].node.Index, Resources: s.req.Bundles[b].Resources}
			hi++
		}
		s.identify(s.rooms[at].node, p.Places, byRoom[lo:hi])
		lo = hi
	}
	return p
}
