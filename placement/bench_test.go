package placement_test

import (
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/placement/placetest"
)

// cluster has nodes of 64 CPUs and 8 GPUs in racks of 32.
func cluster(nodes int) *placement.View {
	v := new(placement.View)
	for i := range nodes {
		n := placement.Node{Index: i, Name: fmt.Sprintf("n%04d", i), Topology: []string{"fabric", fmt.Sprintf("rack%02d", i/32)}}
		n.Total, _ = placement.ParseResources("CPU=64,GPU=8,memory=512G")
		for c := range 64 {
			n.CPUs = append(n.CPUs, placement.LogicalCPU{ID: uint32(c), NUMA: int32(c / 32)})
		}
		for g := range 8 {
			n.Devices = append(n.Devices, placement.Device{ID: fmt.Sprintf("GPU-%04d-%d", i, g), NUMA: int32(g / 4), PCI: fmt.Sprintf("0000:%02x:00.0", g*16)})
		}
		if err := v.Put(n); err != nil {
			panic(err)
		}
	}
	return v
}

func bundles(n int, s placement.Strategy, shapes ...string) *placement.Request {
	r := &placement.Request{Strategy: s}
	for i := range n {
		res, err := placement.ParseResources(shapes[i%len(shapes)])
		if err != nil {
			panic(err)
		}
		r.Bundles = append(r.Bundles, placement.Bundle{Resources: res, Ranks: 1})
	}
	return r
}

// BenchmarkSolve has the bar: 1,000 nodes and 1,000 equal bundles well under 50 ms.
func BenchmarkSolve(b *testing.B) {
	for _, c := range []struct {
		name   string
		shapes []string
		s      placement.Strategy
	}{
		{"equal/PACK", []string{"CPU=8,GPU=1,memory=32G"}, placement.Pack},
		{"equal/SPREAD", []string{"CPU=8,GPU=1,memory=32G"}, placement.Spread},
		{"equal/STRICT_SPREAD", []string{"CPU=64,GPU=8"}, placement.StrictSpread},
		{"parts/PACK", []string{"CPU=1,GPU=0.25"}, placement.Pack},
		{"three/PACK", []string{"CPU=8,GPU=1", "CPU=4", "CPU=16,GPU=2,memory=64G"}, placement.Pack},
		{"three/SPREAD", []string{"CPU=8,GPU=1", "CPU=4", "CPU=16,GPU=2,memory=64G"}, placement.Spread},
		{"three/STRICT_SPREAD", []string{"CPU=8,GPU=1", "CPU=4", "CPU=16,GPU=2,memory=64G"}, placement.StrictSpread},
		{"toomany/PACK", []string{"CPU=64,GPU=8", "CPU=2"}, placement.Pack},
	} {
		b.Run(c.name, func(b *testing.B) {
			v, r := cluster(1000), bundles(1000, c.s, c.shapes...)
			if c.name == "toomany/PACK" {
				r = bundles(2100, c.s, c.shapes...)
			}
			b.ReportAllocs()
			for b.Loop() {
				placement.Solve(v, r)
			}
		})
	}
}

// BenchmarkCommitRelease takes and gives back a plan of 1,000 bundles.
func BenchmarkCommitRelease(b *testing.B) {
	v := cluster(1000)
	p, _ := placement.Solve(v, bundles(1000, placement.Pack, "CPU=8,GPU=1"))
	b.ReportAllocs()
	for b.Loop() {
		h := placetest.Holder(1)
		if err := v.Commit(h, p); err != nil {
			b.Fatal(err)
		}
		v.Release(h.ID, 0)
	}
}
