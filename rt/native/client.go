package native

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Name is what the program is called; it lies beside maniple.
const Name = "maniple-native"

const (
	idleFor   = time.Minute      // a process that is asked nothing for so long ends
	restAfter = 10 * time.Second // one that failed: so long none is started
	maxWords  = 1 << 10          // bytes of a line that a process writes last
	forever   = 1 << 62 * time.Nanosecond
	noDevices = "what it tells of devices is not known until it is started again"
)

// ErrNone says that there is no such program beside this one.
var ErrNone = errors.New("native: there is no " + Name + " beside this program")

// ErrClosed says that the Client was closed.
var ErrClosed = errors.New("native: closed")

// Client asks a maniple-native that it starts when there is something to ask. The zero Client looks for it beside this program.
type Client struct {
	Path string        // of the program; "": Name in the directory of this one
	Log  *slog.Logger  // of processes that end by themselves; nil: nobody is told
	Idle time.Duration // without a question, until a process ends; 0: a minute, negative: none does
	Lost string        // what goes without it, in the line that says that it ended; "": what it tells of devices

	mu     sync.Mutex
	p      *process // nil: none runs
	failed time.Time
	why    error // the last one ended
	closed bool
}

// Ask puts a question and waits for the answer. When ctx ends first the process is killed: nobody knows what hangs in it.
func (c *Client) Ask(ctx context.Context, what, id string) (json.RawMessage, error) {
	p, corr, answer, err := c.begin(nil)
	if err != nil {
		return nil, err
	}
	return p.ask(ctx, what, id, corr, answer, nil)
}

// ask sends a question that was noted, and waits for its answer.
func (p *process) ask(ctx context.Context, what, id string, corr uint64, answer <-chan answer, payload []byte, files ...*os.File) (json.RawMessage, error) {
	if err := p.conn.Send(&fb.StateQueryT{What: what, Id: id}, corr, payload, files...); err != nil {
		p.end(fmt.Errorf("native: %w", err))
	}
	select {
	case a := <-answer:
		return a.json, a.err
	case <-ctx.Done():
		p.end(fmt.Errorf("native: it has not answered %q: %w", what, ctx.Err()))
		a := <-answer
		return a.json, a.err
	}
}

// Close ends the process, and refuses questions from now on.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	p := c.p
	c.mu.Unlock()
	if p != nil {
		p.end(ErrClosed)
	}
}

// answer is what came of a question.
type answer struct {
	json json.RawMessage
	err  error
}

// begin finds the process, or starts one, and notes a question. of is the process that it has to be; nil: any.
func (c *Client) begin(of *process) (*process, uint64, <-chan answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, 0, nil, ErrClosed
	case of != nil && of != c.p:
		return nil, 0, nil, of.ended
	case c.p == nil && c.why != nil && time.Since(c.failed) < restAfter:
		return nil, 0, nil, c.why
	case c.p == nil:
		p, err := c.start()
		if err != nil {
			c.why, c.failed = err, time.Now()
			return nil, 0, nil, err
		}
		c.p = p
	}
	p := c.p
	p.corr++
	open := make(chan answer, 1)
	p.open[p.corr] = open
	p.idle.Stop()
	return p, p.corr, open, nil
}

// program is where the program lies.
func (c *Client) program() (string, error) {
	if c.Path != "" {
		return c.Path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("native: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), Name)
	if _, err := os.Stat(path); err != nil {
		return "", ErrNone
	}
	return path, nil
}

// start starts a process. c.mu is held.
func (c *Client) start() (*process, error) {
	path, err := c.program()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := uds.Pair()
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	defer theirs.Close()
	conn, err := uds.NewFDConn(ours)
	if err != nil {
		return nil, fmt.Errorf("native: %w", err)
	}
	p := &process{c: c, conn: conn, open: map[uint64]chan answer{}, gone: make(chan struct{})}
	p.cmd = exec.Command(path, strconv.Itoa(wire.Version))
	p.cmd.ExtraFiles = []*os.File{theirs} // its descriptor 3
	p.cmd.Stderr = &p.words
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("native: %w", err)
	}
	idle := c.Idle
	if idle == 0 {
		idle = idleFor
	}
	if idle < 0 {
		idle = forever
	}
	p.wait = idle
	p.idle = time.AfterFunc(idle, func() { p.endIdle() })
	go p.read()
	return p, nil
}

// process is one maniple-native. c.mu guards what is not said otherwise.
type process struct {
	c     *Client
	cmd   *exec.Cmd
	conn  *uds.FDConn
	words lastWords
	idle  *time.Timer
	wait  time.Duration
	corr  uint64
	open  map[uint64]chan answer // questions without an answer
	ended error                  // why we ended it; nil: it ended by itself
	quiet bool                   // who asked says why
	// status is how it ended: its exit status, -1 if a signal ended it; good once gone is closed.
	status int
	gone   chan struct{} // closed when it is over, and nothing of it runs any more
}

// end ends the process; the goroutine that reads it does the rest. The first reason counts.
func (p *process) end(why error) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.endLocked(why)
}

// endIdle ends a process that nobody asks anything.
func (p *process) endIdle() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if len(p.open) == 0 {
		p.endLocked(errIdle)
	}
}

// errIdle is no failure: the next question starts another process.
var errIdle = errors.New("native: nothing was asked for a while")

func (p *process) endLocked(why error) {
	if p.ended != nil {
		return
	}
	p.ended = why
	if p.c.p == p {
		p.c.p = nil
	}
	if !errors.Is(why, errIdle) {
		p.c.why, p.c.failed = why, time.Now()
	}
	_ = p.cmd.Process.Kill() // it has nothing to lose
	_ = p.conn.Close()
	p.failLocked(why)
}

func (p *process) failLocked(why error) {
	p.idle.Stop()
	for corr, open := range p.open {
		open <- answer{err: why}
		delete(p.open, corr)
	}
}

// read brings the answers until the process is over, and reaps it.
func (p *process) read() {
	text := "it ended"
	for {
		m, files, err := p.conn.Recv()
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			break
		}
		r, ok := m.M.(*fb.StateReplyT)
		if !ok {
			text = fmt.Sprintf("it said %s", wire.TypeOf(m.M))
			break
		}
		a := answer{json: m.Payload}
		if r.Error != "" {
			a = answer{err: errors.New(r.Error)}
		}
		p.answered(m.Corr, a)
	}
	_ = p.conn.Close() // which ends it, if it still lives
	how := p.cmd.Wait()
	p.status = p.cmd.ProcessState.ExitCode()
	defer close(p.gone)
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.ended != nil {
		if p.c.Log != nil && !p.quiet && !errors.Is(p.ended, errIdle) && !errors.Is(p.ended, ErrClosed) {
			p.c.Log.Warn(Name+" was ended; "+cmp.Or(p.c.Lost, noDevices), "error", p.ended)
		}
		return
	}
	if how != nil {
		text += ": " + how.Error()
	}
	if words := p.words.say(); words != "" {
		text += ": " + words
	}
	p.ended = fmt.Errorf("native: %s: %s", Name, text)
	p.c.p, p.c.why, p.c.failed = nil, p.ended, time.Now()
	if p.c.Log != nil {
		p.c.Log.Warn(Name+" ended; "+cmp.Or(p.c.Lost, noDevices), "why", text)
	}
	p.failLocked(p.ended)
}

func (p *process) answered(corr uint64, a answer) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	open := p.open[corr]
	if open == nil {
		return
	}
	delete(p.open, corr)
	open <- a
	if len(p.open) == 0 && p.ended == nil {
		p.idle.Reset(p.wait)
	}
}

// lastWords keeps the line that says most of what a process wrote before it ended: the one with which Go begins to tell of a crash,
// else the last. Its writer is exec's goroutine; say is called once that is over.
type lastWords struct {
	part []byte // of a line that has not ended
	last string
	sure bool // last tells of a crash
}

func (w *lastWords) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		w.part = append(w.part, line[:min(len(line), maxWords-len(w.part))]...)
		if whole {
			w.line()
		}
		rest = after
	}
	return len(b), nil
}

// line takes in what is a line now.
func (w *lastWords) line() {
	line := strings.TrimSpace(string(w.part))
	w.part = w.part[:0]
	if w.sure || line == "" {
		return
	}
	w.last = line
	for _, begins := range []string{"SIG", "fatal error: ", "panic: "} {
		w.sure = w.sure || strings.HasPrefix(line, begins)
	}
}

func (w *lastWords) say() string {
	w.line()
	return w.last
}
