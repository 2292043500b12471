package serve

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

const (
	attachTime = time.Minute            // the agent may take so long to answer a worker that it has asked for
	sweepAfter = 200 * time.Millisecond // a worker that is idle for so long looks what it does not need any more
)

// worker is this process. What the reader and those who run jobs share belongs to the session's lock.
type worker struct {
	program *Program
	s       *session.Session
	wake    *sync.Cond // of the session's lock: inbox, leaving

	inbox   []*job
	jobs    map[id.Task]*job // given and not ended
	leaving bool             // the agent says that it is enough
	ran     bool             // a job, since it was idle last
	deps    map[id.Object]*dep
	names   map[uint64]string   // of functions, by number
	methods map[uint64][]string // by class
	shapes  map[uint32]*fb.ShapeT
	class   *Class
	called  []string // methods of the actor, by number
	self    any
}

// dep is the value of an argument that is a reference; jobs that use it keep it.
type dep struct {
	value  *session.Value
	users  int
	coming bool // it came for a job that comes next
}

// job is a task that was given to this worker.
type job struct {
	task      session.Task
	kind      wire.Type
	function  uint64
	method    uint32
	deadline  int64
	arg       Arg
	create    *fb.CreateT
	value     *session.Value // of the argument, if that is a reference
	held      *session.Hold  // on it, if this process has it anyway
	keys      []id.Object
	holds     []*session.Hold // of what came along
	behind    bool            // others were given before it and had not ended
	started   bool
	cancelled bool
	alone     bool // its goroutine is the one that all jobs run on
	cancel    context.CancelFunc
	began     time.Time
	read      time.Time // it had its argument
	over      time.Time // its code was
	index     uint32    // of the result that is next, or the only one
	streams   bool      // its results are for a reader while it runs
	flow      flow      // of a stream
}

// Worker serves as the worker of that key, and gives the exit code.
func Worker(p *Program, key uint64) (int, error) {
	signal.Ignore(syscall.SIGINT) // a terminal's Ctrl-C is for the driver
	w := &worker{program: p, jobs: map[id.Task]*job{}, deps: map[id.Object]*dep{}, names: map[uint64]string{}, methods: map[uint64][]string{}, shapes: map[uint32]*fb.ShapeT{}}
	ctx, cancel := context.WithTimeout(context.Background(), attachTime)
	defer cancel()
	ready := make(chan struct{})
	s, err := session.Attach(ctx, os.Getenv(envAddress), &fb.AttachT{Name: "worker", Pid: uint32(os.Getpid()), Build: p.Build, Kind: fb.AttachKindWorker, Worker: key, Language: "go"},
		session.Hooks{Work: waiting{w, ready}, End: func(error) { os.Exit(1) }}) // SERVE-3
	if err != nil {
		return 1, err
	}
	var config struct {
		Namespace string `json:"namespace"`
	}
	_ = json.Unmarshal([]byte(os.Getenv(envJobConfig)), &config) // made by the agent; without it there is no namespace
	_ = os.Unsetenv(envJobConfig)
	s.Namespace = config.Namespace
	w.s = s
	w.wake = sync.NewCond(lock{s})
	p.Up(s)
	close(ready)
	w.work()
	s.Close("the worker is done")
	return 0, nil
}

// waiting is a worker to which nothing comes before it is whole.
type waiting struct {
	*worker
	ready chan struct{}
}

func (w waiting) Frame(f work.Frame) error {
	<-w.ready
	return w.worker.frame(f)
}

func (w waiting) Argument(o id.Object, v *session.Value) bool {
	<-w.ready
	return w.worker.argument(o, v)
}

type lock struct{ *session.Session }

// argument takes in the value of an argument of a task that comes next.
func (w *worker) argument(o id.Object, v *session.Value) bool {
	d := w.deps[o]
	if d == nil {
		d = &dep{}
		w.deps[o] = d
	} else if d.value != nil {
		d.value.DropLocked(w.s)
	}
	d.value, d.coming = v, true
	return true
}

// frame takes in what only a worker gets.
func (w *worker) frame(f work.Frame) error {
	switch f.Type() {
	case fb.FrameTypeSubmit:
		v := work.Submit(f)
		j := &job{kind: f.Type(), function: v.Function(), deadline: int64(v.Deadline()), arg: Arg{Format: v.Format()}}
		j.task = session.Task{ID: v.Task(), Parent: v.Parent(), Attempt: v.Attempt(), Trace: v.Trace()}
		if j.streams = v.Returns()&session.StreamBit != 0; j.streams {
			j.flow = flow{items: uint64(v.Returns() &^ session.StreamBit), bytes: w.s.StreamBytes}
		}
		w.take(j, f, v.Deps(), v.Refs())
		return nil
	case fb.FrameTypeCall:
		v := work.Call(f)
		j := &job{kind: f.Type(), method: v.Method(), deadline: int64(v.Deadline()), arg: Arg{Format: v.Format()}}
		j.task = session.Task{ID: v.Task(), Parent: v.Parent(), Actor: v.Actor(), Attempt: v.Attempt(), Trace: v.Trace()}
		w.take(j, f, v.Deps(), v.Refs())
		return nil
	case fb.FrameTypeRecall:
		w.recall(work.Recall(f).Task())
		return nil
	case fb.FrameTypeCancel:
		w.cancel(work.Cancel(f).Task())
		return nil
	case fb.FrameTypeGet:
		w.readerAt(work.Get(f).Object())
		return nil
	}
	m, err := f.Message()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *fb.CreateT:
		if uint64(m.Deps)+uint64(m.Refs) > uint64(len(f.Payload())/work.ObjectSize) {
			return fmt.Errorf("a Create names %d objects in %d bytes", m.Deps+m.Refs, len(f.Payload()))
		}
		j := &job{kind: f.Type(), function: m.Function, create: m, arg: Arg{Format: m.Format}}
		j.task = session.Task{ID: session.TaskOf(m.Actor), Parent: session.TaskOf(m.Parent), Actor: session.TaskOf(m.Actor)}
		w.take(j, f, m.Deps, m.Refs)
	case *fb.FunctionT:
		w.define(m, f.Payload())
	case *fb.MethodsT:
		w.methods[m.Function] = m.Names
	case *fb.ShapeT:
		if m.Over {
			delete(w.shapes, m.Number)
		} else {
			w.shapes[m.Number] = m
		}
	case *fb.ShutdownT:
		w.leaving = true
		w.wake.Broadcast()
	}
	return nil
}

// define notes a function. One of another binary, or of another language, has no name here.
func (w *worker) define(m *fb.FunctionT, code []byte) {
	if len(m.Hash) == 32 && m.Language == "go" && string(code) == string(w.program.Hash[:]) {
		w.names[binary.LittleEndian.Uint64(m.Hash)] = m.Name
	}
}

// take gives a job its arguments and its place. Frames were checked: they name as many objects as they have.
func (w *worker) take(j *job, f work.Frame, deps, refs uint32) {
	payload := f.Payload()
	for range deps {
		o := work.ObjectAt(payload)
		payload = payload[work.ObjectSize:]
		j.keys = append(j.keys, o)
		if d := w.deps[o]; d != nil {
			d.users, d.coming = d.users+1, false
			j.value = d.value
		} else if h := w.s.AgainLocked(o); h != nil { // it is held here anyway
			j.holds = append(j.holds, h)
			j.held = h
		}
	}
	for o, d := range w.deps { // arguments come right before their task
		if d.users == 0 {
			d.value.DropLocked(w.s)
			delete(w.deps, o)
		}
	}
	held, rest := w.s.ReferencesLocked(int(refs), payload)
	j.holds = append(j.holds, held...)
	j.arg.Bytes = append([]byte(nil), rest...)
	j.behind = len(w.jobs) > 0
	w.jobs[j.task.ID] = j
	w.inbox = append(w.inbox, j)
	w.wake.Signal()
}

// recall gives back what has not begun (SERVE-2): one task, or all.
func (w *worker) recall(name id.Task) {
	if j := w.jobs[name]; !name.IsZero() && (j == nil || j.started) {
		w.recalled(name, 1)
		return
	}
	kept := w.inbox[:0]
	for _, j := range w.inbox {
		if !name.IsZero() && j.task.ID != name {
			kept = append(kept, j)
			continue
		}
		w.forget(j)
		w.recalled(j.task.ID, 0)
	}
	clear(w.inbox[len(kept):])
	w.inbox = kept
}

func (w *worker) recalled(name id.Task, started uint32) {
	_, f := work.Extend(nil, fb.FrameTypeRecalled, 0)
	work.Recalled(f).SetTask(name)
	work.Recalled(f).SetStarted(started)
	w.s.Send(f)
	w.s.Flush()
}

// cancel ends the context of a job, or the job, if it has not begun.
func (w *worker) cancel(name id.Task) {
	j := w.jobs[name]
	if j == nil {
		return
	}
	j.cancelled = true
	if j.started {
		if j.cancel != nil { // else its context ends as it begins
			j.cancel()
		}
		return
	}
	for i, k := range w.inbox {
		if k == j {
			w.inbox = append(w.inbox[:i], w.inbox[i+1:]...)
			break
		}
	}
	w.forget(j)
	w.result(j, fb.ResultFlagError|final, session.Encoded{Format: fb.FormatError, Bytes: w.stopped(j, "before it began")}, 0)
}

// next waits for the job that is to run now; nil: there will be none.
func (w *worker) next() *job {
	w.s.Lock()
	defer w.s.Unlock()
	for len(w.inbox) == 0 {
		if w.leaving {
			return nil
		}
		if w.ran && w.s.HoldsLocked() { // what the job before has forgotten is to be released, and nothing else would collect it
			sweep := time.AfterFunc(sweepAfter, runtime.GC)
			defer sweep.Stop()
		}
		w.ran = false
		w.wake.Wait()
	}
	w.ran = true
	j := w.inbox[0]
	w.inbox[0] = nil
	w.inbox = w.inbox[1:]
	j.started = true
	if j.behind && j.kind == fb.FrameTypeSubmit {
		_, f := work.Extend(nil, fb.FrameTypeStarted, 0)
		work.Started(f).SetTask(j.task.ID)
		w.s.Send(f)
		w.s.Flush()
	}
	return j
}

// ended: a job has sent its last result.
func (w *worker) ended(j *job) {
	w.s.Lock()
	w.forget(j)
	w.s.Unlock()
	w.s.Flush()
}

// forget lets go of a job and of what came along with it.
func (w *worker) forget(j *job) {
	delete(w.jobs, j.task.ID)
	for _, o := range j.keys {
		if d := w.deps[o]; d != nil && d.users > 0 {
			if d.users--; d.users == 0 && !d.coming {
				d.value.DropLocked(w.s)
				delete(w.deps, o)
			}
		}
	}
	session.ReleaseLocked(j.holds)
	j.keys, j.holds = nil, nil
}

// work runs what comes until the agent says that it is enough.
func (w *worker) work() {
	for j := w.next(); j != nil; j = w.next() {
		j.alone = true
		if j.kind == fb.FrameTypeCreate {
			w.live(j)
			return
		}
		w.run(j)
		w.ended(j)
	}
}

// live is the life of an actor.
func (w *worker) live(creation *job) {
	made := w.construct(creation)
	w.ended(creation)
	if !made {
		return // the agent ends this process
	}
	places := make(chan struct{}, max(1, int(creation.create.Concurrency)))
	var running sync.WaitGroup
	for {
		places <- struct{}{} // first: a call that has no place yet has not begun, and can be given back
		j := w.next()
		if j == nil {
			break
		}
		call := func() {
			defer func() { <-places }()
			w.run(j)
			w.ended(j)
		}
		if j.alone = cap(places) == 1; j.alone { // SERVE-4
			call()
		} else {
			running.Go(call)
		}
	}
	running.Wait()
	if c, ok := w.self.(io.Closer); ok {
		if err := c.Close(); err != nil {
			fmt.Fprintf(os.Stderr, "maniple: the actor's Close: %v\n", err)
		}
	}
}
