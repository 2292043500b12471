package objstore

import "fmt"

// Check walks everything and says what does not agree. Tests call it after each step.
func (s *Store) Check() error {
	var arenas, inline int64
	var sealed [2]Tally
	opened, holes, lives := map[*slab]int64{}, map[*slab]int64{}, map[*slab]int64{}
	objects := 0
	if s.growing != nil {
		arenas += s.growing.size
	}
	for _, a := range s.arenas {
		arenas += a.size
		at := int64(0)
		var prev *span
		for sp := a.first; sp != nil; prev, sp = sp, sp.next {
			if sp.off != at || sp.size <= 0 || sp.prev != prev || sp.arena != a {
				return fmt.Errorf("arena %d: span [%d, +%d) where %d was due", a.number, sp.off, sp.size, at)
			}
			at += sp.size
			if prev != nil && prev.joins(sp) {
				return fmt.Errorf("arena %d: two like spans meet at %d", a.number, sp.off)
			}
			if want := s.home(sp); sp.list != want {
				return fmt.Errorf("arena %d: span at %d is in the wrong list", a.number, sp.off)
			}
			switch sl := sp.slab; {
			case sp.kind == live:
				o := sp.object
				if o == nil || s.objects[o.name] != o || o.at != sp || sp.size != roundUp(o.size, Align) {
					return fmt.Errorf("arena %d: a live span at %d without its object", a.number, sp.off)
				}
				objects++
				lives[sl] += sp.size
				t := &sealed[0]
				if o.secondary {
					t = &sealed[1]
				}
				t.Objects++
				t.Bytes += sp.size
			case sl != nil && (s.slabs[sl.number] != sl || sp.off < sl.start || sp.off+sp.size > sl.end):
				return fmt.Errorf("arena %d: span at %d outside of its slab", a.number, sp.off)
			case sp.kind == open:
				opened[sl] += sp.size
			case sl != nil:
				holes[sl] += sp.size
			}
		}
		if at != a.size {
			return fmt.Errorf("arena %d ends at %d of %d", a.number, at, a.size)
		}
	}
	views := map[*process]int64{}
	for _, o := range s.objects {
		if o.at == nil {
			objects++
			inline += o.size + InlineCost
		}
		if o.released && !o.pinned() {
			return fmt.Errorf("%s is released and still here", name(o.name))
		}
		if o.evictable != (o.secondary && !o.pinned()) {
			return fmt.Errorf("%s: evictable %v", name(o.name), o.evictable)
		}
		for _, v := range o.views {
			if s.processes[v.process.number] != v.process || v.process.viewed[o.name] != o || v.deliveries == 0 {
				return fmt.Errorf("%s is viewed by nobody", name(o.name))
			}
			views[v.process] += o.size
		}
	}
	for _, sl := range s.slabs {
		if sl.opened != opened[sl] || sl.holes != holes[sl] || sl.live != lives[sl] || s.processes[sl.process.number] != sl.process {
			return fmt.Errorf("slab %d counts %d open, %d holes, not %d, %d", sl.number, sl.opened, sl.holes, opened[sl], holes[sl])
		}
	}
	for _, p := range s.processes {
		var open int64
		for _, sl := range p.slabs {
			open += sl.opened
		}
		if p.opened != open || p.viewedBytes != views[p] {
			return fmt.Errorf("process %d counts %d open, %d viewed, not %d, %d", p.number, p.opened, p.viewedBytes, open, views[p])
		}
	}
	total := int64(0)
	for _, n := range s.budget.used {
		total += n
	}
	switch {
	case objects != len(s.objects):
		return fmt.Errorf("%d objects, %d found", len(s.objects), objects)
	case sealed != s.sealed:
		return fmt.Errorf("sealed %v, found %v", s.sealed, sealed)
	case arenas != s.budget.used[Arenas] || inline != s.budget.used[Inline]:
		return fmt.Errorf("accounts %v, found %d and %d", s.budget.used, arenas, inline)
	case total != s.budget.total || total > s.budget.limit || total < 0:
		return fmt.Errorf("total %d of %d, found %d", s.budget.total, s.budget.limit, total)
	}
	return nil
}
