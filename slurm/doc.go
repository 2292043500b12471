// Package slurm is a client of a real Slurm: it reads what Slurm prints and what Slurm puts into a
// job's environment. It imports nothing of the rest of this repository and can be used alone.
//
// The nouns: a Job is what scontrol and sacct show, a State one of Slurm's own words for where it
// is, a Partition what sinfo shows, an Environment the SLURM_* variables of a process in typed form.
// Host lists, durations, memory sizes, generic resources (GRES) and trackable resources (TRES) have
// a parser each. The programs themselves (sbatch, scontrol, sacct, sinfo, sbcast) are called by
// the package exec below this one.
//
// Everything here is a pure function of its input: no file, no clock, no process.
//
// Guarantees:
//
//	HOST-1   ParseHosts(FoldHosts(x)) is x, sorted and without repetition.
//	HOST-2   No input makes ParseHosts return more than MaxHosts names or take memory beyond that.
//	STATE-1  Slurm's words are kept; a word that this package does not know is kept too, and is never final.
//	ENV-1    An environment of another job (inherited through --export) is not taken for the job's own:
//	         step variables are read only together with a job ID.
//
// Limits: tested on the output of Slurm 22.05 and 24.11. Node ranges with a stride ("n[0-8:2]") are
// ClusterShell's, not Slurm's, and are refused.
package slurm
