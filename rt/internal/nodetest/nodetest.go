// Package nodetest is a node for tests of the SDK: the agent's own work core behind a real unix socket, with real
// processes as workers, and neither keeper nor head.
//
// A Node takes drivers. When its core wants a worker it starts the test's binary as a template, once, and has that make
// it; so a TestMain has to call rt.Init first. What a node has is said when it starts and does not change; there are no groups.
//
// Ownership: one lock around the core; each connection and the template have goroutines that end with the test.
package nodetest

import (
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/uds"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// Node is an agent without a cluster.
type Node struct {
	Path string // of its socket

	t        testing.TB
	mu       sync.Mutex
	core     *work.Core
	conns    map[id.Process]*conn
	workers  map[uint64]*worker
	template *exec.Cmd
	forks    *carrier.Conn // of the template; nil: it has not attached
	queue    []*fb.ForkT
	last     id.Process
	timer    *time.Timer
	over     bool
	goes     sync.WaitGroup
	said     []string
}

type conn struct {
	*carrier.Conn
	worker *worker
}

// worker is over when its process is and its connection is closed.
type worker struct {
	key    uint64
	conn   id.Process
	pid    int
	ended  bool
	closed bool
	killed bool
	why    string
}

// Start starts a node with so many CPUs, which ends with the test. config may have credits and limits.
func Start(t testing.TB, cpus int, config work.Config) *Node {
	t.Helper()
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	config.Agent, config.Node, config.Cluster = 1, "n1", "test"
	n := &Node{Path: filepath.Join(dir, "agent.sock"), t: t, core: work.New(config), conns: map[id.Process]*conn{}, workers: map[uint64]*worker{}}
	l, err := uds.Listen(n.Path)
	if err != nil {
		t.Fatal(err)
	}
	n.timer = time.AfterFunc(time.Hour, func() { n.step(work.Tick{}) })
	n.step(work.Grant{Resources: []work.Amount{{Name: "CPU", Amount: int64(cpus) * 10_000}}})
	n.goes.Go(func() {
		for {
			nc, err := l.AcceptUnix()
			if err != nil {
				return
			}
			n.goes.Go(func() {
				if c, err := uds.Server(nc); err == nil {
					n.attach(c)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.end()
		os.RemoveAll(dir)
	})
	return n
}

// end cuts everything and waits for it.
func (n *Node) end() {
	n.mu.Lock()
	n.over = true
	n.timer.Stop()
	for _, c := range n.conns {
		c.Cut()
	}
	if n.template != nil {
		_ = n.template.Process.Kill()
	}
	for _, w := range n.workers {
		w.kill()
	}
	n.mu.Unlock()
	n.goes.Wait()
}

// Said are the codes of what the core had to say to users.
func (n *Node) Said() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.said...)
}

// Die closes all connections, as an agent that is killed does, and kills nobody.
func (n *Node) Die() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	for _, c := range n.conns {
		c.Cut()
	}
}

func (n *Node) attach(c transport.Conn) {
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _, err := transport.Answer(c, func(*fb.HelloT, transport.Peer) (*fb.WelcomeT, *fb.RefuseT) { return &fb.WelcomeT{Agent: 1}, nil })
	var a *fb.AttachT
	if err == nil {
		a, err = carrier.Attaching(c)
	}
	if err != nil {
		c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	p := n.last
	if a.Kind == fb.AttachKindTemplate {
		n.forks = carrier.New(c, carrier.Config{OnBatch: n.states})
		n.conns[p] = &conn{Conn: n.forks}
		_ = n.forks.Send(&fb.AttachedT{Agent: 1, Process: uint32(p)}, 0, nil)
		for _, f := range n.queue {
			_ = n.forks.Send(f, 0, nil)
		}
		n.queue = nil
		return
	}
	up := work.ProcessUp{Process: p, Kind: work.Driver, Job: uint32(p), PID: a.Pid}
	k := &conn{}
	if a.Kind == fb.AttachKindWorker {
		w := n.workers[a.Worker]
		if w == nil || w.conn != 0 {
			c.Close()
			return
		}
		k.worker, w.conn = w, p
		up = work.ProcessUp{Process: p, Kind: work.Worker, Key: w.key, PID: a.Pid}
	}
	k.Conn = carrier.New(c, carrier.Config{
		MaxUnsent: 1 << 30,
		OnBatch: func(b carrier.Batch) {
			n.step(&work.Frames{Process: p, Bytes: b.Bytes})
			b.Release()
		},
		OnEnd: func(error) { n.closed(p) },
	})
	n.conns[p] = k
	n.stepLocked(up)
}

func (n *Node) closed(p id.Process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.conns[p]
	delete(n.conns, p)
	if k.worker != nil {
		k.worker.closed = true
		n.workerOver(k.worker)
		return
	}
	n.stepLocked(work.ProcessGone{Process: p, Why: "it ended"})
}

func (n *Node) workerOver(w *worker) {
	if !w.ended || w.conn != 0 && !w.closed || n.workers[w.key] == nil {
		return
	}
	delete(n.workers, w.key)
	if w.conn == 0 {
		n.stepLocked(work.WorkerFailed{Key: w.key, Why: w.why})
		return
	}
	n.stepLocked(work.ProcessGone{Process: w.conn, Why: w.why})
}

// states takes in what the template tells.
func (n *Node) states(b carrier.Batch) {
	defer b.Release()
	n.mu.Lock()
	defer n.mu.Unlock()
	for f := range carrier.Frames(b.Bytes) {
		m, err := f.Message()
		s, ok := m.(*fb.WorkerStateT)
		if err != nil || !ok || n.workers[s.Key] == nil {
			continue
		}
		w := n.workers[s.Key]
		w.pid = int(s.Pid)
		if s.Phase == fb.RankPhaseEnded {
			w.ended, w.why = true, fmt.Sprintf("it exited with code %d", s.Code)
			if s.Signal != 0 {
				w.why = fmt.Sprintf("killed by signal %d", s.Signal)
			}
			if s.Error != "" {
				w.why = s.Error
			}
			n.workerOver(w)
		} else if w.killed {
			w.kill()
		}
	}
}

func (w *worker) kill() {
	w.killed = true
	if p, err := os.FindProcess(w.pid); err == nil && w.pid > 0 && !w.ended {
		_ = p.Kill()
	}
}

func (n *Node) step(ev work.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stepLocked(ev)
}

// stepLocked gives the core an event and does what it wants. What effects bring about comes by other ways.
func (n *Node) stepLocked(ev work.Event) {
	if n.over {
		return
	}
	now := time.Now().UnixNano()
	var heard []work.Event
	for _, e := range n.core.Step(now, ev, nil) {
		switch e.Do {
		case work.Append:
			if c := n.conns[e.Process]; c != nil {
				_ = c.Append(e.Bytes)
				c.Flush()
			}
		case work.NeedWorker:
			n.hire(e.Need)
		case work.KillWorker:
			if w := n.workers[e.Key]; w != nil {
				w.kill()
			}
		case work.CloseProcess:
			if c := n.conns[e.Process]; c != nil {
				c.Finish()
			}
		case work.Say:
			n.said = append(n.said, e.Code+": "+e.Text)
		case work.Pass:
			f := carrier.Frame(e.Bytes)
			if c := n.conns[e.Process]; c != nil && f.Type() == fb.FrameTypeStateQuery {
				_ = c.Send(&fb.StateReplyT{Error: "this node has no head"}, f.Corr(), nil)
			}
		case work.Claim: // the head would find the same: there is no other agent
			heard = append(heard, work.Named{Actor: e.Group, Holder: e.Group, Agent: 1, Node: "n1"})
		case work.Find:
			heard = append(heard, work.Found{Key: e.Key})
		}
	}
	for _, ev := range heard {
		n.stepLocked(ev)
	}
	for _, k := range n.core.Wants().Away {
		if k.Where != "" { // what the head would find
			n.stepLocked(work.Waits{Class: k.Class, Why: "n1 is the only node", Never: true})
			return
		}
	}
	n.timer.Reset(max(0, time.Duration(min(n.core.NextDeadline()-now, int64(time.Hour)))))
}

// hire has the template make a worker.
func (n *Node) hire(need *work.Need) {
	n.workers[need.Key] = &worker{key: need.Key}
	f := &fb.ForkT{Key: need.Key, Env: []string{fmt.Sprintf("GOMAXPROCS=%d", need.Threads), `MANIPLE_JOB_CONFIG={"namespace":"test"}`}}
	if n.forks != nil {
		_ = n.forks.Send(f, 0, nil)
		return
	}
	n.queue = append(n.queue, f)
	if n.template != nil {
		return
	}
	hash, err := serve.Hash()
	if err != nil {
		n.t.Error(err)
		return
	}
	n.template = exec.Command(os.Args[0], os.Args[1:]...)
	n.template.Env = append(os.Environ(), "MANIPLE_SERVE=template:"+hex.EncodeToString(hash[:]), "MANIPLE_WORKER=1", "MANIPLE_ADDRESS="+n.Path)
	n.template.Stdout, n.template.Stderr = os.Stdout, os.Stderr
	if err := n.template.Start(); err != nil {
		n.t.Error(err)
		return
	}
	n.goes.Go(func() { _ = n.template.Wait() })
}

// State is the answer to a query of a driver.
func (n *Node) State(what string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, c := range n.conns {
		if c.worker != nil || c.Conn == n.forks {
			continue
		}
		frame, err := carrier.AppendMessage(nil, &fb.StateQueryT{What: what}, 1<<40, nil)
		if err != nil {
			return err.Error()
		}
		for _, e := range n.core.Step(time.Now().UnixNano(), &work.Frames{Process: p, Bytes: frame}, nil) {
			if e.Do != work.Append {
				continue
			}
			for f := range carrier.Frames(e.Bytes) {
				if f.Type() == fb.FrameTypeStateReply && f.Corr() == 1<<40 {
					return string(f.Payload())
				}
			}
		}
	}
	return ""
}
