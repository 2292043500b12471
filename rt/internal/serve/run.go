package serve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

const (
	final      = fb.ResultFlag(16) // of a result with an error: it is not to be tried again
	maxText    = 64 << 10          // bytes of a panic's stack that are sent
	methodBits = 1<<24 - 1
	cpuFrom    = 100 * time.Microsecond // what ran shorter has used so much CPU at most, and that is good enough
)

// run runs a job to its last result (SERVE-1).
func (w *worker) run(j *job) {
	used := cpu()
	j.began = time.Now()
	var value session.Encoded
	var err error
	w.s.Run(&j.task, func() { value, err = w.do(j) })
	j.over = time.Now()
	took := j.over.Sub(j.began)
	if took > cpuFrom {
		took = min(took, cpu()-used)
	}
	switch {
	case err == nil && w.s.Shared(len(value.Bytes)):
		if err = w.share(j, value, took); err == nil {
			return
		}
		w.fail(j, err, took)
	case err == nil && len(value.Bytes) > wire.MaxMessage-1<<20:
		err = fmt.Errorf("its result has %d MiB, which is more than one message: divide it, or write it to a file", len(value.Bytes)>>20)
		fallthrough
	case err != nil:
		value.Done() // it came too late
		w.fail(j, err, took)
	default:
		w.result(j, 0, value, took)
	}
}

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// errCancelled is what a job ends with that was cancelled, whatever it gave.
var errCancelled = errors.New("it was cancelled")

// panicked is a panic of user code.
type panicked struct {
	what  any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.what) }

func (p *panicked) Unwrap() error {
	err, _ := p.what.(error)
	return err
}

// argumentFault is the error of an argument, which becomes that of the task.
type argumentFault struct{ *session.Fault }

func (*argumentFault) Error() string { return "an argument is an error" }

// Argument makes a fault of something that a task was given the task's own.
func Argument(f *session.Fault) error { return &argumentFault{f} }

// do finds and runs the code of a job, with its context.
func (w *worker) do(j *job) (value session.Encoded, err error) {
	ctx, end := w.begin(j)
	defer end()
	defer func() {
		w.s.Lock()
		cancelled := j.cancelled
		w.s.Unlock()
		if cancelled {
			err = errCancelled
		} else if err != nil && ctx.Err() == context.DeadlineExceeded && errors.Is(err, ctx.Err()) {
			err = fmt.Errorf("its deadline has passed: %w", err)
		}
	}()
	if ctx.Err() != nil { // its deadline has passed before it began
		return value, errCancelled
	}
	code, err := w.code(j)
	if err != nil {
		return value, err
	}
	arg, read, err := w.input(ctx, j)
	if err != nil {
		return value, err
	}
	defer read()
	j.read = time.Now()
	returned := false
	defer func() {
		if r := recover(); r != nil { // SERVE-5
			err = &panicked{r, debug.Stack()}
		} else if !returned {
			w.left(j)
		}
	}()
	value, err = code(ctx, w.self, arg)
	returned = true
	return value, err
}

// left ends a job whose code has ended this goroutine (runtime.Goexit, as testing's FailNow does). Nothing that comes after it in the goroutine
// will run: the process ends, unless other goroutines have work.
func (w *worker) left(j *job) {
	j.over = time.Now()
	w.fail(j, errors.New("it called runtime.Goexit, as a test's FailNow does, in place of returning"), 0)
	w.ended(j)
	if j.alone {
		w.s.Break()
		os.Exit(1)
	}
}

// begin gives the context of a job.
func (w *worker) begin(j *job) (context.Context, func()) {
	ctx, cancel := context.WithCancel(session.With(context.Background(), &j.task))
	stop := cancel
	j.task.Done = ctx.Done()
	if j.deadline > 0 {
		ctx, stop = context.WithDeadline(ctx, time.Unix(0, j.deadline))
	}
	w.s.Lock()
	j.cancel = cancel
	if j.cancelled {
		cancel()
	}
	w.s.Unlock()
	return ctx, func() {
		stop()
		cancel()
	}
}

// code is what a job is to run.
func (w *worker) code(j *job) (Func, error) {
	if j.kind == fb.FrameTypeCall {
		n := int(j.method & methodBits)
		if n < len(w.called) {
			j.task.Name = w.called[n]
			if f := w.class.Methods[w.called[n]]; f != nil {
				return f, nil
			}
		}
		return nil, fmt.Errorf("the actor has no method of number %d", n)
	}
	w.s.Lock()
	name, ok := w.names[j.function]
	w.s.Unlock()
	j.task.Name = name
	if f := w.program.Funcs[name]; ok && f != nil {
		return f, nil
	}
	if f := w.program.Streams[name]; ok && f != nil {
		return w.streamed(j, f), nil
	}
	return nil, fmt.Errorf("this worker's program has no function %q of number %016x: it is declared in a function instead of a variable of its package", name, j.function)
}

// input is the value that a job's code gets; read is to be called when it has been.
func (w *worker) input(ctx context.Context, j *job) (arg Arg, read func(), err error) {
	v, read := j.value, func() {}
	if v != nil && v.Away {
		j.held = w.s.HoldArgument(j.keys[len(j.keys)-1])
		w.s.Lock()
		j.holds = append(j.holds, j.held)
		w.s.Unlock()
	}
	switch {
	case len(j.keys) == 0:
		return j.arg, read, nil
	case j.held != nil:
		if err = j.held.Session().Get(ctx, []*session.Hold{j.held}); err != nil {
			return arg, read, err
		}
		var fault *session.Fault
		if v, err = j.held.Outcome(); errors.As(err, &fault) {
			return arg, read, &argumentFault{fault}
		} else if err != nil {
			return arg, read, err
		}
		if v != nil {
			read = func() { j.held.Read(v) }
		}
	}
	switch {
	case v == nil:
		return arg, read, errors.New("the agent did not send the value of an argument")
	case v.Failed:
		return arg, read, &argumentFault{session.FaultOf(v.Bytes)}
	}
	return Arg{v.Format, v.Bytes}, read, nil
}

// construct makes the actor; its end is the result of its creation.
func (w *worker) construct(j *job) bool {
	w.s.Lock()
	name, ok := w.names[j.function]
	w.called = w.methods[j.function]
	w.s.Unlock()
	w.class = w.program.Classes[name]
	j.task.Name = name
	err := fmt.Errorf("this worker's program has no actor %q", name)
	if ok && w.class != nil {
		j.began = time.Now()
		w.s.Run(&j.task, func() { err = w.make(j) })
		j.over = time.Now()
	}
	if err != nil {
		w.fail(j, err, 0)
		return false
	}
	w.result(j, 0, session.Encoded{Format: fb.FormatRaw}, 0)
	return true
}

func (w *worker) make(j *job) (err error) {
	ctx, end := w.begin(j)
	defer end()
	arg, read, err := w.input(ctx, j)
	if err != nil {
		return err
	}
	defer read()
	j.read = time.Now()
	returned := false
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{r, debug.Stack()}
		} else if !returned {
			w.left(j)
		}
	}()
	w.self, err = w.class.Make(ctx, arg)
	returned = true
	return err
}

// fail sends what went wrong in place of a value.
func (w *worker) fail(j *job, err error, took time.Duration) {
	flags := fb.ResultFlagError
	var payload []byte
	var arg *argumentFault
	var p *panicked
	switch {
	case errors.As(err, &arg):
		payload = w.encode(&fb.FailureT{Code: arg.Code, Type: arg.Type, Message: arg.Message, Traceback: arg.Traceback, Node: arg.Node, Pid: uint32(arg.PID), Task: session.TaskT(arg.Task), Cause: arg.Cause})
	case err == errCancelled:
		payload, flags = w.stopped(j, "when it ran"), flags|final
	case errors.As(err, &p):
		payload = w.failure(j, &fb.FailureT{Code: session.User, Type: "panic", Message: fmt.Sprint(p.what), Traceback: cutText(p.stack), Cause: w.program.Causes(err)})
	default:
		payload = w.failure(j, &fb.FailureT{Code: session.User, Type: fmt.Sprintf("%T", err), Message: err.Error(), Cause: w.program.Causes(err)})
	}
	w.result(j, flags, session.Encoded{Format: fb.FormatError, Bytes: payload}, took)
}

// stopped is the failure of a job that was cancelled, by somebody or by its deadline.
func (w *worker) stopped(j *job, when string) []byte {
	name := "the task"
	if j.task.Name != "" {
		name = j.task.Name
	}
	m := &fb.FailureT{Code: "CANCELLED", Message: name + " was cancelled " + when}
	if j.deadline > 0 && time.Now().UnixNano() >= j.deadline {
		m.Code, m.Message = "TIMEOUT", name+": its deadline passed "+when
	}
	m.Type = m.Code
	return w.failure(j, m)
}

func cutText(b []byte) string { return string(b[:min(len(b), maxText)]) }

func (w *worker) failure(j *job, m *fb.FailureT) []byte {
	m.Node, m.Pid, m.Task = w.s.Node, uint32(os.Getpid()), session.TaskT(j.task.ID)
	return w.encode(m)
}

func (w *worker) encode(m *fb.FailureT) []byte {
	b, err := wire.Marshal(nil, m)
	if err != nil {
		b, _ = wire.Marshal(nil, &fb.FailureT{Code: m.Code, Type: m.Type, Message: "an error whose text is too large", Task: m.Task}) // this one can
	}
	return b
}

// share sends a result by way of shared memory: its place is told right behind its Seal.
func (w *worker) share(j *job, v session.Encoded, took time.Duration) error {
	defer v.Done()
	ctx := session.With(context.Background(), &j.task)
	told := j.result(fb.ResultFlagLocated|fb.ResultFlagLast, session.Encoded{Format: v.Format}, 0, took)
	return w.s.Seal(ctx, id.Object{Task: j.task.ID, Index: j.index}, v, session.Around{Before: func() []byte { return j.ran(0) }, Behind: told})
}

// result sends a job's last result.
func (w *worker) result(j *job, flags fb.ResultFlag, v session.Encoded, took time.Duration) {
	refs := session.Heads(v.Refs)
	if !j.began.IsZero() {
		w.s.Send(j.ran(flags))
	}
	w.s.Send(j.result(flags|fb.ResultFlagLast, v, len(refs)+len(v.Bytes), took), refs, v.Bytes)
	w.s.Flush()
	v.Done()
}

// ran is the frame that tells how a job went, whose last result is sent now.
func (j *job) ran(flags fb.ResultFlag) []byte {
	_, b := work.Extend(nil, fb.FrameTypeRan, 0)
	f := work.Ran(b)
	f.SetTask(j.task.ID)
	f.SetBegan(uint64(j.began.UnixNano()))
	f.SetRead(uint64(max(j.read.Sub(j.began), 0)))
	f.SetRan(uint64(j.over.Sub(j.began)))
	f.SetTook(uint64(time.Since(j.began)))
	if flags&fb.ResultFlagError != 0 {
		f.SetFailed(1)
	}
	return b
}

// result is the frame of a job's next result, but for a payload of so many bytes.
func (j *job) result(flags fb.ResultFlag, v session.Encoded, payload int, took time.Duration) []byte {
	_, b := work.Extend(nil, fb.FrameTypeResult, 0)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-wire.HeaderSize+payload))
	f := work.Result(b)
	f.SetTask(j.task.ID)
	f.SetIndex(j.index)
	f.SetAttempt(j.task.Attempt)
	f.SetFlags(uint32(flags))
	f.SetFormat(v.Format)
	f.SetRefs(uint32(len(v.Refs)))
	f.SetSize(uint64(len(v.Bytes)))
	f.SetCpuTime(uint64(max(took, 0)))
	return b
}
