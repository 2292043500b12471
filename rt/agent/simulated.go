package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// Simulated is an agent's loop and desk as they are, without goroutines, sockets and processes: whoever has it, rt/sim,
// brings events and time, and does what they want of the world. It belongs to one goroutine.
type Simulated struct {
	l    *loop
	d    *desk
	busy bool
}

// World is what stands around a simulated agent.
type World struct {
	Now  func() int64
	Do   func(Effect)  // what the loop's core wants, but for what the desk does
	Kill func(pid int) // kill -9 of a worker
	Warn func(text string)
}

// NewSimulated makes an agent that has not joined yet. It has no memory to share: all values go inside frames.
func NewSimulated(cfg Config, w World) *Simulated {
	l := &loop{core: NewCore(cfg), inbox: make(chan item, 8*inboxSize), now: w.Now, clients: map[uint32]*clientLink{}, build: cfg.Build}
	l.log = slog.New(warner{slog.DiscardHandler, w.Warn})
	l.outside = func(e Effect) bool {
		if t, ok := e.(ToClient); ok && l.clients[t.Process] != nil {
			return false
		}
		if c, ok := e.(CloseClient); ok && l.clients[c.Process] != nil {
			return false
		}
		if _, ok := e.(NodeDrain); ok { // the desk's
			return false
		}
		w.Do(e)
		return true
	}
	l.desk = newDesk(l)
	l.desk.slay, l.desk.storeless = w.Kill, true
	return &Simulated{l: l, d: l.desk}
}

// Core is the loop's.
func (s *Simulated) Core() *Core { return s.l.core }

// NextProcess numbers a client that is none of the desk's.
func (s *Simulated) NextProcess() uint32 {
	return s.l.number()
}

// Step brings an event, and all that loop and desk have to say to one another thereby. What comes of that at once, from
// within, waits for its turn.
func (s *Simulated) Step(ev Event) {
	s.l.inbox <- item{ev: ev}
	s.rest()
}

// NextDeadline is when Step wants a Tick.
func (s *Simulated) NextDeadline() int64 {
	next := s.l.core.NextDeadline()
	if s.d.due != 0 {
		next = min(next, s.d.due)
	}
	return next
}

// rest goes on until nothing is left to be said.
func (s *Simulated) rest() {
	if s.busy {
		return
	}
	s.busy = true
	defer func() { s.busy = false }()
	ctx := context.Background()
	for {
		select {
		case it := <-s.l.inbox:
			s.l.take(ctx, it)
			continue
		default:
		}
		late := s.d.due != 0 && s.d.due <= s.l.now()
		if !late && !s.d.some() {
			return
		}
		if late {
			s.d.due = 0
		}
		s.d.turn(ctx)
	}
}

// Line is the end of a work connection at the agent.
type Line struct {
	s    *Simulated
	c    *workConn
	out  []byte
	hear func(frames []byte)
	over func()
	shut bool
	done chan struct{}
}

// Attach opens a work connection for a process that says what it is. hear gets what the agent sends, over tells of the end
// of the connection.
func (s *Simulated) Attach(m *fb.AttachT, hear func(frames []byte), over func()) *Line {
	n := &Line{s: s, hear: hear, over: over, done: make(chan struct{})}
	ctx := context.Background()
	s.d.open(ctx)
	a := &arrival{process: s.NextProcess(), attach: m, line: func(c *workConn) line { n.c = c; return n }}
	s.d.post(mail{do: func() {
		if s.d.core == nil && s.d.over == "" {
			s.d.early = append(s.d.early, a)
			return
		}
		s.d.arrive(ctx, a)
	}})
	s.rest()
	return n
}

// Say brings frames of the process.
func (n *Line) Say(frames []byte) {
	if n.c == nil || n.shut {
		return
	}
	n.s.d.put(mail{conn: n.c, batch: carrier.Batch{Bytes: frames}})
	n.s.rest()
}

// Close is the end of the connection at the process's side.
func (n *Line) Close() {
	n.end()
	n.s.rest()
}

func (n *Line) end() {
	if n.shut {
		return
	}
	n.shut = true
	close(n.done)
	n.over()
	n.s.d.post(mail{do: func() {
		if n.c != nil {
			n.s.d.ended(context.Background(), n.c, io.EOF)
		}
	}})
}

// Append keeps frames until Flush.
func (n *Line) Append(parts ...[]byte) error {
	if n.shut {
		return carrier.ErrClosed
	}
	for _, p := range parts {
		n.out = append(n.out, p...)
	}
	return nil
}

// AppendFile is not there: no descriptor goes through a simulation.
func (n *Line) AppendFile(f *os.File, _ []byte) error {
	_ = f.Close()
	return carrier.ErrClosed
}

// Flush sends what is kept.
func (n *Line) Flush() {
	if out := n.out; len(out) > 0 {
		n.out = nil
		n.hear(out)
	}
}

// Finish ends the connection after what is kept.
func (n *Line) Finish() {
	n.Flush()
	n.end()
}

// Cut ends the connection.
func (n *Line) Cut() { n.end() }

// Unsent is how much is kept.
func (n *Line) Unsent() int { return len(n.out) }

// Done is closed with the connection.
func (n *Line) Done() <-chan struct{} { return n.done }

// Left names what is left of jobs here: nothing, when all of them ended and what they used went back.
func (s *Simulated) Left() (left []string) {
	d := s.d
	for _, x := range []struct {
		what string
		n    int
	}{{"jobs", len(d.jobs)}, {"workers", len(d.hired)}, {"templates", len(d.templates)}, {"errands", len(d.errands)}, {"groups", len(d.groups)},
		{"shares of the node", len(d.stake.parts)}, {"lent groups", len(d.lent)}, {"pieces", len(d.pieces) + len(d.creates) + len(d.unsure)}, {"work connections", len(d.conns)}} {
		if x.n > 0 {
			left = append(left, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if d.core != nil {
		left = append(left, d.core.Left()...)
	}
	return left
}

// Devices tells how much of each device workers have, in ten-thousandths, but for those that are being ended.
func (s *Simulated) Devices() map[string]int64 {
	used := map[string]int64{}
	if s.d.core != nil {
		for _, u := range s.d.core.Shares(nil) {
			used[u.Device] += u.Amount
		}
	}
	return used
}

// Explain says what a task waits for.
func (s *Simulated) Explain(task id.Task) string {
	if s.d.core == nil {
		return "this agent has no tasks"
	}
	return s.d.core.Explain(task)
}

// warner tells of what is logged as a warning or worse.
type warner struct {
	slog.Handler
	warn func(string)
}

// Enabled: all of it.
func (w warner) Enabled(context.Context, slog.Level) bool { return true }

// Handle tells of a record.
func (w warner) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		text := r.Message
		r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
		w.warn(text)
	}
	return nil
}
