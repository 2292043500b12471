package slurm

import (
	"strconv"

	"github.com/maniple-hpc/maniple/slurm"
)

// step describes the one srun.
type step struct {
	groups [][]string // nodes by component of a heterogeneous job; one group for an ordinary job
	picked bool       // not all nodes of the allocation
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
	argv := []string{"srun"}
	for i, nodes := range s.groups {
		if i > 0 {
			argv = append(argv, ":")
		}
		n := strconv.Itoa(len(nodes))
		argv = append(argv, "-N", n, "-n", n, "--ntasks-per-node=1", "--overlap", "--mem=0", "--cpu-bind=none", "--mpi=none",
			"--no-kill", "--kill-on-bad-exit=0", "--wait=0", "--export=ALL", "--chdir=/", "--label", "--job-name=maniple")
		if len(s.groups) > 1 {
			argv = append(argv, "--het-group="+strconv.Itoa(i))
		}
		if s.gpus != "" {
			argv = append(argv, s.gpus)
		}
		if s.picked {
			argv = append(argv, "--nodelist="+slurm.FoldHosts(nodes))
		}
		if s.copied {
			argv = append(argv, "/bin/sh", "-c", sweeper)
		}
		argv = append(argv, s.binary, "keeper", "--head="+s.head)
	}
	return argv
}

// nodes are all of the step in the order of Slurm's task numbers.
func (s step) nodes() []string {
	var all []string
	for _, g := range s.groups {
		all = append(all, g...)
	}
	return all
}
