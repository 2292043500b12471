package work

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// world is a core and what stands around it: its effects become lines of a log.
type world struct {
	t     testing.TB
	core  *Core
	now   int64
	names map[id.Task]string
	ids   map[string]id.Task
	procs map[string]id.Process
	who   map[id.Process]string
	next  map[id.Process]uint64
	jobs  map[string]uint32
	log   []string
	auto  bool // workers come up by themselves
	needs []uint64
	count int
	last  id.Process
	head  *registry
}

const agentNumber = 7

func newWorld(t testing.TB, cfg Config) *world {
	cfg.Agent, cfg.Node = agentNumber, "n1"
	return &world{t: t, core: New(cfg), now: 1e9, names: map[id.Task]string{}, ids: map[string]id.Task{}, procs: map[string]id.Process{},
		who: map[id.Process]string{}, next: map[id.Process]uint64{}, jobs: map[string]uint32{}, head: newRegistry()}
}

// frameOf is the frame of a message as a process sends it.
func frameOf(t testing.TB, m wire.Message, payload []byte) []byte {
	body, err := wire.Marshal(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, wire.HeaderSize, wire.HeaderSize+len(body)+len(payload))
	wire.PutHeader(b, wire.Header{Length: uint32(len(body) + len(payload)), Body: uint32(len(body)), Type: wire.TypeOf(m), Class: wire.ClassOf(wire.TypeOf(m))})
	return append(append(b, body...), payload...)
}

func (w *world) step(ev Event) {
	w.t.Helper()
	effects := w.core.Step(w.now, ev, nil)
	for _, e := range effects {
		w.effect(e)
	}
	if err := check(w.core); err != nil {
		w.t.Fatalf("after %T: %v", ev, err)
	}
	for _, e := range effects {
		if ev := w.head.answer(w.core, e); ev != nil {
			w.step(ev)
		}
	}
	for w.auto && len(w.needs) > 0 {
		key := w.needs[0]
		w.needs = w.needs[1:]
		w.up(key)
	}
}

// up attaches a worker that was asked for.
func (w *world) up(key uint64) string {
	w.count++
	name := fmt.Sprintf("w%d", w.count)
	w.attach(name, Worker, 0, key)
	return name
}

func (w *world) attach(name string, kind Kind, job uint32, key uint64) {
	w.last++
	w.procs[name], w.who[w.last] = w.last, name
	if v := w.core.workerOf(key); v != nil && kind == Worker {
		job = v.job.number
	}
	w.jobs[name] = job
	w.step(ProcessUp{Process: w.last, Kind: kind, Job: job, Key: key, PID: 1000 + uint32(w.last)})
}

func (w *world) send(process string, m wire.Message, payload []byte) {
	w.t.Helper()
	w.step(&Frames{Process: w.procs[process], Bytes: frameOf(w.t, m, payload)})
}

// mint names a new task of a process.
func (w *world) mint(process, name string) id.Task {
	p := w.procs[process]
	w.next[p]++
	t := id.Task{Agent: agentNumber, Process: p, Counter: w.next[p]}
	w.ids[name], w.names[t] = t, name
	return t
}

// named gives the ID of a name; "PROCESS.N" is one that nobody minted.
func (w *world) task(name string) id.Task {
	if t, ok := w.ids[name]; ok {
		return t
	}
	if t, err := id.ParseTask(name); err == nil {
		return t
	}
	w.t.Fatalf("no task is called %s", name)
	return id.Task{}
}

func (w *world) object(name string) id.Object {
	name, index, _ := strings.Cut(strings.TrimSuffix(name, "]"), "[")
	n := uint32(0)
	fmt.Sscan(index, &n)
	return id.Object{Task: w.task(name), Index: n}
}

func (w *world) nameOf(t *fb.TaskIDT) string {
	k := taskOf(t)
	if k.IsZero() {
		return "-"
	}
	if n, ok := w.names[k]; ok {
		return n
	}
	return k.String()
}

func objectBytes(list ...id.Object) []byte {
	var b []byte
	for _, o := range list {
		b = append(b, make([]byte, objectSize)...)
		wire.PutObjectID(b[len(b)-objectSize:], objectT(o))
	}
	return b
}

func objectT(o id.Object) *fb.ObjectIDT { return &fb.ObjectIDT{Task: taskT(o.Task), Index: o.Index} }

func hashOf(name string) []byte {
	h := sha256.Sum256([]byte(name))
	return h[:]
}

func numberOf(name string) uint64 { return binary.LittleEndian.Uint64(hashOf(name)) }

func (w *world) say(format string, args ...any) {
	w.log = append(w.log, "  "+fmt.Sprintf(format, args...))
}

func (w *world) effect(e Effect) {
	switch e.Do {
	case Append:
		for b := e.Bytes; len(b) > 0; {
			f, rest, ok := cut(b)
			if !ok {
				w.t.Fatalf("the core sent what is no frame: %x", b)
			}
			b = rest
			w.say("%s <- %s", w.who[e.Process], w.show(f))
		}
	case NeedWorker:
		w.needs = append(w.needs, e.Key)
		s := fmt.Sprintf("need worker %d for job %d", e.Key, e.Need.Job)
		if e.Need.Environment != "" {
			s += " in " + e.Need.Environment
		}
		if len(e.Need.Devices) > 0 {
			s += " with " + strings.Join(e.Need.Devices, ",")
		}
		if e.Need.Actor {
			s += " for an actor"
		}
		w.say("%s", s)
	case KillWorker:
		name := w.who[e.Process]
		if name == "" {
			name = fmt.Sprintf("worker %d, which starts", e.Key)
		}
		w.needs = slices.DeleteFunc(w.needs, func(k uint64) bool { return k == e.Key })
		w.say("kill %s: %s", name, e.Text)
	case CloseProcess:
		w.say("close %s: %s", w.who[e.Process], e.Text)
	case Say:
		w.say("say %s: %s", e.Code, e.Text)
	case Join:
		w.say("join %s with %s", w.who[e.Process], w.who[e.Worker])
	case Meet:
		w.say("%s meets arena %d", w.who[e.Process], e.Key)
	case Pass:
		f, _, _ := cut(e.Bytes)
		w.say("pass %s of %s", f.kind, w.who[e.Process])
	}
}

// show writes a frame in one line.
func (w *world) show(f frame) string {
	m, err := wire.Unmarshal(f.kind, f.body)
	if err != nil {
		w.t.Fatalf("the core sent a %s that can't be read: %v", f.kind, err)
	}
	list := func(n uint32) (s string, rest []byte) {
		rest = f.payload
		for range n {
			o := objectAt(rest, 0)
			s += " " + w.objectName(o)
			rest = rest[objectSize:]
		}
		return s, rest
	}
	args := func(deps, refs uint32) string {
		s := ""
		if deps > 0 {
			d, _ := list(deps)
			s += " deps" + d
		}
		if refs > 0 {
			r, _ := list(deps + refs)
			s += " refs" + strings.Join(append([]string{""}, strings.Fields(r)[deps:]...), " ")
		}
		return s
	}
	try := func(n uint32) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(" attempt=%d", n)
	}
	switch m := m.(type) {
	case *fb.SubmitT:
		return "Submit " + w.nameOf(m.Task) + try(m.Attempt) + args(m.Deps, m.Refs)
	case *fb.CallT:
		return fmt.Sprintf("Call %s of %s#%d%s%s", w.nameOf(m.Task), w.nameOf(m.Actor), m.Incarnation, try(m.Attempt), args(m.Deps, m.Refs))
	case *fb.CreateT:
		return "Create " + w.nameOf(m.Actor) + args(m.Deps, m.Refs)
	case *fb.ResultT:
		s := fmt.Sprintf("Result %s[%d]%s", w.nameOf(m.Task), m.Index, try(m.Attempt))
		for _, x := range []struct {
			flag fb.ResultFlag
			word string
		}{{fb.ResultFlagLast, "last"}, {fb.ResultFlagError, "error"}, {fb.ResultFlagLocated, "elsewhere"}, {fb.ResultFlagNotTask, "put"}} {
			if m.Flags&uint32(x.flag) != 0 {
				s += " " + x.word
			}
		}
		in, rest := list(m.Refs)
		if m.Refs > 0 {
			s += " with" + in
		}
		if m.Flags&uint32(fb.ResultFlagError) != 0 && m.Format == fb.FormatError {
			if e, err := wire.Unmarshal(fb.FrameTypeFailure, rest); err == nil {
				e := e.(*fb.FailureT)
				return s + " " + e.Code + ": " + strings.ReplaceAll(e.Message, "\n", " | ")
			}
		}
		if len(rest) > 40 {
			return fmt.Sprintf("%s %d bytes", s, len(rest))
		}
		return fmt.Sprintf("%s %q", s, rest)
	case *fb.ReadyT:
		return fmt.Sprintf("Ready %s %v size=%d", w.objectName(objectOf(m.Object)), m.State, m.Size)
	case *fb.GetT:
		return "Get " + w.objectName(objectOf(m.Object))
	case *fb.CreditT:
		return fmt.Sprintf("Credit bytes=%d records=%d", m.Bytes, m.Records)
	case *fb.CancelT:
		return fmt.Sprintf("Cancel %s recursive=%d", w.nameOf(m.Task), m.Recursive)
	case *fb.RecallT:
		return "Recall " + w.nameOf(m.Task)
	case *fb.FunctionT:
		return "Function " + m.Name
	case *fb.MethodsT:
		return "Methods " + strings.Join(m.Names, " ")
	case *fb.ShapeT:
		return fmt.Sprintf("Shape %d", m.Number)
	case *fb.ActorStateT:
		s := fmt.Sprintf("ActorState %s#%d %v", w.nameOf(m.Actor), m.Incarnation, m.Phase)
		if m.Reason != "" {
			s += ": " + strings.ReplaceAll(m.Reason, "\n", " | ")
		}
		return s
	case *fb.AttachedT:
		return fmt.Sprintf("Attached process=%d job=%d credit=%d/%d", m.Process, m.Job, m.CreditBytes, m.CreditRecords)
	case *fb.StateReplyT:
		return fmt.Sprintf("StateReply %s%s", m.Error, f.payload)
	case *fb.ShutdownT:
		return "Shutdown: " + m.Reason
	}
	return f.kind.String()
}

func (w *world) objectName(o id.Object) string {
	return fmt.Sprintf("%s[%d]", w.nameOf(taskT(o.Task)), o.Index)
}
