package placement_test

import (
	"fmt"
	"os"
	"reflect"
	"strconv"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/placement/placetest"
)

// seeds is how many random instances a test looks at; MANIPLE_DEBUG_SEEDS asks for more.
func seeds(t *testing.T) uint64 {
	if s := os.Getenv("MANIPLE_DEBUG_SEEDS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 4000
}

// TestSolveAgainstBruteForce holds PLACE-1, -2, -5, -6 against a solver that tries everything.
func TestSolveAgainstBruteForce(t *testing.T) {
	var placed, notNow, infeasible, fewest int
	for seed := range seeds(t) {
		v, r := placetest.Generate(seed, placetest.Small)
		before := fmt.Sprint(snapshot(v))
		p, u := placement.Solve(v, r)
		if after := fmt.Sprint(snapshot(v)); after != before {
			t.Fatalf("seed %d: Solve changed the view", seed)
		}
		nodes := placetest.Brute(v, r, false)
		switch {
		case p != nil:
			placed++
			if err := placetest.Check(v, r, p); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, describe(v, r))
			}
			if nodes == 0 {
				t.Fatalf("seed %d: placed what can't be placed\n%s", seed, describe(v, r))
			}
			if r.Strategy == placement.Pack {
				if got := placetest.Nodes(p); got != nodes {
					t.Fatalf("seed %d: PLACE-6: PACK on %d nodes, %d would do\n%s", seed, got, nodes, describe(v, r))
				}
				fewest++
			}
		case u.Verdict == placement.GaveUp:
			t.Fatalf("seed %d: gave up on a small instance after %d steps\n%s", seed, u.Steps, describe(v, r))
		case nodes != 0:
			t.Fatalf("seed %d: %v, but %d nodes would do\n%s", seed, u.Verdict, nodes, describe(v, r))
		default:
			if ever := placetest.Brute(v, r, true) != 0; ever != (u.Verdict == placement.NotNow) {
				t.Fatalf("seed %d: PLACE-5: %v, brute force says feasible: %v\n%s", seed, u.Verdict, ever, describe(v, r))
			}
			if u.Verdict == placement.NotNow {
				notNow++
			} else {
				infeasible++
			}
		}
	}
	t.Logf("%d placed (%d PACK on the fewest nodes), %d not now, %d infeasible", placed, fewest, notNow, infeasible)
	if placed < 100 || notNow < 100 || infeasible < 100 {
		t.Fatal("the generator makes too few of one kind to show anything")
	}
}

// TestSameSeedSamePlan is PLACE-3.
func TestSameSeedSamePlan(t *testing.T) {
	for seed := range uint64(500) {
		v, r := placetest.Generate(seed, placetest.Size{Nodes: 30, Bundles: 40, Shapes: 4, GPUs: 8, CPUs: 32})
		a, _ := placement.Solve(v, r)
		b, _ := placement.Solve(v.Clone(), r)
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("seed %d: two plans\n%v\n%v", seed, a, b)
		}
	}
}

// TestSeed: a seed permutes equal nodes, and none means the first.
func TestSeed(t *testing.T) {
	v := cluster(16)
	first := make(map[int]bool)
	for seed := range uint64(20) {
		r := bundles(1, placement.Pack, "CPU=64")
		r.Seed = seed
		p, _ := placement.Solve(v, r)
		if first[p.Places[0].Node] = true; seed == 0 && p.Places[0].Node != 0 {
			t.Errorf("without a seed: node %d", p.Places[0].Node)
		}
	}
	if len(first) < 5 {
		t.Errorf("20 seeds chose only %d of 16 equal nodes", len(first))
	}
}

// TestCommitAndRelease is PLACE-4: whatever is committed and released in whatever order, the view balances.
func TestCommitAndRelease(t *testing.T) {
	for seed := range uint64(500) {
		v, _ := placetest.Generate(seed, placetest.Size{Nodes: 6, Bundles: 6, Shapes: 3, GPUs: 4, CPUs: 16})
		before := snapshot(v)
		var mine []placement.Holder
		for i := range uint64(10) {
			_, r := placetest.Generate(seed*1000+i, placetest.Small)
			p, _ := placement.Solve(v, r)
			if p == nil {
				continue
			}
			h := placetest.Holder(100 + int(i))
			if err := v.Commit(h, p); err != nil {
				t.Fatalf("seed %d: a plan of Solve is refused: %v", seed, err)
			}
			if err := v.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := v.Commit(h, p); err == nil {
				t.Fatalf("seed %d: one holder holds twice", seed)
			}
			mine = append(mine, h)
		}
		for len(mine) > 0 {
			at := int(seed) % len(mine)
			if !v.Release(mine[at].ID, 0) || v.Release(mine[at].ID, 0) {
				t.Fatalf("seed %d: released not once", seed)
			}
			mine = append(mine[:at], mine[at+1:]...)
			if err := v.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if after := snapshot(v); !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: PLACE-4\nbefore %v\nafter  %v", seed, before, after)
		}
	}
}

// TestSplit is PLACE-4 of pieces: whatever is cut off a place and given back in whatever order, the view balances, and what
// can't be cut off changes nothing.
func TestSplit(t *testing.T) {
	for seed := range uint64(300) {
		v, _ := placetest.Generate(seed, placetest.Size{Nodes: 3, Bundles: 6, Shapes: 3, GPUs: 4, CPUs: 16})
		before := snapshot(v)
		r := bundles(1, placement.Pack, "CPU=4")
		p, _ := placement.Solve(v, r)
		if p == nil {
			continue
		}
		from := placetest.Holder(100)
		if err := v.Commit(from, p); err != nil {
			t.Fatal(err)
		}
		mine := []placement.Holder{from}
		left := placement.Whole(4)
		for i := range uint64(6) {
			n := placement.Amount((seed*7+i*3)%5+1) * placement.One / 2
			to := placetest.Holder(200 + int(i))
			res, _ := placement.Make(placement.Resource{Name: placement.CPU, Amount: n})
			err := v.Split(from.ID, from.Incarnation, to, &placement.Place{Node: p.Places[0].Node, Resources: res})
			if (err == nil) != (n <= left) {
				t.Fatalf("seed %d: %v of %v: %v", seed, n, left, err)
			}
			if err == nil {
				left -= n
				mine = append(mine, to)
				if v.Split(from.ID, from.Incarnation, to, &placement.Place{Node: p.Places[0].Node}) == nil {
					t.Fatalf("seed %d: one holder has two pieces", seed)
				}
			}
			if err := v.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for len(mine) > 0 {
			at := int(seed) % len(mine)
			v.Release(mine[at].ID, mine[at].Incarnation)
			mine = append(mine[:at], mine[at+1:]...)
			if err := v.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if after := snapshot(v); !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: PLACE-4\nbefore %v\nafter  %v", seed, before, after)
		}
	}
}

func snapshot(v *placement.View) []placement.Node {
	var out []placement.Node
	for _, n := range v.Clone().Nodes() {
		out = append(out, *n)
	}
	return out
}

func describe(v *placement.View, r *placement.Request) string {
	s := ""
	for _, n := range v.Nodes() {
		s += fmt.Sprintf("  %s state %d total %v free %v labels %v devices", n.Name, n.State, n.Total, n.Free, n.Labels)
		for _, d := range n.Devices {
			s += fmt.Sprintf(" %v", d.Free)
		}
		s += "\n"
	}
	s += "  " + r.Strategy.String()
	for _, b := range r.Bundles {
		s += fmt.Sprintf(" {%v %v}", b.Resources, b.Needs)
	}
	return s
}
