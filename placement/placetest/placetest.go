// Package placetest has what tests of placement and of its callers need: a generator of views and requests from
// a seed, a checker of plans that knows nothing of the solver, and a brute-force answer for small instances.
package placetest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Size bounds what Generate makes.
type Size struct{ Nodes, Bundles, Shapes, GPUs, CPUs int }

// Small is a size that Brute can answer.
var Small = Size{Nodes: 4, Bundles: 6, Shapes: 3, GPUs: 3, CPUs: 6}

// Generate makes a view, some of it held by others, and a request that may or may not fit.
func Generate(seed uint64, size Size) (*placement.View, *placement.Request) {
	rng := rand.New(rand.NewPCG(seed, 1))
	v := new(placement.View)
	alike := rng.IntN(2) == 0
	var last placement.Node
	for i := range 1 + rng.IntN(size.Nodes) {
		if i == 0 || !alike {
			last = node(rng, size)
		}
		n := last
		n.Index, n.Name = i, fmt.Sprintf("n%d", i)
		if rng.IntN(10) == 0 {
			n.State, n.Why = placement.State(1+rng.IntN(2)), "closed by the test"
		}
		must(v.Put(n))
	}
	for i := range rng.IntN(4) {
		r := request(rng, size)
		if p, _ := placement.Solve(v, r); p != nil {
			must(v.Commit(Holder(i), p))
		}
	}
	return v, request(rng, size)
}

// Holder is the i-th holder of a test.
func Holder(i int) placement.Holder {
	return placement.Holder{ID: id.Task{Agent: 1, Process: 1, Counter: uint64(i)}, Name: fmt.Sprintf("gang%d", i)}
}

func node(rng *rand.Rand, size Size) placement.Node {
	cpus, gpus := 1+rng.IntN(size.CPUs), rng.IntN(size.GPUs+1)
	n := placement.Node{}
	list := []placement.Resource{{Name: placement.CPU, Amount: placement.Whole(int64(cpus))}}
	for c := range cpus {
		n.CPUs = append(n.CPUs, placement.LogicalCPU{ID: uint32(c), NUMA: int32(c % 2)})
	}
	if gpus > 0 {
		list = append(list, placement.Resource{Name: placement.GPU, Amount: placement.Whole(int64(gpus))})
	}
	for g := range gpus {
		n.Devices = append(n.Devices, placement.Device{ID: fmt.Sprintf("GPU-%d", g), NUMA: int32(g / 2), PCI: fmt.Sprintf("0000:%02x:00.0", g*16)})
	}
	if rng.IntN(2) == 0 {
		list = append(list, placement.Resource{Name: "lic", Amount: placement.Amount(rng.IntN(4)) * placement.One / 2})
	}
	if rng.IntN(4) > 0 {
		list = append(list, placement.Resource{Name: placement.Memory, Amount: placement.Whole(int64(1+rng.IntN(8)) << 30)})
	}
	n.Total, _ = placement.Make(list...)
	n.Labels = []placement.Label{{Key: "arch", Value: []string{"a", "b"}[rng.IntN(2)]}}
	if rng.IntN(3) > 0 {
		n.Labels = append(n.Labels, placement.Label{Key: "rack", Value: []string{"r1", "r2", "r3"}[rng.IntN(3)]})
	}
	if rng.IntN(2) == 0 {
		n.Topology = []string{"core", []string{"leaf0", "leaf1"}[rng.IntN(2)]}
	}
	return n
}

func request(rng *rand.Rand, size Size) *placement.Request {
	r := &placement.Request{Strategy: placement.Strategy(rng.IntN(4)), Seed: uint64(rng.IntN(3))}
	shapes := make([]placement.Bundle, 1+rng.IntN(size.Shapes))
	parts := []placement.Amount{2500, 3000, 4000, 5000, 6000, 7000}
	for i := range shapes {
		var list []placement.Resource
		if rng.IntN(4) > 0 {
			list = append(list, placement.Resource{Name: placement.CPU, Amount: placement.Amount(1+rng.IntN(4)) * placement.One / placement.Amount(1+rng.IntN(2))})
		}
		switch rng.IntN(3) {
		case 0:
			list = append(list, placement.Resource{Name: placement.GPU, Amount: placement.Whole(int64(1 + rng.IntN(2)))})
		case 1:
			list = append(list, placement.Resource{Name: placement.GPU, Amount: parts[rng.IntN(len(parts))]})
		}
		if rng.IntN(4) == 0 {
			list = append(list, placement.Resource{Name: "lic", Amount: placement.One / 2})
		}
		if rng.IntN(3) == 0 {
			list = append(list, placement.Resource{Name: placement.Memory, Amount: placement.Whole(int64(1+rng.IntN(3)) << 30)})
		}
		shapes[i].Resources, _ = placement.Make(list...)
		if rng.IntN(5) == 0 {
			shapes[i].Needs = []placement.Need{{Key: "arch", Expr: []string{"a", "!a", "in(a,b)", "c"}[rng.IntN(4)]}}
		}
	}
	for range 1 + rng.IntN(size.Bundles) {
		r.Bundles = append(r.Bundles, shapes[rng.IntN(len(shapes))])
	}
	if rng.IntN(4) == 0 {
		r.Within = []string{"arch", "rack"}[rng.IntN(2)]
	}
	must(r.Validate())
	return r
}

func must(err error) {
	if err != nil {
		panic(err) // the generator made nonsense: a bug of the test
	}
}

// Check says what is wrong with a plan: PLACE-1, PLACE-2 and PLACE-6, worked out from the nodes alone.
func Check(v *placement.View, r *placement.Request, p *placement.Plan) error {
	if len(p.Places) != len(r.Bundles) {
		return fmt.Errorf("PLACE-2: %d places for %d bundles", len(p.Places), len(r.Bundles))
	}
	used := make(map[int]int)
	type key struct {
		node int
		what string
	}
	taken := make(map[key]placement.Amount)
	for i, at := range p.Places {
		n := v.Node(at.Node)
		b := &r.Bundles[i]
		switch {
		case at.Bundle != i || !at.Resources.Equal(b.Resources):
			return fmt.Errorf("PLACE-2: place %d is for bundle %d with %v", i, at.Bundle, at.Resources)
		case n == nil || n.State != placement.Open:
			return fmt.Errorf("PLACE-1: bundle %d is on a node that takes nothing", i)
		}
		used[at.Node]++
		for _, need := range b.Needs {
			if !Meets(n, need) {
				return fmt.Errorf("PLACE-1: bundle %d needs %s=%s, node %s differs", i, need.Key, need.Expr, n.Name)
			}
		}
		for _, e := range b.Resources {
			k := key{at.Node, e.Name}
			if taken[k] += e.Amount; taken[k] > n.Free.Get(e.Name) {
				return fmt.Errorf("PLACE-1: node %s: %v %s taken, %v free", n.Name, taken[k], e.Name, n.Free.Get(e.Name))
			}
		}
		gpu := b.Resources.Get(placement.GPU)
		want := int((gpu + placement.One - 1) / placement.One)
		if len(at.Devices) != want {
			return fmt.Errorf("PLACE-1: bundle %d has %v GPU and devices %v", i, gpu, at.Devices)
		}
		for _, name := range at.Devices {
			d := slices.IndexFunc(n.Devices, func(d placement.Device) bool { return d.ID == name })
			k := key{at.Node, "device " + name}
			if d < 0 {
				return fmt.Errorf("PLACE-1: node %s has no device %s", n.Name, name)
			}
			if taken[k] += min(gpu, placement.One); taken[k] > n.Devices[d].Free {
				return fmt.Errorf("PLACE-1: node %s: device %s is given %v, %v free", n.Name, name, taken[k], n.Devices[d].Free)
			}
		}
		cpu := b.Resources.Get(placement.CPU)
		if cpu.IsWhole() && len(at.CPUs) != int(cpu/placement.One) {
			return fmt.Errorf("PLACE-1: bundle %d has %v CPU and CPUs %v", i, cpu, at.CPUs)
		}
		for _, c := range at.CPUs {
			k := key{at.Node, fmt.Sprint("cpu ", c)}
			free := slices.ContainsFunc(n.CPUs, func(x placement.LogicalCPU) bool { return x.ID == c && x.Free })
			if taken[k]++; taken[k] > 1 || !free {
				return fmt.Errorf("PLACE-1: node %s: CPU %d is not free", n.Name, c)
			}
		}
	}
	for i := range p.Places {
		if r.Within == "" {
			break
		}
		first, _ := Label(v.Node(p.Places[0].Node), r.Within)
		if value, has := Label(v.Node(p.Places[i].Node), r.Within); !has || value != first {
			return fmt.Errorf("PLACE-6: bundles 0 and %d have %q and %q of label %s", i, first, value, r.Within)
		}
	}
	switch r.Strategy {
	case placement.StrictPack:
		if len(used) > 1 {
			return fmt.Errorf("PLACE-6: STRICT_PACK on %d nodes", len(used))
		}
	case placement.StrictSpread:
		if len(used) != len(r.Bundles) {
			return fmt.Errorf("PLACE-6: STRICT_SPREAD of %d bundles on %d nodes", len(r.Bundles), len(used))
		}
	}
	return nil
}

// Label is what a node has of a label.
func Label(n *placement.Node, key string) (value string, has bool) {
	at := slices.IndexFunc(n.Labels, func(l placement.Label) bool { return l.Key == key })
	if at < 0 {
		return "", false
	}
	return n.Labels[at].Value, true
}

// Nodes is how many nodes a plan uses.
func Nodes(p *placement.Plan) int {
	seen := make(map[int]bool)
	for _, at := range p.Places {
		seen[at.Node] = true
	}
	return len(seen)
}

// Meets tells whether a node's labels meet a need; it knows the forms that Generate makes.
func Meets(n *placement.Node, need placement.Need) bool {
	value := ""
	for _, l := range n.Labels {
		if l.Key == need.Key {
			value = l.Value
		}
	}
	switch need.Expr {
	case "in(a,b)":
		return value == "a" || value == "b"
	case "!a":
		return value != "a"
	}
	return value == need.Expr
}
