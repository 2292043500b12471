package placetest

import (
	"slices"

	"github.com/maniple-hpc/maniple/placement"
)

// Brute tries every placement of a small request and gives the fewest nodes that one needs, 0 if there is none.
// With empty, nodes are taken as wholly free and paused ones as open. It decides devices one by one.
func Brute(v *placement.View, r *placement.Request, empty bool) (nodes int) {
	b := &brute{r: r}
	for _, n := range v.Nodes() {
		if n.State != placement.Open && !empty {
			continue
		}
		free, devices := n.Free, make([]placement.Amount, len(n.Devices))
		for i := range n.Devices {
			devices[i] = n.Devices[i].Free
			if empty {
				devices[i] = placement.One
			}
		}
		if empty {
			free = n.Total
		}
		left := make(map[string]placement.Amount)
		for _, e := range free {
			left[e.Name] = e.Amount
		}
		b.nodes = append(b.nodes, n)
		b.left = append(b.left, left)
		b.devices = append(b.devices, devices)
	}
	b.used = make([]int, len(b.nodes))
	b.best = len(b.nodes) + 1
	b.try(0, 0)
	if b.best > len(b.nodes) {
		return 0
	}
	return b.best
}

type brute struct {
	r       *placement.Request
	nodes   []*placement.Node
	left    []map[string]placement.Amount
	devices [][]placement.Amount
	used    []int
	best    int
}

func (b *brute) try(i, count int) {
	if count >= b.best {
		return
	}
	if i == len(b.r.Bundles) {
		b.best = count
		return
	}
	bundle := &b.r.Bundles[i]
	for n := range b.nodes {
		switch {
		case b.apart(n),
			b.r.Strategy == placement.StrictSpread && b.used[n] > 0,
			b.r.Strategy == placement.StrictPack && b.used[n] == 0 && i > 0,
			slices.ContainsFunc(bundle.Needs, func(need placement.Need) bool { return !Meets(b.nodes[n], need) }),
			slices.ContainsFunc(bundle.Resources, func(e placement.Resource) bool { return b.left[n][e.Name] < e.Amount }):
			continue
		}
		opened := 0
		if b.used[n] == 0 {
			opened = 1
		}
		b.used[n]++
		for _, e := range bundle.Resources {
			b.left[n][e.Name] -= e.Amount
		}
		b.give(n, bundle.Resources.Get(placement.GPU), 0, func() { b.try(i+1, count+opened) })
		for _, e := range bundle.Resources {
			b.left[n][e.Name] += e.Amount
		}
		b.used[n]--
	}
}

// apart tells whether a node is not where the request has to stay with what it has already.
func (b *brute) apart(n int) bool {
	if b.r.Within == "" {
		return false
	}
	value, has := Label(b.nodes[n], b.r.Within)
	return !has || slices.ContainsFunc(b.nodes, func(o *placement.Node) bool {
		other, _ := Label(o, b.r.Within)
		return b.used[slices.Index(b.nodes, o)] > 0 && other != value
	})
}

// give tries every way to take the GPUs from the node's devices.
func (b *brute) give(n int, gpu placement.Amount, from int, then func()) {
	if gpu == 0 {
		then()
		return
	}
	part := min(gpu, placement.One)
	for d := from; d < len(b.devices[n]); d++ {
		if b.devices[n][d] >= part {
			b.devices[n][d] -= part
			b.give(n, gpu-part, d+1, then)
			b.devices[n][d] += part
		}
	}
}
