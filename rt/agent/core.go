package agent

import (
	"math"
	"net/netip"
	"time"

	programs "github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Durations and bounds of the core.
const (
	Window      = programs.Window               // bytes of a stream that may be unacknowledged; less in large gangs
	ReadSize    = 32 << 10                      // bytes of one read
	sinkWindow  = 16 << 20                      // of all streams of this agent to the same agent
	inputWindow = 256 << 10                     // bytes of input that a client may have on the way
	endedWait   = int64(200 * time.Millisecond) // a rank's end waits so long for the end of its output
	fenceAfter  = int64(20 * time.Second)
	leaveAfter  = int64(time.Second)      // when all is to end: programs and clients have so long
	lingerAfter = int64(10 * time.Second) // output of a released gang waits so long for its sink
	cancelAge   = int64(time.Minute)      // a cancel is repeated to a new head for so long
	maxQueries  = 1024
	maxPending  = 4096
	defaultStop = int64(30 * time.Second) // grace where neither stop nor program says one
	never       = int64(math.MaxInt64)
	gapBits     = 38 // a stream whose place was lost goes on this far ahead
	maxGaps     = 60
)

// OffsetBase is the offset of the first byte of a stream in an incarnation. A mark of another
// incarnation can thereby never be taken for one of this.
func OffsetBase(incarnation uint32) uint64 { return programs.OffsetBase(incarnation) }

// Config is what the agent is told and finds out before it joins.
type Config struct {
	Name       string // of the node
	NodeKey    string // of the keeper
	Cluster    string
	Socket     string // path of the unix socket for clients: MANIPLE_ADDRESS of programs
	Build      string
	Grant      string
	Addresses  []string
	Resources  []*fb.ResourceT
	Labels     []*fb.LabelT
	Devices    []*fb.DeviceT
	CPUs       []uint32
	Topology   []string
	Previous   uint32              // number of the agent before this one under the same keeper
	Programs   []*fb.ProgramStateT // what the keeper has of it
	Restarts   uint32              // how many agents there were under this keeper
	HeadLocal  bool                // the head's keeper is this node's: it starts the head again, so the node waits for it
	Interface  string              // network interface of Addresses[0], for gloo and NCCL; "": not set
	Home       string              // this user's home directory
	HomeRO     bool                // it can't be written: programs get their working directory instead
	Dir        string              // where programs start that name no directory; "": nowhere of the node's
	Env        []string            // variables of this node, instead of those of the request
	Store      int64               // bytes of memory for values that were asked for; 0: a share of the node's
	Spill      []string            // directories for values when that is full; none: the node's own, "none": nowhere
	Fabric     string              // by which large values go between nodes: a provider, "off", or "": one that is found
	Interfaces []string            // patterns of those that it may use; none: all
	Hosts      []string            // addresses of this node, of each interface one, for fabrics that are reached by such
	SpillLimit int64               // bytes that may lie in them together; 0: as many as they hold
	Clear      []netip.Prefix      // networks within which values go unencrypted; empty: nowhere
	Boot       string              // the start of this machine, for agents on it to copy values from one another's memory; "": they do not
	Disks      []string            // the node's own directories for that, one on each disk; none: see openSpill
	Patience   int64               // how long the node goes on without a head; 0: fenceAfter
	Bind       bool                // CPUs are bound: the node is no fake one
}

// Core decides for one agent. Use: NewCore, Restored for what the spool holds, then Step with every
// event in order; do the effects in order; Step(Tick) when NextDeadline has come.
type Core struct {
	cfg Config
	now int64
	out []Effect

	member
	fleet
	gangs    gangs
	relay    relay
	launches uint64 // programs launched by this process
}

// NewCore makes the core of a new agent process. It has no number until HeadUp.
func NewCore(cfg Config) *Core {
	c := &Core{cfg: cfg}
	c.member.downSince = never
	c.fleet.byAgent = map[uint32]*peer{}
	c.gangs.byKey = map[gangKey]*gang{}
	c.gangs.ranks = map[Key]*rank{}
	c.relay.init()
	for _, p := range cfg.Programs {
		c.adopt(p)
	}
	return c
}

// Agent is this agent's number, 0 before the first HeadUp.
func (c *Core) Agent() uint32 { return c.agent }

// Step takes in one event at time now (wall, ns) and appends what is to be done to out. A message that
// makes no sense is dropped.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect {
	if c.gone {
		return out
	}
	c.now, c.out = now, out
	if c.downSince == never && !c.session && c.cfg.Previous != 0 {
		c.downSince = now // the agent before this one had a head
	}
	switch ev := ev.(type) {
	case Output:
		c.onOutput(ev)
	case OutputEOF:
		c.onOutputEOF(ev)
	case InputWritten:
		c.onInputWritten(ev)
	case FromHead:
		c.onHead(ev)
	case FromPeer:
		c.onPeer(ev)
	case ToAgent:
		c.toAgent(ev)
	case FromClient:
		c.onClient(ev)
	case FromKeeper:
		c.onKeeper(ev.M)
	case HeadUp:
		c.onHeadUp(ev)
	case HeadDown:
		c.onHeadDown()
	case HeadRefused:
		c.onHeadRefused(ev)
	case PeerUp:
		c.onPeerUp(ev.Peer)
	case PeerDead:
		c.onPeerDead(ev.Peer)
	case ClientGone:
		c.onClientGone(ev.Process)
	case KeeperGone:
		c.onKeeperGone()
	case Restored:
		c.onRestored(ev)
	case Tick:
	}
	c.due()
	out, c.out = c.out, nil
	return out
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

// toHead drops what is said before the first session: Register will say it.
func (c *Core) toHead(m Message) {
	if c.session {
		c.emit(ToHead{M: m})
	}
}

func (c *Core) toKeeper(m Message)           { c.emit(ToKeeper{M: m}) }
func (c *Core) toClient(p uint32, m Message) { c.emit(ToClient{Process: p, M: m}) }

// due does what has become due, whatever the event was.
func (c *Core) due() {
	c.dueRanks()
	c.dueMember()
	c.duePeers()
}

// NextDeadline is the time at which a Tick is due; math.MaxInt64: none.
func (c *Core) NextDeadline() int64 {
	if c.gone {
		return never
	}
	return min(c.ranksDeadline(), c.memberDeadline(), c.peersDeadline())
}

// onHead hands a message of the head to the part of the core that it concerns.
func (c *Core) onHead(ev FromHead) {
	switch m := ev.M.(type) {
	case *fb.RegisteredT:
		c.onRegistered(m)
	case *fb.BundleReserveT:
		c.onReserve(m)
	case *fb.BundleReleaseT:
		c.onRelease(m)
	case *fb.RankStartT:
		c.onRankStart(m)
	case *fb.RankStopT:
		c.onRankStop(m)
	case *fb.RankStateAckT:
		c.onStateAck(m)
	case *fb.RankSinkT:
		c.onSink(m)
	case *fb.GroupUpdateT:
		c.onUpdate(m)
	case *fb.StateReplyT:
		c.onReply(m, ev.Corr, ev.Payload)
	case *fb.NameClaimedT:
		c.onClaimed(m)
	case *fb.NameAdoptT:
		c.emit(Adopt{M: m})
	case *fb.NoticeT:
		c.onNotice(m)
	case *fb.PeerInfoT:
		c.onPeerInfo(m, ev.Corr)
	case *fb.AgentDeadT:
		c.onAgentDead(m)
	case *fb.NodeDrainT:
		c.onNodeDrain(m)
	case *fb.DrainT:
		c.onDrain(m)
	}
}

func (c *Core) onKeeper(m Message) {
	switch m := m.(type) {
	case *fb.ProgramStateT:
		c.onProgram(m)
	case *fb.PortHeldT:
		c.onPortHeld(m)
	case *fb.DrainT:
		c.askDrain(m)
	case *fb.NodeDrainT:
		c.going = m
		c.sayGoing()
	}
}

func taskOf(t *fb.TaskIDT) id.Task {
	if t == nil {
		return id.Task{}
	}
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

func taskT(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}
