package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// The walltime is near: the user is warned, and the keepers are told when it is, for programs that get an early
// signal. Nobody is told to drain.
func TestWalltimeIsTold(t *testing.T) {
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers})
	s, err := start(t, f, fmt.Sprintf("SLURM_JOB_END_TIME=%d", end.Unix()))
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s, backend.KindWarning); !ev.Deadline.Equal(end) {
		t.Errorf("%+v", ev)
	}
	s.Stop(t.Context())
	head, _ := os.ReadFile(filepath.Join(envOf(f), "head"))
	rest, _ := os.ReadFile(filepath.Join(envOf(f), "rest"))
	said := string(head) + string(rest)
	if !strings.Contains(said, fmt.Sprintf(`{"end_ns":%d}`, end.UnixNano())) || strings.Count(said, "drain\":") != 1 {
		t.Errorf("the keepers were told\n%s", said)
	}
}
