package agent

import (
	"math"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Durations and bounds of the core.
const (
	Window      = 256 << 10 // bytes of a stream that may be unacknowledged
	ReadSize    = 32 << 10  // bytes of one read
	gangWindow  = 64 << 20  // of all streams of a gang, at the sink; large gangs get smaller windows
	minWindow   = 8 << 10
	endedWait   = int64(200 * time.Millisecond) // a rank's end waits so long for the end of its output
	fenceAfter  = int64(20 * time.Second)
	probeAfter  = int64(5 * time.Second) // without a head: look for peers
	leaveAfter  = int64(time.Second)     // of a drain that is due: programs have so long to end
	maxQueries  = 1024
	maxPending  = 4096
	defaultStop = int64(30 * time.Second) // grace where neither stop nor program says one
	never       = int64(math.MaxInt64)
)

// OffsetBase is the offset of the first byte of a stream in an incarnation. A mark of another
// incarnation can thereby never be taken for one of this.
func OffsetBase(incarnation uint32) uint64 { return uint64(incarnation) << 44 }

// Config is what the agent is told and finds out before it joins.
type Config struct {
	Name      string // of the node
	NodeKey   string // of the keeper
	Cluster   string
	Socket    string // path of the unix socket for clients: MANIPLE_ADDRESS of programs
	Build     string
	Grant     string
	Addresses []string
	Resources []*fb.ResourceT
	Labels    []*fb.LabelT
	Devices   []*fb.DeviceT
	CPUs      []uint32
	Topology  []string
	Previous  uint32              // number of the agent before this one under the same keeper
	Programs  []*fb.ProgramStateT // what the keeper has of it
	HeadLocal bool                // the head's keeper is this node's: being cut off from it is no reason to fence
	Interface string              // network interface of Addresses[0], for gloo and NCCL; "": not set
	Home      bool                // HOME can be written
	Temp      string              // directory for programs' temporary files, "": theirs
	Bind      bool                // CPUs are bound: the node is no fake one
}

// Core decides for one agent. Use: NewCore, Restored for what the spool holds, then Step with every
// event in order; do the effects in order; Step(Tick) when NextDeadline has come.
type Core struct {
	cfg Config
}

// NewCore makes the core of a new agent process. It has no number until HeadUp.
func NewCore(cfg Config) *Core { return &Core{cfg: cfg} }

// Step takes in one event at time now (wall, ns) and appends what is to be done to out.
func (c *Core) Step(now int64, ev Event, out []Effect) []Effect { return out }

// NextDeadline is the time at which a Tick is due; math.MaxInt64: none.
func (c *Core) NextDeadline() int64 { return never }
