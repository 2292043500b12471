package placement_test

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/placement/placetest"
)

// TestExplainIsWhatSolveUsed is PLACE-8: change the view as the explanation says, and the request is placed; place
// the nearest shape, and it fits.
func TestExplainIsWhatSolveUsed(t *testing.T) {
	var helped, nearest, infeasible int
	for seed := range uint64(6000) {
		v, r := placetest.Generate(seed, placetest.Small)
		_, u := placement.Solve(v, r)
		e := placement.Explain(v, r)
		if (u == nil) != (e == nil) {
			t.Fatalf("seed %d: Solve says %v, Explain %v", seed, u, e)
		}
		if e == nil {
			continue
		}
		if e.Verdict != u.Verdict || e.Summary == "" || strings.Contains(e.Text(), "%!") {
			t.Fatalf("seed %d: %v explained as %v: %s", seed, u.Verdict, e.Verdict, e.Text())
		}
		indexes := 0
		for _, why := range e.Reasons {
			indexes += len(why.Indexes)
		}
		if u.Bundle >= 0 && indexes != len(v.Nodes()) {
			t.Fatalf("seed %d: %d of %d nodes explained\n%s\n%s", seed, indexes, len(v.Nodes()), e.Text(), describe(v, r))
		}
		if e.Nearest != nil {
			nearest++
			w := v.Clone()
			if strings.Contains(e.Advice, "everything free") {
				w = emptied(v)
			}
			if p, _ := placement.Solve(w, e.Nearest); p == nil {
				t.Fatalf("seed %d: the nearest shape does not fit\n%s\n%s", seed, e.Text(), describe(v, r))
			}
		}
		if u.Verdict == placement.Infeasible {
			infeasible++
			if p, _ := placement.Solve(emptied(v), r); p != nil {
				t.Fatalf("seed %d: infeasible, and fits an empty cluster", seed)
			}
			continue
		}
		helped++
		w := v.Clone()
		for round := 0; ; round++ {
			e := placement.Explain(w, r)
			if e == nil {
				break
			}
			before := len(w.Holders())
			for _, why := range e.Reasons {
				for _, h := range why.Holders {
					w.Release(h.ID, h.Incarnation)
				}
				for _, n := range why.Indexes {
					if why.Code == "closed" && w.Node(n).State != placement.Open {
						w.SetState(n, placement.Open, "")
						before++
					}
				}
			}
			if len(w.Holders()) >= before {
				t.Fatalf("seed %d: the explanation names nothing that could be changed\n%s\n%s", seed, e.Text(), describe(w, r))
			}
		}
	}
	t.Logf("%d helped, %d infeasible, %d nearest shapes", helped, infeasible, nearest)
	if helped < 100 || infeasible < 100 || nearest < 100 {
		t.Fatal("the generator makes too few of one kind to show anything")
	}
}

// emptied is the view with nothing held and all nodes open.
func emptied(v *placement.View) *placement.View {
	c := v.Clone()
	for _, h := range c.Holders() {
		c.Release(h.ID, h.Incarnation)
	}
	for _, n := range c.Nodes() {
		if n.State != placement.Open {
			c.SetState(n.Index, placement.Open, "")
		}
	}
	return c
}

func TestFoldNames(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"n1", "n1"},
		{"n3 n1 n2", "n[1-3]"},
		{"n1 n3", "n[1,3]"},
		{"n08 n09 n10 n11", "n[08-11]"},
		{"gpu07 n1 n2 login", "gpu07,login,n[1-2]"},
		{"n1 n01", "n1,n01"},
		{"n18446744073709551616", "n18446744073709551616"},
		{"", ""},
	} {
		if got := placement.FoldNames(strings.Fields(c.in)); got != c.want {
			t.Errorf("FoldNames(%s) = %s, want %s", c.in, got, c.want)
		}
	}
}
