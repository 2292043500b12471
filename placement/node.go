package placement

import (
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// State says whether a node takes new bundles.
type State uint8

const (
	Open     State = iota
	Paused         // takes nothing for now; counts for what is feasible
	Draining       // the same, because somebody said so, who may take it back; what it has is to move away
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

// LabelNUMA is the label in which a node says which CPUs each of its NUMA nodes has: "0-15;16-31".
const LabelNUMA = "maniple.numa"

// LabelNode is the label that every node has for its own name, unless it says so otherwise.
const LabelNode = "maniple.node"

// bound tells whether bundles on the node get CPUs of their own. A node whose count of CPUs is not its list,
// because of a quota or because it is declared, counts them and leaves them to the kernel.
func (n *Node) bound() bool {
	return len(n.CPUs) > 0 && n.Total.Get(CPU) == Whole(int64(len(n.CPUs)))
}

// hasDevices tells whether the resource comes in devices on this node.
func (n *Node) hasDevices(resource string) bool {
	for i := range n.Devices {
		if n.Devices[i].Resource == resource {
			return true
		}
	}
	return false
}
