package agent

import (
	"cmp"
	"slices"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Devices in the stake (docs/adr/0021). A part has whole devices, for tasks that need whole ones, or a piece of one device, for tasks that need less; so
// what such tasks leave of a device is a placement group's, or another agent's. Whose tasks need the other kind gives back what it does not use.

// Pseudo-resources by which parts with devices are counted.
const (
	deviceCount = "device "        // and its ID
	partsCount  = "GPU, in pieces" // beside GPU, which is whole ones
)

// cutParts is how many pieces a device has at most, but for tasks that need more each.
const cutParts = 8

// jsonDevice is what the head says of a device.
type jsonDevice struct {
	ID   string  `json:"id"`
	Free float64 `json:"free"`
}

// cutOf is how large a piece of a device is for tasks that need so much each.
func cutOf(amount int64) int64 {
	n := max(1, (whole/cutParts+amount-1)/amount)
	return min(n, whole/amount) * amount
}

// cards gives the devices of a part; cut: it has a piece of one.
func (p *part) cards() (devices []string, cut bool) {
	return p.bundle.Devices, amountOf(p.bundle.Resources, placement.GPU) < whole
}

// counts is what a part has, with each device as a resource.
func (p *part) counts() (out []*fb.ResourceT) {
	devices, cut := p.cards()
	if len(devices) == 0 {
		return p.bundle.Resources
	}
	for _, r := range p.bundle.Resources {
		if r.Name != placement.GPU {
			out = append(out, r)
			continue
		}
		kind := placement.GPU
		if cut {
			kind = partsCount
		}
		out = append(out, &fb.ResourceT{Name: kind, Amount: r.Amount})
		for _, id := range devices {
			out = append(out, &fb.ResourceT{Name: deviceCount + id, Amount: min(r.Amount, whole)})
		}
	}
	return out
}

// without takes a part from what is left of all, if that is so much.
func (p *part) without(have []*fb.ResourceT) bool {
	counts := p.counts()
	if p.unsure || slices.ContainsFunc(counts, func(r *fb.ResourceT) bool { return amountOf(have, r.Name) < r.Amount }) {
		return false
	}
	for _, r := range counts {
		add(have, r.Name, -r.Amount) // all of them are there
	}
	return true
}

// kindOf is what a used device counts as.
func (s *stake) kindOf(device string) string {
	for _, p := range s.parts {
		if p.bundle == nil || p.gone {
			continue
		}
		if devices, cut := p.cards(); cut && slices.Contains(devices, device) {
			return partsCount
		}
	}
	return placement.GPU
}

// addCards adds the devices of a part to what tasks may use.
func (p *part) addCards(g *work.Grant) {
	devices, cut := p.cards()
	for _, id := range devices {
		i := slices.Index(g.Devices, id)
		if i < 0 {
			i = len(g.Devices)
			g.Devices, g.Shares = append(g.Devices, id), append(g.Shares, 0)
		}
		if cut {
			g.Shares[i] += amountOf(p.bundle.Resources, placement.GPU)
		}
	}
}

// idleParts lists the parts with devices that nothing uses.
func (s *stake) idleParts(w *work.Wants) (out []*part) {
	have := s.left(w, nil)
	for _, p := range s.parts {
		if p.bundle != nil && !p.gone && len(p.bundle.Devices) > 0 && p.how != fb.LeaseRecallNow && p.without(have) {
			out = append(out, p)
		}
	}
	return out
}

// newlyIdle tells whether devices are not used that were at the last question, and tasks lack some: it is worth asking at once.
func (s *stake) newlyIdle(w *work.Wants, lacking [][]work.Amount) bool {
	if len(s.parts) == 0 || !slices.ContainsFunc(lacking, func(lease []work.Amount) bool { return amountIn(lease, placement.GPU) > 0 }) {
		return false
	}
	n := len(s.idleParts(w))
	more := n > s.idleCards
	s.idleCards = min(s.idleCards, n)
	return more
}

// recalledOf adds up the parts of a device on which nothing new starts.
func (s *stake) recalledOf(device string) (sum int64) {
	for _, p := range s.parts {
		if p.bundle != nil && !p.gone && p.how == fb.LeaseRecallNow && slices.Contains(p.bundle.Devices, device) {
			sum += amountOf(p.bundle.Resources, placement.GPU)
		}
	}
	return sum
}

// cardPlan is what goes back of the devices, and what is asked for then.
type cardPlan struct {
	cards []*card
	back  []*part
	ask   []int64
}

// card is one device: what is free of it, and the parts of it that nothing uses.
type card struct {
	id   string
	free int64
	idle []*part
	room int64 // in pieces that tasks may use
	kept bool  // that room is somebody's who waits for something else
}

// planCards plans what to ask of the devices. Tasks that need less than one have pieces, of devices that are cut already before others; what whole ones
// are free then others have, if any lacks some or a driver has just come. What the stake itself does not use goes back if that makes room for what is lacking.
func (s *stake) planCards(w *work.Wants, lacking [][]work.Amount, devices []jsonDevice) cardPlan {
	idle, have := s.idleParts(w), s.left(w, nil)
	s.idleCards = len(idle)
	plan := cardPlan{}
	for _, v := range devices {
		k := &card{id: v.ID, free: tenThousandths(v.Free)}
		if s.kindOf(v.ID) == partsCount {
			k.room = max(0, amountOf(have, deviceCount+v.ID)-s.recalledOf(v.ID))
		}
		for _, p := range idle {
			if slices.Contains(p.bundle.Devices, v.ID) {
				k.idle = append(k.idle, p)
			}
		}
		plan.cards = append(plan.cards, k)
	}
	pieces := slices.Clone(w.Parts)
	slices.SortStableFunc(pieces, func(a, b work.Lacking) int { return cmp.Compare(b.Amount, a.Amount) })
	for _, k := range pieces {
		plan.cut(k.Amount, int64(k.Tasks))
	}
	most := int64(0)
	for _, lease := range lacking {
		if n := amountIn(lease, placement.GPU); n >= whole {
			most = max(most, n/whole)
		}
	}
	if most > 0 || s.all {
		plan.whole(most)
	}
	return plan
}

// cut asks for pieces for tasks that need so much of a device each.
func (plan *cardPlan) cut(amount, tasks int64) {
	for _, k := range plan.cards {
		n := min(k.room/amount, tasks)
		k.room -= n * amount
		k.kept = k.kept || n > 0
		tasks -= n
	}
	for tasks > 0 {
		var best *card
		for _, k := range plan.cards {
			if k.free >= amount && (best == nil || k.free < best.free) {
				best = k
			}
		}
		if best == nil {
			for _, k := range plan.cards {
				if n := k.free + plan.unused(k, true); !k.kept && n >= amount && (best == nil || n < best.free+plan.unused(best, true)) {
					best = k
				}
			}
			if best == nil {
				return
			}
			plan.release(best, min(cutOf(amount), tasks*amount))
		}
		size := min(cutOf(amount), best.free/amount*amount, tasks*amount)
		best.free -= size
		tasks -= size / amount
		plan.ask = append(plan.ask, size)
	}
}

// whole asks for all whole devices that are free, and for so many at least, with those of the stake that nothing uses.
func (plan *cardPlan) whole(most int64) {
	held := int64(0)
	for _, k := range plan.cards {
		if k.free == whole || plan.unused(k, true) == whole && plan.unused(k, false) == 0 {
			held++
		}
		if k.free == whole {
			k.free = 0
			plan.ask = append(plan.ask, whole)
		}
	}
	for _, k := range plan.cards {
		if n := plan.unused(k, false); held < most && !k.kept && n > 0 && k.free+n == whole {
			plan.release(k, whole)
			k.free = 0
			held++
			plan.ask = append(plan.ask, whole)
		}
	}
}

// unused adds up what the stake has of a device and does not use: with whole ones, or in pieces.
func (plan *cardPlan) unused(k *card, wholes bool) (sum int64) {
	for _, p := range k.idle {
		if _, cut := p.cards(); (cut || wholes) && !slices.Contains(plan.back, p) {
			sum += min(amountOf(p.bundle.Resources, placement.GPU), whole)
		}
	}
	return sum
}

// release gives back parts of a device until so much of it is free.
func (plan *cardPlan) release(k *card, want int64) {
	for _, p := range k.idle {
		if k.free >= want {
			return
		}
		if slices.Contains(plan.back, p) {
			continue
		}
		plan.back = append(plan.back, p)
		devices, _ := p.cards()
		for _, other := range plan.cards {
			if slices.Contains(devices, other.id) {
				other.free += min(amountOf(p.bundle.Resources, placement.GPU), whole)
			}
		}
	}
}
