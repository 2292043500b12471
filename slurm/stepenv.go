package slurm

import "strings"

// dropped are the variables that Slurm or a user set for tasks and that srun takes as options of the
// next step. A step that wants the whole allocation must not inherit them: with
// SLURM_CPUS_PER_TASK=8 it would be bound to 8 cores, with SLURM_EXPORT_ENV=NONE start without an
// environment, with SLURM_GPU_BIND=single:1 see one device.
var dropped = map[string]bool{}

func init() {
	// The options of srun that shape a step's tasks, binding, distribution, devices, environment and
	// streams, by the end of their variables' names (INPUT ENVIRONMENT VARIABLES of srun's manual).
	for _, name := range strings.Fields(`
		CPUS_PER_TASK CPUS_PER_GPU TRES_PER_TASK NTASKS NPROCS NTASKS_PER_NODE NTASKS_PER_CORE NTASKS_PER_SOCKET
		NTASKS_PER_GPU NTASKS_PER_TRES THREADS_PER_CORE CORE_SPEC THREAD_SPEC DISTRIBUTION CPU_BIND CPU_BIND_LIST CPU_BIND_TYPE
		CPU_BIND_VERBOSE CPU_FREQ_REQ MEM_BIND MEM_BIND_LIST MEM_BIND_PREFER MEM_BIND_SORT MEM_BIND_TYPE MEM_BIND_VERBOSE
		MEM_PER_CPU MEM_PER_GPU MEM_PER_NODE GPUS GPUS_PER_NODE GPUS_PER_TASK GPUS_PER_SOCKET GPU_BIND GPU_FREQ GRES GRES_FLAGS
		STEP_GRES TRES_BIND HINT EXPORT_ENV MPI_TYPE PMIX_DIRECT_CONN TASK_PROLOG TASK_EPILOG PROLOG EPILOG EXCLUSIVE OVERLAP
		WHOLE OVERCOMMIT RELATIVE REMOTE_CWD WORKING_DIR LABELIO UNBUFFEREDIO STDINMODE STDOUTMODE STDERRMODE KILL_BAD_EXIT WAIT
		IMMEDIATE NNODES NUM_NODES MIN_NODES JOB_NAME PROFILE SRUN_MULTI MULTI_PROG OPEN_MODE SIGNAL EXACT SPREAD_JOB USE_MIN_NODES
		NETWORK NO_KILL DEPENDENCY CONSTRAINT CLUSTER_CONSTRAINT RESERVATION THREADS DEBUG SLURMD_DEBUG BCAST BCAST_EXCLUDE
		SEND_LIBS CONTAINER CONTAINER_ID RESV_PORTS DELAY_BOOT NODEFILE HOSTFILE CHECKPOINT INTERACTIVE PTY DISABLE_STATUS
		QUIT_ON_INTERRUPT EXIT_IMMEDIATE EXIT_ERROR ERROR_EXIT STEP_KILLED_MSG_NODE_ID TIMELIMIT ACCTG_FREQ EPILOG BURST_BUFFER
		COMPRESS REQ_SWITCH WAIT4SWITCH POWER CLUSTERS WCKEY HET_GROUP STEPMGR`) {
		dropped["SLURM_"+name] = true
		dropped["SRUN_"+name] = true
		dropped["SLURM_SRUN_"+name] = true
	}
	dropped["SLURM_JOB_NAME"] = false // of the job; a step is named by --job-name
}

// droppedPrefixes are those of an outer step, which a nested srun would take for its own.
var droppedPrefixes = []string{"SLURM_STEP_", "SLURM_CPU_BIND", "SLURM_MEM_BIND", "SLURM_LAUNCH", "SLURM_SRUN_COMM", "SRUN_", "PMI_", "PMI2_", "PMIX_"}

var droppedSingly = map[string]bool{
	"SLURM_STEPID": true, "SLURM_PROCID": true, "SLURM_LOCALID": true, "SLURM_NODEID": true, "SLURM_TASK_PID": true, "SLURM_GTIDS": true,
	"SLURM_UMASK": true, "SLURM_PRIO_PROCESS": true,
}

// StepEnv is environ without the variables that would shape a step started from it. What describes the
// job (SLURM_JOB_*, SLURM_CONF, SLURM_CLUSTER_NAME, ...) stays.
func StepEnv(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !shapesStep(name) {
			kept = append(kept, kv)
		}
	}
	return kept
}

func shapesStep(name string) bool {
	if dropped[name] || droppedSingly[name] {
		return true
	}
	for _, p := range droppedPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
