package session

import (
	"context"
	"reflect"
	"runtime"
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
	Done       <-chan struct{} // of its context, which ends with it, or when it is cancelled

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

// Run runs the code of a task. As long as the goroutine waits that does so, the task does not go on.
//
//go:noinline
func (s *Session) Run(t *Task, code func()) {
	s.mu.Lock()
	s.running++
	if s.running > 1 {
		t = nil
	}
	s.current.Store(t)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running--
		s.current.Store(nil)
		s.mu.Unlock()
	}()
	code()
}

// entryOfRun is where Run's code begins.
var entryOfRun = runtime.FuncForPC(reflect.ValueOf((*Session).Run).Pointer()).Entry()

// deepest is how many callers are looked through for Run. Of a recursion that is deeper nobody knows whose it is.
const deepest = 1 << 10

// inRun tells whether this goroutine is one that runs a task, and none that a task has started.
func inRun() bool {
	var callers [64]uintptr
	for skip := 1; skip < deepest; skip += len(callers) {
		n := runtime.Callers(skip, callers[:])
		for _, pc := range callers[:n] {
			if f := runtime.FuncForPC(pc - 1); f != nil && f.Entry() == entryOfRun {
				return true
			}
		}
		if n < len(callers) {
			break
		}
	}
	return false
}

// maxNamed is for how many objects an agent takes in that a task waits for them.
const maxNamed = 256

// waits is what a goroutine of a task waits for: need of the objects, or of that what is none.
type waits struct {
	task    *Task // nil: none waits
	objects []id.Object
	need    int
	named   bool
}

// block tells that a task waits (SES-4), and for what, unless something else may end that: its agent says by then if it waits in a circle. Several
// goroutines of it may wait.
func (s *Session) block(ctx context.Context, objects []id.Object, need int) waits {
	t := s.TaskIn(ctx)
	if t == nil {
		return waits{}
	}
	timed := uint32(0)
	if _, ok := ctx.Deadline(); ok {
		timed = byItself
	}
	alone := ctx.Done() == nil || ctx.Done() == t.Done // nobody else ends the wait
	w := waits{task: t, objects: objects, need: need}
	w.named = timed == 0 && alone && len(objects) > 0 && len(objects) <= maxNamed && t == s.current.Load() && inRun()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting++; t.waiting == 1 || w.named {
		if t.waiting > 1 {
			s.sayUnblocked(t)
		}
		s.sayBlocked(t, w, timed)
		s.Flush()
	}
	return w
}

// unblock tells that a task goes on, unless other goroutines of it wait.
func (s *Session) unblock(w waits) {
	t := w.task
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting--; t.waiting == 0 || w.named {
		s.sayUnblocked(t)
		if t.waiting > 0 { // for nobody knows what
			s.sayBlocked(t, waits{}, 0)
		}
		s.Flush()
	}
}

// AwaitReader tells that a task waits for who reads the stream that it gives. Who calls what it gives says that it goes on.
func (s *Session) AwaitReader(t *Task) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting++; t.waiting == 1 {
		s.sayBlocked(t, waits{}, forReader)
		s.Flush()
	}
	return func() { s.unblock(waits{task: t}) }
}

func (s *Session) sayUnblocked(t *Task) {
	_, f := work.Extend(nil, fb.FrameTypeUnblocked, 0)
	work.Unblocked(f).SetTask(t.ID)
	s.Send(f)
}

// Awaits.timed: what ends a wait beside what it names.
const (
	byItself  = 1
	forReader = 2
)

func (s *Session) sayBlocked(t *Task, w waits, timed uint32) {
	if timed == 0 && !w.named {
		_, f := work.Extend(nil, fb.FrameTypeBlocked, 0)
		work.Blocked(f).SetTask(t.ID)
		s.Send(f)
		return
	}
	if timed != 0 {
		w.objects, w.need = nil, 0
	}
	_, f := work.Extend(nil, fb.FrameTypeAwaits, len(w.objects)*work.ObjectSize)
	m := work.Awaits(f)
	m.SetTask(t.ID)
	m.SetObjects(uint32(len(w.objects)))
	m.SetNeed(uint32(w.need))
	m.SetTimed(timed)
	for i, o := range w.objects {
		work.PutObject(f.Payload()[i*work.ObjectSize:], o)
	}
	s.Send(f)
}
