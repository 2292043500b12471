package session

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/maniple-hpc/maniple/objstore/client"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// said is what a session says once.
type said struct {
	methods  bool
	function uint64
}

// calls is what an actor's calls of this process are numbered by, while this process holds it.
type calls struct {
	life     uint32 // its incarnation, as the agent said last
	numbered uint32 // that of the last call
	last     uint64
}

// Encoded is a value to be sent: its bytes, and the objects inside of it, which it holds until Done.
type Encoded struct {
	Format fb.Format
	Bytes  []byte
	Refs   []*Hold
	room   *client.Buffer // shared memory that Bytes are; nil: they are the garbage collector's
}

// Done lets go of what is inside of a value, and of where it lies, once it has left or will not.
func (e *Encoded) Done() {
	if e.room != nil {
		_ = e.room.Discard() // unless it was sealed; fails with the connection
	}
	for _, h := range e.Refs {
		h.Release()
	}
	e.Refs = nil
}

// Args are the arguments of a task: those that are references, then the value.
type Args struct {
	Deps  []*Hold
	Value Encoded
}

func (a *Args) size() int {
	return (len(a.Deps)+len(a.Value.Refs))*work.ObjectSize + len(a.Value.Bytes)
}

// Heads are the IDs that a payload begins with.
func Heads(lists ...[]*Hold) []byte {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	if n == 0 {
		return nil
	}
	b := make([]byte, n*work.ObjectSize)
	at := b
	for _, l := range lists {
		for _, h := range l {
			work.PutObject(at, h.o.id)
			at = at[work.ObjectSize:]
		}
	}
	return b
}

// tooLarge says that a value does not fit into a message.
func tooLarge(size int) error {
	if size <= wire.MaxMessage-1<<20 {
		return nil
	}
	return &Fault{Code: CodeValue, Message: fmt.Sprintf("a value of %d MiB is more than the %d MiB of one message: divide it, or write it to a file", size>>20, wire.MaxMessage>>20-1)}
}

// begin makes the header and body of a hot frame with a payload that is appended behind it.
func begin(t wire.Type, payload int) work.Frame {
	_, f := work.Extend(nil, t, 0)
	binary.LittleEndian.PutUint32(f, uint32(len(f)-wire.HeaderSize+payload))
	return f
}

// usable refuses references that can't be named.
func (s *Session) usable(lists ...[]*Hold) error {
	for _, l := range lists {
		for _, h := range l {
			if h.released.Load() || h.s != s {
				return &Fault{Code: CodeLost, Message: "the reference to " + Name(h.o.id) + " was released, or is from before rt.Init", Task: h.o.id.Task}
			}
		}
	}
	return nil
}

// deadline of a context, as it travels.
func deadline(ctx context.Context) uint64 {
	if d, ok := ctx.Deadline(); ok {
		return uint64(max(d.UnixNano(), 1))
	}
	return 0
}

// expect makes the object that a task will give, and the first hold on it.
func (s *Session) expect(task id.Task) *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newLocked(id.Object{Task: task}, pending)
}

// Submit sends a task; it waits only for credit.
func (s *Session) Submit(ctx context.Context, function uint64, shape uint32, a Args) (*Hold, error) {
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	name := s.Mint()
	h := s.expect(name)
	s.submit(ctx, name, function, shape, 1, a)
	return h, nil
}

// SubmitSeveral is Submit of a task that gives n results together.
func (s *Session) SubmitSeveral(ctx context.Context, function uint64, shape, n uint32, a Args) ([]*Hold, error) {
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	name, holds := s.Mint(), make([]*Hold, n)
	s.mu.Lock()
	s.several[name] = n
	for i := range holds {
		holds[i] = s.newLocked(id.Object{Task: name, Index: uint32(i)}, pending)
	}
	s.mu.Unlock()
	s.submit(ctx, name, function, shape, n, a)
	return holds, nil
}

// submit sends the frame of a task.
func (s *Session) submit(ctx context.Context, name id.Task, function uint64, shape, returns uint32, a Args) {
	f := work.Submit(begin(fb.FrameTypeSubmit, a.size()))
	f.SetTask(name)
	if t := s.TaskIn(ctx); t != nil {
		f.SetParent(t.ID)
		f.SetTrace(t.Trace)
	}
	f.SetFunction(function)
	f.SetJob(s.Job)
	f.SetDeadline(deadline(ctx))
	f.SetShape(shape)
	f.SetReturns(returns)
	f.SetDeps(uint32(len(a.Deps)))
	f.SetRefs(uint32(len(a.Value.Refs)))
	f.SetFormat(a.Value.Format)
	s.Send(f, Heads(a.Deps, a.Value.Refs), a.Value.Bytes)
	s.Flush()
}

// admit checks arguments and takes their credit.
func (s *Session) admit(ctx context.Context, a *Args) error {
	if err := s.usable(a.Deps, a.Value.Refs); err != nil {
		return err
	}
	if err := tooLarge(a.size()); err != nil {
		return err
	}
	return s.spend(ctx, a.size())
}

// Call sends a call of an actor's method; otherwise as Submit.
func (s *Session) Call(ctx context.Context, actor *Hold, method, shape uint32, a Args) (*Hold, error) {
	if err := s.usable([]*Hold{actor}); err != nil {
		return nil, err
	}
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	name, to := s.Mint(), actor.o.id.Task
	f := work.Call(begin(fb.FrameTypeCall, a.size()))
	f.SetTask(name)
	if t := s.TaskIn(ctx); t != nil {
		f.SetParent(t.ID)
		f.SetTrace(t.Trace)
	}
	f.SetActor(to)
	f.SetJob(s.Job)
	f.SetDeadline(deadline(ctx))
	f.SetMethod(method)
	f.SetShape(shape)
	f.SetReturns(1)
	f.SetDeps(uint32(len(a.Deps)))
	f.SetRefs(uint32(len(a.Value.Refs)))
	f.SetFormat(a.Value.Format)
	s.saying.Lock() // SES-5
	defer s.saying.Unlock()
	h := s.expect(name)
	s.mu.Lock()
	n := s.actors[to]
	if n.life > n.numbered {
		if n.numbered != 0 { // else what left for its first life is numbered already
			n.last = 0
		}
		n.numbered = n.life
	}
	n.last++
	s.actors[to] = n
	s.mu.Unlock()
	f.SetIncarnation(n.numbered)
	f.SetSequence(n.last)
	s.Send(f, Heads(a.Deps, a.Value.Refs), a.Value.Bytes)
	s.Flush()
	return h, nil
}

// Create asks for an actor; m has all but the IDs and the arguments. When all holds are gone, so is the actor.
func (s *Session) Create(ctx context.Context, m *fb.CreateT, a Args) (*Hold, error) {
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	name := s.Mint()
	h := s.expect(name)
	m.Actor, m.Job, m.Format = TaskT(name), s.Job, a.Value.Format
	m.Deps, m.Refs = uint32(len(a.Deps)), uint32(len(a.Value.Refs))
	if t := s.TaskIn(ctx); t != nil {
		m.Parent = TaskT(t.ID)
	}
	return h, s.Say(m, 0, append(Heads(a.Deps, a.Value.Refs), a.Value.Bytes...))
}

// Put makes an object of a value.
func (s *Session) Put(ctx context.Context, v Encoded) (*Hold, error) {
	name := id.Object{Task: s.Mint()}
	if s.Shared(len(v.Bytes)) {
		return s.putShared(ctx, name, v)
	}
	a := Args{Value: v}
	if err := s.admit(ctx, &a); err != nil {
		return nil, err
	}
	f := work.Put(begin(fb.FrameTypePut, a.size()))
	f.SetObject(name)
	f.SetFormat(v.Format)
	f.SetRefs(uint32(len(v.Refs)))
	s.mu.Lock()
	h := s.newLocked(name, there)
	if len(v.Bytes) <= s.limit { // whoever made it looks at it without a question
		kept := &Value{Format: v.Format, Bytes: append([]byte(nil), v.Bytes...), notTask: true}
		for _, r := range v.Refs {
			kept.refs = append(kept.refs, s.AgainLocked(r.o.id))
		}
		h.o.state, h.o.value = here, kept
	}
	s.mu.Unlock()
	s.Send(f, Heads(v.Refs), v.Bytes)
	s.Flush()
	return h, nil
}

// Arguments are a value as a call sends it: a large one as an object of its own. done lets go of it when the call has left.
func (s *Session) Arguments(ctx context.Context, v Encoded) (Args, func(), error) {
	if !s.Shared(len(v.Bytes)) {
		return Args{Value: v}, v.Done, nil
	}
	defer v.Done()
	h, err := s.Put(ctx, v)
	if err != nil {
		return Args{}, nil, err
	}
	return Args{Deps: []*Hold{h}}, h.Release, nil
}

// Cancel ends a task, or an actor; force as the frame has it.
func (s *Session) Cancel(h *Hold, force uint32) error {
	if err := s.usable([]*Hold{h}); err != nil {
		return err
	}
	s.cancel(h.o.id.Task, force)
	return s.Err()
}

func (s *Session) cancel(name id.Task, force uint32) {
	_, f := work.Extend(nil, fb.FrameTypeCancel, 0)
	work.Cancel(f).SetTask(name)
	work.Cancel(f).SetForce(force)
	work.Cancel(f).SetRecursive(1)
	s.Send(f)
	s.Flush()
}

const (
	maxShapes  = 65_000 // at a time: the agent takes 65,536
	keptShapes = 4096   // stay said though nobody uses them
)

// Shape is what tasks need and how they are treated, as it was said. Its number may be named until Done.
type Shape struct {
	Number uint32
	s      *Session
	key    string
	users  int
	idle   bool // it is among those that nobody uses, or did not when it came there
	again  bool // it was used since then
}

// Shape gives a shape, and says it if it is new. key stands for all that is in it.
func (s *Session) Shape(key string, table func() *fb.ShapeT) (*Shape, error) {
	s.saying.Lock()
	defer s.saying.Unlock()
	if k := s.shapes[key]; k != nil {
		k.users++
		k.again = true
		return k, nil
	}
	if len(s.shapes) >= maxShapes {
		return nil, &Fault{Code: CodeOption, Message: fmt.Sprintf("this process uses %d combinations of options at a time: a name for each call belongs into its argument", maxShapes)}
	}
	s.lastShape++
	k := &Shape{Number: s.lastShape, s: s, key: key, users: 1}
	m := table()
	m.Number = k.Number
	if err := s.Say(m, 0, nil); err != nil {
		return nil, err
	}
	s.shapes[key] = k
	return k, nil
}

// Done is said by whoever got the shape when no more frames of theirs name it.
func (k *Shape) Done() {
	s := k.s
	s.saying.Lock()
	defer s.saying.Unlock()
	if k.users--; k.users == 0 && !k.idle {
		k.idle, k.again = true, false
		s.idle = append(s.idle, k)
	}
	for len(s.idle) > keptShapes {
		k := s.idle[0]
		s.idle = s.idle[1:]
		switch {
		case k.users > 0:
			k.idle = false
		case k.again:
			k.again = false
			s.idle = append(s.idle, k)
		default:
			delete(s.shapes, k.key)
			_ = s.Say(&fb.ShapeT{Number: k.Number, Over: true}, 0, nil) // fails with the session
		}
	}
}

// Define says a function, or a class with the names of its methods, if it is new.
func (s *Session) Define(m *fb.FunctionT, code []byte, methods []string) error {
	number := binary.LittleEndian.Uint64(m.Hash)
	s.saying.Lock()
	defer s.saying.Unlock()
	if key := (said{false, number}); !s.said[key] {
		if err := s.Say(m, 0, code); err != nil {
			return err
		}
		s.said[key] = true
	}
	if key := (said{true, number}); methods != nil && !s.said[key] {
		if err := s.Say(&fb.MethodsT{Function: number, Names: methods}, 0, nil); err != nil {
			return err
		}
		s.said[key] = true
	}
	return nil
}

// answer is what a StateReply said.
type answer struct {
	fault string
	json  []byte
}

// Query asks the agent for state (docs/spec/state.md).
func (s *Session) Query(ctx context.Context, what, name string, into any) error {
	corr := s.corr.Add(1)
	ch := make(chan answer, 1)
	s.mu.Lock()
	s.answers[corr] = ch
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.answers, corr)
		s.mu.Unlock()
	}()
	if err := s.Say(&fb.StateQueryT{What: what, Id: name}, corr, nil); err != nil {
		return err
	}
	select {
	case a := <-ch:
		if a.fault != "" {
			return &Fault{Code: CodeUnknown, Message: a.fault}
		}
		if err := json.Unmarshal(a.json, into); err != nil {
			return &Fault{Code: "SYSTEM", Message: fmt.Sprintf("the agent's answer to %s %s can't be read: %v", what, name, err), Err: err}
		}
		return nil
	case <-s.ended:
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("asked for %s %s: %w", what, name, ctx.Err())
	}
}

// explainTime is how long the words of a wait that is over are waited for.
const explainTime = 500 * time.Millisecond

// Explain says what a task, an actor, an object or a group waits for.
func (s *Session) Explain(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), explainTime)
	defer cancel()
	var reply struct {
		Explain struct {
			Text string `json:"text"`
		} `json:"explain"`
	}
	if err := s.Query(ctx, "explain", name, &reply); err != nil || reply.Explain.Text == "" {
		return name + " is not there"
	}
	return reply.Explain.Text
}

// Watch has the updates of a group told, until it has ended. There is one watcher of each.
func (s *Session) Watch(group id.Task, told func(*fb.GroupUpdateT)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups[group] = told
}

// Delivered gives a hold on an object that an answer of the agent has delivered.
func (s *Session) Delivered(name id.Object) *Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.DeliveredLocked(name)
}

// Ended is closed when nothing will come any more.
func (s *Session) Ended() <-chan struct{} { return s.ended }
