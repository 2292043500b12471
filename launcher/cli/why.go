package cli

import (
	"context"
	"sync"
	"syscall"
	"time"

	slurmbackend "github.com/maniple-hpc/maniple/launcher/backend/slurm"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

const (
	// whyLimit is how long Slurm may take to say why: a controller that preempts answers nobody for some
	// seconds. Its KILL comes after KillWait, 30 s by default, and the answer has to be there before.
	whyLimit = 10 * time.Second
	// toldLimit is how long the question has when the step was told as much.
	toldLimit = 2 * time.Second
	// holdMargin is how long after the end of a preempted job's grace Slurm is waited for: it looks at
	// such jobs only now and then.
	holdMargin = time.Minute
)

// slurmEnd learns why Slurm ends the job that a command is in: TERM alone cannot tell scancel from
// preemption, a requeue or the time limit. It asks at most once. A nil one is outside of a job.
type slurmEnd struct {
	call *call
	b    *slurmbackend.Backend

	once  sync.Once
	asked chan struct{} // closed when it was asked
	known chan struct{} // closed when the answer is here

	mu     sync.Mutex
	told   slurm.Cause // what our step was told
	ending slurmbackend.Ending
	err    error
}

// slurmEnd prepares the question. A rank's own `maniple run` leaves it to the command that runs the rank.
func (c *call) slurmEnd() *slurmEnd {
	if c.jobEnv()("SLURM_JOB_ID") == "" {
		return nil
	}
	return &slurmEnd{call: c, b: &slurmbackend.Backend{Environ: c.environ}, asked: make(chan struct{}), known: make(chan struct{})}
}

// step takes in what Slurm told our step.
func (e *slurmEnd) step(cause string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	if e.told == "" {
		e.told = slurm.Cause(cause)
	}
	e.mu.Unlock()
	e.ask()
}

// ask asks in the background, and says the answer at once: KILL may come before the gang's end.
func (e *slurmEnd) ask() {
	if e == nil {
		return
	}
	e.once.Do(func() {
		close(e.asked)
		go func() {
			defer close(e.known)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(e.call.ctx), whyLimit)
			defer cancel()
			defer time.AfterFunc(toldLimit, func() {
				e.mu.Lock()
				defer e.mu.Unlock()
				if e.told != "" && e.told != slurm.CauseCancelled {
					cancel()
				}
			}).Stop()
			ending, err := e.b.Why(ctx)
			e.mu.Lock()
			e.ending, e.err = ending.Told(e.told), err
			ending = e.ending
			e.mu.Unlock()
			switch {
			case ending.Cause == slurm.CauseUnknown && err != nil:
				e.call.say("Slurm ends job %s or its step; asked why, it gave no answer: %v", ending.Job, err)
			case ending.Cause != slurm.CauseUnknown:
				e.call.say("%s; the program is asked to end, and Slurm kills what is left (30 s later unless the site says otherwise)", ending.What())
			}
		}()
	})
}

// of gives the answer for a gang's end; ok is false if Slurm has nothing to do with it.
func (e *slurmEnd) of(end *gang.End) (ending slurmbackend.Ending, ok bool) {
	if e == nil {
		return ending, false
	}
	bySignal := end.Code != 0 && (byUs(end) || end.Signal == int(syscall.SIGTERM) || end.Code == 128+int(syscall.SIGTERM))
	select {
	case <-e.asked:
	default:
		if !bySignal {
			return ending, false
		}
		e.ask() // the signal reached the ranks before it reached us, or never does
	}
	<-e.known
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ending, e.ending.Cause != slurm.CauseUnknown
}

// byUs says whether the ranks were ended by us and not by one of them.
func byUs(end *gang.End) bool { return end.Cause == "cancelled" || end.Cause == "drained" }

// explain puts the reason into a gang's end: what it was, what to do, and 75 where the site ended it.
func (e *slurmEnd) explain(end *gang.End) (last string) {
	ending, ok := e.of(end)
	if !ok {
		return ""
	}
	last = ending.What() + "; " + ending.Do()
	if !byUs(end) {
		return last // beside what the rank did
	}
	if end.Code != 0 && ending.Site() {
		end.Code = ExitRetry
	}
	end.Reason = last
	if end.Code == 0 {
		return last
	}
	return ""
}

// hold keeps a preempted job until Slurm takes it. Slurm tells the step first, and puts the job back into
// the queue when its partition's GraceTime is over: a batch script that ended before would have ended
// the job, as FAILED, and it would never run again. terminated is closed by SIGTERM.
func (e *slurmEnd) hold(terminated <-chan struct{}) {
	if e == nil {
		return
	}
	select {
	case <-e.asked:
		<-e.known // also where there was no gang yet: the user is to see the answer
	default:
		return
	}
	e.mu.Lock()
	ending := e.ending
	e.mu.Unlock()
	if ending.Cause != slurm.CausePreempted || !ending.Again() || ending.Until.IsZero() {
		return
	}
	select {
	case <-terminated:
		return // it is on its way
	default:
	}
	e.call.say("waiting for Slurm to put job %s back into the queue", ending.Job)
	late := time.NewTimer(time.Until(ending.Until) + holdMargin)
	defer late.Stop()
	select {
	case <-terminated:
	case <-late.C:
	}
}
