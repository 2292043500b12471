// Package exec talks to Slurm through its own programs: sbatch, scontrol, sacct, sinfo and sbcast. They
// are on every machine that can submit, need no token, and their plain output is stable where their JSON is
// not (--json of squeue, sinfo and sacct changed between 22.05 and 24.11, scontrol's does not exist in 22.05).
//
// The nouns: a Client is how to call them; a Submission a job to be; a Cache the file that spares the
// controller questions whose answers do not change.
//
// A Client holds no state and starts no goroutine that outlives a call; it may be used concurrently.
//
// Guarantees:
//
//	EXEC-1   Every call has a time limit, and the program is killed with all that it started.
//	EXEC-2   Every error is a *slurm.Error or names the program; an unreachable controller is slurm.ErrUnreachable.
//	EXEC-3   A user's SINFO_*, SACCT_* and SLURM_TIME_FORMAT variables do not change what is read.
//	EXEC-4   A call makes as many requests to the controller as its comment says, two at most; none from a
//	         warm cache. (All questions are --local: without it each would ask for the federation too.)
//
// Limits: one cluster (sbatch -M is passed on, but the questions go to the default cluster). Federations
// are not known here.
package exec
