package objstore

import (
	"fmt"
	"maps"
	"slices"
)

// Check walks everything and says what does not agree. Tests call it after each step.
func (s *Store) Check() error {
	var arenas, inline int64
	var sealed [2]Tally
	var copies Tally
	opened, holes, lives := map[*slab]int64{}, map[*slab]int64{}, map[*slab]int64{}
	objects := 0
	if s.growing != nil {
		arenas += s.growing.size
	}
	for _, a := range s.arenas {
		arenas += a.held
		at, held := int64(0), int64(0)
		var prev *span
		for sp := a.first; sp != nil; prev, sp = sp, sp.next {
			if sp.off != at || sp.size <= 0 || sp.prev != prev || sp.arena != a {
				return fmt.Errorf("arena %d: span [%d, +%d) where %d was due", a.number, sp.off, sp.size, at)
			}
			at += sp.size
			if sp.kind != void {
				held += sp.size
			} else if sp.slab != nil || sp.off%Grain != 0 || sp.size%Grain != 0 {
				return fmt.Errorf("arena %d: void at %d in a slab, or of half a page", a.number, sp.off)
			}
			if prev != nil && prev.joins(sp) {
				return fmt.Errorf("arena %d: two like spans meet at %d", a.number, sp.off)
			}
			if want := s.home(sp); sp.list != want {
				return fmt.Errorf("arena %d: span at %d is in the wrong list", a.number, sp.off)
			}
			switch sl := sp.slab; {
			case sp.kind == live:
				o := sp.object
				if o == nil || s.objects[o.name] != o && !slices.Contains(s.former, o) || o.at != sp || sp.size != roundUp(o.size, Align) {
					return fmt.Errorf("arena %d: a live span at %d without its object", a.number, sp.off)
				}
				objects++
				lives[sl] += sp.size
				t := &sealed[0]
				if o.secondary {
					t = &sealed[1]
				}
				t.add(1, sp.size)
				if o.copied {
					copies.add(1, sp.size)
				}
			case sl != nil && (s.slabs[sl.number] != sl || sp.off < sl.start || sp.off+sp.size > sl.end):
				return fmt.Errorf("arena %d: span at %d outside of its slab", a.number, sp.off)
			case sp.kind == open:
				opened[sl] += sp.size
			case sl != nil:
				holes[sl] += sp.size
			}
		}
		if held != a.held {
			return fmt.Errorf("arena %d holds %d bytes, not %d", a.number, held, a.held)
		}
		if at != a.size {
			return fmt.Errorf("arena %d ends at %d of %d", a.number, at, a.size)
		}
	}
	views := map[*process]int64{}
	filed, inFile, jobs, asked := Tally{}, map[*file]int{}, map[*job]int{}, int64(0)
	all := slices.AppendSeq(slices.Clone(s.former), maps.Values(s.objects))
	for _, o := range all {
		if o.file != nil {
			filed.Objects++
			filed.Bytes += o.size
			inFile[o.file]++
		}
		jobs[o.job]++
		if o.at == nil && o.file != nil {
			objects++
		} else if o.at == nil {
			objects++
			inline += o.size + InlineCost
		}
		if former := s.objects[o.name] != o; former && (!o.released || o.tasks > 0) {
			return fmt.Errorf("%s has lost its name, and is needed", name(o.name))
		}
		if o.released && !o.pinned() {
			return fmt.Errorf("%s is released and still here", name(o.name))
		}
		if (o.in == &s.idle) != (o.at != nil && (o.secondary || o.file != nil) && !o.pinned()) {
			return fmt.Errorf("%s: idle %v", name(o.name), o.in == &s.idle)
		}
		if o.job != nil && (o.in == &o.job.spillable) != (o.at != nil && !o.secondary && o.file == nil && !o.pinned() && s.cfg.Spill > 0) {
			return fmt.Errorf("%s: spillable %v", name(o.name), o.in == &o.job.spillable)
		}
		askable := o.at != nil && !o.restoring && !o.spilling && o.tasks == 0 &&
			slices.ContainsFunc(o.views, func(v view) bool { return !v.recalled && v.process.number != Agent })
		if first := askable && o.secondary && !(o.job != nil && o.in == &o.job.viewed && o.late() && s.cfg.Spill > 0); (o.in == &s.viewed) != first {
			return fmt.Errorf("%s: asked about first %v", name(o.name), !first)
		} else if o.job != nil && (o.in == &o.job.viewed) != (askable && !first && s.cfg.Spill > 0) {
			return fmt.Errorf("%s: asked about %v", name(o.name), o.in == &o.job.viewed)
		}
		if o.copied && !o.secondary {
			return fmt.Errorf("%s is a copy, and primary", name(o.name))
		}
		if o.asked {
			asked += o.at.size
		}
		for _, v := range o.views {
			if s.processes[v.process.number] != v.process || v.process.viewed[o.name] != o || v.deliveries == 0 {
				return fmt.Errorf("%s is viewed by nobody", name(o.name))
			}
			views[v.process] += o.size
		}
	}
	var writing, files int64
	for _, f := range s.files {
		files += f.size
		if f.parts != nil {
			writing += f.size
		} else if f.live != inFile[f] || f.live == 0 {
			return fmt.Errorf("file %d counts %d objects, not %d", f.number, f.live, inFile[f])
		}
	}
	if filed != s.filed || files != s.fileBytes || writing != s.writingBytes || asked != s.askedBytes {
		return fmt.Errorf("files: %v, %d, %d, %d; found %v, %d, %d, %d", s.filed, s.fileBytes, s.writingBytes, s.askedBytes, filed, files, writing, asked)
	}
	for _, j := range s.jobs {
		if j.objects != jobs[j] {
			return fmt.Errorf("job %d counts %d objects, not %d", j.number, j.objects, jobs[j])
		}
		delete(jobs, j)
	}
	if delete(jobs, nil); len(jobs) > 0 {
		return fmt.Errorf("%d jobs were forgotten", len(jobs))
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
	case objects != len(all):
		return fmt.Errorf("%d objects, %d found", len(all), objects)
	case sealed != s.sealed || copies != s.copies:
		return fmt.Errorf("sealed %v, copies %v, found %v, %v", s.sealed, s.copies, sealed, copies)
	case arenas != s.budget.used[Arenas] || inline != s.budget.used[Inline]:
		return fmt.Errorf("accounts %v, found %d and %d", s.budget.used, arenas, inline)
	case total != s.budget.total || total > s.budget.limit || total < 0:
		return fmt.Errorf("total %d of %d, found %d", s.budget.total, s.budget.limit, total)
	}
	return nil
}
