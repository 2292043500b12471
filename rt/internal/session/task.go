package session

import (
	"context"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// Task is one that runs in this process: of a Submit, a Call or a Create.
type Task struct {
	ID, Parent id.Task
	Actor      id.Task // in which it runs, zero: none
	Name       string
	Attempt    uint32
	Trace      uint64

	mu      sync.Mutex
	waiting int // goroutines of it
}

type taskKey struct{}

// With gives the context of a task's code.
func With(ctx context.Context, t *Task) context.Context { return context.WithValue(ctx, taskKey{}, t) }

// TaskIn finds the task that a context belongs to, nil in a driver. Code that has lost its context on the way is
// the task's as long as only one runs here.
func (s *Session) TaskIn(ctx context.Context) *Task {
	if t, ok := ctx.Value(taskKey{}).(*Task); ok {
		return t
	}
	return s.current.Load()
}

// Begin and End say which tasks run here.
func (s *Session) Begin(t *Task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running++
	if s.running > 1 {
		t = nil
	}
	s.current.Store(t)
}

func (s *Session) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	s.current.Store(nil)
}

// block tells that a task waits (SES-4). Several goroutines of it may.
func (s *Session) block(t *Task) { s.waits(t, 1, fb.FrameTypeBlocked) }

func (s *Session) unblock(t *Task) { s.waits(t, -1, fb.FrameTypeUnblocked) }

func (s *Session) waits(t *Task, n int, say fb.FrameType) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.waiting
	t.waiting += n
	if before == 0 || t.waiting == 0 {
		_, f := work.Extend(nil, say, 0)
		work.Blocked(f).SetTask(t.ID)
		s.Send(f)
		s.Flush()
	}
}
