package gang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// After the end of a gang its output is waited for: until all of it is there, or nothing has come for
// so long. A node that died sends no end of its ranks' output; one that lives does, if its agent has to
// be started again first.
const (
	quietTime = 5 * time.Second
	deadTime  = 500 * time.Millisecond
	stopLimit = 10 * time.Second // after ctx is done: for the end to be known
)

// Run creates the gang and stands for it until its end. When ctx is done the gang is stopped. The error
// says that the end could not be learned; a gang that failed is no error but an End.
func Run(ctx context.Context, c *Client, s Spec, rio IO) (end End, err error) {
	r, err := newRun(c, c.mint(), s, rio)
	if err != nil {
		return End{}, err
	}
	defer func() {
		r.close()
		end.Unwritten = r.out.lost
	}()
	if err := c.send(r.create()); err != nil {
		return End{}, err
	}
	return r.loop(ctx)
}

// Resume is Run for a gang that is there, of a client that is no more: this one stands for it from now on, and has what the other one
// did not take of its output.
func Resume(ctx context.Context, c *Client, group id.Task, s Spec, rio IO) (end End, err error) {
	r, err := newRun(c, group, s, rio)
	if err != nil {
		return End{}, err
	}
	defer func() {
		r.close()
		end.Unwritten = r.out.lost
	}()
	r.known = true
	r.again()
	return r.loop(ctx)
}

// run is one Run. Its loop is the caller's goroutine; beside it there are a writer (writer.go), which
// owns the output, and a reader of the input (stdin.go).
type run struct {
	c      *Client
	spec   Spec
	io     IO
	group  id.Task
	box    *mailbox
	out    *writer
	in     *stdin
	tty    *tty
	quiet  *time.Timer
	last   *fb.GroupUpdateT
	known  bool // the head has the group
	asked  int  // interrupts so far
	ended  *fb.GroupUpdateT
	places []*fb.RankPlaceT
	nodes  map[uint32]string
	shown  string // the explanation that was shown last
	wish   *fb.GroupCancelT
}

func newRun(c *Client, group id.Task, s Spec, rio IO) (*run, error) {
	if s.Program != nil && s.Program.Pty && s.Ranks() > 1 {
		return nil, fmt.Errorf("gang: a terminal goes with one program, not with %d", s.Ranks())
	}
	if rio.Stdout == nil {
		rio.Stdout = io.Discard
	}
	if rio.Stderr == nil {
		rio.Stderr = io.Discard
	}
	r := &run{c: c, spec: s, io: rio, group: group, nodes: map[uint32]string{}}
	if rio.Job == "" {
		rio.Job = c.named(r.group)
	}
	out, err := newWriter(s, rio, r.ack)
	if err != nil {
		return nil, err
	}
	r.out = out
	r.box = c.open(r.group)
	if s.Program != nil && s.Program.Pty && rio.Terminal != nil {
		r.tty = rawMode(rio.Terminal)
	}
	if s.Program != nil && s.Program.Stdin != fb.StdinToNone && rio.Stdin != nil || s.Program != nil && s.Program.Pty {
		r.in = newStdin(rio.Stdin)
	}
	r.quiet = time.NewTimer(time.Hour)
	return r, nil
}

func (r *run) close() {
	r.quiet.Stop()
	r.c.close(r.box)
	if r.in != nil {
		r.in.close()
	}
	r.tty.restore()
	r.out.close()
}

func (r *run) create() *fb.GroupCreateT {
	return &fb.GroupCreateT{
		Group: taskT(r.group), Name: r.spec.Name, Strategy: r.spec.Strategy, Bundles: r.spec.Bundles, Program: r.spec.Program,
		MaxRestarts: int32(r.spec.MaxRestarts), Detached: r.spec.Detached, Wait: int64(r.spec.Wait),
	}
}

func (r *run) loop(ctx context.Context) (End, error) {
	done := ctx.Done()
	var limit <-chan time.Time
	for {
		select {
		case <-r.box.ready:
			for _, it := range r.box.take() {
				if err := r.take(it); err != nil {
					return r.lost(err)
				}
			}
		case what := <-r.io.Interrupts:
			if end, over := r.interrupt(what); over {
				return end, nil
			}
		case data := <-r.in.data():
			r.in.take(data)
			r.sendInput()
		case <-r.quiet.C:
		case <-done:
			done = nil
			r.cancel(fb.CancelModeStop, "its caller gave up", 143)
			limit = time.After(stopLimit)
		case <-limit:
			return End{}, fmt.Errorf("gang: %s was told to stop, and no end came: %w", r.group, context.Cause(ctx))
		}
		if r.ended != nil && r.over() {
			return endOf(r.group, r.ended, r.spec.Ranks()), nil
		}
	}
}

// take handles what came from the agent.
func (r *run) take(it item) error {
	if it.err != nil {
		return it.err
	}
	if it.again {
		r.again()
		return nil
	}
	if it.link != 0 {
		r.out.hold(it.link == linkDown)
		return nil
	}
	switch m := it.msg.M.(type) {
	case *fb.GroupUpdateT:
		r.update(m)
	case *fb.RankOutputT:
		r.out.put(m, it.msg.Payload)
	case *fb.RankInputAckT:
		if r.in != nil && r.last != nil && m.Incarnation == r.last.Incarnation {
			r.in.acked(m.Offset)
			r.sendInput()
		}
	case *fb.NoticeT:
		r.notice(m)
	case *fb.DrainT:
		r.say("the cluster is being drained: %s", m.Reason)
	}
	return nil
}

// again asks a new session for what the old one had: the agent was started anew.
func (r *run) again() {
	if !r.known {
		_ = r.c.send(r.create())
	} else {
		_ = r.c.send(&fb.GroupWatchT{Group: taskT(r.group), Owner: true, Received: r.out.marks()})
	}
	if r.wish != nil {
		_ = r.c.send(r.wish)
	}
}

// update takes in what became of the group. The same update may come twice.
func (r *run) update(u *fb.GroupUpdateT) {
	r.known = true
	was := r.last
	r.last = u
	for _, n := range u.Nodes {
		r.nodes[n.Agent] = n.Name
	}
	if len(u.Ranks) > 0 {
		r.places = u.Ranks
		r.out.placed(u.Incarnation, u.Ranks, r.nodes)
	}
	if was == nil || was.Incarnation != u.Incarnation {
		r.in.restart()
	}
	if waits := u.Phase == fb.GroupPhasePending; r.io.Waits != nil && (was == nil || waits != (was.Phase == fb.GroupPhasePending)) {
		r.io.Waits(waits)
	}
	if u.Phase == fb.GroupPhasePending && u.Explain != r.shown {
		r.shown = u.Explain
		r.explain(u.Explain)
	}
	switch u.Phase {
	case fb.GroupPhaseRunning:
		if r.io.Started != nil && (was == nil || was.Phase != u.Phase || was.Incarnation != u.Incarnation) {
			r.io.Started(u)
		}
		r.in.resend()
		r.resize()
		r.sendInput()
	case fb.GroupPhaseEnded:
		r.ended = u
		r.out.touch()
	}
}

// over tells whether all output is here, and sees to being asked again.
func (r *run) over() bool {
	if r.out.complete() || r.spec.Program == nil || len(r.places) == 0 {
		return true
	}
	patience := quietTime
	if r.ended.End == nil || r.ended.End.Cause == "node" || r.ended.End.Cause == "lost" {
		patience = deadTime
	}
	wait := patience - time.Since(r.out.touched())
	if wait <= 0 {
		return true
	}
	r.quiet.Reset(min(wait, 10*time.Millisecond))
	return false
}

// lost: the client is over. An end that is known counts all the same; else the death of the client's node
// is the gang's, which the head cancels for want of its owner if it is elsewhere.
func (r *run) lost(err error) (End, error) {
	if r.ended != nil {
		return endOf(r.group, r.ended, r.spec.Ranks()), nil
	}
	var died *NodeDiedError
	var ended *EndedError
	switch {
	case errors.As(err, &died) && !r.spec.Detached:
		return died.end(r.group, r.spec.Ranks()), nil
	case errors.As(err, &ended) && ended.Code != 0: // no head was left that could have told the gang's end
		return End{Group: r.group, Code: ended.Code, Cause: "drained", Rank: -1, Ranks: r.spec.Ranks(), Reason: ended.Reason, Wall: time.Now()}, nil
	}
	return End{}, err
}

// interrupt: the first asks the programs to end, the second ends them, a third leaves them to the agent.
func (r *run) interrupt(what Interrupt) (End, bool) {
	if what == Resized {
		r.resize()
		return End{}, false
	}
	code, name := int32(what.Code()), what.String()
	if what == Quit && r.asked == 0 {
		r.asked++ // it asks for nothing
	}
	r.asked++
	switch r.asked {
	case 1:
		r.cancel(fb.CancelModeDrain, name, code)
		if what == Interrupted {
			r.say("asked the program to end; Ctrl-C again stops it")
		} else {
			r.say("asked the program to end, because of %s", name)
		}
		return End{}, false
	case 2:
		r.cancel(fb.CancelModeStop, name, code)
		r.say("stopping the program")
		return End{}, false
	}
	return End{Group: r.group, Code: int(code), Cause: "cancelled", Rank: -1, Ranks: r.spec.Ranks(),
		Reason: name + " three times: its end was not waited for", Wall: time.Now()}, true
}

func (r *run) cancel(mode fb.CancelMode, reason string, code int32) {
	m := &fb.GroupCancelT{Group: taskT(r.group), Mode: mode, Reason: reason, ExitCode: code}
	if r.spec.Program != nil {
		m.Grace = r.spec.Program.Grace
	}
	if mode == fb.CancelModeStop {
		m.Grace = 0
	}
	r.wish = m // said again in a new session
	_ = r.c.send(m)
}

// ack tells the rank's agent what was written; it is called by the writer.
func (r *run) ack(m *fb.RankOutputAckT) { _ = r.c.link.Send(m, 0, nil) }

// sendInput sends what may be sent.
func (r *run) sendInput() {
	if r.in == nil || r.last == nil || r.last.Phase != fb.GroupPhaseRunning && r.last.Phase != fb.GroupPhaseStarting {
		return
	}
	r.in.send(func(offset uint64, data []byte, eof bool) bool {
		m := &fb.RankInputT{Group: taskT(r.group), Incarnation: r.last.Incarnation, Offset: offset, Eof: eof}
		return r.c.link.Send(m, 0, data) == nil
	})
}

// resize tells the program's terminal how large the user's is.
func (r *run) resize() {
	if r.tty == nil || r.in == nil || r.last == nil || r.last.Phase != fb.GroupPhaseRunning {
		return
	}
	rows, cols := r.tty.size()
	_ = r.c.send(&fb.RankInputT{Group: taskT(r.group), Incarnation: r.last.Incarnation, Offset: r.in.sent(), Rows: rows, Cols: cols})
}

func (r *run) say(format string, args ...any) {
	r.notice(&fb.NoticeT{Level: fb.LevelInfo, Text: fmt.Sprintf(format, args...), Wall: time.Now().UnixNano(), Group: taskT(r.group)})
}

func (r *run) notice(n *fb.NoticeT) {
	if r.io.Notice != nil {
		r.io.Notice(n)
		return
	}
	r.out.message("maniple: " + n.Text)
}

func (r *run) explain(text string) {
	switch {
	case r.io.Explain != nil:
		r.io.Explain(text)
	case text != "":
		r.out.message("maniple: waiting: " + text)
	}
}

// fileOf gives the file under a writer, if that is what it is.
func fileOf(w io.Writer) *os.File {
	f, _ := w.(*os.File)
	return f
}
