package placement

import (
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// State says whether a node takes new bundles.
type State uint8

const (
	Open     State = iota
	Paused         // takes nothing for now; counts for what is feasible
	Draining       // takes nothing and will not again
)

// Device is a thing with an identity, of which a bundle gets some whole ones or a part of one.
type Device struct {
	ID       string // opaque: a UUID, a MIG name, "gpu-0" of a fake node
	Resource string // what it counts as; "" is GPU
	Model    string
	PCI      string // "0000:3b:00.0"; neighbours share a prefix
	NUMA     int32  // -1: not known
	Memory   uint64 // bytes
	Free     Amount // 0..One; set by Put
}

// LogicalCPU is a CPU as the kernel counts them. A node lists neighbours (threads of a core, cores of a cache) next to each other.
type LogicalCPU struct {
	ID   uint32
	NUMA int32 // -1: not known
	Free bool  // set by Put
}

// Label is a key and a value of a node.
type Label struct{ Key, Value string }

// Node is what one node has, what is free of it, and whether it takes more.
type Node struct {
	Index    int    // given out by the head in the order that ranks follow
	Name     string // host name
	Agent    id.Agent
	Total    Resources
	Free     Resources    // set by Put: Total less what is committed
	Devices  []Device     // their number must equal the total of their resource
	CPUs     []LogicalCPU // bundles are bound to CPUs only if there are exactly as many as the total of CPU
	Labels   []Label      // sorted by Put
	Topology []string     // place in the network, outermost first
	Class    string
	State    State
	Why      string // why it is not open
}

// Holder is who holds a plan.
type Holder struct {
	ID          id.Task
	Incarnation uint32
	Name        string // for people
}

// Place is where one bundle goes and what it gets there.
type Place struct {
	Bundle    int // index in the request
	Node      int // Node.Index
	Resources Resources
	Devices   []string // whole devices, or one of which Resources says the part
	CPUs      []uint32 // empty: not bound
}

// Plan has a place for every bundle of a request, in the request's order.
type Plan struct {
	Places []Place
}

// Strategy is how a request's bundles lie on nodes.
type Strategy uint8

const (
	Pack         Strategy = iota // as few nodes as possible
	Spread                       // as evenly as possible, doubling up if there is no other way
	StrictPack                   // all on one node
	StrictSpread                 // no two on one node
)

// Need is what a bundle asks of a label: "v", "!v", "in(a,b)" or "!in(a,b)". A missing label has no value: it meets only the negative ones.
type Need struct{ Key, Expr string }

// Bundle lands whole on one node.
type Bundle struct {
	Resources Resources
	Needs     []Need
	Ranks     uint32 // programs that will run on it; carried along
}

// Request is a gang: all of its bundles are placed or none.
type Request struct {
	Strategy Strategy
	Bundles  []Bundle
	Seed     uint64 // permutes nodes that are otherwise as good as each other; 0: the lowest index first
}

// Verdict says what kind of no it is.
type Verdict uint8

const (
	NotNow     Verdict = iota // would fit if what others hold were free, or a paused node open
	Infeasible                // does not fit these nodes even with everything free
	GaveUp                    // the search ran out of steps without an answer: ask again when something changes
)

// Unplaced says that there is no plan. It is cheap; Explain makes the sentences.
type Unplaced struct {
	Verdict Verdict
	Bundle  int // a bundle for which no node was left, -1 if it is about the whole
	Steps   int // of the search
}
