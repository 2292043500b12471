package plane

import (
	"container/heap"
	"fmt"

	"github.com/maniple-hpc/maniple/objstore/pull"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Config is a cluster's. Zero is the value in parentheses.
type Config struct {
	Nodes   int     // (2)
	Rate    float64 // bytes a second of a link, each way (1.25e9: 10 Gbit/s)
	Latency int64   // nanoseconds from node to node (50,000)
	Pull    pull.Config
}

func (c Config) filled() Config {
	if c.Nodes == 0 {
		c.Nodes = 2
	}
	if c.Rate == 0 {
		c.Rate = 1.25e9
	}
	if c.Latency == 0 {
		c.Latency = 50_000
	}
	return c
}

// Cluster is nodes and what is under way between them. It belongs to one goroutine.
type Cluster struct {
	cfg     Config
	now     int64
	counter uint64
	events  events
	nodes   []*node
	streams map[uint64]*stream
}

// Stat is what a node has done.
type Stat struct {
	Sent, Received int64 // bytes of values
	Questions      int   // whom to get a value from, that it was asked
	Streams        int   // connections that it opened
	Done           int64 // when its last fetch was over, in nanoseconds; 0: none was
	Fetches        int   // that are over
}

type node struct {
	c        *Cluster
	number   uint32
	core     *pull.Core
	has      map[id.Object]int64
	coming   map[uint64]*fetch
	waits    map[uint64]func()
	out, in  int64 // when its link is free
	deadline int64
	stat     Stat
}

type fetch struct {
	object     id.Object
	size, came int64
}

// stream is a connection over which one node asks another for ranges, which come in order.
type stream struct {
	number   uint64
	from, to *node // from asks
	asked    []pull.Ask
	busy     bool
}

// New gives a cluster with nothing on it.
func New(cfg Config) *Cluster {
	c := &Cluster{cfg: cfg.filled(), now: 1, streams: map[uint64]*stream{}}
	for i := range c.cfg.Nodes {
		cfg := c.cfg.Pull
		cfg.Agent = uint32(i + 1)
		c.nodes = append(c.nodes, &node{c: c, number: cfg.Agent, core: pull.New(cfg), has: map[id.Object]int64{}, coming: map[uint64]*fetch{}, waits: map[uint64]func(){}})
	}
	return c
}

// Put makes a value of so many bytes on a node.
func (c *Cluster) Put(node int, size int64) id.Object {
	c.counter++
	o := id.Object{Task: id.Task{Agent: id.Agent(node + 1), Counter: c.counter}}
	c.nodes[node].has[o] = size
	return o
}

// Want has a node fetch a value from the one that made it, from now on.
func (c *Cluster) Want(node int, o id.Object) {
	n, owner := c.nodes[node], c.nodes[o.Task.Agent-1]
	c.counter++
	f := &fetch{object: o, size: owner.has[o]}
	n.coming[c.counter] = f
	n.step(pull.Want{Fetch: c.counter, Object: o, Size: f.size, Owner: owner.number})
}

// Run goes on until every fetch is over, and gives the time that it took. It fails when something was refused or nothing happens any more before.
func (c *Cluster) Run() (int64, error) {
	began, open := c.now, 0
	for _, n := range c.nodes {
		open += len(n.coming)
	}
	for open > 0 && len(c.events) > 0 {
		e := heap.Pop(&c.events).(event)
		c.now = e.at
		over, err := e.do()
		if err != nil {
			return 0, err
		}
		open -= over
	}
	if open > 0 {
		return 0, fmt.Errorf("plane: %d fetches wait for nothing", open)
	}
	return c.now - began, nil
}

// Stat tells what a node has done.
func (c *Cluster) Stat(node int) Stat { return c.nodes[node].stat }

// after has something happen later; it tells how many fetches that ended.
func (c *Cluster) after(d int64, do func() (int, error)) {
	c.counter++
	heap.Push(&c.events, event{c.now + d, c.counter, do})
}

// step tells a node's core of an event and does what it wants done; it gives how many fetches are over.
func (n *node) step(ev pull.Event) (over int, err error) {
	for _, e := range n.core.Step(n.c.now, ev, nil) {
		done, failed := n.apply(e)
		if over += done; failed != nil && err == nil {
			err = failed
		}
	}
	if due := n.core.NextDeadline(); due != 0 && due != n.deadline {
		n.deadline = due
		n.c.after(max(0, due-n.c.now), func() (int, error) {
			if n.deadline != due {
				return 0, nil
			}
			n.deadline = 0
			return n.step(pull.Tick{})
		})
	}
	return over, err
}

func (n *node) apply(e pull.Effect) (over int, err error) {
	c := n.c
	switch e := e.(type) {
	case pull.Open:
		n.stat.Streams += e.Count
		for range e.Count {
			c.after(3*c.cfg.Latency, func() (int, error) {
				c.counter++
				s := &stream{number: c.counter, from: n, to: c.nodes[e.Agent-1]}
				c.streams[s.number] = s
				return n.step(pull.Opened{Agent: e.Agent, Stream: s.number})
			})
		}
	case pull.Cut:
		c.after(0, func() (int, error) {
			delete(c.streams, e.Stream)
			return n.step(pull.Broke{Stream: e.Stream, Why: "it idled"})
		})
	case pull.Ask:
		s := c.streams[e.Stream]
		s.asked = append(s.asked, e)
		s.answer()
	case pull.AskSource:
		n.tell(e.Owner, pull.Asked{Agent: n.number, Object: e.Object, Again: e.Again})
		c.nodes[e.Owner-1].stat.Questions++
	case pull.TellSource:
		n.tell(e.Agent, pull.SourceIs{Owner: n.number, Agent: e.Source, Object: e.Object})
	case pull.Got:
		f := n.coming[e.Fetch]
		delete(n.coming, e.Fetch)
		if e.Why != "" || f.came != f.size {
			return 1, fmt.Errorf("PLANE-1: node %d has %d of %d bytes: %s", n.number, f.came, f.size, e.Why)
		}
		n.has[f.object] = f.size
		n.stat.Done = c.now
		n.stat.Fetches++
		over = 1
	case pull.Give:
		n.waits[e.Wait]()
		delete(n.waits, e.Wait)
	case pull.Refuse:
		err = fmt.Errorf("plane: node %d refuses a range: %s", n.number, e.Why)
	}
	return over, err
}

// tell brings a message to another node.
func (n *node) tell(to uint32, ev pull.Event) {
	n.c.after(n.c.cfg.Latency, func() (int, error) { return n.c.nodes[to-1].step(ev) })
}

// answer has the oldest range of a stream come, once the question for it is there.
func (s *stream) answer() {
	if s.busy || len(s.asked) == 0 {
		return
	}
	s.busy = true
	a, c := s.asked[0], s.from.c
	c.after(c.cfg.Latency, func() (int, error) {
		if _, there := s.to.has[a.Object]; there {
			s.carry(a)
			return 0, nil
		}
		c.counter++
		s.to.waits[c.counter] = func() { s.carry(a) }
		return s.to.step(pull.Wanted{Line: s.number, Wait: c.counter, Object: a.Object, Offset: a.Offset, Size: a.Size})
	})
}

// carry brings a range: out of the one link when that is free, and then into the other one, which may begin as soon as the first byte is out.
func (s *stream) carry(a pull.Ask) {
	c := s.from.c
	took := int64(float64(a.Size) / c.cfg.Rate * 1e9)
	begin := max(c.now, s.to.out)
	s.to.out = begin + took
	s.to.stat.Sent += a.Size
	c.after(begin-c.now, func() (int, error) {
		s.from.in = max(c.now, s.from.in) + took
		c.after(s.from.in-c.now+c.cfg.Latency, func() (int, error) { return s.came(a) })
		return 0, nil
	})
}

func (s *stream) came(a pull.Ask) (int, error) {
	s.busy, s.asked = false, s.asked[1:]
	s.from.stat.Received += a.Size
	s.from.coming[a.Fetch].came += a.Size
	over, err := s.from.step(pull.Came{Stream: s.number})
	s.answer()
	return over, err
}

// event is something that happens, in the order of time and number.
type event struct {
	at     int64
	number uint64
	do     func() (over int, err error)
}

type events []event

func (e events) Len() int { return len(e) }

func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].number < e[j].number
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }

// Push adds an event at the end, for package heap.
func (e *events) Push(x any) { *e = append(*e, x.(event)) }

// Pop takes the last one, for package heap.
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = event{}
	*e = (*e)[:last]
	return x
}
