package placement

import (
	"cmp"
	"slices"
	"strings"
)

// identify gives the bundles of one node their devices and CPUs: whole devices first, near each other, then
// parts, one device filled before the next, then CPUs near the devices. It repeats the packing that fit found.
func (s *solver) identify(n *Node, places []Place, bundles []int32) {
	left := make([]Amount, len(n.Devices))
	for i := range n.Devices {
		left[i] = n.Devices[i].Free
	}
	cpus := cpuPool{free: make([]bool, len(n.CPUs)), node: n}
	for i := range n.CPUs {
		cpus.free[i] = n.CPUs[i].Free
	}
	for _, name := range s.cols {
		if !n.hasDevices(name) {
			continue
		}
		for _, b := range bundles {
			if a := places[b].Resources.Get(name); a > 0 && a.IsWhole() {
				cpu := int(places[b].Resources.Get(CPU) / One)
				for _, d := range chooseWhole(n, name, left, int(a/One), cpu, &cpus) {
					left[d] = 0
					places[b].Devices = append(places[b].Devices, n.Devices[d].ID)
				}
			}
		}
		s.identifyParts(n, name, left, places, bundles)
	}
	if !n.bound() {
		return
	}
	for _, b := range bundles {
		if a := places[b].Resources.Get(CPU); a > 0 && a.IsWhole() {
			places[b].CPUs = cpus.take(int(a/One), numaOf(n, places[b].Devices))
		}
	}
}

func (s *solver) identifyParts(n *Node, name string, left []Amount, places []Place, bundles []int32) {
	var want []int32
	for _, b := range bundles {
		if a := places[b].Resources.Get(name); a > 0 && !a.IsWhole() {
			want = append(want, b)
		}
	}
	if len(want) == 0 {
		return
	}
	slices.SortStableFunc(want, func(a, b int32) int {
		return cmp.Compare(places[b].Resources.Get(name), places[a].Resources.Get(name))
	})
	items := make([]Amount, len(want))
	for i, b := range want {
		items[i] = places[b].Resources.Get(name)
	}
	var parts []Amount
	var partly, whole []int
	for d := range n.Devices {
		switch {
		case n.Devices[d].Resource != name:
		case left[d] == One:
			whole = append(whole, d)
		case left[d] > 0:
			at := insertAt(parts, left[d])
			parts = slices.Insert(parts, at, left[d])
			partly = slices.Insert(partly, at, d)
		}
	}
	bins := append(partly, openFirst(n, whole)...)
	to, _ := s.packFractions(nil, parts, len(whole), items, nil)
	for i, bin := range to {
		left[bins[bin]] -= items[i]
		places[want[i]].Devices = append(places[want[i]].Devices, n.Devices[bins[bin]].ID)
	}
}

// openFirst orders whole devices for being split: those of the NUMA node with the fewest whole ones left.
func openFirst(n *Node, whole []int) []int {
	count := func(d int) (c int) {
		for _, e := range whole {
			if n.Devices[e].NUMA == n.Devices[d].NUMA {
				c++
			}
		}
		return c
	}
	out := slices.Clone(whole)
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(count(a), count(b)) })
	return out
}

// chooseWhole picks k whole devices: from one NUMA node if one has enough, with enough CPUs if possible, the
// one with the fewest to spare; within it the run of neighbours on the PCI bus that lies closest together.
func chooseWhole(n *Node, name string, left []Amount, k, cpu int, cpus *cpuPool) []int {
	var whole []int
	for d := range n.Devices {
		if n.Devices[d].Resource == name && left[d] == One {
			whole = append(whole, d)
		}
	}
	slices.SortStableFunc(whole, func(a, b int) int {
		x, y := &n.Devices[a], &n.Devices[b]
		return cmp.Or(cmp.Compare(x.NUMA, y.NUMA), strings.Compare(x.PCI, y.PCI))
	})
	type group struct{ lo, hi int }
	var groups []group
	for lo := 0; lo < len(whole); {
		hi := lo
		for hi < len(whole) && n.Devices[whole[hi]].NUMA == n.Devices[whole[lo]].NUMA {
			hi++
		}
		groups = append(groups, group{lo, hi})
		lo = hi
	}
	best := -1
	cost := func(g group) int {
		c := g.hi - g.lo
		if n.bound() && cpus.count(n.Devices[whole[g.lo]].NUMA) < cpu {
			c += 1 << 20
		}
		return c
	}
	for i, g := range groups {
		if g.hi-g.lo >= k && (best < 0 || cost(g) < cost(groups[best])) {
			best = i
		}
	}
	if best >= 0 {
		return closest(n, whole[groups[best].lo:groups[best].hi], k)
	}
	// None has enough: as few NUMA nodes as possible, the fullest first.
	slices.SortStableFunc(groups, func(a, b group) int { return cmp.Compare(b.hi-b.lo, a.hi-a.lo) })
	var out []int
	for _, g := range groups {
		take := min(k-len(out), g.hi-g.lo)
		out = append(out, closest(n, whole[g.lo:g.hi], take)...)
	}
	slices.Sort(out)
	return out
}

// closest is the run of k in devs, sorted by PCI address, whose ends have the longest common address.
func closest(n *Node, devs []int, k int) []int {
	best, at := -1, 0
	for i := 0; i+k <= len(devs); i++ {
		a, b := n.Devices[devs[i]].PCI, n.Devices[devs[i+k-1]].PCI
		common := 0
		for common < len(a) && common < len(b) && a[common] == b[common] {
			common++
		}
		if common > best {
			best, at = common, i
		}
	}
	out := slices.Clone(devs[at : at+k])
	slices.Sort(out)
	return out
}

// numaOf is the NUMA node that all the named devices share, -1 if they don't or it is not known.
func numaOf(n *Node, names []string) int32 {
	numa := int32(-1)
	for i, name := range names {
		d := n.device(name)
		if i > 0 && d.NUMA != numa {
			return -1
		}
		numa = d.NUMA
	}
	return numa
}

// cpuPool hands out the CPUs of one node.
type cpuPool struct {
	node *Node
	free []bool
}

func (p *cpuPool) count(numa int32) (n int) {
	for i, free := range p.free {
		if free && p.node.CPUs[i].NUMA == numa {
			n++
		}
	}
	return n
}

// take picks k CPUs in the node's order: from the preferred NUMA node, else the one with the fewest to spare,
// else from as few as possible.
func (p *cpuPool) take(k int, prefer int32) []uint32 {
	var numas []int32
	for i := range p.node.CPUs {
		if numa := p.node.CPUs[i].NUMA; !slices.Contains(numas, numa) {
			numas = append(numas, numa)
		}
	}
	slices.SortStableFunc(numas, func(a, b int32) int {
		x, y := p.count(a), p.count(b)
		switch {
		case (x >= k) != (y >= k):
			return cmp.Compare(y, x)
		case a == prefer || b == prefer:
			if a == prefer {
				return -1
			}
			return 1
		case x >= k:
			return cmp.Compare(x, y)
		}
		return cmp.Compare(y, x)
	})
	out := make([]uint32, 0, k)
	for _, numa := range numas {
		for i := range p.free {
			if len(out) < k && p.free[i] && p.node.CPUs[i].NUMA == numa {
				p.free[i] = false
				out = append(out, p.node.CPUs[i].ID)
			}
		}
	}
	slices.Sort(out)
	return out
}
