package slurm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/slurm"
)

// MaxQuestions is how often a day the end of a job's time is asked for: it can be moved.
const MaxQuestions = 8

const (
	firstQuestion = 30 * time.Second // jobs shorter than that ask nothing
	// lead is how long before its end a job is warned: enough for a checkpoint, and less than a tenth of
	// the shortest limits in use.
	lead = 60 * time.Second
)

// clock tells the keepers when the job's time is over, and warns when it is about to be. Slurm tells the
// time limit only to those who ask (22.05 does not put the end into the environment), and scontrol update
// can move it. Nothing is stopped before Slurm does so itself: its TERM and KillWait are what programs know,
// and an end before it would be no TIMEOUT. Who wants more time asks for it (--signal=USR1@300).
func (s *session) clock() {
	end := s.job.End
	next := firstQuestion
	for {
		wait := next
		if !end.IsZero() {
			wait = min(wait, max(time.Until(end)-lead, 0))
		}
		t := time.NewTimer(wait)
		select {
		case <-s.over:
			t.Stop()
			return
		case <-t.C:
		}
		now, over := s.endTime()
		if !now.IsZero() {
			end = now
		}
		left := time.Until(end)
		if over || end.IsZero() || left <= 0 {
			return // it is being ended (an end in the past is scancel's), or has no limit, or a Slurm that does not say
		}
		s.send(backend.EndLine(end))
		if left <= lead {
			s.tell(backend.Event{
				Kind: backend.KindWarning, Reason: string(slurm.CauseTimeLimit), Deadline: end,
				Text: fmt.Sprintf("the job's time is over in %v", left.Round(time.Second)),
			})
			return
		}
		next = max(left/2, 24*time.Hour/MaxQuestions)
	}
}

// endTime asks when the job's time is over; zero if it has no limit. over: Slurm is ending it.
func (s *session) endTime() (end time.Time, over bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	j, err := s.b.client().Job(ctx, strconv.FormatInt(s.job.JobID, 10))
	if err != nil {
		return time.Time{}, false
	}
	if over = j.State.Final() || slices.Contains(j.Flags, slurm.Completing); over || j.Limit == slurm.Infinite {
		return time.Time{}, over
	}
	return j.End, false
}
