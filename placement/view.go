package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// View is the cluster as placement sees it. The zero View is empty. It belongs to one goroutine.
type View struct {
	nodes []*Node // by index
	held  []*holding
}

// holding is a committed plan, less the places on nodes that have been removed since.
type holding struct {
	Holder
	plan Plan
}

func (h *holding) compare(task id.Task, incarnation uint32) int {
	if c := h.ID.Compare(task); c != 0 {
		return c
	}
	return int(int64(h.Incarnation) - int64(incarnation))
}

// Put adds a node, all of it free, or brings the facts of one up to date: what is committed on it stays
// committed, and it is an error if that no longer fits (Remove it first). The view keeps its own copy.
func (v *View) Put(n Node) error {
	n.Total, n.Topology = slices.Clone(n.Total), slices.Clone(n.Topology)
	n.Devices, n.CPUs, n.Labels = slices.Clone(n.Devices), slices.Clone(n.CPUs), slices.Clone(n.Labels)
	slices.SortFunc(n.Labels, func(a, b Label) int { return strings.Compare(a.Key, b.Key) })
	if err := n.reset(); err != nil {
		return err
	}
	at, found := v.find(n.Index)
	if !found {
		v.nodes = slices.Insert(v.nodes, at, &n)
		return nil
	}
	for _, h := range v.held {
		for i := range h.plan.Places {
			if p := &h.plan.Places[i]; p.Node != n.Index {
				continue
			} else if err := n.take(p); err != nil {
				return fmt.Errorf("%w: held by %s (%v) before its facts changed; release that first", err, h.Name, h.ID)
			}
		}
	}
	v.nodes[at] = &n
	return nil
}

// reset frees all of a node and checks its facts.
func (n *Node) reset() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("placement: node %s: %s", n.Name, fmt.Sprintf(format, args...))
	}
	total, err := Make(n.Total...)
	if err != nil {
		return fmt.Errorf("%w (node %s)", err, n.Name)
	}
	n.Total, n.Free = total, slices.Clone(total)
	var counted Resources
	for i := range n.Devices {
		d := &n.Devices[i]
		if d.Resource == "" {
			d.Resource = GPU
		}
		d.Free = One
		counted = counted.With(d.Resource, counted.Get(d.Resource)+One)
		if d.ID == "" || slices.ContainsFunc(n.Devices[:i], func(e Device) bool { return e.ID == d.ID }) {
			return fail("device %d has no identity of its own (%q)", i, d.ID)
		}
	}
	if have := n.Total.Get(GPU); counted.Get(GPU) != have {
		return fail("%v GPU in total, %v in its list of devices", have, counted.Get(GPU))
	}
	for _, e := range counted {
		if n.Total.Get(e.Name) != e.Amount {
			return fail("%v %s in total, %v in its list of devices", n.Total.Get(e.Name), e.Name, e.Amount)
		}
	}
	ids := make([]uint32, len(n.CPUs))
	for i := range n.CPUs {
		n.CPUs[i].Free, ids[i] = true, n.CPUs[i].ID
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != len(n.CPUs) {
		return fail("a CPU is listed twice")
	}
	for i := 1; i < len(n.Labels); i++ {
		if n.Labels[i].Key == n.Labels[i-1].Key {
			return fail("label %s is given twice", n.Labels[i].Key)
		}
	}
	return nil
}

// Remove takes a node out. What was committed on it is forgotten; the rest of those plans stays committed.
func (v *View) Remove(index int) {
	at, found := v.find(index)
	if !found {
		return
	}
	v.nodes = slices.Delete(v.nodes, at, at+1)
	for _, h := range v.held {
		h.plan.Places = slices.DeleteFunc(h.plan.Places, func(p Place) bool { return p.Node == index })
	}
}

func (v *View) find(index int) (int, bool) {
	if index >= 0 && index < len(v.nodes) && v.nodes[index].Index == index {
		return index, true
	}
	return slices.BinarySearchFunc(v.nodes, index, func(n *Node, index int) int { return n.Index - index })
}

// Node is the node with that index, nil if there is none. Read only.
func (v *View) Node(index int) *Node {
	if at, found := v.find(index); found {
		return v.nodes[at]
	}
	return nil
}

// Nodes are all nodes by index. Read only.
func (v *View) Nodes() []*Node { return v.nodes }

// SetAgent says that a node's agent has a new number. What is committed stays.
func (v *View) SetAgent(index int, agent id.Agent) {
	if n := v.Node(index); n != nil {
		n.Agent = agent
	}
}

// SetState opens or closes a node; what is committed stays.
func (v *View) SetState(index int, s State, why string) {
	if n := v.Node(index); n != nil {
		n.State, n.Why = s, why
	}
}

// Clone copies the view, for what-if questions.
func (v *View) Clone() *View {
	c := &View{nodes: make([]*Node, len(v.nodes)), held: make([]*holding, len(v.held))}
	for i, n := range v.nodes {
		m := *n
		m.Free, m.Devices, m.CPUs = slices.Clone(n.Free), slices.Clone(n.Devices), slices.Clone(n.CPUs)
		c.nodes[i] = &m
	}
	for i, h := range v.held {
		c.held[i] = &holding{h.Holder, Plan{slices.Clone(h.plan.Places)}}
	}
	return c
}
