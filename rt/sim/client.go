package sim

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Job is a gang that a client wants.
type Job struct {
	Name        string
	Bundles     int // 0: 1
	Ranks       int // of each bundle; 0: 1
	CPUs        int // of each bundle; 0: 1
	Strategy    fb.Strategy
	Argv        []string // see plan
	MaxRestarts int
	Detached    bool
	Wait        int64
	Port        bool // hold a port for rank 0
}

// Client is what `maniple run` is: it lives on a node, and ends with its gang.
type Client struct {
	c       *Cluster
	index   int
	node    *Node
	job     Job
	conn    *clientConn
	Group   id.Task // once it has a name
	known   bool    // the head has it
	Phase   fb.GroupPhase
	Explain string
	inc     uint32
	End     *fb.GroupEndT
	Ends    int  // how often an end came
	Gone    bool // it ended, or its node did
	streams []received
	began   int64
	touched int64
	wish    *fb.GroupCancelT
	Notices []string
}

// received is what came of one stream.
type received struct {
	inc    uint32
	rank   uint32
	stream uint8
	next   int // bytes
	eof    bool
}

// Submit starts a client on a node.
func (c *Cluster) Submit(n *Node, job Job) *Client {
	job.Bundles, job.Ranks, job.CPUs = max(job.Bundles, 1), max(job.Ranks, 1), max(job.CPUs, 1)
	cl := &Client{c: c, index: len(c.clients), node: n, job: job, began: c.now}
	c.clients = append(c.clients, cl)
	cl.connect()
	return cl
}

// connect finds its node's agent; there may be none at the moment.
func (cl *Client) connect() {
	if cl.Gone || cl.conn != nil {
		return
	}
	if cl.node.dead || cl.node.host.dead {
		cl.Gone = true
		return
	}
	if a := cl.node.agent; a != nil {
		cl.conn = a.connect(cl)
		cl.conn.toAgent(&fb.AttachT{Name: "run", Pid: uint32(cl.index)}, nil)
		return
	}
	cl.c.after(50e6, "reconnect", uint64(cl.index), cl.node.host, cl.connect)
}

func (cl *Client) disconnected(k *clientConn) {
	if cl.conn == k {
		cl.conn = nil
		cl.c.after(20e6, "reconnect", uint64(cl.index), cl.node.host, cl.connect)
	}
}

func (cl *Client) send(m wire.Message) {
	if cl.conn != nil {
		cl.conn.toAgent(m, nil)
	}
}

// Cancel asks the gang to end.
func (cl *Client) Cancel(mode fb.CancelMode, grace int64, code int32) {
	cl.wish = &fb.GroupCancelT{Group: taskT(cl.Group), Mode: mode, Grace: grace, Reason: "Ctrl-C", ExitCode: code}
	cl.send(cl.wish)
}

// Kill ends the client without a word.
func (cl *Client) Kill() {
	cl.Gone = true
	if cl.conn != nil {
		cl.conn.close()
	}
}

func (cl *Client) create() *fb.GroupCreateT {
	j := cl.job
	m := &fb.GroupCreateT{Group: taskT(cl.Group), Name: j.Name, Strategy: j.Strategy, MaxRestarts: int32(j.MaxRestarts),
		Detached: j.Detached, Wait: j.Wait, Program: &fb.ProgramT{Argv: append([]string{"sim"}, j.Argv...), BindCpus: true, MasterPort: j.Port}}
	for range j.Bundles {
		m.Bundles = append(m.Bundles, &fb.BundleT{Ranks: uint32(j.Ranks), Resources: []*fb.ResourceT{{Name: "CPU", Amount: int64(j.CPUs) * 10000}}})
	}
	return m
}

// take handles what the agent says.
func (cl *Client) take(m wire.Message, payload []byte) {
	if cl.Gone {
		return
	}
	switch m := m.(type) {
	case *fb.AttachedT:
		if cl.Group.IsZero() {
			cl.Group = id.Task{Agent: id.Agent(m.Agent), Process: id.Process(m.Process), Counter: uint64(cl.index) + 1}
		}
		if cl.known {
			cl.send(&fb.GroupWatchT{Group: taskT(cl.Group), Owner: true, Received: cl.marks()})
		} else {
			cl.send(cl.create())
		}
		if cl.wish != nil {
			cl.send(cl.wish)
		}
	case *fb.GroupUpdateT:
		cl.update(m)
	case *fb.RankOutputT:
		cl.output(m, payload)
	case *fb.NoticeT:
		cl.Notices = append(cl.Notices, m.Code)
		cl.c.logf("client %d: %s: %s", cl.index, m.Code, m.Text)
	case *fb.ShutdownT:
		cl.c.logf("client %d: shutdown: %s", cl.index, m.Reason)
	}
}

func (cl *Client) update(m *fb.GroupUpdateT) {
	if task(m.Group) != cl.Group {
		cl.c.fault("client %d was told of %v", cl.index, task(m.Group))
		return
	}
	cl.known = true
	if m.Phase != cl.Phase || m.Incarnation != cl.inc || m.Explain != cl.Explain || m.Phase == fb.GroupPhaseEnded {
		text := ""
		switch {
		case m.End != nil:
			text = endText(m.End)
		case m.Explain != "":
			text = ": " + m.Explain
		}
		cl.c.logf("client %d: %v#%d %s%s", cl.index, cl.Group, m.Incarnation, m.Phase, text)
	}
	cl.Phase, cl.inc, cl.Explain = m.Phase, m.Incarnation, m.Explain
	if m.Phase != fb.GroupPhaseEnded {
		if cl.End != nil {
			cl.c.fault("HEAD-2: %v was told to have ended, and goes on", cl.Group)
		}
		return
	}
	cl.Ends++
	if cl.End != nil && *cl.End != *m.End {
		cl.c.fault("HEAD-2: %v ended twice: %+v and %+v", cl.Group, *cl.End, *m.End)
	}
	if cl.End == nil {
		cl.End = m.End
		cl.touched = cl.c.now
		cl.leave()
	}
}

// leave ends the client once all output is here, or nothing more comes.
func (cl *Client) leave() {
	if cl.Gone {
		return
	}
	if !cl.complete() && cl.c.now-cl.touched < 10e9 {
		cl.c.after(100e6, "wait for output", uint64(cl.index), cl.node.host, cl.leave)
		return
	}
	if cl.End.Code == 0 && cl.End.Cause == "ok" && !cl.complete() && !cl.c.severed(cl.began) {
		cl.c.fault("AGENT-4: %v ended well and its output is incomplete: %v", cl.Group, cl.streams)
	}
	cl.Gone = true
	if k := cl.conn; k != nil { // in order: what it said last arrives first
		k.up.do(cl.c, "client leaves", uint64(cl.index), cl.node.host, k.close)
	}
}

// complete tells whether every stream of the last incarnation ended.
func (cl *Client) complete() bool {
	n := 0
	for _, s := range cl.streams {
		if s.inc == cl.inc && s.eof {
			n++
		}
	}
	return n == 2*cl.job.Bundles*cl.job.Ranks
}

func (cl *Client) stream(m *fb.RankOutputT) *received {
	key := received{inc: m.Incarnation, rank: m.Rank, stream: m.Stream}
	at, ok := slices.BinarySearchFunc(cl.streams, key, func(a, b received) int {
		return cmp.Or(cmp.Compare(a.inc, b.inc), cmp.Compare(a.rank, b.rank), cmp.Compare(a.stream, b.stream))
	})
	if !ok {
		cl.streams = slices.Insert(cl.streams, at, key)
	}
	return &cl.streams[at]
}

// output checks every byte of every rank, and acknowledges.
func (cl *Client) output(m *fb.RankOutputT, data []byte) {
	s := cl.stream(m)
	cl.touched = cl.c.now
	at := int(m.Offset - agent.OffsetBase(m.Incarnation))
	key := agent.Key{Group: cl.Group, Incarnation: m.Incarnation, Rank: m.Rank}
	switch {
	case at > s.next:
		cl.c.fault("AGENT-4: output of %v, stream %d: %d comes after %d", key, m.Stream, at, s.next)
		return
	case m.Stream == agent.Stdout:
		if !bytes.Equal(data, content(key, at, len(data))) {
			cl.c.fault("AGENT-4: %d bytes of output of %v at %d are not what it wrote", len(data), key, at)
			return
		}
	}
	s.next = max(s.next, at+len(data))
	if m.Eof && at == s.next {
		s.eof = true
		if plan := planOf(cl.job.Argv); m.Stream == agent.Stdout && s.next > plan.out {
			cl.c.fault("AGENT-4: %v wrote %d bytes, %d came", key, plan.out, s.next)
		}
	}
	cl.send(&fb.RankOutputAckT{Group: taskT(cl.Group), Incarnation: m.Incarnation, Rank: m.Rank, Stream: m.Stream, Offset: s.mark()})
}

// mark is the offset up to which the stream is here; its end counts as one byte.
func (s *received) mark() uint64 {
	o := agent.OffsetBase(s.inc) + uint64(s.next)
	if s.eof {
		o++
	}
	return o
}

func (cl *Client) marks() []*fb.OutputMarkT {
	var out []*fb.OutputMarkT
	for i := range cl.streams {
		s := &cl.streams[i]
		out = append(out, &fb.OutputMarkT{Rank: s.rank, Stream: s.stream, Offset: s.mark()})
	}
	return out
}
