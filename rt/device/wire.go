package device

import (
	"maps"
	"math"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// labelNUMA is placement.LabelNUMA, which this room's binaries need not import for one word.
const labelNUMA = "maniple.numa"

// Fill writes the facts into a registration: name, resources, devices, CPUs, labels, topology and grant.
// NUMA nodes of CPUs go into a label of their own ("0-15;16-31"), which placement reads back with CPUList.
func (f *Facts) Fill(r *fb.RegisterT) {
	r.Name, r.Grant, r.Topology = f.Name, f.Grant(), f.Topology
	r.Resources = nil
	add := func(name string, amount float64) {
		if amount > 0 {
			r.Resources = append(r.Resources, &fb.ResourceT{Name: name, Amount: int64(math.Round(amount * 10_000))})
		}
	}
	add("CPU", f.CPU)
	add("GPU", float64(len(f.GPUs)))
	for _, name := range f.accelerators() { // of which a task with an accelerator_type takes a thousandth
		add("accelerator_type:"+name, 1)
	}
	add("memory", float64(f.Memory))
	for _, name := range slices.Sorted(maps.Keys(f.Custom)) {
		add(name, f.Custom[name])
	}
	r.Devices = nil
	for _, g := range f.GPUs {
		r.Devices = append(r.Devices, &fb.DeviceT{Id: g.ID, Kind: g.Kind, Model: g.Model, Minor: int32(g.Minor), Pci: g.PCI, Numa: int32(g.NUMA), Memory: g.Memory})
	}
	r.Cpus = nil
	for _, c := range f.CPUs {
		r.Cpus = append(r.Cpus, c.ID)
	}
	r.Labels = nil
	labels := maps.Clone(f.Labels)
	if numa := f.NUMA(); numa != "" {
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[labelNUMA] = numa
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		r.Labels = append(r.Labels, &fb.LabelT{Key: key, Value: labels[key]})
	}
}
