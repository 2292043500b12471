package slurm

import (
	"strconv"

	"github.com/maniple-hpc/maniple/slurm"
)

// step describes one srun.
type step struct {
	nodes  []string // in the order of Slurm's task numbers
	het    int      // component of a heterogeneous job, -1 in an ordinary one
	picked bool     // not all nodes of the allocation
	binary string
	copied bool   // binary is a copy that was put on the nodes for this step
	head   string // auto or no
	gpus   string // an option of srun about GPUs, where the default would lose some: see gpus.go
}

// sweeper runs a copy of the program and removes it afterwards. The trap makes the shell outlive the
// signals that end a keeper gently; the keeper itself starts with their defaults.
const sweeper = `trap : TERM INT USR1 HUP; "$0" "$@"; code=$?; rm -f "$0"; exit $code`

// argv is srun's command line.
//
// --overlap shares cores and devices with the user's steps, --mem=0 memory (which --overlap alone does
// not); --cpu-bind and --mpi=none keep Slurm's hands off the keeper; --no-kill and --kill-on-bad-exit=0
// let the others live when a node dies, --wait=0 also long after the first has ended; --label tells which
// task a line is from. Not --unbuffered: it would put every keeper on a terminal, and they flush each
// line themselves.
func (s step) argv() []string {
	n := strconv.Itoa(len(s.nodes))
	argv := []string{"srun", "-N", n, "-n", n, "--ntasks-per-node=1", "--overlap", "--mem=0", "--cpu-bind=none", "--mpi=none",
		"--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--export=ALL", "--chdir=/", "--label", "--job-name=maniple"}
	if s.het >= 0 {
		argv = append(argv, "--het-group="+strconv.Itoa(s.het))
	}
	if s.gpus != "" {
		argv = append(argv, s.gpus)
	}
	if s.picked {
		argv = append(argv, "--nodelist="+slurm.FoldHosts(s.nodes))
	}
	if s.copied {
		argv = append(argv, "/bin/sh", "-c", sweeper)
	}
	return append(argv, s.binary, "keeper", "--head="+s.head)
}
