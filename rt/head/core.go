package head

import (
	"time"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Config is what a head is told at its start. The zero value of each field but Cluster works.
type Config struct {
	Cluster string // cluster ID; a Hello with another one is refused
	Job     string // the site scheduler's job
	Epoch   uint32 // its restart count; older ones are refused
	Build   string // version, for messages

	Expect      []string      // names of the nodes that will join, in rank order; empty: whoever comes
	MinNodes    int           // 0: all of Expect
	JoinTimeout time.Duration // 0: 5 minutes
	Grace       time.Duration // between TERM and KILL on a drain without a deadline; 0: 30 s
	Idle        time.Duration // drain after so long without a group or a query; 0: never
}

// ConfigOf takes what the head needs from a boot document.
func ConfigOf(d *bootdoc.Doc, build string) Config {
	return Config{
		Cluster: d.Cluster, Job: d.Job, Epoch: d.Epoch, Build: build,
		Expect: d.Expect, MinNodes: d.MinNodes, JoinTimeout: d.JoinTimeout, Grace: d.Grace, Idle: d.Idle,
	}
}

// Core is the head's state and its rules. Life: New, Replay of each record of the journal (none at
// the first start), Open, then Step for ever.
type Core struct {
	cfg Config
}

// New makes a core that knows nothing yet.
func New(cfg Config) *Core { return &Core{cfg: cfg} }

// Replay applies a record of an earlier term. An error means that the journal is not one of this
// cluster or was damaged.
func (c *Core) Replay(rec Message) error { return nil }

// Open begins a new term. Nodes that the journal knows have 10 s to return.
func (c *Core) Open(now int64, out []Effect) []Effect { return out }

// Step takes one event at wall time now (nanoseconds) and appends what is to be done to out.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect { return out }

// NextDeadline is the wall time at which Tick is due, 0: none.
func (c *Core) NextDeadline() int64 { return 0 }

// Snapshot appends records that make an empty core equal to this one: the start of a compacted journal.
func (c *Core) Snapshot(out []Message) []Message { return out }

// Term is the term of this head.
func (c *Core) Term() uint64 { return 0 }
