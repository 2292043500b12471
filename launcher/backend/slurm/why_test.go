package slurm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// The question is one, and Slurm's TERM to every process of the job does not end it.
func TestWhyOutlivesSlurmsSignal(t *testing.T) {
	for _, version := range []string{"22.05", "24.11"} {
		f := slurmtest.New(t)
		f.Remove("scontrol") // a script of bash, which unlike sh leaves blocked signals blocked
		script := "#!/bin/bash\nkill -TERM $$; echo asked >> \"$SLURMTEST_DIR/asked\"; cat <<'END'\n" + slurmtest.Recorded(t, version, "stopping.requeued") + "\nEND\n"
		if err := os.WriteFile(filepath.Join(envOf(f), "scontrol"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		e, err := (&Backend{Environ: f.Environ(job...)}).Why(t.Context())
		if err != nil || e.Cause != slurm.CauseRequeued || e.Job != "7" || !e.Again() || !e.Site() {
			t.Errorf("%s: %+v, %v", version, e, err)
		}
		if asked, err := os.ReadFile(filepath.Join(envOf(f), "asked")); err != nil || string(asked) != "asked\n" {
			t.Errorf("%s: requests: %q, %v", version, asked, err)
		}
	}
}

// In the grace time of its partition a preempted job still runs, until the end that Slurm has set.
func TestWhyOfAPreemptedJob(t *testing.T) {
	until := time.Now().Add(5 * time.Second).Truncate(time.Second)
	for _, tt := range []struct {
		requeue, version string
		again, stay      bool
	}{{"1", "22.05.8", true, true}, {"0", "22.05.8", false, true}, {"1", "24.11.5", true, false}, {"1", "", true, true}} {
		requeue, again := tt.requeue, tt.again
		f := slurmtest.New(t).On("scontrol", slurmtest.Answer{Stdout: "JobId=7 JobName=x JobState=RUNNING Reason=None Requeue=" + requeue + " Restarts=0 StartTime=2026-11-21T09:45:24 EndTime=" +
			until.Format("2006-01-02T15:04:05") + " PreemptTime=2026-11-21T09:46:00 TimeLimit=UNLIMITED NodeList=n1 NumNodes=1\n"}).
			On("sinfo", slurmtest.Answer{Args: []string{"--version"}, Stdout: "slurm-wlm " + tt.version + "\n"})
		e, err := (&Backend{Environ: f.Environ(job...)}).Why(t.Context())
		if err != nil || e.Cause != slurm.CausePreempted || e.Again() != again || e.Until.IsZero() == tt.stay || time.Until(e.Until) > time.Minute {
			t.Errorf("%+v, %v", e, err)
		}
		if says := e.What() + e.Do(); !strings.Contains(says, "preempted") || strings.Contains(says, "runs it again") != again {
			t.Errorf("%q", says)
		}
	}
}

// What the step was told is more exact than what is seen once the job is back in the queue, and the only
// thing there is when nobody answers.
func TestToldCause(t *testing.T) {
	for _, tt := range []struct{ asked, told, want slurm.Cause }{
		{slurm.CauseRequeued, slurm.CausePreempted, slurm.CausePreempted},
		{slurm.CauseRequeued, slurm.CauseRequeued, slurm.CauseRequeued},
		{slurm.CauseUnknown, slurm.CauseTimeLimit, slurm.CauseTimeLimit},
		{slurm.CausePreempted, slurm.CauseCancelled, slurm.CausePreempted}, // a step's CANCELLED says little
		{slurm.CauseCancelled, "", slurm.CauseCancelled},
		{slurm.CauseUnknown, slurm.CauseCancelled, slurm.CauseUnknown},
	} {
		if e := (Ending{Cause: tt.asked, Until: time.Now()}).Told(tt.told); e.Cause != tt.want || e.Cause != tt.asked && !e.Until.IsZero() != (tt.asked == slurm.CauseUnknown) {
			t.Errorf("asked %s, told %s: %+v", tt.asked, tt.told, e)
		}
	}
}

func TestEveryEndHasAnAdvice(t *testing.T) {
	for _, c := range []slurm.Cause{slurm.CauseUnknown, slurm.CauseCancelled, slurm.CauseTimeLimit, slurm.CausePreempted, slurm.CauseRequeued, slurm.CauseNodeFail} {
		e := Ending{Cause: c, Job: "12_3", Limit: 90 * time.Minute, Asked: true, Requeue: true}
		if told := (Ending{Job: "12_3"}).Told(c); c == slurm.CausePreempted && !strings.Contains(told.Do(), "if it may be requeued") {
			t.Errorf("%s without an answer: %q", c, told.Do())
		}
		if !strings.Contains(e.What(), "12_3") || e.Do() == "" {
			t.Errorf("%s: %q, %q", c, e.What(), e.Do())
		}
		site := c == slurm.CausePreempted || c == slurm.CauseRequeued || c == slurm.CauseNodeFail
		if e.Site() != site || e.Again() != site {
			t.Errorf("%s: the site's %v, again %v", c, e.Site(), e.Again())
		}
	}
}
