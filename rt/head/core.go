package head

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Deadlines of the core. They are law, not knobs: agents and clients count on them.
const (
	maxSkew       = int64(30 * time.Second) // clocks further apart are worth a warning
	linkGrace     = int64(2 * time.Second)  // a broken connection may take so long to come back
	returnGrace   = int64(10 * time.Second) // after a restart of the head; also for a number that doesn't register
	ownerGrace    = int64(10 * time.Second) // a client may take so long to come back after its agent died
	failureGrace  = int64(time.Second)      // between TERM and KILL after a rank failed
	defaultGrace  = int64(30 * time.Second) // the same on a drain or a cancel
	leaveGrace    = int64(2 * time.Second)  // agents may take so long to say goodbye at the end
	overdueGrace  = int64(2 * time.Second)  // ranks may take so long to end after KILL at a drain's deadline
	sameDrain     = int64(time.Second)      // sooner by less: the same one, by the clock of another node
	explainEvery  = int64(time.Second)      // an owner hears at most so often why its group waits
	defaultJoin   = int64(5 * time.Minute)
	maxLosses     = 100 // restarts for free after lost nodes
	maxNotices    = 200
	maxWatchers   = 1000
	maxGroupRanks = 1 << 20
)

// Config is what a head is told at its start. The zero value of each field but Cluster works.
type Config struct {
	Cluster string // cluster ID; a Hello with another one is refused
	Name    string // what users call the cluster
	Job     string // the site scheduler's job
	Epoch   uint32 // its restart count; older ones are refused
	Build   string // version, for messages
	Instead string // the node whose head this one takes the place of, after which its own is named; "": it was here before

	Expect      []string      // names of the nodes that will join, in rank order; empty: whoever comes
	MinNodes    int           // 0: all of Expect
	Replaced    bool          // each node that is lost comes again
	JoinTimeout time.Duration // 0: 5 minutes
	Grace       time.Duration // between TERM and KILL on a drain without a deadline; 0: 30 s
	Idle        time.Duration // drain after so long without a group or a query; 0: never
}

// ConfigOf takes what the head needs from a boot document.
func ConfigOf(d *bootdoc.Doc, build string) Config {
	return Config{
		Cluster: d.Cluster, Name: d.Name, Job: d.Job, Epoch: d.Epoch, Build: build,
		Expect: d.Expect, MinNodes: d.MinNodes, Replaced: d.Replaced, JoinTimeout: d.JoinTimeout, Grace: d.Grace, Idle: d.Idle,
	}
}

func (c Config) joinTimeout() int64 {
	if c.JoinTimeout > 0 {
		return int64(c.JoinTimeout)
	}
	return defaultJoin
}

func (c Config) grace() int64 {
	if c.Grace > 0 {
		return int64(c.Grace)
	}
	return defaultGrace
}

func (c Config) minNodes() int {
	if c.MinNodes > 0 {
		return c.MinNodes
	}
	return len(c.Expect)
}

// Core is the head's state and its rules. Life: New, Replay of each record of the journal (none at
// the first start), Open, then Step for ever.
//
// The durable part is state, which only apply changes. The rest (connections, timers, who watches,
// texts of waits) is told again or found again after a restart.
type Core struct {
	cfg   Config
	state state

	now    int64
	out    []Effect
	timers timers
	short  string // why nothing new may begin, "": it may
	dirty  bool   // resources or nodes changed: pending groups are to be tried
	gen    uint64 // counts what could let a pending group in

	shrinks uint64 // counts what could make a request infeasible
	sum     []placement.Resource

	joinOver  bool // the join timeout has passed
	joinText  string
	joinCount int // nodes when joinText was made
	idleSince int64
	leaving   bool // a drain's last part: agents are told to go
	full      bool // the journal is full: only the way out is left
	exited    bool
	notices   []*fb.NoticeT // the last ones
	restarted *fb.NoticeT   // for owners that come back to this head; nil: it is the first
	noticesAt int
	early     []earlyWatch

	gathers    []*gather // in the order in which they were asked
	gathered   uint64
	turn       []*group // of the last inTurn
	claims     []claim
	drainDue   bool // it is looked at what nodes that are being drained have
	recallDue  bool
	recalledAt int64       // when it was last looked at what is to be recalled
	recallAt   int64       // when it is again, 0: when something changes
	dead       []deadAgent // the last numbers that died, for peers that ask
	leftBehind []string    // the last nodes that ended while they were being drained: agents believe that they are
	refusals   uint64
	replayed   int
}

// New makes a core that knows nothing yet.
func New(cfg Config) *Core { return &Core{cfg: cfg, state: newState()} }

// Term is the term of this head.
func (c *Core) Term() uint64 { return c.state.term }

// Replay applies a record of an earlier term. An error means that the journal is not one of this
// cluster or was damaged.
func (c *Core) Replay(rec Message) error {
	if err := c.state.apply(rec); err != nil {
		return fmt.Errorf("head: journal: record %d: %w", c.replayed+1, err)
	}
	c.replayed++
	return nil
}

// Open begins a new term. Nodes that the journal knows have 10 s to return. The error says why this
// journal can't be continued.
func (c *Core) Open(now int64, out []Effect) ([]Effect, error) {
	c.now, c.out = now, out
	if c.state.cluster != "" && c.state.cluster != c.cfg.Cluster {
		return out, fmt.Errorf("head: the journal is of cluster %s, not of %s: remove it or give the right boot document", c.state.cluster, c.cfg.Cluster)
	}
	if c.state.epoch > c.cfg.Epoch {
		return out, fmt.Errorf("head: the journal is of restart %d of job %s, this is restart %d: a newer run has been here", c.state.epoch, c.cfg.Job, c.cfg.Epoch)
	}
	again := c.state.term > 0
	err := c.record(&fb.RecTermT{Term: c.state.term + 1, Cluster: c.cfg.Cluster, Epoch: c.cfg.Epoch, Wall: now, NextAgent: c.state.nextAgent})
	if err != nil {
		return c.out, err
	}
	c.idleSince = now
	for _, m := range c.state.members {
		m.run.deadline = now + returnGrace
		c.timers.add(m.run.deadline, timerMember, uint64(m.number))
		c.pause(m, "its agent has not come back since the head restarted")
	}
	for _, m := range slices.Clone(c.state.members) {
		if c.cfg.Instead != "" && m.node != nil && m.node.name == c.cfg.Instead {
			c.bury(m, "the head's node is gone, and another has taken its place", nil)
		}
	}
	for _, g := range c.state.groups {
		c.resume(g)
	}
	c.joinOver = now >= c.state.began+c.cfg.joinTimeout()
	if !c.joinOver {
		c.timers.add(c.state.began+c.cfg.joinTimeout(), timerJoin, 0)
	}
	if c.cfg.Idle > 0 {
		c.timers.add(now+int64(c.cfg.Idle), timerIdle, 0)
	}
	if again {
		c.restarted = c.logged(fb.LevelWarning, "HEAD_RESTARTED", fmt.Sprintf("the head restarted (term %d); running programs were not touched", c.state.term), nil)
	}
	if d := c.state.drain; d != nil {
		c.timers.add(d.Deadline, timerDrain, 0)
		c.timers.add(d.Deadline+overdueGrace, timerDrain, 0)
	}
	for _, n := range c.state.nodes {
		if n.drain != nil && n.drain.Deadline != 0 {
			c.timers.add(n.drain.Deadline, timerDrain, 0)
		}
	}
	c.dirty = true
	c.settle()
	out, c.out = c.out, nil
	return out, nil
}

// Step takes one event at wall time now (nanoseconds) and appends what is to be done to out.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect {
	if c.exited {
		return out
	}
	c.now, c.out = now, out
	switch e := ev.(type) {
	case Tick:
		c.fire()
	case FromAgent:
		c.fromAgent(e)
	case Admit:
		c.admit(e)
	case LinkUp:
		c.linkUp(e)
	case LinkDown:
		c.linkDown(e)
	case Silent:
		if m := c.state.byAgent[e.Agent]; m != nil && m.run.linked { // else its time runs anyway
			c.memberGone(e.Agent, e.Reason)
		}
	case Left:
		c.memberGone(e.Agent, e.Reason)
	case Short:
		c.runShort(e.Reason)
	case Full:
		c.runFull(e.Reason)
	}
	c.settle()
	out, c.out = c.out, nil
	return out
}

// NextDeadline is the wall time at which Tick is due, 0: none.
func (c *Core) NextDeadline() int64 { return c.timers.next() }

// record makes a change: it is applied, and goes to the journal before anything that follows leaves.
func (c *Core) record(rec Message) error {
	if err := c.state.apply(rec); err != nil {
		return err
	}
	c.out = append(c.out, Append{rec})
	return nil
}

// must is record for changes that this code made to fit. A misfit is a bug of ours: it is said, and
// the change is not made.
func (c *Core) must(rec Message) bool {
	err := c.record(rec)
	if err != nil {
		c.notice(fb.LevelError, "HEAD_BUG", fmt.Sprintf("the head could not make a change of type %T: %v; please report this", rec, err), nil)
	}
	return err == nil
}

func (c *Core) send(to id.Agent, m Message) { c.out = append(c.out, Send{Agent: to, Msg: m}) }

// settle does what follows from a step's changes as a whole: place what waits, and go on with a drain.
func (c *Core) settle() {
	if c.full || c.exited {
		return
	}
	if c.dirty {
		c.dirty, c.recallDue, c.drainDue = false, true, true
		c.placePending()
		c.placeNames()
	}
	if c.short == "" {
		if c.drainDue {
			c.drainsOn()
		}
		if c.dirty { // groups were moved off a node
			c.dirty, c.recallDue = false, true
			c.placePending()
			c.placeNames()
		}
		c.settleRecalls()
	}
	if c.state.drain != nil {
		c.drainOn()
	}
}

// changed says that something was freed or joined, so that pending groups may fit now.
func (c *Core) changed() { c.dirty, c.gen = true, c.gen+1 }

func (c *Core) fromAgent(e FromAgent) {
	m := c.state.byAgent[e.Agent]
	if m == nil && e.Agent != 0 {
		return // it died while the message was under way
	}
	if c.full {
		return
	}
	switch msg := e.Msg.(type) {
	case *fb.DrainT:
		c.drain(msg)
		return
	case *fb.NodeDrainT:
		if m != nil && m.node != nil {
			c.drainNode(m, msg, e.Corr)
		}
		return
	case *fb.NodeLeavingT:
		if m != nil {
			c.memberGone(m.number, msg.Reason)
		}
		return
	}
	if reg, ok := e.Msg.(*fb.RegisterT); ok && m != nil {
		c.register(m, reg)
		return
	}
	if m == nil || m.node == nil {
		return // who has not registered has nothing to say yet
	}
	switch msg := e.Msg.(type) {
	case *fb.GroupCreateT:
		c.create(m, msg)
	case *fb.GroupCancelT:
		c.cancel(msg)
	case *fb.GroupWatchT:
		c.watch(m, msg, false)
	case *fb.GroupHeldT:
		c.held(m, msg)
	case *fb.BundleReservedT:
		c.reserved(m, msg)
	case *fb.RankStateT:
		c.rankState(m, msg)
	case *fb.PeerQueryT:
		c.out = append(c.out, Send{Agent: m.number, Msg: c.peer(id.Agent(msg.Agent)), Corr: e.Corr})
	case *fb.StateQueryT:
		c.query(m, msg, e.Corr)
	case *fb.StateReplyT:
		c.told(m, msg, e.Corr, e.Payload)
	case *fb.NameClaimT:
		c.claim(m, msg)
	case *fb.NameFreeT:
		c.freeName(m, msg)
	}
}
