package head

import (
	"maps"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// shares are what agents have by leases.
type shares struct {
	total placement.Resources
	held  map[id.Agent]placement.Resources
}

func (c *Core) sharesOf(leases []*group) shares {
	s := shares{held: map[id.Agent]placement.Resources{}}
	var all []placement.Resource
	for _, n := range c.state.view.Nodes() {
		all = append(all, n.Total...)
	}
	s.total, _ = placement.Make(all...)
	for _, l := range leases {
		s.add(l.owner, l.has(), 1)
	}
	return s
}

func (s *shares) clone() shares { return shares{s.total, maps.Clone(s.held)} }

func (s *shares) add(agent id.Agent, what placement.Resources, sign placement.Amount) {
	sum := s.held[agent]
	for _, r := range what {
		sum = sum.With(r.Name, sum.Get(r.Name)+sign*r.Amount)
	}
	s.held[agent] = sum
}

// of is the largest part of any resource of the cluster that an agent has.
func (s *shares) of(agent id.Agent) float64 { return s.most(s.held[agent]) }

func (s *shares) most(have placement.Resources) (most float64) {
	for _, r := range have {
		if total := s.total.Get(r.Name); total > 0 {
			most = max(most, float64(r.Amount)/float64(total))
		}
	}
	return most
}

// has is what a group holds, or asks for.
func (g *group) has() (sum placement.Resources) {
	add := func(list placement.Resources) {
		for _, r := range list {
			sum = sum.With(r.Name, sum.Get(r.Name)+r.Amount)
		}
	}
	for _, p := range g.places {
		for _, b := range p.bundles {
			if list, err := resourcesOf(b.Resources); err == nil && !p.lost {
				add(list)
			}
		}
	}
	if len(g.places) == 0 && g.run.request != nil {
		for i := range g.run.request.Bundles {
			add(g.run.request.Bundles[i].Resources)
		}
	}
	return sum
}
