// Package spec is what a user asks for: the flags of sbatch and srun by their names, as one struct, and
// its conversion to the bundles of a placement group.
//
// Nouns. A Spec is the request. A Shape is what becomes of it: bundles, a strategy, and the number of
// programs. Ranks are programs that know of each other; a driver is a single program that is no rank.
//
// Guarantees.
//
//	SPEC-1: every error names the flag that caused it and what to write instead.
//	SPEC-2: without a task count there is exactly one program, the driver; with one, that many ranks.
//	SPEC-3: a Shape's ranks add up to the task count, and its bundles to the resources asked for.
//
// A flag wins over MANIPLE_<FLAG>, which wins over what a Slurm job says about itself, which wins over
// configuration files: who parses says where a value is from.
package spec

import "time"

// Spec is one request. Zero means "not asked for" everywhere.
type Spec struct {
	Command []string // the user's program and its arguments
	Name    string   // -J

	NodesMin, NodesMax int // -N min-max
	Tasks              int // -n
	TasksPerNode       int // --ntasks-per-node
	CPUsPerTask        int // -c
	GPUs               int // --gpus: total
	GPUsPerNode        int
	GPUsPerTask        int
	GPUVisibility      string     // --gpu-visibility: own, node; "": own with --gpus-per-task
	Mem                int64      // --mem: bytes per node
	MemPerCPU          int64      // bytes
	Resources          []Resource // --gres, --resources: custom, per node (gang of nodes) or per task (-n alone)
	Labels             []Label    // --constraint, --label: all must hold
	Strategy           string     // --strategy: pack, spread, strict-pack, strict-spread; "": by the other flags

	Time        time.Duration // -t
	Wait        time.Duration // --immediate: give up placing after so long; 0: wait
	Output      string        // -o pattern
	Error       string        // -e pattern
	Input       string        // -i file
	Chdir       string        // -D
	Export      string        // --export: ALL, NONE, names, K=V
	MaxRestarts int           // -1: no bound
	Grace       time.Duration // between TERM and KILL
	Signal      string        // --signal: [B:]SIG@seconds
	SlurmEnv    string        // rewrite, keep, hide
	Bind        bool          // one disjoint set of CPUs per rank

	FakeNodes int // nodes that are declared on this machine
}

// Resource is a custom resource and its amount.
type Resource struct {
	Name   string
	Amount float64
}

// Label is a property that a node must have.
type Label struct{ Key, Value string }

// Bundle is a set of resources on one node and the number of programs on it.
type Bundle struct {
	CPUs      int
	GPUs      int
	Memory    int64 // bytes
	Resources []Resource
	Labels    []Label
	Ranks     int
}

// Strategies, by the names used in flags.
const (
	Pack         = "pack"
	Spread       = "spread"
	StrictPack   = "strict-pack"
	StrictSpread = "strict-spread"
)

// What of a node's GPUs a rank sees.
const (
	Own  = "own"
	Node = "node"
)

// Shape is a request made concrete.
type Shape struct {
	Bundles  []Bundle
	Strategy string
	Driver   bool // one program that is no rank
	Ranks    int
	Nodes    int // nodes asked for by name (-N); 0: as many as it takes
	OwnGPUs  int // GPUs that each rank sees, its own; 0: it sees all that the gang has on its node
}

// FlagError says which flag is wrong, why, and what to write.
type FlagError struct{ Flag, Why, Do string }

func (e *FlagError) Error() string {
	s := e.Flag + ": " + e.Why
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}
