package placement

import "slices"

// fractionSteps bounds the search for a packing of parts into devices, per question.
const fractionSteps = 2_000

// packable tells whether the items (largest first) fit into the parts and so many whole devices. The greedy
// answer comes first and is exact for equal items; then a search. One that runs out counts as no, and is noted.
func (s *solver) packable(parts []Amount, whole int, items []Amount) bool {
	bins := make([]Amount, 0, 16)
	_, ok := s.packFractions(bins, parts, whole, items, nil)
	return ok
}

// packFractions is packable that says which bin each item goes to: parts first, then whole ones.
func (s *solver) packFractions(bins, parts []Amount, whole int, items []Amount, to []int) ([]int, bool) {
	if len(items) == 0 {
		return to, true
	}
	whole = min(whole, len(items))
	fresh := func() {
		bins = append(bins[:0], parts...)
		for range whole {
			bins = append(bins, One)
		}
		to = to[:0]
	}
	fresh()
	ok := true
	for _, item := range items {
		best := -1
		for b := range bins {
			if bins[b] >= item && (best < 0 || bins[b] < bins[best]) {
				best = b
			}
		}
		if best < 0 {
			ok = false
			break
		}
		bins[best] -= item
		to = append(to, best)
	}
	if ok {
		return to, true
	}
	fresh()
	var room, asked Amount
	for _, b := range bins {
		room += b
	}
	for _, i := range items {
		asked += i
	}
	if room < asked {
		return nil, false
	}
	p := packing{items: items, bins: bins, to: to, steps: fractionSteps}
	ok = p.search(0, 0)
	s.steps += fractionSteps - p.steps
	if p.steps <= 0 {
		s.unsure = true
	}
	return p.to, ok
}

type packing struct {
	items, bins []Amount
	to          []int
	steps       int
}

// search places item i; equal items go to bins in order, and of equal bins only the first is tried.
func (p *packing) search(i, from int) bool {
	if i == len(p.items) {
		return true
	}
	item := p.items[i]
	for b := from; b < len(p.bins); b++ {
		if p.steps--; p.steps <= 0 {
			return false
		}
		if p.bins[b] < item || slices.Contains(p.bins[:b], p.bins[b]) {
			continue
		}
		p.bins[b] -= item
		p.to = append(p.to, b)
		next := 0
		if i+1 < len(p.items) && p.items[i+1] == item {
			next = b
		}
		if p.search(i+1, next) {
			return true
		}
		p.bins[b] += item
		p.to = p.to[:len(p.to)-1]
	}
	return false
}
