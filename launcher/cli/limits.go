package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// limits keeps the time limit of a run: its signal before the end, and the end. One goroutine, from the
// first start of the gang to stop.
type limits struct {
	client *gang.Client
	spec   *spec.Spec
	say    func(string, ...any)

	once sync.Once
	quit chan struct{}
	done chan struct{}
}

func (l *limits) start(ctx context.Context, u *gang.Update) {
	if l.spec.Time == 0 || u.Group == nil {
		return
	}
	l.once.Do(func() {
		l.quit, l.done = make(chan struct{}), make(chan struct{})
		go l.keep(context.WithoutCancel(ctx), gang.GroupOf(u), time.Now().Add(l.spec.Time))
	})
}

func (l *limits) keep(ctx context.Context, group id.Task, end time.Time) {
	defer close(l.done)
	if sig, before, ok := spec.ParseSignal(l.spec.Signal); ok && l.spec.Signal != "" {
		if !l.until(end.Add(-before)) {
			return
		}
		l.client.Cancel(ctx, group, gang.Cancel{Mode: gang.CancelSignal, Signal: int32(sig)}) // the end comes anyway
	}
	if !l.until(end) {
		return
	}
	l.say("%s", l.reason())
	l.client.Cancel(ctx, group, gang.Cancel{Mode: gang.CancelDrain, Reason: l.reason(), ExitCode: 143, Grace: int64(l.spec.Grace)})
}

// reason is what is said when the time is over, and what the gang's end gives as its reason.
func (l *limits) reason() string { return fmt.Sprintf("the time limit of %v is over", l.spec.Time) }

func (l *limits) until(t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.quit:
		return false
	}
}

func (l *limits) stop() {
	if l.quit != nil {
		close(l.quit)
		<-l.done
	}
}
