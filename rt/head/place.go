package head

import (
	"github.com/maniple-hpc/maniple/rt/internal/alike"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// place is the share of one node in an incarnation.
type place struct {
	agent   id.Agent
	node    uint32
	bundles []*fb.BundlePlaceT
	folded  []*fb.BundlePlaceT // the same, as messages have them
	first   uint32             // rank
	ranks   uint32
	lost    bool // its node died
	run     placeRun
}

// told is how messages have its bundles. Of a single one something may have been split off.
func (p *place) told() []*fb.BundlePlaceT {
	if len(p.bundles) == 1 {
		return p.bundles
	}
	return p.folded
}

// allDone tells whether no rank of this place runs any more.
func (p *place) allDone(g *group) bool { return p.lost || p.ended(g) }

// ended tells whether the end of every rank of this place is known.
func (p *place) ended(g *group) bool {
	for r := p.first; r < p.first+p.ranks; r++ {
		if !g.ranks[r].done {
			return false
		}
	}
	return true
}

// one is a description that names its bundles one by one.
func one(q *fb.GroupCreateT) *fb.GroupCreateT {
	all := alike.Bundles(q.Bundles)
	if all == nil || len(all) == len(q.Bundles) { // checkCreate refuses what are too many
		return q
	}
	k := *q
	k.Bundles = all
	return &k
}
