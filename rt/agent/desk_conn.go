package agent

import (
	"cmp"
	"context"
	"io"
	"os"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/objstore"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// workConn is a work connection and the process at its end.
type workConn struct {
	conn     line
	process  id.Process
	kind     fb.AttachKind
	name     string // of a driver
	pid      uint32 // as it says
	views    uint64 // bytes of values that it knows it may have in its page table: see shareViews
	job      uint32
	template *template // it is one's
	born     bool      // its template's workers take over their connections
	hired    *hired    // it is a worker's
	client   bool      // the loop's core knows it as a client, too
	made     bool      // a group
	dirty    bool
	through  bool            // a driver that said goodbye, and reads what its workers still print
	met      map[uint64]bool // arenas that it can read
	pidfd    *os.File        // of a driver; nil: its connection is all that is known of it
	acks     []outputAck     // of output that it was sent and may not have read
}

// line is what a work connection is to the desk: a carrier.Conn, or a simulation's.
type line interface {
	Append(parts ...[]byte) error
	AppendFile(f *os.File, frame []byte) error
	Flush()
	Finish()
	Cut()
	Unsent() int
	Done() <-chan struct{}
}

// arrival is a process that said what it is.
type arrival struct {
	conn    transport.Conn
	line    func(*workConn) line // of a simulation, in place of a connection
	process uint32
	attach  *fb.AttachT
	greeted bool // it knows already what it would be told first
}

// attached takes over a work connection after its handshake, on a goroutine of its own.
func (d *desk) attached(ctx context.Context, conn transport.Conn, process uint32) {
	attach, err := carrier.Attaching(conn)
	if err != nil {
		d.l.log.Warn("a process did not attach", "error", err)
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Time{})
	a := &arrival{conn: conn, process: process, attach: attach}
	d.post(mail{do: func() {
		switch {
		case ctx.Err() != nil:
			_ = conn.Close()
		case d.core == nil && d.over == "": // IDs begin with this agent's number
			d.early = append(d.early, a)
		default:
			d.arrive(ctx, a)
		}
	}})
}

// arrive starts a connection, and tells the core of its process.
func (d *desk) arrive(ctx context.Context, a *arrival) {
	c := &workConn{process: id.Process(a.process), kind: a.attach.Kind, pid: a.attach.Pid}
	peer := peerPID(a.conn)
	if a.line != nil {
		c.conn = a.line(c)
	} else {
		c.conn = carrier.New(a.conn, carrier.Config{
			MaxUnsent: maxUnsent,
			Poll:      d.poll,
			OnBatch:   func(b carrier.Batch) { d.hear(c, b) },
			OnEnd:     func(err error) { d.post(mail{do: func() { d.ended(ctx, c, err) }}) },
		})
	}
	d.conns[c.process] = c
	d.recount()
	if d.over != "" {
		d.refuse(c, "the cluster is being shut down: "+d.over)
		return
	}
	switch a.attach.Kind {
	case fb.AttachKindTemplate:
		d.templateUp(c, a.attach)
	case fb.AttachKindWorker:
		h := d.hired[a.attach.Worker]
		if h == nil || h.conn != nil || h.state != nil {
			d.refuse(c, "no worker of that key is waited for")
			return
		}
		c.hired, c.job, h.conn, h.spoke = h, h.job.number, c, !a.greeted
		d.storeUp(c, 0)
		d.brings(work.ProcessUp{Process: c.process, Kind: work.Worker, Key: h.key, PID: a.attach.Pid, Greeted: a.greeted, Direct: a.greeted || a.attach.Direct})
	default:
		j, why := d.jobFor(ctx, c, a.attach)
		if j == nil {
			d.refuse(c, why)
			return
		}
		c.job, c.name = j.number, a.attach.Name
		d.storeUp(c, peer)
		d.brings(work.ProcessUp{Process: c.process, Kind: work.Driver, Job: j.number, PID: a.attach.Pid, Direct: a.attach.Direct})
	}
}

// refuse says why and ends a connection.
func (d *desk) refuse(c *workConn, why string) {
	d.send(c, &fb.GoodbyeT{Reason: why}, 0, nil)
	c.conn.Finish()
}

// append puts frames behind those that wait for a process.
func (d *desk) append(c *workConn, frames []byte) {
	if err := c.conn.Append(frames); err != nil {
		if err == carrier.ErrFull {
			d.l.log.Warn("a process does not read what is for it: its connection ends", "process", c.process, "unsent", c.conn.Unsent())
			c.conn.Cut()
		}
		return // else it ends, and ended comes
	}
	d.soil(c)
}

// soil has what was appended to a connection sent at the end of the turn.
func (d *desk) soil(c *workConn) {
	if !c.dirty {
		c.dirty = true
		d.dirty = append(d.dirty, c)
	}
}

// flush sends what the turn left for processes, and then for templates: what a worker is sent is there before its template hears of it.
func (d *desk) flush() {
	for _, templates := range []bool{false, true} {
		for _, c := range d.dirty {
			if (c.template != nil) == templates {
				c.dirty = false
				c.conn.Flush()
			}
		}
	}
	clear(d.dirty)
	d.dirty = d.dirty[:0]
}

// send appends a message that is not hot.
func (d *desk) send(c *workConn, m Message, corr uint64, payload []byte) {
	frame, err := carrier.AppendMessage(nil, m, corr, payload)
	if err != nil {
		d.l.log.Error("a message can't be sent to a process", "type", typeName(m), "error", err)
		return
	}
	d.append(c, frame)
}

// ended: a connection is over. A worker is only gone with its process.
func (d *desk) ended(ctx context.Context, c *workConn, err error) {
	delete(d.conns, c.process)
	d.recount()
	switch {
	case c.template != nil:
		d.templateDown(ctx, c)
		return
	case c.hired != nil:
		c.hired.closed = d.l.now()
		d.workerOver(c.hired)
		if j := c.hired.job; c.made && !j.over {
			j.left = append(j.left, c)
		} else {
			d.abandon(ctx, c)
		}
		return
	}
	why := "its connection broke"
	if err == io.EOF || err == carrier.ErrClosed {
		why = "it ended"
	}
	if !c.through {
		d.driverGone(ctx, c, why)
	}
}

// goodbye: a driver is through. Its job ends; it itself reads on until all has come that its workers printed (settled
// by toldTemplate).
func (d *desk) goodbye(ctx context.Context, c *workConn) {
	j := d.jobOf(c.job)
	if j == nil || uint32(c.process) != j.number || !d.hasTemplate(j) {
		c.conn.Finish()
		return
	}
	c.through = true
	d.driverGone(ctx, c, "it ended")
}

// driverGone ends what belongs to a driver, or to a process that forked off one.
func (d *desk) driverGone(ctx context.Context, c *workConn, why string) {
	d.abandon(ctx, c)
	if d.core == nil {
		return
	}
	d.storeEnded(c)
	d.brings(work.ProcessGone{Process: c.process, Why: why})
	j := d.jobOf(c.job)
	if j == nil {
		return
	}
	j.drivers--
	if uint32(c.process) == j.number { // what forked off does not keep the job
		j.over = true
		for _, k := range j.left {
			d.abandon(ctx, k)
		}
		j.left = nil
		for _, k := range d.sorted() {
			if k.job == j.number && k.hired == nil && k != c {
				d.refuse(k, "its driver ended")
			}
		}
	}
}

// abandon ends what the loop's core knows of a process that is gone: the groups that it made go, too.
func (d *desk) abandon(ctx context.Context, c *workConn) {
	if c.client {
		d.l.post(ctx, item{do: func(ctx context.Context) { d.l.clientGone(ctx, uint32(c.process)) }})
	}
	of := func(x *piece) bool { return x.conn == c }
	d.creates, d.unsure = slices.DeleteFunc(d.creates, of), slices.DeleteFunc(d.unsure, of)
	var groups []id.Task
	for group := range d.groups {
		groups = append(groups, group)
	}
	slices.SortFunc(groups, func(a, b id.Task) int { return cmp.Compare(a.Counter, b.Counter) })
	for _, group := range groups { // nobody tells of their end any more
		if group.Process == c.process && uint32(group.Agent) == d.agent && !d.groups[group].detached && !d.endPiece(group, "its maker ended") {
			d.brings(work.Place{Group: group, Gone: true})
			d.brings(work.Grant{Group: group, Gone: true})
			delete(d.groups, group)
		}
	}
}

// pass gives the loop's core what a process says that is not about work.
func (d *desk) pass(ctx context.Context, c *workConn, f carrier.Frame) {
	slab := d.store != nil && (f.Type() == fb.FrameTypeSlabWanted || f.Type() == fb.FrameTypeSlabForgo || f.Type() == fb.FrameTypeSlabReturn)
	switch f.Type() {
	case fb.FrameTypeGoodbye:
		d.goodbye(ctx, c)
		return
	case fb.FrameTypeGroupCreate, fb.FrameTypeGroupCancel, fb.FrameTypeGroupWatch, fb.FrameTypeStateQuery:
	default:
		if !slab {
			d.refuse(c, "a "+f.Type().String()+" is nothing that a process may say to its agent")
			return
		}
	}
	m, err := f.Message()
	if err != nil {
		d.refuse(c, "sent a "+f.Type().String()+" that can't be read")
		return
	}
	if slab {
		if err := d.store.told(c.process, m); err != nil {
			d.refuse(c, err.Error())
		}
		return
	}
	if q, ok := m.(*fb.StateQueryT); ok && q.What == "memory" {
		corr := f.Corr()
		if d.store == nil {
			d.send(c, &fb.StateReplyT{Error: "this node has no memory for values"}, corr, nil)
			return
		}
		d.l.withMemory(d.store.show(false), d.store.store.Used(objstore.Arenas), func(text []byte) {
			d.post(mail{do: func() { d.send(c, &fb.StateReplyT{}, corr, text) }})
		})
		return
	}
	if g, ok := m.(*fb.GroupCreateT); ok {
		if at := taskOf(g.Group); uint32(at.Agent) != d.agent || at.Process != c.process {
			d.refuse(c, "made a group under an ID that is not its own")
			return
		}
		c.made, g.Part = true, nil
		if g.Program == nil { // who loses a node goes on elsewhere
			g.MaxRestarts = -1
		}
		if d.create(c, g) {
			return
		}
		d.groups[taskOf(g.Group)] = &made{group: taskOf(g.Group), detached: g.Detached}
	}
	if g, ok := m.(*fb.GroupCancelT); ok && g.Mode != fb.CancelModeSignal && d.endPiece(taskOf(g.Group), g.Reason) {
		return
	}
	d.tellPieces(ctx, d.l.now()) // what it says may be about them
	d.knownClient(ctx, c)
	d.ask(ctx, uint32(c.process), m, f.Corr(), append([]byte(nil), f.Payload()...))
	if g, ok := m.(*fb.GroupCreateT); ok && g.Detached { // it may end without its maker
		d.ask(ctx, d.process, &fb.GroupWatchT{Group: g.Group}, 0, nil)
	}
}

// knownClient makes a process a client of the loop's core, unless it is one.
func (d *desk) knownClient(ctx context.Context, c *workConn) {
	if c.client {
		return
	}
	c.client = true
	process := uint32(c.process)
	d.l.post(ctx, item{do: func(ctx context.Context) {
		d.l.clients[process] = &clientLink{desk: true}
		d.l.step(ctx, FromClient{Process: process, M: &fb.AttachT{Name: "process of job", Build: d.l.build}})
	}})
}

// say tells users what the core has to say: the process that it concerns, if it is a driver, or its driver.
func (d *desk) say(e *work.Effect) {
	m, of := &fb.NoticeT{Level: fb.LevelWarning, Code: e.Code, Text: e.Text, Wall: d.l.now()}, d.conns[e.Process]
	if of != nil {
		if j := d.jobOf(of.job); j != nil && j.errand != nil { // its driver is elsewhere
			d.toDriver(j, m, nil)
			return
		}
	}
	for _, c := range d.sorted() {
		mine := e.Process == 0 || c.process == e.Process
		if of != nil {
			mine = c.job == of.job
		}
		if mine && c.kind == fb.AttachKindDriver {
			d.send(c, m, 0, nil)
		}
	}
}
