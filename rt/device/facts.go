package device

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Options say where to look. The zero Options look at this machine.
type Options struct {
	Root       string                      // of the file system; "": /
	Getenv     func(string) string         // nil: os.Getenv
	LookupEnv  func(string) (string, bool) // instead of Getenv, for those who must tell empty from not set
	Node       bootdoc.Node                // declared values win over detected ones, and may be larger only on a fake node
	Interfaces []string                    // globs in order of preference
	Loopback   bool                        // addresses on the loopback interface only
	NvidiaSMI  string                      // path of the program; "": looked up in PATH, if Root is this machine's
	Links      func() ([]Link, error)      // network interfaces; nil: ask the kernel
}

// Bound is one limit that was found, and who set it.
type Bound struct {
	What   string  `json:"what"`   // CPU, memory, GPU
	Source string  `json:"source"` // "cgroup v2 memory.max at /system.slice/...", "SLURM_CPUS_ON_NODE"
	Value  float64 `json:"value"`
	Won    bool    `json:"won,omitempty"` // the smallest, so the one that counts
}

// GPU is a device.
type GPU struct {
	ID     string `json:"id"`   // "GPU-<uuid>", "MIG-<uuid>", or "gpu-0" where it was declared
	Kind   string `json:"kind"` // nvidia, mig, amd, declared
	Model  string `json:"model,omitempty"`
	Minor  int    `json:"minor"` // of /dev/nvidiaN or /dev/dri/renderDN; -1: none
	PCI    string `json:"pci,omitempty"`
	NUMA   int    `json:"numa"` // -1: not known
	Memory uint64 `json:"memory,omitempty"`
}

// CPU is a logical CPU that may be used.
type CPU struct {
	ID     uint32 `json:"id"`
	NUMA   int    `json:"numa"` // -1: not known
	Socket int    `json:"socket"`
	Core   int    `json:"core"` // threads of one socket and core share it
}

// Interface is a network interface with the addresses that others may reach this node at.
type Interface struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Speed     int      `json:"mbit_s,omitempty"`
	NUMA      int      `json:"numa"`
}

// Facts are what this node may use. Amounts are in the units of the wire: 1/10,000.
type Facts struct {
	Name       string             `json:"name"`
	CPUs       []CPU              `json:"cpus"` // neighbours next to each other; empty on a fake node, and where programs share them
	CPU        float64            `json:"cpu"`  // how many of them, a quota counted in
	Memory     uint64             `json:"memory"`
	GPUs       []GPU              `json:"gpus"`
	Custom     map[string]float64 `json:"custom,omitempty"`
	Labels     map[string]string  `json:"labels,omitempty"`
	Topology   []string           `json:"topology,omitempty"`
	Interfaces []Interface        `json:"interfaces"`
	HostCPUs   int                `json:"host_cpus"`
	HostMemory uint64             `json:"host_memory"`
	HostGPUs   int                `json:"host_gpus"`
	Fake       bool               `json:"fake,omitempty"` // declared, not detected
	Bounds     []Bound            `json:"bounds"`
	Warnings   []string           `json:"warnings,omitempty"`
}

func (f *Facts) bound(what, source string, value float64) {
	f.Bounds = append(f.Bounds, Bound{What: what, Source: source, Value: value})
}

// win marks the bounds that count: those that are as small as what is left. If all of the machine is left,
// nobody else bounds it.
func (f *Facts) win(what string, small func(float64) bool) {
	whole := false
	for i := range f.Bounds {
		b := &f.Bounds[i]
		if b.What == what {
			b.Won = !whole && small(b.Value)
			whole = whole || b.Won && b.Source == thisMachine
		}
	}
}

// declared replaces the bounds of a kind by what was declared or granted, which may be more than there is.
func (f *Facts) declared(what, source string, value float64) {
	f.Bounds = slices.DeleteFunc(f.Bounds, func(b Bound) bool { return b.What == what })
	f.Bounds = append(f.Bounds, Bound{What: what, Source: source, Value: value, Won: true})
}

// thisMachine is the source of the first bound of each kind.
const thisMachine = "this machine"

func (f *Facts) warn(format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...))
}
