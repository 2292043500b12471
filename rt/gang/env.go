package gang

import (
	"strconv"
	"strings"
)

// EnvInput is all that a program's environment depends on.
type EnvInput struct {
	Base     []string // K=V of whoever asked; of a name that comes twice the last one counts
	SlurmEnv string   // rewrite (also ""), keep, hide
	Driver   bool     // a single program that is no rank
	Cwd      string

	Group             string
	Incarnation       uint32 // the first is 1
	Rank, LocalRank   uint32
	NodeRank          uint32
	World, LocalWorld uint32
	Nodes             uint32
	MasterAddr        string
	MasterPort        uint16

	NodeName    string
	NodeKey     string   // the keeper's identity: what its sweep looks for
	Address     string   // of the node's agent
	Interface   string   // network interface that other nodes reach this one by; "": not known
	Devices     []Device // that the program may use: of its bundle, or all that its gang has on this node
	OwnDevices  uint32   // each rank sees this many of Devices, its own; 0: all
	OwnPlace    uint32   // place of the rank among those that share Devices
	NodeDevices []Device // of the node
	CPUs        int      // of this program, 0: not known
	BadHome     string   // a home directory that can't be written here; "": all is well
}

// Device is a GPU as the mask names it.
type Device struct{ ID, Kind string }

// Marks that a program and all of its descendants carry, for the keeper's sweep: what has
// MarkNodeKey with the keeper's own key belongs to it.
const (
	MarkNodeKey = "MANIPLE_NODE_KEY"
	MarkGroup   = "MANIPLE_GROUP"
	MarkRank    = "MANIPLE_RANK"
)

// stepPrefixes are variables of one step of Slurm, which is ours and not the program's: an MPI that
// finds them takes the program for a task of that step and aborts it (GANG-1).
var stepPrefixes = []string{
	"SLURM_STEP", "SLURM_TASK_PID", "SLURM_LAUNCH", "SLURM_SRUN_COMM", "SLURM_CPU_BIND", "SLURM_MEM_BIND",
	"SLURM_GTIDS", "SLURM_PMI", "PMI", "SLURM_MPI_PLUGIN", "SLURM_ACCEL_BIND",
}

// stepPrefixesKept are settings of the user's that begin like one of them.
var stepPrefixesKept = []string{"PMIX_MCA_"}

var slurmPrefixes = []string{"SLURM", "SRUN_", "SBATCH_", "SALLOC_"}

// rankNames are ours to set for ranks, and absent from a driver.
var rankNames = []string{
	"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
}

// ownNames are set for every program, and stale when they come from outside.
var ownNames = []string{
	"MANIPLE_ADDRESS", MarkGroup, "MANIPLE_INCARNATION", "MANIPLE_RESTARTS", MarkRank, MarkNodeKey,
}

// masks are all the ways of hiding GPUs; exactly one may be set, or they hide from each other.
var masks = []string{
	"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK",
}

// Env is the environment of one program, and what its user should be told about it.
func Env(in EnvInput) (env, notes []string) {
	e := newEnviron(in.Base)
	e.dropPrefixed(stepPrefixes, stepPrefixesKept)
	e.drop(ownNames...)
	if in.SlurmEnv == "hide" {
		e.dropPrefixed(slurmPrefixes, nil)
	}
	if in.Cwd != "" {
		e.set("PWD", in.Cwd)
	}
	e.set("MANIPLE_ADDRESS", in.Address)
	e.set(MarkGroup, in.Group)
	e.set(MarkRank, number(in.Rank))
	e.set(MarkNodeKey, in.NodeKey)
	e.set("MANIPLE_INCARNATION", number(in.Incarnation))
	e.set("MANIPLE_RESTARTS", number(max(in.Incarnation, 1)-1))
	if in.Driver {
		e.drop(rankNames...)
	} else {
		e.ranks(in)
	}
	notes = e.mask(in)
	if in.CPUs > 0 {
		e.setUnset("OMP_NUM_THREADS", strconv.Itoa(in.CPUs))
	}
	if in.Interface != "" {
		e.setUnset("GLOO_SOCKET_IFNAME", in.Interface)
		e.setUnset("NCCL_SOCKET_IFNAME", "="+in.Interface)
	}
	if home, ok := e.get("HOME"); in.BadHome != "" && in.Cwd != "" && (!ok || home == in.BadHome) {
		e.set("HOME", in.Cwd)
		notes = append(notes, "HOME "+in.BadHome+" can't be written on "+in.NodeName+": the program gets HOME="+in.Cwd)
	}
	return e.list(), notes
}

// ranks sets what a rank is told about itself, in the words of torch and of Slurm.
func (e *environ) ranks(in EnvInput) {
	e.set("RANK", number(in.Rank))
	e.set("LOCAL_RANK", number(in.LocalRank))
	e.set("WORLD_SIZE", number(in.World))
	e.set("LOCAL_WORLD_SIZE", number(in.LocalWorld))
	e.set("NODE_RANK", number(in.NodeRank))
	if in.MasterAddr != "" {
		e.set("MASTER_ADDR", in.MasterAddr)
	}
	if in.MasterPort != 0 {
		e.set("MASTER_PORT", number(uint32(in.MasterPort)))
	}
	_, job := e.get("SLURM_JOB_ID")
	if !job || in.SlurmEnv != "" && in.SlurmEnv != "rewrite" {
		return
	}
	e.set("SLURM_PROCID", number(in.Rank))
	e.set("SLURM_LOCALID", number(in.LocalRank))
	e.set("SLURM_NODEID", number(in.NodeRank))
	e.set("SLURM_NTASKS", number(in.World))
	e.set("SLURM_NPROCS", number(in.World))
	e.set("SLURMD_NODENAME", in.NodeName)
}

// mask names GPUs to the program, and hides all where it has none. On a node without GPUs the user's own
// variables stay.
func (e *environ) mask(in EnvInput) (notes []string) {
	if len(in.NodeDevices) == 0 {
		return nil
	}
	seen, name := in.visible(), maskName(in.NodeDevices[0].Kind)
	ids, slices := make([]string, 0, len(seen)), 0
	for i, d := range seen {
		if i == 0 {
			name = maskName(d.Kind)
		}
		if maskName(d.Kind) == name {
			ids = append(ids, d.ID)
		}
		if d.Kind == "mig" {
			slices++
		}
	}
	e.drop(masks...)
	e.set(name, strings.Join(ids, ","))
	if uint32(len(seen)) < in.OwnDevices {
		notes = append(notes, "rank "+number(in.Rank)+" should see "+number(in.OwnDevices)+" GPUs of its own, and there are "+strconv.Itoa(len(in.Devices))+" for the ranks beside it")
	}
	if slices > 0 && len(seen) > 1 {
		notes = append(notes, "CUDA shows a program no more than one MIG slice, and "+strconv.Itoa(len(seen))+" GPUs are in the mask: use --gpus-per-task=1, or --gpu-visibility=own")
	}
	return notes
}

// visible are the devices of which the program's mask is made: all that it may use, or its part of them.
func (in *EnvInput) visible() []Device {
	if in.OwnDevices == 0 {
		return in.Devices
	}
	n := uint64(len(in.Devices))
	from := uint64(in.OwnPlace) * uint64(in.OwnDevices)
	return in.Devices[min(from, n):min(from+uint64(in.OwnDevices), n)]
}

func maskName(kind string) string {
	if kind == "amd" {
		return "ROCR_VISIBLE_DEVICES"
	}
	return "CUDA_VISIBLE_DEVICES"
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// environ is a set of variables that remembers their order.
type environ struct {
	names []string
	value map[string]string
}

func newEnviron(base []string) *environ {
	e := &environ{value: make(map[string]string, len(base)+16)}
	for _, kv := range base {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			e.set(name, value)
		}
	}
	return e
}

func (e *environ) get(name string) (string, bool) { v, ok := e.value[name]; return v, ok }

func (e *environ) set(name, value string) {
	if _, have := e.value[name]; !have {
		e.names = append(e.names, name)
	}
	e.value[name] = value
}

func (e *environ) setUnset(name, value string) {
	if _, have := e.value[name]; !have {
		e.set(name, value)
	}
}

func (e *environ) drop(names ...string) {
	for _, n := range names {
		delete(e.value, n)
	}
}

func (e *environ) dropPrefixed(prefixes, but []string) {
	for _, n := range e.names {
		if hasPrefix(n, prefixes) && !hasPrefix(n, but) {
			delete(e.value, n)
		}
	}
}

func hasPrefix(name string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// list is the variables in the order in which their names first came.
func (e *environ) list() []string {
	out := make([]string, 0, len(e.value))
	for _, n := range e.names {
		if v, ok := e.value[n]; ok {
			out = append(out, n+"="+v)
			delete(e.value, n)
		}
	}
	return out
}
