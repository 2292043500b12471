package placement_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
)

// hard is an instance that no search can finish: bundles of many sizes that fill the nodes to the last step or
// one step more. Whether there is a placement is as hard to say as bin packing is.
func hard(nodes, bundles int, seed uint64) (*placement.View, *placement.Request) {
	rng := rand.New(rand.NewPCG(seed, 2))
	v := new(placement.View)
	var total placement.Amount
	for i := range nodes {
		n := placement.Node{Index: i, Name: fmt.Sprint("n", i)}
		size := placement.Whole(int64(900 + rng.IntN(200)))
		total += size
		n.Total, _ = placement.Make(placement.Resource{Name: "lic", Amount: size})
		if err := v.Put(n); err != nil {
			panic(err)
		}
	}
	r := &placement.Request{}
	for i := range bundles {
		amount := total / placement.Amount(bundles-i)
		if i < bundles-1 {
			amount = amount*3/4 + placement.Amount(rng.Int64N(int64(amount/2)))
		}
		total -= amount
		res, _ := placement.Make(placement.Resource{Name: "lic", Amount: amount})
		r.Bundles = append(r.Bundles, placement.Bundle{Resources: res})
	}
	return v, r
}

// TestBoundedSearch is PLACE-7: an unanswerable request gets GaveUp after a bounded number of steps.
func TestBoundedSearch(t *testing.T) {
	const bound = 8_000_000
	gaveUp := 0
	for seed := range uint64(6) {
		for _, s := range []placement.Strategy{placement.Pack, placement.Spread, placement.StrictPack, placement.StrictSpread} {
			v, r := hard(40, 120, seed)
			r.Strategy = s
			_, u := placement.Solve(v, r)
			switch {
			case u == nil:
				t.Fatalf("seed %d: an instance without slack was placed; make it harder", seed)
			case u.Steps > bound:
				t.Errorf("seed %d %v: %d steps", seed, s, u.Steps)
			case u.Verdict == placement.GaveUp:
				gaveUp++
			}
		}
	}
	if gaveUp < 6 {
		t.Errorf("only %d of the searches gave up: the instances are too easy", gaveUp)
	}
}

// TestGaveUpIsNotNotNow: the search on what is free gave up, and a paused node would do. That is no proof that
// nothing fits now.
func TestGaveUpIsNotNotNow(t *testing.T) {
	v, r := hard(40, 120, 0)
	n := placement.Node{Index: 40, Name: "spare", State: placement.Paused}
	n.Total, _ = placement.Make(placement.Resource{Name: "lic", Amount: placement.Whole(1e6)})
	if err := v.Put(n); err != nil {
		t.Fatal(err)
	}
	if _, u := placement.Solve(v, r); u == nil || u.Verdict != placement.GaveUp {
		t.Fatalf("%+v", u)
	}
	if e := placement.Explain(v, r); e == nil || e.Verdict != placement.GaveUp {
		t.Fatalf("%+v", e)
	}
}

// BenchmarkHard is the longest that a request can hold up the head.
func BenchmarkHard(b *testing.B) {
	for _, size := range [][2]int{{40, 120}, {1000, 1000}, {1000, 3000}} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			v, r := hard(size[0], size[1], 1)
			b.ReportAllocs()
			for b.Loop() {
				placement.Solve(v, r)
			}
		})
	}
}

// BenchmarkExplain explains a request that waits on 1,000 nodes held by 1,000 gangs.
func BenchmarkExplain(b *testing.B) {
	v := cluster(1000)
	for i := range 1000 {
		p, u := placement.Solve(v, bundles(1, placement.Pack, "GPU=5"))
		if u != nil {
			b.Fatal(u)
		}
		h := placement.Holder{Name: "busy"}
		h.ID.Counter = uint64(i)
		if err := v.Commit(h, p); err != nil {
			b.Fatal(err)
		}
	}
	r := bundles(1000, placement.Pack, "GPU=4")
	b.ReportAllocs()
	for b.Loop() {
		placement.Explain(v, r)
	}
}
