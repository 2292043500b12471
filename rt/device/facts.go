package device

import (
	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Options say where to look. The zero Options look at this machine.
type Options struct {
	Root       string              // of the file system; "": /
	Getenv     func(string) string // nil: os.Getenv
	Node       bootdoc.Node        // declared values win over detected ones, and may be larger only on a fake node
	Interfaces []string            // globs in order of preference
	Loopback   bool                // addresses on the loopback interface only
	Affinity   []int               // the process's mask; nil: ask the kernel
	NvidiaSMI  string              // "": found in PATH; "-": not used
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
	ID   uint32 `json:"id"`
	NUMA int    `json:"numa"` // -1: not known
	Core int    `json:"core"` // threads with one core number share it
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
	CPUs       []CPU              `json:"cpus"` // neighbours next to each other; empty on a fake node
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
	Bounds     []Bound            `json:"bounds"`
	Warnings   []string           `json:"warnings,omitempty"`
}

// Detect finds out what this node may use.
func Detect(o Options) (Facts, error) { return Facts{}, nil }

// Grant is the start line: "16 of 128 cores, 64 of 1007 GiB, 0 GPUs".
func (f *Facts) Grant() string { return "" }

// Addresses are the node's addresses in order of preference, without ports.
func (f *Facts) Addresses() []string { return nil }

// Level is how bad a finding is.
type Level string

// The levels of findings.
const (
	OK   Level = "ok"
	Info Level = "info"
	Warn Level = "warn"
	Bad  Level = "bad"
)

// Finding is one thing that doctor has to say.
type Finding struct {
	Code  string `json:"code"` // stable: DEV_SHM_SMALL
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// Doctor looks at what the machine has and what is wrong with it.
func Doctor(o Options) []Finding { return nil }

// RaiseLimits raises this process's soft limits to the hard ones and says which fall short of what is needed.
func RaiseLimits() []Finding { return nil }
