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

// limits keeps the time limit of a run: its signal before the end, and the end. The signal is sent, too, when a node is announced to be taken.
// One goroutine, from the first start of the gang to stop.
type limits struct {
	client *gang.Client
	spec   *spec.Spec
	say    func(string, ...any)
	since  time.Time // from when the time counts; zero: from the first start

	once sync.Once
	quit chan struct{}
	done chan struct{}

	mu    sync.Mutex
	group id.Task // zero: nothing runs yet
}

func (l *limits) start(ctx context.Context, u *gang.Update) {
	if u.Group == nil {
		return
	}
	l.mu.Lock()
	l.group = gang.GroupOf(u)
	l.mu.Unlock()
	if l.spec.Time == 0 {
		return
	}
	l.once.Do(func() {
		l.quit, l.done = make(chan struct{}), make(chan struct{})
		from := l.since
		if from.IsZero() {
			from = time.Now()
		}
		go l.keep(context.WithoutCancel(ctx), gang.GroupOf(u), from.Add(l.spec.Time))
	})
}

func (l *limits) keep(ctx context.Context, group id.Task, end time.Time) {
	defer close(l.done)
	if _, before, ok := spec.ParseSignal(l.spec.Signal); ok && l.spec.Signal != "" {
		if !l.until(end.Add(-before)) {
			return
		}
		l.signal(ctx)
	}
	if !l.until(end) {
		return
	}
	l.say("%s", l.reason())
	l.client.Cancel(ctx, group, gang.Cancel{Mode: gang.CancelDrain, Reason: l.reason(), ExitCode: 143, Grace: int64(l.spec.Grace)})
}

// signal sends the signal that was asked for, if one was, to what runs. Who does not get it loses no more than without.
func (l *limits) signal(ctx context.Context) {
	sig, _, ok := spec.ParseSignal(l.spec.Signal)
	l.mu.Lock()
	group := l.group
	l.mu.Unlock()
	if ok && l.spec.Signal != "" && group != (id.Task{}) {
		l.client.Cancel(ctx, group, gang.Cancel{Mode: gang.CancelSignal, Signal: int32(sig)})
	}
}

// reason is what is said when the time is over, and what the gang's end gives as its reason.
func (l *limits) reason() string {
	if !l.since.IsZero() {
		return fmt.Sprintf("the time limit of %v since its submission is over", l.spec.Time)
	}
	return fmt.Sprintf("the time limit of %v is over", l.spec.Time)
}

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
