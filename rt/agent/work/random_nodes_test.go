package work

import "testing"

// TestRandomHistoriesOfNodes lets the same go on at two and at three agents that lend each other bundles: what one has is on its
// way to another for any time, is lost with the connection between them at times, and values are fetched, or can't be.
func TestRandomHistoriesOfNodes(t *testing.T) {
	nodes := func(seed uint64) int { return 2 + int(seed%3/2) }
	if *seedFlag != 0 {
		newHistories(t, *seedFlag, nodes(*seedFlag)).run(900 + 4100*(nodes(*seedFlag)-2))
		return
	}
	away, finds, remade, kin, full, damaged, inherited, listed, outlived, copies := 0, 0, 0, 0, 0, 0, 0, 0, 0, copyCounts{}
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		h := newHistories(t, seed, nodes(seed))
		h.run(900 + 4100*(nodes(seed)-2))
		away, finds, kin = away+h.away, finds+h.finds, kin+len(h.kin)
		inherited += h.inherited
		copies.add(h.copies)
		listed, outlived = listed+h.listed, outlived+h.outlived
		full, damaged = full+h.returned["of other agents' values"], damaged+h.returned["damaged"]
		for _, s := range h.sites {
			remade += int(s.core.remade)
		}
	}
	if kin < *seeds/8 {
		t.Errorf("only %d workers ran in %d histories on what ancestors of their tasks lent", kin, *seeds)
	}
	if full < *seeds/8 || damaged < *seeds/8 {
		t.Errorf("only %d values found no memory and %d could not be read in %d histories", full, damaged, *seeds)
	}
	if listed < *seeds/6 || outlived < *seeds {
		t.Errorf("only %d references were listed by owners that had not sent them, and %d outlived a third node in %d histories", listed, outlived, *seeds)
	}
	if remade < *seeds/4 {
		t.Errorf("only %d tasks ran again in %d histories because their values were gone", remade, *seeds)
	}
	if away < *seeds*10 {
		t.Errorf("only %d chunks of frames went between the nodes in %d histories", away, *seeds)
	}
	if copies.dropped < *seeds || copies.again < *seeds/2 || min(copies.late, copies.stayed) < *seeds/8 {
		t.Errorf("%d histories have too little of what may become of copies: %+v", *seeds, copies)
	}
	if inherited < *seeds/8 {
		t.Errorf("only %d values outlived their agents in %d histories", inherited, *seeds)
	}
	if finds < *seeds {
		t.Errorf("only %d names were found in %d histories", finds, *seeds)
	}
}
