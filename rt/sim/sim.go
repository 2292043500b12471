package sim

import (
	"fmt"
	"math/rand/v2"

	"github.com/maniple-hpc/maniple/rt/head"
)

// Config is what a cluster is made of. The zero value of each field but Nodes works.
type Config struct {
	Seed  uint64
	Nodes int
	CPUs  int   // of each node; 0: 4
	GPUs  int   // of each node
	Calm  bool  // workers neither crash nor fail
	Shape Shape // of every host; zero latency: 100 us with 20 us of jitter
	Head  head.Config
	Log   func(line string) // is told what is worth telling; nil: nobody
}

// start is the wall time at which a cluster begins.
const start = int64(1_700_000_000e9)

// Cluster is a whole cluster in virtual time.
type Cluster struct {
	cfg    Config
	now    int64
	rng    *rand.Rand
	heap   events
	seq    uint64
	hash   uint64
	conns  uint64
	events uint64

	head    *headProc // nil: not running
	journal [][]byte
	nodes   []*Node
	clients []*Client
	drivers []*Driver
	seen    ledger

	Frames, Lost uint64 // frames that were delivered, and those that were lost
	Refused      uint64 // connections that the head refused
	Errands      uint64 // messages between agents about tasks that one has the other run
	exited       *head.Exit
	faults       []string
	severedAt    int64 // when a node was last lost or cut off
}

// New makes a cluster whose keepers start in the first tenth of a second.
func New(cfg Config) *Cluster {
	if cfg.CPUs == 0 {
		cfg.CPUs = 4
	}
	if cfg.Shape.Latency == 0 {
		cfg.Shape.Latency, cfg.Shape.Jitter = 100e3, 20e3
	}
	cfg.Head.Cluster = clusterID
	cfg.Head.Build = "sim"
	c := &Cluster{cfg: cfg, now: start, rng: rand.New(rand.NewPCG(cfg.Seed, 0x51)), hash: 14695981039346656037}
	c.seen.init()
	for range cfg.Nodes {
		c.AddNode()
	}
	return c
}

const clusterID = "51515151515151515151515151515151"

// at plans an event. host may be nil.
func (c *Cluster) at(at int64, kind string, who uint64, h *host, do func()) {
	c.seq++
	c.heap.push(event{at: max(at, c.now), tie: mix(c.cfg.Seed ^ c.seq), seq: c.seq, kind: kind, who: who, host: h, do: do})
}

func (c *Cluster) after(d int64, kind string, who uint64, h *host, do func()) {
	c.at(c.now+d, kind, who, h, do)
}

// mix is splitmix64's last step.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// digest adds numbers to the hash of the history.
func (c *Cluster) digest(words ...uint64) {
	for _, w := range words {
		c.hash = mix(c.hash ^ w + 0x9e3779b97f4a7c15)
	}
}

func (c *Cluster) digestString(s string) {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	c.digest(h)
}

// Hash digests all that happened so far.
func (c *Cluster) Hash() uint64 { return c.hash }

// Events is how many happened so far.
func (c *Cluster) Events() uint64 { return c.events }

// Now is the virtual time since the start, in nanoseconds.
func (c *Cluster) Now() int64 { return c.now - start }

// Run lets d nanoseconds pass.
func (c *Cluster) Run(d int64) {
	until := c.now + d
	for len(c.heap.list) > 0 && c.heap.list[0].at <= until {
		c.one()
	}
	c.now = until
}

// RunUntil lets time pass until f is true, for at most d; it tells whether f was. f is asked every 10
// virtual milliseconds.
func (c *Cluster) RunUntil(d int64, f func() bool) bool {
	for until := c.now + d; c.now < until; {
		if f() {
			return true
		}
		c.Run(min(10e6, until-c.now))
	}
	return f()
}

func (c *Cluster) one() {
	e := c.heap.pop()
	if e.host != nil && e.host.stopped > e.at {
		e.at, e.tie = e.host.stopped, 0 // later, and in the order that it had
		c.heap.push(e)
		return
	}
	c.now = e.at
	c.events++
	c.digest(uint64(e.at), e.who)
	c.digestString(e.kind)
	e.do()
}

// logf tells a line that begins with the time.
func (c *Cluster) logf(format string, args ...any) {
	if c.cfg.Log != nil {
		t := c.now - start
		c.cfg.Log(fmt.Sprintf("%3d.%03d ", t/1e9, t/1e6%1000) + fmt.Sprintf(format, args...))
	}
}

// fault notes what no cluster may do.
func (c *Cluster) fault(format string, args ...any) {
	t := c.now - start
	if len(c.faults) < 50 {
		c.faults = append(c.faults, fmt.Sprintf("%d.%03d: ", t/1e9, t/1e6%1000)+fmt.Sprintf(format, args...))
	}
}
