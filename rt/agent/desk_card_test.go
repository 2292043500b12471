package agent

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// gpus is an amount of GPUs in ten-thousandths.
func gpus(n int64) *fb.ResourceT { return &fb.ResourceT{Name: placement.GPU, Amount: n} }

// pieces are tasks that wait for a part of a device each, and what they need as leases.
func pieces(list ...work.Lacking) (w *work.Wants, lacking [][]work.Amount) {
	for _, k := range list {
		lacking = append(lacking, []work.Amount{{Name: placement.GPU, Amount: k.Amount}})
	}
	return &work.Wants{Parts: list, Hungry: lacking}, lacking
}

// Of a device that a placement group has a part of, tasks have as many pieces as they need of what is left, and open another one only then.
func TestPiecesOfDevices(t *testing.T) {
	for _, c := range []struct {
		name  string
		tasks []work.Lacking
		free  []jsonDevice
		want  []int64
	}{
		{"beside a group", []work.Lacking{{Amount: 2500, Tasks: 9}}, []jsonDevice{{"a", 0.5}}, []int64{2500, 2500}},
		{"the fullest first", []work.Lacking{{Amount: 2500, Tasks: 3}}, []jsonDevice{{"a", 1}, {"b", 0.5}, {"c", 0.25}}, []int64{2500, 2500, 2500}},
		{"many small ones share a piece", []work.Lacking{{Amount: 100, Tasks: 30}}, []jsonDevice{{"a", 0.5}}, []int64{1300, 1300, 400}},
		{"and a smaller one at the end", []work.Lacking{{Amount: 100, Tasks: 300}}, []jsonDevice{{"a", 0.2001}}, []int64{1300, 700}},
		{"the large ones first", []work.Lacking{{Amount: 2500, Tasks: 1}, {Amount: 7500, Tasks: 1}}, []jsonDevice{{"a", 0.75}, {"b", 0.5}}, []int64{7500, 2500}},
		{"no room", []work.Lacking{{Amount: 5000, Tasks: 1}}, []jsonDevice{{"a", 0.25}, {"b", 0.25}}, nil},
		{"the smallest there are", []work.Lacking{{Amount: 1, Tasks: 2}}, []jsonDevice{{"a", 0.0001}}, []int64{1}},
	} {
		w, lacking := pieces(c.tasks...)
		if plan := (&stake{}).planCards(w, lacking, c.free); !slices.Equal(plan.ask, c.want) || len(plan.back) > 0 {
			t.Errorf("%s: it asks for %v, not %v", c.name, plan.ask, c.want)
		}
	}
}

// Whole ones are for tasks that need whole ones; what is idle of one kind goes back when tasks lack the other.
func TestDevicesOfTheOtherKind(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	s := &d.stake
	a := d.placedPart(t, []string{"a"}, gpus(whole))
	b1, b2 := d.placedPart(t, []string{"b"}, gpus(2500)), d.placedPart(t, []string{"b"}, gpus(5000))
	if g := s.grant(); fmt.Sprint(g.Devices, g.Shares) != "[a b] [0 7500]" {
		t.Fatalf("tasks may use %v, %v", g.Devices, g.Shares)
	}
	check := func(name string, w *work.Wants, lacking [][]work.Amount, free []jsonDevice, back []*part, ask ...int64) {
		t.Helper()
		if plan := s.planCards(w, lacking, free); !slices.Equal(plan.back, back) || !slices.Equal(plan.ask, ask) {
			t.Errorf("%s: %d parts go back, and it asks for %v", name, len(plan.back), plan.ask)
		}
	}
	free := []jsonDevice{{"a", 0}, {"b", 0.25}}
	w, lacking := pieces(work.Lacking{Amount: 2500, Tasks: 3})
	check("there are pieces that are not used", w, lacking, free, nil)
	w, lacking = pieces(work.Lacking{Amount: 2500, Tasks: 5})
	check("one piece is free, and then a whole one is cut", w, lacking, free, []*part{a}, 2500, 2500)
	w, lacking = pieces(work.Lacking{Amount: 9000, Tasks: 1})
	check("pieces are too small", w, lacking, free, []*part{a}, 9000)
	w.Devices = []work.Share{{Device: "a", Amount: whole}}
	check("what is used stays", w, lacking, free, []*part{b1, b2}, 9000)
	one := [][]work.Amount{{{Name: placement.GPU, Amount: whole}}}
	check("a whole one is there", &work.Wants{}, one, free, nil)
	w = &work.Wants{Devices: []work.Share{{Device: "a", Amount: whole}}}
	check("pieces make a whole one", w, one, free, []*part{b1, b2}, whole)
	check("but not beside another's", w, one, []jsonDevice{{"a", 0}, {"b", 0}}, nil)
	w.Devices = append(w.Devices, work.Share{Device: "b", Amount: 2500})
	check("nor beside a task", w, one, free, nil)
	check("two whole ones", &work.Wants{}, [][]work.Amount{{{Name: placement.GPU, Amount: 2 * whole}}}, free, []*part{b1, b2}, whole)
	// As parts go back with time, those stay of which something is used.
	if spare := s.spare(w, nil, 0); len(spare) != 1 || spare[0] != b2 {
		t.Errorf("with a quarter of b used %d parts are spare", len(spare))
	}
	d.recalls(b1, fb.LeaseRecallNow)
	w, lacking = pieces(work.Lacking{Amount: 2500, Tasks: 3})
	check("what was recalled is no room", w, lacking, free, nil, 2500)
	d.recalls(b2, fb.LeaseRecallNow)
	d.wants = &work.Wants{Devices: []work.Share{{Device: "b", Amount: 5000}}}
	d.settleRecalled(t.Context(), nil)
	if m := d.asked(); len(m) != 1 || taskOf(m[0].(*fb.GroupCancelT).Group) != b1.group {
		t.Errorf("of two that were recalled, with a half used, %v", m)
	}
	if g := s.grant(); fmt.Sprint(g.Devices, g.Shares) != "[a] [0]" {
		t.Errorf("then tasks may use %v, %v", g.Devices, g.Shares)
	}
}

// A piece is an eighth of a device, or what a task needs.
func TestCutOf(t *testing.T) {
	for amount, want := range map[int64]int64{1: 1250, 3: 1251, 100: 1300, 1250: 1250, 1300: 1300, 2500: 2500, 3000: 3000, 9999: 9999} {
		if got := cutOf(amount); got != want || got%amount != 0 {
			t.Errorf("for %d each: %d", amount, got)
		}
	}
}

// Whatever is free and unused, no plan asks for more of a device than there will be, and none gives back what is used, or in vain.
func TestPlansOfDevices(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &stake{all: rng.IntN(4) == 0}
		w, lacking := pieces()
		var devices []jsonDevice
		for i := range 1 + rng.IntN(3) {
			name, left := fmt.Sprint("g", i), int64(whole)
			if rng.IntN(3) == 0 {
				s.parts = append(s.parts, &part{bundle: &fb.BundlePlaceT{Devices: []string{name}, Resources: []*fb.ResourceT{gpus(whole)}}})
				if left = 0; rng.IntN(2) == 0 {
					w.Devices = append(w.Devices, work.Share{Device: name, Amount: whole})
				}
			}
			for left > 0 && rng.IntN(3) > 0 {
				n := min(left, int64(1+rng.IntN(4))*1250)
				left -= n
				if rng.IntN(3) > 0 { // else it is another's
					s.parts = append(s.parts, &part{bundle: &fb.BundlePlaceT{Devices: []string{name}, Resources: []*fb.ResourceT{gpus(n)}}})
					if rng.IntN(2) == 0 {
						w.Devices = append(w.Devices, work.Share{Device: name, Amount: n})
					}
				}
			}
			devices = append(devices, jsonDevice{name, float64(left) / whole})
		}
		for range rng.IntN(3) {
			n := int64(1 + rng.IntN(12))
			if n *= 1000; n > whole {
				n = (n - whole + 999) / 1000 * whole
			} else {
				w.Parts = append(w.Parts, work.Lacking{Amount: n, Tasks: 1 + rng.IntN(5)})
			}
			lacking = append(lacking, []work.Amount{{Name: placement.GPU, Amount: n}})
		}
		plan := s.planCards(w, lacking, devices)
		used := map[string]int64{}
		for _, u := range w.Devices {
			used[u.Device] += u.Amount
		}
		var bins []int64
		for _, v := range devices {
			free, kept := tenThousandths(v.Free), int64(0)
			for _, p := range s.parts {
				switch n := p.bundle.Resources[0].Amount; {
				case p.bundle.Devices[0] != v.ID:
				case slices.Contains(plan.back, p):
					free += n
				default:
					kept += n
				}
			}
			if kept < used[v.ID] {
				t.Fatalf("seed %d: %d of %s is used, and %d stays", seed, used[v.ID], v.ID, kept)
			}
			bins = append(bins, free)
		}
		if len(plan.back) > 0 && len(plan.ask) == 0 {
			t.Fatalf("seed %d: %d parts go back in vain", seed, len(plan.back))
		}
		asks := slices.Clone(plan.ask)
		slices.Sort(asks)
		slices.Reverse(asks)
		if !packs(asks, bins) {
			t.Fatalf("seed %d: of %v it asks for %v", seed, bins, plan.ask)
		}
	}
}

// packs tells whether items fit into bins, one after the other.
func packs(items, bins []int64) bool {
	if len(items) == 0 {
		return true
	}
	for i := range bins {
		if bins[i] >= items[0] {
			bins[i] -= items[0]
			if packs(items[1:], bins) {
				return true
			}
			bins[i] += items[0]
		}
	}
	return false
}
