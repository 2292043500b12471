package head

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func taskOf(t *fb.TaskIDT) id.Task {
	if t == nil {
		return id.Task{}
	}
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

func wireTask(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}

func resourcesOf(list []*fb.ResourceT) (placement.Resources, error) {
	in := make([]placement.Resource, 0, len(list))
	for _, r := range list {
		in = append(in, placement.Resource{Name: r.Name, Amount: placement.Amount(r.Amount)})
	}
	return placement.Make(in...)
}

// resourceReader is resourcesOf for many bundles, of which most are like the one before.
type resourceReader struct {
	list []*fb.ResourceT
	read placement.Resources
}

func (r *resourceReader) of(list []*fb.ResourceT) (placement.Resources, error) {
	if r.read != nil && slices.EqualFunc(r.list, list, func(a, b *fb.ResourceT) bool { return a == b || *a == *b }) {
		return r.read, nil
	}
	read, err := resourcesOf(list)
	if err == nil {
		r.list, r.read = list, read
	}
	return read, err
}

func wireResources(list placement.Resources) []*fb.ResourceT {
	out := make([]*fb.ResourceT, 0, len(list))
	for _, r := range list {
		out = append(out, &fb.ResourceT{Name: r.Name, Amount: int64(r.Amount)})
	}
	return out
}

// labelNodeID is what Ray's users know a node by in a label_selector.
const labelNodeID = "ray.io/node-id"

// nodeFacts is what placement needs to know of a node.
func nodeFacts(r *fb.RecAgentT) (placement.Node, error) {
	reg := r.Register
	total, err := resourcesOf(reg.Resources)
	if err != nil {
		return placement.Node{}, fmt.Errorf("node %s: %w", r.Name, err)
	}
	// What a node wants for itself, such as the CPUs that its agent gives to tasks, names it by this.
	named := !slices.ContainsFunc(reg.Labels, func(l *fb.LabelT) bool { return l.Key == placement.LabelNode || l.Key == labelNodeID })
	n := placement.Node{Index: int(r.Node), Name: r.Name, Agent: id.Agent(r.Agent), Total: total, Topology: reg.Topology}
	if named {
		n.Labels = append(n.Labels, placement.Label{Key: placement.LabelNode, Value: r.Name}, placement.Label{Key: labelNodeID, Value: r.Name})
	}
	numa := ""
	for _, l := range reg.Labels {
		n.Labels = append(n.Labels, placement.Label{Key: l.Key, Value: l.Value})
		if l.Key == placement.LabelNUMA {
			numa = l.Value
		}
	}
	for _, d := range reg.Devices {
		n.Devices = append(n.Devices, placement.Device{ID: d.Id, Model: d.Model, PCI: d.Pci, NUMA: d.Numa, Memory: d.Memory})
	}
	n.CPUs = placement.CPUList(reg.Cpus, numa)
	return n, nil
}

// request is what a group asks of placement.
func request(c *fb.GroupCreateT) (*placement.Request, error) {
	q := &placement.Request{Within: c.Within}
	switch c.Strategy {
	case fb.StrategyPack:
		q.Strategy = placement.Pack
	case fb.StrategySpread:
		q.Strategy = placement.Spread
	case fb.StrategyStrictPack:
		q.Strategy = placement.StrictPack
	case fb.StrategyStrictSpread:
		q.Strategy = placement.StrictSpread
	default:
		return nil, fmt.Errorf("strategy %d is unknown to this version", c.Strategy)
	}
	q.Bundles = make([]placement.Bundle, 0, len(c.Bundles))
	var resources resourceReader
	for i, b := range c.Bundles {
		res, err := resources.of(b.Resources)
		if err != nil {
			return nil, fmt.Errorf("bundle %d: %w", i, err)
		}
		pb := placement.Bundle{Resources: res, Ranks: b.Ranks}
		for _, l := range b.Labels {
			pb.Needs = append(pb.Needs, placement.Need{Key: l.Key, Expr: l.Value})
		}
		q.Bundles = append(q.Bundles, pb)
	}
	return q, q.Validate()
}

// host is the address part of host:port.
func host(addr string) string {
	at := strings.LastIndexByte(addr, ':')
	if at < 0 {
		return addr
	}
	return strings.Trim(addr[:at], "[]")
}
