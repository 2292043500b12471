package slurm

import "time"

// Cause says why Slurm is ending a job that still runs.
type Cause string

const (
	CauseUnknown   Cause = "unknown"   // a signal, and Slurm says nothing of an end
	CauseCancelled Cause = "cancelled" // scancel: never to be put back into the queue
	CauseTimeLimit Cause = "time limit"
	CausePreempted Cause = "preempted" // another job needs the nodes
	CauseRequeued  Cause = "requeued"  // by an operator, or after preemption: it will run again
	CauseNodeFail  Cause = "node failure"
)

// Stopping says why the job is being ended, from what scontrol shows right after the job's processes got
// SIGTERM. Slurm shows the state COMPLETING then, whatever the reason, so the reason is told by what
// changed: restarts is the job's SLURM_RESTART_COUNT.
func (j *Job) Stopping(restarts int, now time.Time) Cause {
	switch {
	case !j.PreemptTime.IsZero() || j.State == Preempted:
		return CausePreempted
	case j.State == NodeFail:
		return CauseNodeFail
	case j.Restarts > restarts:
		return CauseRequeued // counted as soon as it is decided
	case j.State == Timeout || !j.Started.IsZero() && j.Limit > 0 && j.Limit != Infinite && now.Sub(j.Started) >= j.Limit:
		return CauseTimeLimit
	case j.State == Cancelled:
		return CauseCancelled
	}
	for _, f := range j.Flags {
		if f == Completing && !j.End.IsZero() && !j.End.After(now) {
			return CauseCancelled
		}
	}
	return CauseUnknown
}
