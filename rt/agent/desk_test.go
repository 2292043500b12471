package agent

import (
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func res(name string, whole int64) *fb.ResourceT {
	return &fb.ResourceT{Name: name, Amount: whole * 10_000}
}

func TestDivide(t *testing.T) {
	parts := divide([]*fb.ResourceT{res("CPU", 20), res("GPU", 2), res("disk", 3), res("memory", 1<<40)})
	cpus, gpus := int64(0), 0
	for i, p := range parts {
		for _, r := range p {
			switch r.Name {
			case "CPU":
				cpus += r.Amount
			case "GPU":
				gpus++
			}
		}
		if len(p) != 1 { // with what is used of one it would keep the other
			t.Errorf("part %d has %d resources", i, len(p))
		}
	}
	if cpus != 200_000 || gpus != 2 || len(parts) != cpuParts+4 {
		t.Errorf("%d parts with %d CPU and %d GPU", len(parts), cpus, gpus)
	}
	if parts := divide([]*fb.ResourceT{res("CPU", 0), {Name: "CPU", Amount: 9_999}, res("memory", 0)}); len(parts) != 0 {
		t.Errorf("of next to nothing: %d parts", len(parts))
	}
	if got := tenThousandths(1<<42 + 1); got != (1<<42+1)*10_000 {
		t.Errorf("%d", got)
	}
	if got := tenThousandths(0.3); got != 3000 {
		t.Errorf("%d", got)
	}
}

// AGENT-9: what is in use stays, whichever part it is counted in.
func TestSpareParts(t *testing.T) {
	of := func(devices []string, r ...*fb.ResourceT) *part {
		return &part{bundle: &fb.BundlePlaceT{Resources: r, Devices: devices}}
	}
	s := &stake{parts: []*part{
		of(nil, res("CPU", 2), res("memory", 100)), of(nil, res("CPU", 2)), of([]string{"a"}, res("GPU", 1)), of([]string{"b"}, res("GPU", 1)),
		{}, // not placed yet
	}}
	used := func(cpus, gpus, memory int64, devices ...string) *work.Wants {
		return &work.Wants{Used: []work.Amount{{Name: "CPU", Amount: cpus * 10_000}, {Name: "GPU", Amount: gpus * 10_000}, {Name: "memory", Amount: memory * 10_000}}, Devices: devices}
	}
	for _, c := range []struct {
		w       *work.Wants
		lacking [][]work.Amount
		want    []int
	}{
		{used(0, 0, 0), nil, []int{3, 2, 1, 0}},
		{used(1, 0, 0), nil, []int{3, 2, 1}},
		{used(2, 0, 0), nil, []int{3, 2, 1}},
		{used(3, 1, 0, "b"), nil, []int{2}},
		{used(2, 1, 1, "a"), nil, []int{3, 1}},
		{used(9, 2, 0, "a", "b"), nil, nil},                                            // of parents that wait
		{used(1, 0, 0), [][]work.Amount{{{Name: "CPU", Amount: 30_000}}}, []int{3, 2}}, // what gathers CPUs keeps no GPU
		{used(0, 0, 0), [][]work.Amount{{{Name: "GPU", Amount: 10_000}}}, []int{3, 1, 0}},
	} {
		var got []int
		for _, p := range s.spare(c.w, c.lacking) {
			got = append(got, slices.Index(s.parts, p))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with %+v in use: parts %v go back, want %v", c.w, got, c.want)
		}
	}
}
