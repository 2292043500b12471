package spec

import (
	"slices"
	"strconv"

	"github.com/maniple-hpc/maniple/slurm"
)

// ofSlurm maps flags to what sbatch and salloc put into the environment of their job. Names differ by
// version: 24.11 has SLURM_TRES_PER_TASK=cpu=1,gres/gpu=1 where 22.05 has SLURM_GPUS_PER_TASK.
var ofSlurm = []struct {
	flag string
	env  []string
	gpus bool // a count of GPUs: their type is not asked for again, since the job has no others
}{
	{"nodes", []string{"SLURM_NNODES"}, false},
	{"ntasks", []string{"SLURM_NTASKS"}, false},
	{"ntasks-per-node", []string{"SLURM_NTASKS_PER_NODE"}, false},
	{"cpus-per-task", []string{"SLURM_CPUS_PER_TASK"}, false},
	{"gpus-per-task", []string{"SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"}, true},
	{"gpus-per-node", []string{"SLURM_GPUS_PER_NODE"}, true},
}

// shaping are the flags with which a request stands for itself.
var shaping = []string{"nodes", "ntasks", "ntasks-per-node", "gpus", "gpus-per-task", "gpus-per-node"}

// Shapes tells whether a flag is one with which a request stands for itself.
func Shapes(flag string) bool { return slices.Contains(shaping, flag) }

// Shapeless tells whether a request says nothing of nodes, tasks and GPUs.
func Shapeless(get func(string) (value, origin string, ok bool)) bool {
	return !slices.ContainsFunc(shaping, func(name string) bool {
		_, _, ok := get(name)
		return ok
	})
}

// JobsOwn tells whether a request is that of the Slurm job it is made in: it says nothing of nodes, tasks
// and GPUs.
func JobsOwn(getenv func(string) string, get func(string) (value, origin string, ok bool)) bool {
	return Shapeless(get) && getenv("SLURM_JOB_ID") != ""
}

// InSlurm extends get: inside a Slurm job a request that says nothing of nodes, tasks and GPUs is the
// job's own, as with srun. One that does say something stands for itself. What a job asked for with
// --gres or --gpus is not among its variables everywhere: see Spec.FillGPUs.
func InSlurm(getenv func(string) string, get func(string) (value, origin string, ok bool)) func(string) (string, string, bool) {
	if !JobsOwn(getenv, get) {
		return get
	}
	return func(name string) (string, string, bool) {
		if v, origin, ok := get(name); ok {
			return v, origin, true
		}
		for _, row := range ofSlurm {
			if row.flag != name {
				continue
			}
			for _, env := range row.env {
				if v := ofJob(getenv(env), row.gpus); v != "" {
					return v, env, true
				}
			}
		}
		return "", "", false
	}
}

// ofJob is the value of a job's variable as its flag reads it; what can't be read is left for the flag to
// refuse.
func ofJob(v string, gpus bool) string {
	if !gpus {
		return v
	}
	switch n, err := slurm.CountGPUs(v); {
	case err != nil:
		return v
	case n > 0:
		return strconv.Itoa(n)
	}
	return ""
}

// FillGPUs completes a job's own request that names no GPUs: the job has perNode on each of its nodes all
// the same, by --gres, --gpus or --gpus-per-socket. As a step of srun would, the ranks get them. A driver
// sees those of its node and reserves none, so that there are some for the ranks that it starts.
func (s *Spec) FillGPUs(perNode int) {
	if !s.Gang() {
		s.GPUsPerNode = 0
		return
	}
	if s.NodesMin > 0 && s.GPUs == 0 && s.GPUsPerNode == 0 && s.GPUsPerTask == 0 {
		s.GPUsPerNode = perNode
	}
}
