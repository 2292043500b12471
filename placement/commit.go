package placement

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Commit takes what the plan says, all of it or, with an error, nothing. A holder holds one plan at a time.
// It asks whether things are free, not whether a node is open: a plan of the journal is committed as it was.
func (v *View) Commit(h Holder, p *Plan) error {
	at, found := v.findHolding(h.ID, h.Incarnation)
	if found {
		return fmt.Errorf("placement: %v incarnation %d holds a plan already", h.ID, h.Incarnation)
	}
	for i := range p.Places {
		if err := v.take(&p.Places[i]); err != nil {
			for j := range i {
				v.Node(p.Places[j].Node).give(&p.Places[j])
			}
			return fmt.Errorf("%w (bundle %d of %v)", err, p.Places[i].Bundle, h.ID)
		}
	}
	v.held = slices.Insert(v.held, at, &holding{h, Plan{slices.Clone(p.Places)}})
	return nil
}

func (v *View) take(p *Place) error {
	n := v.Node(p.Node)
	if n == nil {
		return fmt.Errorf("placement: there is no node %d", p.Node)
	}
	return n.take(p)
}

// Release gives back all that the holder's plan took. False: it held nothing.
func (v *View) Release(task id.Task, incarnation uint32) bool {
	at, found := v.findHolding(task, incarnation)
	if !found {
		return false
	}
	places := v.held[at].plan.Places
	for i := range places {
		v.Node(places[i].Node).give(&places[i])
	}
	v.held = slices.Delete(v.held, at, at+1)
	return true
}

// Split gives a piece of the one place that a holder has to another holder, in one step: nobody else can have it meanwhile.
// An error changes nothing.
func (v *View) Split(from id.Task, incarnation uint32, to Holder, piece *Place) error {
	at, found := v.findHolding(from, incarnation)
	if !found || len(v.held[at].plan.Places) != 1 {
		return fmt.Errorf("placement: %v incarnation %d has not one place of which %v could be a piece", from, incarnation, to.ID)
	}
	if _, found := v.findHolding(to.ID, to.Incarnation); found {
		return fmt.Errorf("placement: %v incarnation %d holds a plan already", to.ID, to.Incarnation)
	}
	whole := v.held[at].plan.Places[0]
	rest, err := whole.Less(piece)
	if err != nil {
		return fmt.Errorf("%w (%v of %v)", err, to.ID, from)
	}
	n := v.Node(whole.Node)
	n.give(&whole)
	if err := n.take(&rest); err != nil {
		_ = n.take(&whole) // it was there a moment ago
		return err
	}
	if err := n.take(piece); err != nil {
		n.give(&rest)
		_ = n.take(&whole)
		return err
	}
	v.held[at].plan.Places = []Place{rest}
	at, _ = v.findHolding(to.ID, to.Incarnation)
	v.held = slices.Insert(v.held, at, &holding{to, Plan{[]Place{*piece}}})
	return nil
}

// Less is a place without a piece of it. Devices are not split. Only what has whole CPUs has them by their numbers.
func (p *Place) Less(piece *Place) (Place, error) {
	if piece.Node != p.Node || len(piece.Devices) > 0 {
		return Place{}, fmt.Errorf("placement: a piece is on the same node and has no devices")
	}
	rest := *p
	for _, e := range piece.Resources {
		left := rest.Resources.Get(e.Name) - e.Amount
		if left < 0 {
			return Place{}, fmt.Errorf("placement: a piece of %s=%v of %v", e.Name, e.Amount, p.Resources.Get(e.Name))
		}
		rest.Resources = rest.Resources.With(e.Name, left)
	}
	rest.CPUs = slices.DeleteFunc(slices.Clone(p.CPUs), func(c uint32) bool { return slices.Contains(piece.CPUs, c) })
	if rest.Resources.Get(CPU) != Whole(int64(len(rest.CPUs))) {
		rest.CPUs = nil
	}
	return rest, nil
}

// Holders are all who hold something, in order of task and incarnation.
func (v *View) Holders() []Holder {
	out := make([]Holder, len(v.held))
	for i, h := range v.held {
		out[i] = h.Holder
	}
	return out
}

func (v *View) findHolding(task id.Task, incarnation uint32) (int, bool) {
	return slices.BinarySearchFunc(v.held, task, func(h *holding, task id.Task) int { return h.compare(task, incarnation) })
}

// take is PLACE-1: it checks all of a place and then takes it.
func (n *Node) take(p *Place) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("placement: node %s: %s", n.Name, fmt.Sprintf(format, args...))
	}
	for _, e := range p.Resources {
		if free := n.Free.Get(e.Name); e.Amount < 0 || free < e.Amount {
			return fail("%s=%v asked, %v free", e.Name, e.Amount, free)
		}
	}
	for i, name := range p.Devices {
		d := n.device(name)
		if d == nil || slices.Contains(p.Devices[:i], name) {
			return fail("no device %q to give", name)
		}
		if part := p.part(d.Resource); d.Free < part || part == 0 {
			return fail("device %s has %v free, %v asked", name, d.Free, part)
		}
	}
	for _, e := range p.Resources {
		if n.hasDevices(e.Name) {
			if e.Amount > One && !e.Amount.IsWhole() {
				return fail("%s=%v: more than one device must be a whole number", e.Name, e.Amount)
			}
			got := 0
			for _, name := range p.Devices {
				if n.device(name).Resource == e.Name {
					got++
				}
			}
			if want := max(e.Amount/p.part(e.Name), 1); Amount(got) != want {
				return fail("%s=%v with %d devices", e.Name, e.Amount, got)
			}
		}
	}
	if len(p.CPUs) > 0 && p.Resources.Get(CPU) != Whole(int64(len(p.CPUs))) {
		return fail("CPU=%v with %d CPUs", p.Resources.Get(CPU), len(p.CPUs))
	}
	for i, c := range p.CPUs {
		if cpu := n.cpu(c); cpu == nil || !cpu.Free || slices.Contains(p.CPUs[:i], c) {
			return fail("no CPU %d to give", c)
		}
	}
	n.move(p, -1)
	return nil
}

func (n *Node) give(p *Place) { n.move(p, 1) }

func (n *Node) move(p *Place, sign Amount) {
	for _, e := range p.Resources {
		at, _ := n.Free.find(e.Name)
		n.Free[at].Amount += sign * e.Amount
	}
	for _, name := range p.Devices {
		d := n.device(name)
		d.Free += sign * p.part(d.Resource)
	}
	for _, c := range p.CPUs {
		n.cpu(c).Free = sign > 0
	}
}

// part is what a place takes of each of its devices of that resource: a whole one, or the fraction it asked for.
func (p *Place) part(resource string) Amount { return min(p.Resources.Get(resource), One) }

func (n *Node) device(name string) *Device {
	for i := range n.Devices {
		if n.Devices[i].ID == name {
			return &n.Devices[i]
		}
	}
	return nil
}

func (n *Node) cpu(cpu uint32) *LogicalCPU {
	for i := range n.CPUs {
		if n.CPUs[i].ID == cpu {
			return &n.CPUs[i]
		}
	}
	return nil
}

// Check says which of PLACE-1 and PLACE-4 is broken: it adds up all that is held and compares.
func (v *View) Check() error {
	for _, n := range v.nodes {
		fresh := *n
		fresh.Devices, fresh.CPUs = slices.Clone(n.Devices), slices.Clone(n.CPUs)
		if err := fresh.reset(); err != nil {
			return err
		}
		for _, h := range v.held {
			for i := range h.plan.Places {
				if p := &h.plan.Places[i]; p.Node == n.Index {
					if err := fresh.take(p); err != nil {
						return fmt.Errorf("PLACE-1: %w (%s)", err, h.Name)
					}
				}
			}
		}
		if !fresh.Free.Equal(n.Free) || !slices.Equal(fresh.Devices, n.Devices) || !slices.Equal(fresh.CPUs, n.CPUs) {
			return fmt.Errorf("PLACE-4: node %s has %v free, its holders leave %v", n.Name, n.Free, fresh.Free)
		}
	}
	return nil
}
