package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/yarn"
)

// followBoth copies an application's output and its messages, which programs' standard error is among.
func (c *call) followBoth(ctx context.Context, client *site, id yarn.ApplicationID, to io.Writer) error {
	ep, err := boot.Find(c.getenv, id.String())
	if err != nil {
		return err
	}
	f := &follow{
		master: func(ctx context.Context) (string, yarn.Report, error) {
			defer c.expects(client.managers())()
			return c.masterOf(ctx, client, id.String())
		},
		before: func(ctx context.Context, r yarn.Report) string {
			defer c.expects(client.managers())()
			return yarnbackend.MasterBefore(ctx, client.Client, r)
		},
		log: ep.Access.Log, say: c.say, expects: c.expects, states: c.page.name == "logs", pause: 200 * time.Millisecond,
	}
	return f.both(ctx, to, c.stderr)
}

// slowAfter is how long a command that shows output says nothing while none comes because of somebody else.
const slowAfter = 2 * time.Second

// expects tells what is waited for, if it has not come by then.
func (c *call) expects(what string) (came func()) {
	t := time.AfterFunc(slowAfter, func() { c.say("%s: waits for %s", c.page.name, what) })
	return func() { t.Stop() }
}

// follow copies an application's output as it comes, from its beginning to its end.
type follow struct {
	master func(context.Context) (address string, r yarn.Report, err error) // as masterOf
	log    func(ctx context.Context, address string, messages bool, from int64, goOn func(), to io.Writer) (int64, error)
	before func(context.Context, yarn.Report) string // what is to be done about the end of the master before this one; "": nothing
	say    func(format string, args ...any)

	expects func(what string) (came func()) // tells what is waited for, if that takes long
	states  bool                            // that YARN has not started the application yet is told here
	pause   time.Duration                   // between tries
}

// both copies the output and the messages. Where one of them can't go on the other one does not, either: who writes to a full disk, or may
// ask no more, is told at once. A part that is missing at the end is no reason.
func (f *follow) both(ctx context.Context, to, messagesTo io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	copyOne := func(f *follow, messages bool, to io.Writer) error {
		err := f.copy(ctx, messages, to)
		if part := (*partError)(nil); err != nil && !errors.As(err, &part) {
			cancel(err) // the first one counts
		}
		return err
	}
	other := make(chan error, 1)
	messages := *f
	messages.say = func(string, ...any) {} // one of the two says it
	messages.before = func(context.Context, yarn.Report) string { return "" }
	messages.expects, messages.states = func(string) func() { return func() {} }, false
	go func() { other <- copyOne(&messages, true, messagesTo) }()
	err := copyOne(f, false, to)
	second := <-other
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = second
	}
	return err
}

// partError is output of which the rest did not come.
type partError struct {
	id   yarn.ApplicationID
	came int64 // bytes
	why  error // nil: the master was never asked
}

func (e *partError) Error() string {
	text := fmt.Sprintf("%s is over, and the end of its output did not come, only %d bytes", e.id, e.came)
	if e.came == 0 {
		text = fmt.Sprintf("%s is over, and none of its output came", e.id)
	}
	if e.why != nil {
		text += " (" + plain(e.why) + ")"
	}
	return text
}

// copy copies one of the two streams.
func (f *follow) copy(ctx context.Context, messages bool, to io.Writer) error {
	out := &guarded{to: to}
	var came int64
	var why error        // of the last break
	var broken time.Time // since when
	var attempt yarn.AttemptID
	asked, said := false, false
	var idle time.Time // since when it has had no master
	var told yarn.ApplicationState
	for {
		address, r, err := f.master(ctx)
		var w *waiting
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case r.State.Over():
			// One that ended before its master was there has none.
			if asked || r.State == yarn.StateFinished {
				return &partError{r.ID, came, why}
			}
			return nil
		case err == nil:
			if asked && r.Attempt != attempt {
				came = 0
				f.say("%s has another master now (attempt %d); what the one before it wrote last may be missing here, `yarn logs` has it", r.ID, r.Attempt.Number)
				if do := f.before(ctx, r); do != "" {
					f.say("%s: %s", r.ID, do)
				}
			}
			asked, attempt, idle, told = true, r.Attempt, time.Time{}, 0
			var n int64
			there := f.expects(fmt.Sprintf("the master of %s at %s to answer", r.ID, address))
			n, err = f.log(ctx, address, messages, came, there, out)
			there()
			came += n
			switch {
			case out.err != nil:
				return &Fault{Name: "CANNOT_CREATE", What: "logs", Why: plain(out.err), Do: "the application goes on; free some space, or write elsewhere", Err: out.err}
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err == nil:
				return nil
			case n > 0:
				broken, said = time.Time{}, false
			}
		case errors.As(err, &w):
			err = nil // it has no master yet
			if idle.IsZero() {
				idle = time.Now()
			}
			if f.states && r.State != told && time.Since(idle) >= slowAfter {
				told = r.State
				f.say("logs: waits for YARN to start the master: %s", w)
			}
		default:
			// What is out of reach now may be there later, if it ever was; what YARN says no to stays so.
			var fault *Fault
			if errors.As(err, &fault) && (!asked || fault.Name != "UNREACHABLE") {
				return err
			}
		}
		if err != nil {
			why = err
			if broken.IsZero() {
				broken = time.Now()
			}
			if !said && time.Since(broken) >= slowAfter {
				said = true
				f.say("%s; trying on, and `yarn logs` has all of it when it is over", plain(err))
			}
		}
		select {
		case <-time.After(f.pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// guarded tells an error of who is written to from one of who is read.
type guarded struct {
	to  io.Writer
	err error
}

func (g *guarded) Write(b []byte) (int, error) {
	n, err := g.to.Write(b)
	if err != nil {
		g.err = err
	}
	return n, err
}
