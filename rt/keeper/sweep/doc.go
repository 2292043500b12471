// Package sweep knows the processes of a node by what the kernel tells of them, and ends those that a
// dead keeper left.
//
// The nouns. A Process is a pid with its start time, which together name one process for ever. A Mark is
// what the keeper put into the environment of a program, read back from /proc/PID/environ: it survives
// fork, exec, setsid and the death of every parent.
//
// Functions only; nothing is owned or kept.
//
//	SWEEP-1: a signal goes to the process that was looked at, never to a later one with its number.
//	SWEEP-2: Sweep touches no process without the node's mark, none that a marked one did not start, no
//	         other user's mark, and none of another Slurm job than the node's (a job that a rank submitted
//	         inherits the rank's environment).
//	SWEEP-3: Sweep removes a directory only if it is still the dead keeper's.
//	SWEEP-4: Leftovers touches nothing of a keeper that lives, that is just starting, that is stopped, or
//	         that ran on another host, before the host's last start or in another pid namespace.
package sweep
