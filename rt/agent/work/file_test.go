package work

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// files has the store of a site write something to a file that nobody looks at, or read something of it, or a process look at
// something no more.
func (h *history) files(s *site) {
	names := slices.SortedFunc(maps.Keys(s.store.views), func(a, b id.Object) int {
		return cmp.Or(a.Task.Compare(b.Task), cmp.Compare(a.Index, b.Index))
	})
	var all []id.Object
	for _, o := range names {
		if s.store.filed[o] || slices.Contains(h.sealing(s), o) || slices.Contains(s.store.resting, o) || slices.Contains(s.store.copies, o) {
			continue
		}
		for _, p := range slices.Sorted(maps.Keys(s.store.views[o])) { // it was asked
			if h.rng.IntN(2) == 0 {
				s.store.Leave(p, o)
			}
		}
		if len(s.store.views[o]) == 0 {
			all = append(all, o)
		}
	}
	switch {
	case h.rng.IntN(2) == 0:
		h.brought(s)
	case len(all) > 0:
		s.store.filed[all[h.rng.IntN(len(all))]] = true
	}
}

// sealing are the results of which workers are about to tell.
func (h *history) sealing(s *site) (list []id.Object) {
	for _, p := range s.core.processes {
		if p.sealed.there {
			list = append(list, p.sealed.object)
		}
	}
	return list
}

// brought answers what a core wants brought from files.
func (h *history) brought(s *site) bool {
	if len(s.store.brought) == 0 {
		return false
	}
	o := s.store.brought[0]
	s.store.brought = s.store.brought[1:]
	ev := Brought{Object: o}
	switch k := h.rng.IntN(10); {
	case h.calm || k > 1:
		delete(s.store.filed, o)
		s.store.moved[o]++
	case k == 0:
		ev.Why, ev.Full = "the store is full", true
	default:
		s.store.lost[o] = true
		ev.Why = "its bytes are not those that were written"
	}
	h.returned[ev.Why]++
	h.step(s, ev)
	return true
}

// tells counts the places in what goes to a process.
func (s *site) tells(e Effect) {
	for b := e.Bytes; len(b) > 0; {
		f, rest, _ := cut(b)
		b = rest
		if f.kind != fb.FrameTypeResult {
			continue
		}
		if m, payload := s.core.readResult(f.whole); placed(m, payload) {
			s.told[view{e.Process, id.Object{Task: taskOf(m.Task), Index: m.Index}}]++
		}
	}
}

// getAway asks for the arguments of a task that were not sent along.
func (p *peer) getAway(j *job1) {
	for _, o := range j.away {
		r := p.ref(o)
		if r.n == 0 {
			r.n = 1
			j.args = append(j.args, o)
		}
		r.asked++
		p.send(&fb.GetT{Object: objectT(o), Want: fb.WantValue}, nil)
	}
	p.h.returned["of arguments"] += len(j.away)
	j.away = nil
}

// checkViews: the store counts a view for each place that a process was told, which only who holds the object has, and the one
// of a process that has sealed a result and not told of it; and it has nothing that nobody knows.
func checkViews(s *site) error {
	c, l := s.core, s.store
	known := map[id.Object]bool{}
	for name, e := range c.entries {
		for i := range len(e.others()) + 1 {
			o := e.object(uint32(i))
			if o == nil || !o.placed || l.dropped[o.id()] {
				continue
			}
			known[o.id()] = true
			for p := range l.views[o.id()] {
				q := c.byProcess[p]
				if q == nil || c.holderOf(q, o) == nil && q.sealed.object != o.id() {
					return fmt.Errorf("%v[%d] is viewed by %d, which does not hold it", name, i, p)
				}
			}
		}
	}
	for _, p := range c.processes {
		if p.sealed.there {
			known[p.sealed.object] = true
		}
	}
	for _, o := range l.resting {
		known[o] = c.cache.byObject[o] != nil
	}
	for o := range l.views {
		if !known[o] {
			return fmt.Errorf("%v lies in the store, and nobody knows it", o)
		}
	}
	if len(known) != len(l.views) {
		return fmt.Errorf("%d objects lie in the store, %d are known", len(l.views), len(known))
	}
	if err := checkCopies(s); err != nil {
		return err
	}
	for v, n := range s.told {
		if l.told[v] != n {
			return fmt.Errorf("process %d was told %d times where %v lies, counts %d", v.p, n, v.o, l.told[v])
		}
	}
	return nil
}

// left names what is left in a core.
func (h *history) left() (text string) {
	for _, s := range h.sites {
		var names []string
		for t, e := range s.core.entries {
			text := h.explain(s, t)
			if o := e.first; o != nil {
				text += fmt.Sprintf(" (%d pins", o.pins)
				for k := o.holders; k != nil; k = k.next {
					text += fmt.Sprintf(", process %d of agent %d has %d, %v", k.process.id, k.process.agent, k.deliveries, k.made)
				}
				if l := s.core.lent[o]; l != nil {
					text += fmt.Sprintf(", owes %d to process %d of agent %d", l.owed, l.home.id, l.home.agent)
				}
				text += ")"
			}
			names = append(names, text)
		}
		slices.Sort(names)
		text += fmt.Sprintf("\n    agent %d: %s", s.agent, strings.Join(names[:min(len(names), 5)], "; "))
	}
	return text
}
