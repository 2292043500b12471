package yarn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Submit submits an application and waits until the ResourceManager has stored it: then it is at least
// Submitted, and survives a restart of the ResourceManager. An application that was refused on the way (no such queue, no right to it)
// is an ErrRefused with YARN's reason. A resource that the cluster does not count is refused here: YARN would
// take it and ignore it.
//
// When the error is ErrTooSlow, ErrUnreachable or of ctx, the application may be there: give the Submission an ID of
// NewApplication beforehand to be able to look.
func (c *Client) Submit(ctx context.Context, s Submission) (Report, error) {
	const op = "submit"
	if s.Resource.MemoryMB <= 0 {
		return Report{}, &Error{Op: op, Text: "no memory is asked for", Do: "set Resource.MemoryMB", Kind: ErrRefused}
	}
	if s.Resource.VCores == 0 {
		s.Resource.VCores = 1
	}
	if err := c.counted(ctx, op, s.Resource); err != nil {
		return Report{}, err
	}
	if s.ID == (ApplicationID{}) {
		n, err := c.NewApplication(ctx)
		if err != nil {
			return Report{}, err
		}
		s.ID = n.ID
	}
	submit := func() error {
		return c.call(ctx, op, "submitApplication", struct {
			Context submissionMessage `pb:"1"`
		}{s.message()}, nil)
	}
	if err := submit(); err != nil {
		return Report{ID: s.ID}, err
	}
	for wait := pollFirst; ; wait = min(wait*3/2, pollLast) {
		r, err := c.Report(ctx, s.ID)
		switch {
		case errors.Is(err, ErrNotFound): // the ResourceManager that took it died before it was stored
			if err := submit(); err != nil {
				return Report{ID: s.ID}, err
			}
		case err != nil:
			return Report{ID: s.ID}, err
		case r.State == StateFailed || r.State == StateKilled:
			return r, &Error{Op: op, Text: fmt.Sprintf("%s is %s: %s", s.ID, r.State, strings.TrimSpace(r.Diagnostics)), Kind: ErrRefused}
		case r.State > StateSubmitted:
			return r, nil
		}
		if err := sleep(ctx, wait); err != nil {
			return Report{ID: s.ID}, err
		}
	}
}

// counted checks that the cluster counts every kind of resource that is asked for.
func (c *Client) counted(ctx context.Context, op string, r Resource) error {
	if len(r.Others) == 0 {
		return nil
	}
	types, err := c.ResourceTypes(ctx)
	if err != nil {
		if isUnknownMethod(err) {
			return nil // Hadoop 2 counts no others, and refuses them itself
		}
		return err
	}
	return Counted(op, r, types)
}

// Counted is an ErrRefused if r asks for a kind that is not among types.
func Counted(op string, r Resource, types []ResourceType) error {
	var names []string
	for _, t := range types {
		names = append(names, t.Name)
	}
	for _, o := range r.Others {
		if o.Value != 0 && !slices.Contains(names, o.Name) {
			return &Error{Op: op, Text: fmt.Sprintf("this cluster does not count %q", o.Name), Do: "it counts " + strings.Join(names, ", "), Kind: ErrRefused}
		}
	}
	return nil
}

// How often an application that changes is looked at.
const (
	pollFirst = 50 * time.Millisecond
	pollLast  = time.Second
)

// Kill kills an application and waits until it is dead. To kill one that is over is no error. why is
// kept in its diagnostics; "" for nothing.
func (c *Client) Kill(ctx context.Context, id ApplicationID, why string) error {
	for wait := pollFirst; ; wait = min(wait*3/2, pollLast) {
		var r struct {
			Done bool `pb:"1"`
		}
		err := c.call(ctx, "kill", "forceKillApplication", struct {
			ID  ApplicationID `pb:"1"`
			Why string        `pb:"2"`
		}{id, why}, &r)
		if err != nil || r.Done {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Watch looks at an application every interval (0: 1 s) until it is over, and gives its last report. seen, if
// it is not nil, is called in this goroutine with the first report and whenever state, attempt or diagnostics are other than before.
func (c *Client) Watch(ctx context.Context, id ApplicationID, interval time.Duration, seen func(Report)) (Report, error) {
	if interval <= 0 {
		interval = time.Second
	}
	var last Report
	for {
		r, err := c.Report(ctx, id)
		if err != nil {
			return last, err
		}
		if seen != nil && (r.State != last.State || r.Attempt != last.Attempt || r.Diagnostics != last.Diagnostics) {
			seen(r)
		}
		if last = r; r.State.Over() {
			return r, nil
		}
		if err := sleep(ctx, interval); err != nil {
			return last, err
		}
	}
}

// sleep waits, or says why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
