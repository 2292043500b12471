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
	began, used := time.Now(), cpu()
	value, err := w.do(j)
	took := time.Since(began)
	if took > cpuFrom {
		took = min(took, cpu()-used)
	}
	switch {
	case err == nil && len(value.Bytes) > wire.MaxMessage-1<<20:
		err = fmt.Errorf("its result has %d MiB, which is more than one message: divide it, or write it to a file", len(value.Bytes)>>20)
		fallthrough
	case err != nil:
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

// argumentFault is the Failure of an argument, which becomes that of the task.
type argumentFault struct{ payload []byte }

func (*argumentFault) Error() string { return "an argument is an error" }

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
	code, err := w.code(j)
	if err != nil {
		return value, err
	}
	arg, err := j.argument()
	if err != nil {
		return value, err
	}
	defer func() {
		if r := recover(); r != nil { // SERVE-5
			err = &panicked{r, debug.Stack()}
		}
	}()
	return code(ctx, w.self, arg)
}

// begin gives the context of a job.
func (w *worker) begin(j *job) (context.Context, func()) {
	ctx, cancel := context.WithCancel(session.With(context.Background(), &j.task))
	stop := cancel
	if j.deadline > 0 {
		ctx, stop = context.WithDeadline(ctx, time.Unix(0, j.deadline))
	}
	w.s.Lock()
	j.cancel = cancel
	if j.cancelled {
		cancel()
	}
	w.s.Unlock()
	w.s.Begin(&j.task)
	return ctx, func() {
		w.s.End()
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
	return nil, fmt.Errorf("this worker's program has no function %q of number %016x: it is declared in a function instead of a variable of its package", name, j.function)
}

// argument is the value that a job's code gets.
func (j *job) argument() (Arg, error) {
	switch v := j.value; {
	case len(j.keys) == 0:
		return j.arg, nil
	case j.missing:
		return Arg{}, errors.New("the agent did not send the value of an argument")
	case v.Failed:
		return Arg{}, &argumentFault{v.Bytes}
	default:
		return Arg{v.Format, v.Bytes}, nil
	}
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
		err = w.make(j)
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
	arg, err := j.argument()
	if err != nil {
		return err
	}
	defer func() {
		if r := recover(); r != nil {
			err = &panicked{r, debug.Stack()}
		}
	}()
	w.self, err = w.class.Make(ctx, arg)
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
		payload = arg.payload
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
	b, err := wire.Marshal(nil, m)
	if err != nil {
		b, _ = wire.Marshal(nil, &fb.FailureT{Code: m.Code, Type: m.Type, Message: "an error whose text is too large", Task: m.Task}) // this one can
	}
	return b
}

// result sends a job's last result.
func (w *worker) result(j *job, flags fb.ResultFlag, v session.Encoded, took time.Duration) {
	refs := session.Heads(v.Refs)
	_, b := work.Extend(nil, fb.FrameTypeResult, 0)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-wire.HeaderSize+len(refs)+len(v.Bytes)))
	f := work.Result(b)
	f.SetTask(j.task.ID)
	f.SetAttempt(j.task.Attempt)
	f.SetFlags(uint32(flags | fb.ResultFlagLast))
	f.SetFormat(v.Format)
	f.SetRefs(uint32(len(v.Refs)))
	f.SetSize(uint64(len(v.Bytes)))
	f.SetCpuTime(uint64(max(took, 0)))
	w.s.Send(b, refs, v.Bytes)
	w.s.Flush()
	v.Done()
}
