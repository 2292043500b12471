package slurm

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
)

// Ending is why Slurm ends the job that a process is in, as far as Slurm says.
type Ending struct {
	Cause   slurm.Cause
	Job     string        // as users write it: 12, 12_3, 12+1
	Limit   time.Duration // of the job's time, for CauseTimeLimit
	Asked   bool          // Slurm has answered; what follows is unknown without
	Requeue bool          // the job may be put back into the queue
	Until   time.Time     // a preempted job has to stay until then to be put back into the queue; zero: it need not
}

// Why asks Slurm why it is ending the job that this process is in: one request, for whoever got SIGTERM
// or whose step did.
func (b *Backend) Why(ctx context.Context) (Ending, error) {
	env, err := b.Job()
	if err != nil {
		return Ending{Cause: slurm.CauseUnknown}, err
	}
	e := Ending{Cause: slurm.CauseUnknown, Job: env.FullID()}
	client := *b.client()
	client.Shielded = true // a question that comes of a TERM to the step lives to see that to the batch script
	j, err := client.Job(ctx, strconv.FormatInt(env.JobID, 10))
	if err != nil {
		return e, err
	}
	e.Asked, e.Cause, e.Limit, e.Requeue = true, j.Stopping(env.Restarts, time.Now()), j.Limit, j.Requeue
	if e.Cause == slurm.CausePreempted && j.Restarts == env.Restarts {
		// In the grace time of its partition, whose end Slurm has made the job's. 24.11 puts a job back that
		// ends before; 22.05 does not. Between them it stays: that is right for both.
		if v, err := client.Version(ctx); err != nil || older(v, 24, 11) {
			e.Until = j.End
		}
	}
	return e, nil
}

// older says whether a version of Slurm is older than another.
func older(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n < 2 {
		return true
	}
	return a < major || a == major && b < minor
}

// Told puts in what the step itself was told, which is more exact where a preempted job is back in the
// queue already: the question shows a requeue then. CANCELLED alone is what a step is told at any end.
func (e Ending) Told(cause slurm.Cause) Ending {
	switch {
	case (e.Cause == slurm.CauseUnknown || e.Cause == "") && cause != "" && cause != slurm.CauseCancelled:
		e.Cause = cause
	case e.Cause == slurm.CauseRequeued && cause == slurm.CausePreempted:
		e.Cause, e.Until = cause, time.Time{}
	}
	return e
}

// Again says whether Slurm itself runs the job again.
func (e Ending) Again() bool {
	switch e.Cause {
	case slurm.CauseRequeued:
		return true
	case slurm.CausePreempted, slurm.CauseNodeFail:
		return e.Requeue
	}
	return false
}

// Site says whether the end is the site's doing, so that trying again is right.
func (e Ending) Site() bool {
	return e.Cause == slurm.CausePreempted || e.Cause == slurm.CauseRequeued || e.Cause == slurm.CauseNodeFail
}

// What says what happens to the job, and Do what its user can do about it; both for the user's eyes.
func (e Ending) What() string {
	switch e.Cause {
	case slurm.CauseCancelled:
		return "job " + e.Job + " was cancelled (scancel)"
	case slurm.CauseTimeLimit:
		if e.Limit <= 0 {
			return "job " + e.Job + " reached its time limit"
		}
		return fmt.Sprintf("job %s reached its time limit of %s", e.Job, slurm.FormatDuration(e.Limit))
	case slurm.CausePreempted:
		return "job " + e.Job + " was preempted: a job of higher priority needs the nodes"
	case slurm.CauseRequeued:
		return "job " + e.Job + " was put back into the queue (scontrol requeue)"
	case slurm.CauseNodeFail:
		return "job " + e.Job + " lost a node (NODE_FAIL)"
	}
	return "SIGTERM, and Slurm says of no end of job " + e.Job
}

func (e Ending) Do() string {
	switch {
	case e.Cause == slurm.CauseUnknown:
		return "somebody signalled the processes; the job itself goes on"
	case e.Site() && !e.Asked && !e.Again():
		return "if it may be requeued, Slurm runs it again under the same ID"
	case e.Again():
		return "Slurm runs it again under the same ID; a program that saved goes on from there"
	case e.Cause == slurm.CauseCancelled:
		return "it is not put back into the queue; submit it again if that was not meant"
	case e.Cause == slurm.CauseTimeLimit:
		return "submit it again with a larger --time, or let the program go on from its checkpoint"
	}
	return "it may not be requeued (--no-requeue, or the site's rule); submit it again"
}
