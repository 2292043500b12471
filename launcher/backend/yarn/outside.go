package yarn

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

// attendPoll is between the first two looks for the token of a master that this process is, attendMost between later ones.
const attendPoll, attendMost = 50 * time.Millisecond, time.Second

// Attend makes this process the master of an application that was submitted as one whose master YARN does not start (Application.Outside).
// folder is one of its own, for the files of the head's node. YARN gives the token to register with as soon as the queue has room; say is told what it waits
// for until then.
func (a *Application) Attend(ctx context.Context, c *yarn.Client, r yarn.Report, folder string, say func(why string)) (*Master, error) {
	m := &Master{Job: a.Job, Outside: true, Folder: folder, Submitted: r.Started, exit: os.Exit}
	said := ""
	for pause := attendPoll; r.AMToken == nil; pause = min(2*pause, attendMost) {
		if r.State.Over() {
			return nil, &yarn.Error{Op: "register", Text: fmt.Sprintf("%s is %s: %s", r.ID, r.State, firstLine(r.Diagnostics)), Kind: yarn.ErrOver}
		}
		if why := strings.TrimSpace(fmt.Sprintf("%s %s", r.State, firstLine(r.Diagnostics))); pause == attendMost && why != said {
			say(why)
			said = why
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		var err error
		if r, err = c.Report(ctx, a.ID); err != nil {
			return nil, err
		}
	}
	m.token, m.Attempt = *r.AMToken, r.Attempt
	var err error
	m.relay, err = listen(m.Job.Cluster, m.Job.Secret, [2]string{})
	return m, err
}

// gone takes in that this process is no master any more. One that YARN started leaves at once, for the next one; one that it did not start has no
// next one, and ends what there is.
func (s *session) gone(why error) {
	if s.m.Outside {
		s.fatal(why.Error())
		return
	}
	s.m.leave(why)
}
