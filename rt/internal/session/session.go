package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// handshakeTime is how long an agent may take to answer, the time that one is being started again included.
const handshakeTime = 10 * time.Second

// Hooks are what a session's owner wants to hear. All are called on the connection's reader.
type Hooks struct {
	// Work takes in frames that only workers get, with the session locked. nil: a driver.
	Work Work
	// Output gets what workers print, and Notice what the cluster has to say.
	Output func(stream uint8, text []byte)
	Notice func(text string)
	// End is called once when the connection is over and nobody asked for that.
	End func(why error)
}

// Work is the part of a worker that takes in frames.
type Work interface {
	// Frame takes in one that is not the session's own.
	Frame(f work.Frame) error
	// Argument takes in a value to which no reference is known; false: nobody wants it.
	Argument(o id.Object, v *Value) bool
}

// Session is an attachment to an agent. The fields above mu are fixed.
type Session struct {
	Agent     id.Agent
	Process   id.Process
	Job       uint32
	Node      string
	Cluster   string
	Path      string // of the agent's socket
	Namespace string // of named actors

	// StreamBytes is what of a stream a worker may have given that its reader has not taken, each item counted as ItemCost more; 0: any amount.
	StreamBytes uint64

	conn    *work.Conn
	hooks   Hooks
	limit   int // values up to so many bytes come with their result
	credits credits
	counter atomic.Uint64
	corr    atomic.Uint64
	ended   chan struct{} // closed when nothing will come any more
	current atomic.Pointer[Task]
	memory  *memory       // nil: there is no shared memory
	places  chan struct{} // those taken by values that are made for the cache, and by questions that may become such

	saying    sync.Mutex // orders what is said once, and calls by their numbers
	shapes    map[string]*Shape
	idle      []*Shape // that nobody uses, those that were not used for long first
	lastShape uint32
	said      map[said]bool

	mu      sync.Mutex
	why     error // of ended
	last    string
	objects map[id.Object]*object
	answers map[uint64]chan answer
	cached  map[uint64]chan cachedAnswer
	groups  map[id.Task]func(*fb.GroupUpdateT)
	actors  map[id.Task]calls
	streams map[id.Task]*Stream // that have not ended
	several map[id.Task]uint32  // tasks with that many results, of which the last has not come
	running int                 // tasks
}

// Attach connects to the agent at path, and attaches with what fields say.
func Attach(ctx context.Context, path string, fields *fb.AttachT, hooks Hooks) (*Session, error) {
	conn, err := uds.Dial(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("no agent at %s: %w; its cluster is gone, `maniple status` shows which are up", path, err)
	}
	deadline := time.Now().Add(handshakeTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = conn.SetDeadline(deadline)
	attached, err := work.Attach(conn, &fb.HelloT{Build: fields.Build}, fields)
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	s := &Session{
		Agent: id.Agent(attached.Agent), Process: id.Process(attached.Process), Job: attached.Job, Node: attached.Node, Cluster: attached.Cluster, Path: path,
		hooks: hooks, limit: int(attached.InlineLimit), StreamBytes: attached.StreamBytes, ended: make(chan struct{}), places: make(chan struct{}, maxMaking),
		shapes: map[string]*Shape{}, said: map[said]bool{},
		objects: map[id.Object]*object{}, answers: map[uint64]chan answer{}, cached: map[uint64]chan cachedAnswer{}, groups: map[id.Task]func(*fb.GroupUpdateT){}, actors: map[id.Task]calls{}, streams: map[id.Task]*Stream{}, several: map[id.Task]uint32{},
	}
	if s.limit == 0 {
		s.limit = 100 << 10
	}
	if attached.Store {
		s.memory = newMemory(s)
	}
	s.credits.init(attached.CreditBytes, attached.CreditRecords)
	s.mu.Lock() // nothing is taken in before conn is set
	s.conn = work.New(conn, work.Config{OnBatch: s.batch, OnEnd: s.end, MaxUnsent: maxUnsent})
	s.mu.Unlock()
	return s, nil
}

// maxUnsent is beyond what credit lets wait, and what a worker's results may add.
const maxUnsent = 1 << 30

// Mint gives a new task's ID.
func (s *Session) Mint() id.Task {
	return id.Task{Agent: s.Agent, Process: s.Process, Counter: s.counter.Add(1)}
}

// Lock lets a worker change what it shares with the reader.
func (s *Session) Lock()   { s.mu.Lock() }
func (s *Session) Unlock() { s.mu.Unlock() }

// Send appends frames; without the last Flush they may lie here.
func (s *Session) Send(parts ...[]byte) { _ = s.conn.Append(parts...) } // if the connection is over, ended says so
func (s *Session) Flush()               { s.conn.Flush() }

// Say sends a message that is seldom.
func (s *Session) Say(m wire.Message, corr uint64, payload []byte) error {
	frame, err := work.AppendMessage(nil, m, corr, payload)
	if err != nil {
		return err
	}
	s.Send(frame)
	s.Flush()
	return nil
}

// batch takes in what came.
func (s *Session) batch(b work.Batch) {
	var err error
	var later []func()
	s.mu.Lock()
	files := b.Files
	for f := range work.Frames(b.Bytes) {
		var file *os.File
		if f.HasDescriptor() {
			file, files = files[0], files[1:]
		}
		if s.memory != nil && s.memory.takes(f.Type()) {
			err = s.memory.frame(f, file)
		} else {
			closeFile(file)
			err = s.frame(f, &later)
		}
		if err != nil {
			break
		}
	}
	s.mu.Unlock()
	for _, file := range files {
		file.Close()
	}
	b.Release()
	for _, do := range later {
		do()
	}
	if err != nil {
		s.over(fmt.Errorf("what the agent sent can't be read: %w", err))
		s.conn.Cut()
	}
}

// frame takes in one frame. What is to be done without the lock goes into later.
func (s *Session) frame(f work.Frame, later *[]func()) error {
	switch f.Type() {
	case fb.FrameTypeResult:
		s.result(work.Result(f), f.Payload())
		return nil
	case fb.FrameTypeReady:
		s.ready(work.Ready(f))
		return nil
	case fb.FrameTypeCredit:
		s.credits.grant(work.Credit(f).Bytes(), work.Credit(f).Records())
		return nil
	case fb.FrameTypeStateReply, fb.FrameTypeGroupUpdate, fb.FrameTypeActorState, fb.FrameTypeNotice, fb.FrameTypeRankOutput, fb.FrameTypeCached:
	case fb.FrameTypeGoodbye:
	case fb.FrameTypeShutdown:
		if s.hooks.Work != nil {
			return s.hooks.Work.Frame(f)
		}
	default:
		if s.hooks.Work != nil {
			return s.hooks.Work.Frame(f)
		}
		return nil // what a newer agent may say and this side need not know
	}
	m, err := f.Message()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *fb.StateReplyT:
		if ch := s.answers[f.Corr()]; ch != nil {
			delete(s.answers, f.Corr())
			ch <- answer{m.Error, append([]byte(nil), f.Payload()...)}
		}
	case *fb.CachedT:
		s.cachedCame(f.Corr(), m)
	case *fb.GroupUpdateT:
		if m.Group != nil {
			if told := s.groups[TaskOf(m.Group)]; told != nil {
				*later = append(*later, func() { told(m) })
			}
			if m.Phase == fb.GroupPhaseEnded { // nothing comes behind it
				delete(s.groups, TaskOf(m.Group))
			}
		}
	case *fb.ActorStateT:
		actor := TaskOf(m.Actor)
		if s.objects[id.Object{Task: actor}] != nil { // else it was let go of, or its handle comes next
			n := s.actors[actor]
			n.life = max(n.life, m.Incarnation)
			s.actors[actor] = n
		}
	case *fb.NoticeT:
		if s.hooks.Notice != nil {
			*later = append(*later, func() { s.hooks.Notice(m.Text) })
		}
	case *fb.RankOutputT:
		if s.hooks.Output != nil {
			text := append([]byte(nil), f.Payload()...)
			*later = append(*later, func() { s.hooks.Output(m.Stream, text) })
		}
	case *fb.GoodbyeT:
		s.last = m.Reason
	case *fb.ShutdownT:
		s.last = m.Reason
	}
	return nil
}

// end: the connection is over.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.last != "" {
		err = errors.New(s.last)
	}
	s.mu.Unlock()
	if err == io.EOF {
		err = errors.New("it closed the connection")
	}
	if s.over(fmt.Errorf("node %s does not answer any more: %w", s.Node, err)) && s.hooks.End != nil {
		s.hooks.End(err)
	}
}

// over ends all waiting, for why. False: it was over.
func (s *Session) over(why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.why = &Fault{Code: CodeAgentDied, Message: why.Error()}
	close(s.ended)
	s.credits.close()
	return true
}

// Err is why nothing will come any more, nil as long as something may.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Close says goodbye and ends the connection. Who waits gets an error.
func (s *Session) Close(why string) {
	s.mu.Lock()
	over := s.why != nil
	if !over {
		for _, o := range s.objects { // what lies in shared memory is looked at no more
			if o.value != nil {
				o.value.drop(s)
			}
		}
		s.why = &Fault{Code: CodeClosed, Message: "this process is not connected any more: " + why + "; call rt.Init"}
		close(s.ended)
		s.credits.close()
	}
	s.mu.Unlock()
	if !over {
		if s.memory != nil {
			s.memory.leave()
		}
		_ = s.Say(&fb.GoodbyeT{Reason: why}, 0, nil)
	}
	_ = s.conn.Close()
}

// Break sends what was said and ends the connection without a goodbye: this process dies.
func (s *Session) Break() {
	s.Flush()
	_ = s.conn.Close()
}
