//go:build e2e

package slurm

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// MPI of both families. In a rank it is alone: what a step would tell it (SLURM_STEP_ID, PMI_*, PMIX_*) is
// hidden, on which it aborts every program that imports mpi4py. In a driver the user's own mpirun
// starts its processes, on this node and through Slurm on the other.
func TestMPI(t *testing.T) {
	c := e2e.Slurm(t)
	for _, tt := range []struct {
		name   string
		spread []string // of mpirun: a process on each node
		env    string   // UCX takes the nodes of a testbed for one, as they have one boot ID, and would use shared memory
		leaves []string // what a program that was started alone leaves, also without Slurm
	}{
		{"mpich", []string{"-n", "2", "-ppn", "1"}, ",UCX_TLS=tcp", []string{"/dev/shm/mpich_shm_"}},
		{"openmpi", []string{"-n", "2", "--map-by", "node"}, "", []string{"/tmp/ompi.", "/dev/shm/sm_segment."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			python := c.Python(t, tt.name)
			bin := filepath.Dir(python)
			where := programs(t, c)
			flags := []string{"-N", "2", "--export", "ALL,PATH=" + bin + ":/usr/bin:/bin" + tt.env}
			t.Run("in a rank", func(t *testing.T) {
				dir := c.Folder(t)
				// As a step that was started with --mpi would have it: MPICH takes PMI_* for its manager, Open MPI
				// PMIX_*, and neither is there.
				flags := []string{"-N", "2", "--ntasks-per-node", "2", "--export", flags[3] + ",PMI_RANK=0,PMI_SIZE=4,PMI_FD=7,PMIX_RANK=0,PMIX_NAMESPACE=slurm.pmix.1.0,PMIX_SERVER_URI2=x"}
				out, code := bySubmit(t, c, dir, flags, python, filepath.Join(where, "mpi.py"))
				if code != 0 {
					t.Fatalf("exit %d\n%s", code, out)
				}
				for rank := range 4 {
					if want := fmt.Sprintf("mpi 0 of 1, rank %d of 4 on n%d, sum 0", rank, rank/2+1); !strings.Contains(out, want) {
						t.Errorf("no %q in\n%s", want, out)
					}
				}
				c.Clean(t, tt.leaves...)
			})
			t.Run("mpirun in a driver", func(t *testing.T) {
				dir := c.Folder(t)
				out, code := bySubmit(t, c, dir, append(flags, "-c", "2"), append(append([]string{filepath.Join(bin, "mpirun")}, tt.spread...), python, filepath.Join(where, "mpi.py"))...)
				if code != 0 {
					t.Fatalf("exit %d\n%s", code, out)
				}
				for rank := range 2 {
					if want := fmt.Sprintf("mpi %d of 2, rank - of - on n%d, sum 1", rank, rank+1); !strings.Contains(out, want) {
						t.Errorf("no %q in\n%s", want, out)
					}
				}
				c.Clean(t, tt.leaves...)
			})
		})
	}
}
