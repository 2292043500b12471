package placement_test

import (
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
)

func TestCPUList(t *testing.T) {
	for _, c := range []struct{ numa, want string }{
		{"0-1,8;2-3", "0:0 8:0 2:1 3:1 9:-1"},
		{"", "0:-1 8:-1 2:-1 3:-1 9:-1"},
		{";0-9", "0:1 8:1 2:1 3:1 9:1"},
		{"x;3-;1-0;9", "0:-1 8:-1 2:-1 3:-1 9:3"},
	} {
		got := ""
		for i, cpu := range placement.CPUList([]uint32{0, 8, 2, 3, 9}, c.numa) {
			if i > 0 {
				got += " "
			}
			got += fmt.Sprintf("%d:%d", cpu.ID, cpu.NUMA)
		}
		if got != c.want {
			t.Errorf("CPUList(%q) = %s, want %s", c.numa, got, c.want)
		}
	}
}

// TestPutChecksFacts: what an agent says about itself is checked before anything is placed by it.
func TestPutChecksFacts(t *testing.T) {
	two, _ := placement.ParseResources("CPU=2,GPU=2")
	gpus := []placement.Device{{ID: "a"}, {ID: "b"}}
	for name, n := range map[string]placement.Node{
		"negative":      {Total: placement.Resources{{Name: "CPU", Amount: -1}}},
		"bad name":      {Total: placement.Resources{{Name: "a b", Amount: 1}}},
		"no devices":    {Total: two},
		"few devices":   {Total: two, Devices: gpus[:1]},
		"same device":   {Total: two, Devices: []placement.Device{{ID: "a"}, {ID: "a"}}},
		"no identity":   {Total: two, Devices: []placement.Device{{ID: "a"}, {}}},
		"other devices": {Total: two, Devices: append([]placement.Device{{ID: "c", Resource: "TPU"}}, gpus...)},
		"same CPU":      {CPUs: []placement.LogicalCPU{{ID: 1}, {ID: 1}}},
		"same label":    {Labels: []placement.Label{{Key: "a", Value: "1"}, {Key: "a", Value: "2"}}},
	} {
		if err := new(placement.View).Put(n); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := new(placement.View).Put(placement.Node{Total: two, Devices: gpus}); err != nil {
		t.Error(err)
	}
}

// TestCommitRefuses is PLACE-1 against plans that Solve did not make: those of a journal, or of a mistake.
func TestCommitRefuses(t *testing.T) {
	for name, p := range map[string]placement.Place{
		"too much":         {Resources: res("CPU=3")},
		"unknown resource": {Resources: res("lic=1")},
		"no such node":     {Node: 7, Resources: res("CPU=1")},
		"no device":        {Resources: res("GPU=1")},
		"unknown device":   {Resources: res("GPU=1"), Devices: []string{"x"}},
		"device twice":     {Resources: res("GPU=2"), Devices: []string{"a", "a"}},
		"too many devices": {Resources: res("GPU=1"), Devices: []string{"a", "b"}},
		"device unasked":   {Resources: res("CPU=1"), Devices: []string{"a"}},
		"held part":        {Resources: res("GPU=0.6"), Devices: []string{"b"}},
		"held whole":       {Resources: res("GPU=1"), Devices: []string{"b"}},
		"1.5 devices":      {Resources: placement.Resources{{Name: "GPU", Amount: 15_000}}, Devices: []string{"a"}},
		"CPUs unasked":     {Resources: res("GPU=1"), Devices: []string{"a"}, CPUs: []uint32{1}},
		"held CPU":         {Resources: res("CPU=1"), CPUs: []uint32{0}},
		"unknown CPU":      {Resources: res("CPU=1"), CPUs: []uint32{9}},
		"CPU twice":        {Resources: res("CPU=2"), CPUs: []uint32{1, 1}},
		"few CPUs":         {Resources: res("CPU=2"), CPUs: []uint32{1}},
		"negative":         {Resources: placement.Resources{{Name: "CPU", Amount: -10_000}}},
	} {
		v := new(placement.View)
		n := placement.Node{Name: "n0", Total: res("CPU=3,GPU=3"), Devices: []placement.Device{{ID: "a"}, {ID: "b"}, {ID: "c"}}, CPUs: []placement.LogicalCPU{{ID: 0}, {ID: 1}, {ID: 2}}}
		if err := v.Put(n); err != nil {
			t.Fatal(err)
		}
		if err := v.Commit(placement.Holder{Name: "first"}, &placement.Plan{Places: []placement.Place{{Resources: res("CPU=1,GPU=0.5"), Devices: []string{"b"}, CPUs: []uint32{0}}}}); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(snapshot(v))
		h := placement.Holder{Name: "second", Incarnation: 1}
		good := placement.Place{Resources: res("CPU=0.5,GPU=0.4"), Devices: []string{"b"}}
		if err := v.Commit(h, &placement.Plan{Places: []placement.Place{good, p}}); err == nil {
			t.Errorf("%s: committed", name)
		}
		if after := fmt.Sprint(snapshot(v)); after != before {
			t.Errorf("%s: refused, and the view changed\nbefore %s\nafter  %s", name, before, after)
		}
		if err := v.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := v.Commit(h, &placement.Plan{Places: []placement.Place{good}}); err != nil {
			t.Errorf("%s: a good plan is refused afterwards: %v", name, err)
		}
	}
}

func res(s string) placement.Resources {
	r, err := placement.ParseResources(s)
	if err != nil {
		panic(err)
	}
	return r
}
