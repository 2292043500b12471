package spec

// ofSlurm maps flags to what sbatch and salloc put into the environment of their job.
var ofSlurm = []struct{ flag, env string }{
	{"nodes", "SLURM_NNODES"},
	{"ntasks", "SLURM_NTASKS"},
	{"ntasks-per-node", "SLURM_NTASKS_PER_NODE"},
	{"cpus-per-task", "SLURM_CPUS_PER_TASK"},
	{"gpus-per-task", "SLURM_GPUS_PER_TASK"},
	{"gpus-per-node", "SLURM_GPUS_PER_NODE"},
}

// InSlurm extends get: inside a Slurm job a request that says nothing of nodes, tasks and GPUs is the
// job's own, as with srun. One that does say something stands for itself.
func InSlurm(getenv func(string) string, get func(string) (value, origin string, ok bool)) func(string) (string, string, bool) {
	if getenv("SLURM_JOB_ID") == "" {
		return get
	}
	for _, name := range []string{"nodes", "ntasks", "ntasks-per-node", "gpus", "gpus-per-task", "gpus-per-node"} {
		if _, _, ok := get(name); ok {
			return get
		}
	}
	return func(name string) (string, string, bool) {
		if v, origin, ok := get(name); ok {
			return v, origin, true
		}
		for _, row := range ofSlurm {
			if v := getenv(row.env); row.flag == name && v != "" {
				return v, row.env, true
			}
		}
		return "", "", false
	}
}
