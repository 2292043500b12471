package head

import (
	"fmt"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// A piece is a group of one bundle that an agent made of what it has of its node for tasks, before it said so here
// (GroupCreate.part; docs/adr/0011). Its client was told, so it is neither planned nor does it wait: the ledger takes
// it from the agent's group and gives it to this one. If that group is gone, so is the piece.

// placePiece takes a piece in and returns the phase that it is in then.
func (c *Core) placePiece(g *group) fb.GroupPhase {
	rec, err := c.recPiece(g)
	if err == nil {
		err = c.record(rec)
	}
	if err != nil {
		c.finish(g, c.ending(codeNodeLost, causeLost, fmt.Sprintf("the share of the node that it was made of is not its agent's any more: %v", err)))
		return g.phase
	}
	c.placed(g)
	return g.phase
}

// recPiece is the record of a piece, in the place of the group that it is of.
func (c *Core) recPiece(g *group) (*fb.RecGroupPlacedT, error) {
	from := c.state.byID[taskOf(g.create.Part)]
	switch {
	case len(g.create.Bundles) != 1 || g.create.Program != nil:
		return nil, fmt.Errorf("a piece has one bundle and no program")
	case from == nil || from.create.Program != nil || from.owner != g.owner || len(from.places) != 1 || len(from.places[0].bundles) != 1 || from.places[0].lost:
		return nil, fmt.Errorf("it ended")
	}
	p := from.places[0]
	have, err := placeOf(p, p.bundles[0])
	if err != nil {
		return nil, err
	}
	piece := placement.Place{Node: have.Node, Resources: g.run.request.Bundles[0].Resources}
	if n := piece.Resources.Get(placement.CPU); n > 0 && n.IsWhole() && n <= placement.Whole(int64(len(have.CPUs))) {
		piece.CPUs = have.CPUs[len(have.CPUs)-int(n/placement.One):]
	}
	b := &fb.BundlePlaceT{Resources: wireResources(piece.Resources), Cpus: piece.CPUs}
	return &fb.RecGroupPlacedT{Group: wireTask(g.id), Incarnation: g.incarnation, Part: g.create.Part, Wall: c.now,
		Places: []*fb.RecPlaceT{{Agent: uint32(p.agent), Node: p.node, Bundles: []*fb.BundlePlaceT{b}}}}, nil
}

// placeOf is a bundle in its place, for placement.
func placeOf(p *place, b *fb.BundlePlaceT) (placement.Place, error) {
	res, err := resourcesOf(b.Resources)
	return placement.Place{Bundle: int(b.Index), Node: int(p.node), Resources: res, Devices: b.Devices, CPUs: b.Cpus}, err
}

// split takes a piece out of the place of the group that it is of.
func (s *state) split(to placement.Holder, r *fb.RecGroupPlacedT, plan *placement.Plan) error {
	from, err := s.live(r.Part)
	if err != nil {
		return err
	}
	if len(plan.Places) != 1 || len(from.places) != 1 || len(from.places[0].bundles) != 1 {
		return fmt.Errorf("group %v can't be a piece of group %v", to.ID, from.id)
	}
	p, piece := from.places[0], plan.Places[0]
	b := *p.bundles[0]
	have, err := placeOf(p, &b)
	if err != nil {
		return err
	}
	rest, err := have.Less(&piece)
	if err != nil {
		return err
	}
	if err := s.view.Split(from.id, from.incarnation, to, &piece); err != nil {
		return err
	}
	b.Resources, b.Cpus = wireResources(rest.Resources), rest.CPUs
	p.bundles = []*fb.BundlePlaceT{&b} // the record of before keeps its own
	return nil
}
