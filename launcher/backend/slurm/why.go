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
	Requeue bool          // the job may be put back into the queue
	Until   time.Time     // by when a preempted job is over; zero if that is not known
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
	e.Cause, e.Limit, e.Requeue = j.Stopping(env.Restarts, time.Now()), j.Limit, j.Requeue
	if e.Cause == slurm.CausePreempted && j.Restarts == env.Restarts {
		e.Until = j.End // Slurm moves the end of a preempted job to the end of its partition's GraceTime
	}
	return e, nil
}

// Told puts in what the step itself was told, which is more exact where a preempted job is back in the
// queue already: the question shows a requeue then.
func (e Ending) Told(cause slurm.Cause) Ending {
	switch {
	case e.Cause == slurm.CauseUnknown && cause != "":
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
	case e.Again():
		return "Slurm runs it again under the same ID; a program that saved goes on from there"
	case e.Cause == slurm.CauseCancelled:
		return "it is not put back into the queue; submit it again if that was not meant"
	case e.Cause == slurm.CauseTimeLimit:
		return "submit it again with a larger --time, or let the program go on from its checkpoint"
	}
	return "it may not be requeued (--no-requeue, or the site's rule); submit it again"
}
