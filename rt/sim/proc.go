package sim

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/transport/work"
)

// proc is a process with a work connection, as an honest SDK makes it: a driver, a template, or a worker.
type proc struct {
	c        *Cluster
	node     *Node
	agent    *agentProc
	line     *agent.Line
	kind     fb.AttachKind
	pid      uint32
	up, down pipe
	at       *fb.AttachedT // nil: not attached yet
	closed   bool          // its connection is over
	gone     bool
	hears    func(m wire.Message, corr uint64, payload []byte)
	ends     func(code, sig int32) // what else there is to do when it ends; nil: nothing

	held    map[id.Object]*reference
	keys    []id.Object // of held, in the order in which they came
	minted  uint64
	values  []id.Object // that came in values for the task that comes next
	defined bool        // it has said its functions and shapes
}

// reference is what a process counts for one object.
type reference struct {
	n, seen   uint32
	own       bool // the result of its own task, or its own put
	unsettled bool // nothing has come of it
	asked     int  // answers that are to come
}

// attach connects a process to its node's agent.
func (n *Node) attach(kind fb.AttachKind, worker uint64, p *proc) {
	n.pids++
	p.c, p.node, p.agent, p.kind, p.pid, p.held = n.c, n, n.agent, kind, n.pids, map[id.Object]*reference{}
	p.agent.procs = append(p.agent.procs, p)
	m := &fb.AttachT{Name: "sim", Pid: p.pid, Build: "sim", Kind: kind, Worker: worker, Language: "python", JobConfig: `{"executable":"/sim","cwd":"/"}`}
	p.up.do(n.c, "attach", uint64(p.pid), n.host, func() {
		if p.agent.gone || p.gone {
			p.over()
			return
		}
		p.line = p.agent.shell.Attach(m, p.hear, p.over)
		p.agent.arm()
	})
}

// send says a message to the agent.
func (p *proc) send(m wire.Message, payload []byte) {
	frames, err := work.AppendMessage(nil, m, 0, payload)
	if err != nil {
		p.c.fault("%T does not travel: %v", m, err)
		return
	}
	p.up.do(p.c, "process says", uint64(p.pid), p.node.host, func() {
		if !p.agent.gone && p.line != nil && !p.closed {
			p.line.Say(frames)
			p.agent.arm()
		}
	})
}

// hear takes what the agent sends.
func (p *proc) hear(frames []byte) {
	frames = bytes.Clone(frames)
	p.down.do(p.c, "process hears", uint64(p.pid), p.node.host, func() {
		for f := range work.Frames(frames) {
			m, err := f.Message()
			if err != nil {
				p.c.fault("a %v to a process can't be read: %v", f.Type(), err)
				continue
			}
			if p.gone {
				return
			}
			if at, ok := m.(*fb.AttachedT); ok {
				p.at = at
			}
			p.c.digest(uint64(f.Type()))
			p.hears(m, f.Corr(), f.Payload())
		}
	})
}

// over: the agent's end of the connection is. The fate rule: so is the process, soon.
func (p *proc) over() {
	p.agent.procs = slices.DeleteFunc(p.agent.procs, func(q *proc) bool { return q == p })
	p.closed = true
	p.down.do(p.c, "process alone", uint64(p.pid), p.node.host, func() { p.end(1, 0) })
}

// end is the end of the process.
func (p *proc) end(code, sig int32) {
	if p.gone {
		return
	}
	p.gone = true
	if p.line != nil && !p.closed && !p.agent.gone {
		p.up.do(p.c, "process closes", uint64(p.pid), p.node.host, func() {
			if !p.agent.gone && !p.closed {
				p.line.Close()
				p.agent.arm()
			}
		})
	}
	if p.ends != nil {
		p.ends(code, sig)
	}
}

// References.

func (p *proc) mint() id.Task {
	p.minted++
	return id.Task{Agent: id.Agent(p.at.Agent), Process: id.Process(p.at.Process), Counter: p.minted}
}

func (p *proc) reference(o id.Object) *reference {
	r := p.held[o]
	if r == nil {
		r = &reference{}
		p.held[o] = r
		p.keys = append(p.keys, o)
	}
	return r
}

func (p *proc) expect(t id.Task, returns uint32) {
	for i := range returns {
		r := p.reference(id.Object{Task: t, Index: i})
		r.n, r.own, r.unsettled = 1, true, true
	}
}

func (p *proc) delivered(o id.Object) {
	r := p.reference(o)
	r.n++
	r.seen++
}

// drop ends one reference; the last one is told.
func (p *proc) drop(o id.Object) {
	r := p.held[o]
	if r.n--; r.n > 0 {
		return
	}
	delete(p.held, o)
	p.keys = slices.DeleteFunc(p.keys, func(k id.Object) bool { return k == o })
	p.send(&fb.ReleaseT{Object: objectT(o), Deliveries: r.seen}, nil)
}

// took takes a value in, and gives the references in it.
func (p *proc) took(m *fb.ResultT, payload []byte) (inside []id.Object) {
	inside = objects(payload, int(m.Refs))
	for _, o := range inside {
		p.delivered(o)
	}
	t := task(m.Task)
	if r := p.held[id.Object{Task: t, Index: m.Index}]; r != nil {
		r.unsettled, r.asked = false, max(r.asked-1, 0)
	}
	if m.Flags&uint32(fb.ResultFlagLast) != 0 && m.Flags&uint32(fb.ResultFlagError) != 0 {
		for _, o := range p.keys {
			if r := p.held[o]; o.Task == t && r.own { // the others of the task have this error, too
				r.unsettled = false
			}
		}
	}
	return inside
}

// waits tells what the process waits for that it was to be told of.
func (p *proc) waits() (list []id.Object) {
	for _, o := range p.keys {
		if r := p.held[o]; r.unsettled || r.asked > 0 {
			list = append(list, o)
		}
	}
	return list
}

// Templates and what they fork.

func templateKey(env []string) uint64 {
	for _, v := range env {
		if text, ok := strings.CutPrefix(v, "MANIPLE_WORKER="); ok {
			key, _ := strconv.ParseUint(text, 10, 64)
			return key
		}
	}
	return 0
}

// becomeTemplate attaches a program as the one from which the workers of a job are forked.
func (p *program) becomeTemplate() {
	n := p.n
	if n.agent == nil {
		p.end(1, 0)
		return
	}
	t := &proc{}
	p.attached = t
	var workers []*worker
	t.hears = func(m wire.Message, _ uint64, _ []byte) {
		switch m := m.(type) {
		case *fb.ForkT:
			n.c.after(1e6+n.c.rng.Int64N(5e6), "fork", m.Key, n.host, func() {
				if !t.gone {
					workers = append(workers, n.fork(t, m.Key))
				}
			})
		case *fb.ShutdownT:
			t.end(0, 0)
		}
	}
	t.ends = func(code, sig int32) {
		for _, w := range workers {
			w.end(0, 9)
		}
		p.end(code, sig)
	}
	n.attach(fb.AttachKindTemplate, p.template, t)
}

// slay is kill -9 of one of a node's workers.
func (n *Node) slay(pid int) {
	if n.agent == nil {
		return
	}
	for _, p := range n.agent.procs {
		if int(p.pid) == pid && p.kind == fb.AttachKindWorker {
			n.c.after(1e5, "slain", uint64(pid), n.host, func() { p.end(0, 9) })
		}
	}
}

const objectSize = 24 // of an ID in a payload

func objectT(o id.Object) *fb.ObjectIDT { return &fb.ObjectIDT{Task: taskT(o.Task), Index: o.Index} }

func objectBytes(list ...id.Object) (b []byte) {
	for _, o := range list {
		b = append(b, make([]byte, objectSize)...)
		wire.PutObjectID(b[len(b)-objectSize:], objectT(o))
	}
	return b
}

func objects(payload []byte, n int) (list []id.Object) {
	for i := range n {
		var o fb.ObjectIDT
		if err := wire.ReadObjectID(payload[i*objectSize:(i+1)*objectSize], &o); err != nil {
			return list
		}
		list = append(list, id.Object{Task: task(o.Task), Index: o.Index})
	}
	return list
}
