package sim

import (
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// program is one rank's process, and its pipes, which outlive agents.
type program struct {
	n        *Node
	key      agent.Key
	pid      uint32
	plan     plan
	cpus     []uint32
	running  bool
	ended    bool
	code     int32
	sig      int32
	errText  string
	out      [2]stdout
	sink     agent.Remember
	known    bool
	template uint64 // the key of the template that it is; 0: it is none
	attached *proc  // which it is then
}

// stdout is one of its pipes, and the agent's spool behind it.
type stdout struct {
	written int  // bytes that the program wrote
	read    int  // bytes that agents took from the pipe
	acked   int  // bytes that are with the sink
	closed  bool // no writer is left
	stopped bool // nobody reads any more
	wants   int  // a read that waits, 0: none
	reader  *agentProc
}

// plan is what a program does, read off its argv: words "run=2s", "fail=RANK:CODE" (after run) or
// "fail=RANK:CODE@TIME", in incarnations below "until=N" only, "out=BYTES", "stubborn" (ignores TERM),
// "save=2s" (ends well so long after TERM), "missing" (can't be started).
type plan struct {
	run      int64
	failRank int
	failAt   int64 // 0: after run
	code     int32
	until    uint32
	out      int
	stubborn bool
	save     int64
	missing  bool
}

func planOf(argv []string) plan {
	p := plan{run: 1e9, failRank: -1}
	for _, word := range argv {
		k, v, _ := strings.Cut(word, "=")
		switch k {
		case "run":
			d, _ := time.ParseDuration(v)
			p.run = int64(d)
		case "fail":
			v, at, _ := strings.Cut(v, "@")
			d, _ := time.ParseDuration(at)
			p.failAt = int64(d)
			rank, code, _ := strings.Cut(v, ":")
			p.failRank, _ = strconv.Atoi(rank)
			n, _ := strconv.Atoi(code)
			p.code = int32(n)
		case "until":
			n, _ := strconv.Atoi(v)
			p.until = uint32(n)
		case "out":
			p.out, _ = strconv.Atoi(v)
		case "stubborn":
			p.stubborn = true
		case "save":
			d, _ := time.ParseDuration(v)
			p.save = int64(d)
		case "missing":
			p.missing = true
		}
	}
	return p
}

// launch is the keeper's fork and exec.
func (n *Node) launch(m *fb.ProgramLaunchT) {
	key := agent.Key{Group: task(m.Group), Incarnation: m.Incarnation, Rank: m.Rank}
	if n.program(key) != nil {
		n.c.fault("AGENT-1: %s launches %v again", n.host.name, key)
		return
	}
	n.pids++
	p := &program{n: n, key: key, pid: n.pids, plan: planOf(m.Argv), cpus: m.Cpus, template: templateKey(m.Env)}
	n.programs = append(n.programs, p)
	if p.plan.missing {
		p.errText = "no such file or directory"
		p.ended = true
		n.toAgent(p.state())
		return
	}
	if p.template == 0 { // which has no CPU of its own
		n.c.crowded(n, p)
	}
	c := n.c
	c.after(1e6+c.rng.Int64N(3e6), "exec", uint64(p.pid), n.host, func() {
		if p.ended || n.dead {
			return
		}
		p.running = true
		c.logf("%s: rank %d of %v#%d runs", n.host.name, key.Rank, key.Group, key.Incarnation)
		p.write(p.plan.out / 2)
		n.toAgent(p.state())
		if p.template != 0 {
			p.becomeTemplate()
			return
		}
		fails := p.plan.failRank == int(key.Rank) && (p.plan.until == 0 || key.Incarnation < p.plan.until)
		run := p.plan.run
		if fails && p.plan.failAt > 0 {
			run = p.plan.failAt
		}
		c.after(run+c.rng.Int64N(20e6), "exit", uint64(p.pid), n.host, func() {
			if p.ended || n.dead {
				return
			}
			p.write(p.plan.out - p.plan.out/2)
			code := int32(0)
			if fails {
				code = p.plan.code
			}
			p.end(code, 0)
		})
	})
}

func (p *program) state() *fb.ProgramStateT {
	s := &fb.ProgramStateT{Group: taskT(p.key.Group), Incarnation: p.key.Incarnation, Rank: p.key.Rank,
		Pid: p.pid, Started: uint64(p.pid), Code: p.code, Signal: p.sig, Error: p.errText, Wall: p.n.c.now}
	switch {
	case p.ended:
		s.Phase = fb.RankPhaseEnded
	case p.running:
		s.Phase = fb.RankPhaseRunning
	}
	return s
}

// signal is kill(2) by the keeper.
func (p *program) signal(sig int32) {
	if p.ended || sig != 9 && p.plan.stubborn {
		return
	}
	if sig != 9 && p.plan.save > 0 {
		p.n.c.after(p.plan.save, "saved", uint64(p.pid), p.n.host, func() { p.end(0, 0) })
		return
	}
	p.n.c.after(1e6, "signal", uint64(p.pid), p.n.host, func() { p.end(0, sig) })
}

// end is its last moment; the keeper reaps it.
func (p *program) end(code, sig int32) {
	if p.ended {
		return
	}
	p.ended, p.running, p.code, p.sig = true, false, code, sig
	p.n.c.logf("%s: rank %d of %v#%d ends: code %d signal %d", p.n.host.name, p.key.Rank, p.key.Group, p.key.Incarnation, code, sig)
	for i := range p.out {
		p.out[i].closed = true
		p.give(i)
	}
	p.n.toAgent(p.state())
	if p.attached != nil {
		p.attached.end(0, 9)
	}
}

// content is what a rank writes to its stdout: known, so that the sink can check it.
func content(k agent.Key, from, n int) []byte {
	first := byte(mix(k.Group.Counter<<20 ^ uint64(k.Rank)<<8 ^ uint64(k.Incarnation)))
	data := make([]byte, n)
	for i := range data {
		data[i] = first + byte(from+i)*7 + byte((from+i)>>8)
	}
	return data
}

func (p *program) write(n int) {
	p.out[0].written += n
	p.give(0)
}

// give answers a read that waits.
func (p *program) give(i int) {
	s := &p.out[i]
	a := s.reader
	if s.wants == 0 || a == nil || a.gone {
		return
	}
	n := min(s.wants, s.written-s.read)
	if n == 0 && !s.closed {
		return
	}
	s.wants, s.reader = 0, nil
	from := s.read
	s.read += n
	key, stream := p.key, uint8(i)+1
	p.n.c.after(localLatency, "read", uint64(p.pid), p.n.host, func() {
		if n == 0 {
			a.step(agent.OutputEOF{Key: key, Stream: stream})
			return
		}
		a.step(agent.Output{Key: key, Stream: stream, Data: content(key, from, n)})
	})
}

// restored is what the spool tells a new agent of a stream.
func (p *program) restored(i int) agent.Restored {
	s := &p.out[i]
	s.wants, s.reader = 0, nil
	base := agent.OffsetBase(p.key.Incarnation)
	return agent.Restored{Key: p.key, Stream: uint8(i) + 1, Offset: base + uint64(s.acked),
		Data: content(p.key, s.acked, s.read-s.acked), Sink: p.sink, Known: p.known}
}

func (n *Node) read(e agent.ReadMore) {
	p := n.program(e.Key)
	if p == nil || p.out[e.Stream-1].stopped {
		a := n.agent
		a.later(agent.OutputEOF{Key: e.Key, Stream: e.Stream})
		return
	}
	s := &p.out[e.Stream-1]
	s.wants, s.reader = e.Max, n.agent
	p.give(int(e.Stream) - 1)
}

func (n *Node) stopRead(k agent.Key, stream uint8) {
	if p := n.program(k); p != nil {
		p.out[stream-1].stopped = true
	}
}

func (n *Node) acked(k agent.Key, stream uint8, offset uint64) {
	if p := n.program(k); p != nil {
		s := &p.out[stream-1]
		s.acked = min(max(s.acked, int(offset-agent.OffsetBase(k.Incarnation))), s.read)
	}
}

func (n *Node) remember(e agent.Remember) {
	if p := n.program(e.Key); p != nil {
		p.sink, p.known = e, true
		return
	}
	// The effect comes before the launch: it is kept until the program is there.
	n.c.after(2*localLatency, "remember", uint64(n.host.index), n.host, func() {
		if p := n.program(e.Key); p != nil {
			p.sink, p.known = e, true
		}
	})
}

func (n *Node) forget(k agent.Key) {
	if p := n.program(k); p != nil {
		for i := range p.out {
			p.out[i].stopped = true
		}
	}
}
