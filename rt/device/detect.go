package device

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Detect finds out what this node may use.
func Detect(o Options) (Facts, error) {
	m := o.machine()
	f := Facts{Name: m.name(&o), CPUs: []CPU{}, GPUs: []GPU{}}
	for _, part := range []func() error{
		func() error { return m.detectCPUs(&f) },
		func() error { return m.detectMemory(&f) },
		func() error { return m.detectGPUs(&f, &o) },
		func() error { return m.detectInterfaces(&f, &o) },
		func() error { return f.declare(&o) },
	} {
		if err := part(); err != nil {
			return Facts{}, err
		}
	}
	f.Topology = m.slurmTopology()
	f.label(&o)
	return f, nil
}

// Has tells whether this machine has what is declared of a node, and lets it be used: a node of which more is said can only be a fake one.
func Has(o Options) (bool, error) {
	n := o.Node
	o.Node.Fake, o.Node.CPUs, o.Node.MinCPUs, o.Node.GPUs, o.Node.Memory = false, 0, 0, 0, 0
	f, err := Detect(o)
	return err == nil && float64(n.CPUs) <= f.CPU && n.GPUs <= len(f.GPUs) && n.Memory <= int64(f.Memory), err
}

// name is what the cluster calls this node: as told, as Slurm calls it, or the host name up to the first dot.
func (m *machine) name(o *Options) string {
	if o.Node.Name != "" {
		return o.Node.Name
	}
	if n, _ := m.env("SLURMD_NODENAME"); n != "" && m.inSlurm() {
		return n
	}
	host, _, _ := strings.Cut(m.read("proc/sys/kernel/hostname"), ".")
	if host == "" {
		return "localhost"
	}
	return host
}

// declare applies what the boot document says about CPUs, memory and custom resources.
func (f *Facts) declare(o *Options) error {
	n := &o.Node
	if n.CPUs < 0 || n.MinCPUs < 0 || n.Memory < 0 || n.GPUs < 0 {
		return fmt.Errorf("device: a declared amount is negative: %d CPUs, %d bytes, %d GPUs", min(n.CPUs, n.MinCPUs), n.Memory, n.GPUs)
	}
	loose := n.Fake || n.Grant != ""
	f.Fake = n.Fake
	if loose {
		f.CPUs = []CPU{}
	}
	if n.CPUs > 0 || n.NoCPUs {
		if !loose && float64(n.CPUs) > f.CPU {
			return fmt.Errorf("device: %d CPUs are declared, %v may be used (%s); declare no more, or make the node a fake one", n.CPUs, f.CPU, f.winner("CPU"))
		}
		f.CPU = float64(n.CPUs)
		if loose {
			f.declared("CPU", grantedBy(n), f.CPU)
		} else {
			f.bound("CPU", "declared", f.CPU)
			f.win("CPU", func(v float64) bool { return v <= f.CPU })
		}
		if n.CPUs < len(f.CPUs) {
			f.CPUs = f.CPUs[:n.CPUs]
		}
	}
	if f.CPU < float64(n.MinCPUs) && !n.NoCPUs {
		shared := decimal(f.CPU) + " shared"
		f.CPU, f.CPUs = float64(n.MinCPUs), []CPU{}
		f.declared("CPU", shared, f.CPU)
	}
	if n.Memory > 0 {
		if !loose && uint64(n.Memory) > f.Memory {
			return fmt.Errorf("device: %s of memory are declared, %s may be used (%s); declare no more, or make the node a fake one", gib(uint64(n.Memory)), gib(f.Memory), f.winner("memory"))
		}
		f.Memory = uint64(n.Memory)
		if loose {
			f.declared("memory", grantedBy(n), float64(f.Memory))
		} else {
			f.bound("memory", "declared", float64(n.Memory))
			f.win("memory", func(v float64) bool { return v <= float64(f.Memory) })
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Resources)) {
		amount := n.Resources[name]
		switch strings.ToLower(name) {
		case "cpu", "gpu", "memory", "mem":
			return fmt.Errorf("device: %s is not a custom resource; declare it by its own field", name)
		}
		if amount < 0 || math.IsNaN(amount) || amount > 1e14 {
			return fmt.Errorf("device: resource %s=%v is no amount", name, amount)
		}
		if f.Custom == nil {
			f.Custom = make(map[string]float64)
		}
		f.Custom[name] = amount
	}
	if n.Bare {
		f.bare()
	}
	return nil
}

// bare takes all that a node has away from one that only hosts the head. Its memory stays: values that pass
// through it need some.
func (f *Facts) bare() {
	f.CPU, f.CPUs, f.GPUs, f.Custom = 0, []CPU{}, []GPU{}, nil
}

// grantedBy is whose word the declared amounts are.
func grantedBy(n *bootdoc.Node) string {
	return cmp.Or(n.Grant, "declared")
}

// winner names who set the bound that counts.
func (f *Facts) winner(what string) string {
	var who []string
	for _, b := range f.Bounds {
		if b.What == what && b.Won {
			who = append(who, b.Source)
		}
	}
	return strings.Join(who, ", ")
}

// label adds what can be asked for: architecture, the switch that is next to the node, and the model of the GPUs. What the user says comes last and wins.
func (f *Facts) label(o *Options) {
	f.Labels = map[string]string{"arch": runtime.GOARCH}
	if n := len(f.Topology); n > 0 {
		f.Labels["maniple.switch"] = f.Topology[n-1]
	}
	if len(f.GPUs) > 0 && f.GPUs[0].Model != "" && !slices.ContainsFunc(f.GPUs, func(g GPU) bool { return g.Model != f.GPUs[0].Model }) {
		f.Labels["gpu"] = strings.ReplaceAll(f.GPUs[0].Model, " ", "-")
		if name := accelerator(f.GPUs[0].Model); name != "" {
			f.Labels["ray.io/accelerator-type"] = name
		}
	}
	maps.Copy(f.Labels, o.Node.Labels)
}

// Grant is the start line: what of the machine may be used, and who says so where it is not all:
// "16 of 128 cores (SLURM_CPUS_ON_NODE), 1007 of 1007 GiB, 0 GPUs". A core is a logical CPU, as in Slurm.
func (f *Facts) Grant() string {
	gpu := fmt.Sprintf("%d GPUs", len(f.GPUs))
	switch {
	case len(f.GPUs) < f.HostGPUs && !f.slices() && !f.Fake:
		gpu = fmt.Sprintf("%d of %d GPUs", len(f.GPUs), f.HostGPUs)
	case len(f.GPUs) == 1:
		gpu = "1 GPU"
	}
	if f.Fake {
		return fmt.Sprintf("%s cores, %s, %s, declared", decimal(f.CPU), gib(f.Memory), gpu)
	}
	return fmt.Sprintf("%s of %d cores%s, %s of %s%s, %s%s", decimal(f.CPU), f.HostCPUs, f.by("CPU"),
		strings.TrimSuffix(gib(f.Memory), " GiB"), gib(f.HostMemory), f.by("memory"), gpu, f.by("GPU"))
}

// by is who bounds a kind of resource, the first of several; "" if all of the machine is left.
func (f *Facts) by(what string) string {
	for _, b := range f.Bounds {
		if b.What == what && b.Won && b.Source != thisMachine {
			source, _, _ := strings.Cut(b.Source, " at ") // where in the hierarchy is for doctor
			return " (" + source + ")"
		}
	}
	return ""
}

// slices tells whether the GPUs are parts of cards, so that counting them against cards says nothing.
func (f *Facts) slices() bool { return len(f.GPUs) > 0 && f.GPUs[0].Kind == "mig" }

func decimal(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }

// gib is whole gibibytes, or with one digit below ten.
func gib(bytes uint64) string {
	v := float64(bytes) / (1 << 30)
	if v >= 10 {
		return fmt.Sprintf("%.0f GiB", math.Floor(v))
	}
	return decimal(math.Floor(v*10)/10) + " GiB"
}
