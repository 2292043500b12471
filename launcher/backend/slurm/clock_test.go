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

// The warning comes a minute before the end, and says how much is left.
func TestTheLastMinuteIsTold(t *testing.T) {
	end := time.Now().Add(lead + time.Second).Truncate(time.Second)
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers})
	s, err := start(t, f, fmt.Sprintf("SLURM_JOB_END_TIME=%d", end.Unix()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	if ev := next(t, s, backend.KindWarning); ev.Text != "the job's time is over in 1m0s" || time.Until(end) < lead-10*time.Second {
		t.Errorf("%+v, %v before the end", ev, time.Until(end))
	}
}

// A job that Slurm ends, by scancel as a rule, is not warned of an end that is now or was.
func TestACancelledJobIsNotWarned(t *testing.T) {
	for state, at := range map[string]time.Duration{"RUNNING": -28 * time.Second, "COMPLETING": 5 * time.Second, "CANCELLED": 5 * time.Second} {
		end := time.Now().Add(at)
		f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers}).On("scontrol", slurmtest.Answer{Stdout: fmt.Sprintf(
			"JobId=7 JobName=x JobState=%s Reason=None Requeue=0 Restarts=0 StartTime=2026-11-21T09:45:24 EndTime=%s TimeLimit=01:00:00 NodeList=n1 NumNodes=1\n",
			state, end.Format("2006-01-02T15:04:05"))})
		s, err := start(t, f, fmt.Sprintf("SLURM_JOB_END_TIME=%d", time.Now().Add(lead).Unix())) // known before; it asks now
		if err != nil {
			t.Fatal(err)
		}
		s.(*session).clock()      // once more, to see it return
		for len(s.Events()) > 0 { // what it told is there; Stop would drop it
			if ev := <-s.Events(); ev.Kind == backend.KindWarning {
				t.Errorf("%s: %+v", state, ev)
			}
		}
		s.Stop(t.Context())
	}
}
