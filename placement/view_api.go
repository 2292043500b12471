package placement

import "github.com/maniple-hpc/maniple/transport/wire/id"

// View is the cluster as placement sees it. The zero View is empty. It belongs to one goroutine.
type View struct {
	nodes []*Node
}

// Put adds a node, all of it free, or brings the facts of one up to date: what is committed on it stays
// committed, and it is an error if that no longer fits (Remove it first). The view keeps its own copy.
func (v *View) Put(n Node) error { panic("x") }

// Remove takes a node out. What was committed on it is forgotten; the rest of those plans stays committed.
func (v *View) Remove(index int) {}

// Node is the node with that index, nil if there is none. Read only.
func (v *View) Node(index int) *Node { return nil }

// Nodes are all nodes by index. Read only.
func (v *View) Nodes() []*Node { return v.nodes }

// SetAgent says that a node's agent has a new number. What is committed stays.
func (v *View) SetAgent(index int, agent id.Agent) {}

// SetState opens or closes a node; what is committed stays.
func (v *View) SetState(index int, s State, why string) {}

// Commit takes what the plan says, all of it or, with an error, nothing. A holder can hold one plan.
func (v *View) Commit(h Holder, p *Plan) error { return nil }

// Release gives back all that the holder's plan took. False: it held nothing.
func (v *View) Release(task id.Task, incarnation uint32) bool { return false }

// Held is what the holder has, nil if nothing.
func (v *View) Held(task id.Task, incarnation uint32) *Plan { return nil }

// Clone copies the view, for what-if questions.
func (v *View) Clone() *View { return nil }

// Check says which invariant is broken.
func (v *View) Check() error { return nil }

// Solve finds a plan on what is free, or says that there is none. It changes nothing.
func Solve(v *View, r *Request) (*Plan, *Unplaced) { return nil, nil }

// ParseAmount reads "2", "0.5", "4G", "512MiB", "1T".
func ParseAmount(s string) (Amount, error) { return 0, nil }

// ParseResources reads "CPU=2,GPU=0.5,memory=4G,lic=1".
func ParseResources(s string) (Resources, error) { return nil, nil }

func resourceName(s string) (string, error) { return s, nil }

// Explanation is why a request is not placed. Text is for people; the rest is what it was made from.
type Explanation struct {
	Verdict Verdict
	Summary string   // one line: "needs 16 GPU, the cluster has 8"
	Nodes   []string // one line per kind of node: "n[1-3]: 2 of 4 CPU free, held by gang train (3.1.7)"
	Advice  string   // the nearest shape that would fit: "2 bundles of {GPU=4} would fit now"
	Nearest *Request // that shape; nil: none
}

// Explain runs the request again and says why there is no plan; nil if there is one.
func Explain(v *View, r *Request) *Explanation { return nil }

// Text is the whole explanation, one line per statement.
func (e *Explanation) Text() string { return "" }

// LabelNUMA is the label in which a node says which CPUs its NUMA nodes have: "0-15;16-31".
const LabelNUMA = "maniple.numa"

// CPUList makes a node's CPUs from their IDs, in the node's order, and the value of LabelNUMA.
func CPUList(ids []uint32, numa string) []LogicalCPU { return nil }

// Validate says what is wrong with a request, before it is kept.
func (r *Request) Validate() error { return nil }
