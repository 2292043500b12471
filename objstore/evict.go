package objstore

import (
	"cmp"
	"slices"
	"time"
)

// makeRoom tries to have n bytes free in the budget for what is not in arenas. It gives nothing back that does not help:
// a slab that waits would ask for it again at once.
func (s *Store) makeRoom(now, n int64, out []Effect) []Effect {
	if s.budget.room() >= n || n > s.budget.limit {
		return out
	}
	for coming := s.coming(now); ; {
		if s.budget.room()+s.empty() >= n {
			return s.drop(func(*arena) bool { return s.budget.room() < n }, out)
		}
		if s.idle.oldest == nil || coming >= n {
			return out
		}
		out, coming = s.evict(now, nil, coming, out)
	}
}

// dropEmpty gives empty arenas back until a new one of n bytes may be made, if that helps at all.
func (s *Store) dropEmpty(n int64, out []Effect) []Effect {
	if s.free()+s.empty() < n {
		return out
	}
	return s.drop(func(*arena) bool { return s.free() < n }, out)
}

// gather gives free memory back to the system until a new arena of n bytes may be made, if that helps at all: empty arenas, and then what lies
// in pieces between objects, the largest first. Accounts count pages, not addresses, so that no request fails because what is free lies here and
// there (OBJ-13).
func (s *Store) gather(n int64, out []Effect) []Effect {
	if out = s.dropEmpty(n, out); s.free() >= n {
		return out
	}
	pieces, total := s.pieces()
	if s.free()+total < n {
		return out
	}
	if out = s.Shrink(out); s.free() >= n {
		return out
	}
	slices.SortStableFunc(pieces, func(a, b *span) int { return cmp.Compare(b.size, a.size) })
	for _, sp := range pieces {
		if s.free() >= n {
			break
		}
		if sp.arena.first != nil { // else it went just now
			out = s.punch(sp, roundUp(n-s.free(), Grain), out)
		}
	}
	return out
}

// pieces gives what is free in arenas and can be given back, and how many bytes that is.
func (s *Store) pieces() (list []*span, total int64) {
	for i := range s.pool.bins {
		for sp := s.pool.bins[i].head; sp != nil; sp = sp.lnext {
			if _, size := sp.usable(Grain); size > 0 {
				list = append(list, sp)
				total += size
			}
		}
	}
	return list, total
}

// punch gives at most so many bytes of a free piece back to the system. The front of it stays, beside what others were given.
func (s *Store) punch(sp *span, most int64, out []Effect) []Effect {
	off, size := sp.usable(Grain)
	if most < size {
		off, size = off+size-most, most
	}
	a := sp.arena
	out = append(out, Punch{Arena: a.number, Offset: off, Size: size})
	a.held -= size
	s.budget.give(Arenas, size)
	s.become(sp, off, size, void, nil, nil)
	return out
}

// Shed gives back to the system all that can go, since the node's memory is short, be the budget used up or not: evictable objects, and what is free. What lies in slabs
// that processes map comes when they return those, and goes the next time.
func (s *Store) Shed(now int64, out []Effect) []Effect {
	for s.idle.oldest != nil {
		out, _ = s.evict(now, nil, 0, out)
	}
	out = s.Shrink(out)
	pieces, _ := s.pieces()
	for _, sp := range pieces {
		out = s.punch(sp, sp.size, out)
	}
	return out
}

// Shrink gives back all arenas in which nothing is.
func (s *Store) Shrink(out []Effect) []Effect {
	return s.drop(func(*arena) bool { return true }, out)
}

// empty gives the bytes of arenas in which nothing is.
func (s *Store) empty() (n int64) {
	for _, a := range s.arenas {
		if a.empty() {
			n += a.held
		}
	}
	return n
}

// sweep gives back what has been empty for long: arenas, and slabs by asking for them.
func (s *Store) sweep(now int64, out []Effect) []Effect {
	since := now - int64(s.cfg.KeepWarm)
	for _, sl := range s.lending {
		if !sl.recalled && sl.live == 0 && sl.touched <= since {
			out = s.callBack(now, sl, out)
		}
	}
	return s.drop(func(a *arena) bool { return a.idle <= since }, out)
}

// drop gives back the empty arenas for which f says so.
func (s *Store) drop(f func(*arena) bool, out []Effect) []Effect {
	s.arenas = slices.DeleteFunc(s.arenas, func(a *arena) bool {
		if !a.empty() || !f(a) {
			return false
		}
		for sp := a.first; sp != nil; sp = sp.next {
			sp.unlist()
		}
		a.first = nil
		s.budget.give(Arenas, a.held)
		out = append(out, Drop{a.number})
		return true
	})
	return out
}

// evict takes from memory the copy, or what lies in a file, too, that nobody has used for longest. If it lay in a slab
// that another process than p maps, the memory comes when that is returned, which it adds to what is coming.
func (s *Store) evict(now int64, p *process, coming int64, out []Effect) ([]Effect, int64) {
	o := s.idle.oldest
	name, size := o.name, roundUp(o.size, Align)
	var sl *slab
	if o.at != nil && o.at.slab != nil && o.at.slab.process != nil && o.at.slab.process != p {
		sl = o.at.slab
	}
	if o.file != nil {
		s.unchain(o)
		s.leave(now, o)
	} else {
		if o.copied {
			s.moved.Dropped.add(1, o.size)
		}
		out = append(s.discard(now, o, out), Evicted{name})
	}
	switch {
	case sl == nil:
	case sl.recalled:
		coming += size
	default:
		out = s.callBack(now, sl, out)
		coming += sl.opened + sl.holes
	}
	return out, coming
}

// answerTime is how long who was asked for memory may take before others are asked, too.
const answerTime = int64(time.Second)

// writeTime is how long a file may take to be written before what is in it is not counted on, and another directory is tried.
const writeTime = 5 * int64(time.Second)

// coming gives the bytes that are on their way back: in slabs, in views that were recalled, and being written to files.
func (s *Store) coming(now int64) (n int64) {
	for _, sl := range s.lending {
		if sl.recalled && (s.cfg.Spill == 0 || now-sl.asked < answerTime) {
			n += sl.opened + sl.holes
		}
	}
	for _, f := range s.writing {
		if now-f.since < writeTime {
			n += f.size
		}
	}
	n += s.askedBytes
	for _, o := range s.asked {
		if now-o.askedAt < answerTime {
			break
		}
		n -= o.at.size
	}
	return n
}

// recall asks processes for slabs of which they use only a part, until n bytes are on their way. First those
// in which nothing is open.
func (s *Store) recall(now, n int64, out []Effect) []Effect {
	coming := s.coming(now)
	for _, idle := range []bool{true, false} {
		for _, sl := range s.lending {
			if coming >= n {
				return out
			}
			if sl.recalled || sl.opened+sl.holes == 0 || idle != (sl.opened == 0) {
				continue
			}
			coming += sl.opened + sl.holes
			out = s.callBack(now, sl, out)
		}
	}
	return out
}

// callBack asks for a slab, and keeps what is free in it from being opened to its process again.
func (s *Store) callBack(now int64, sl *slab, out []Effect) []Effect {
	spans := s.holesOf(sl)
	sl.recalled, sl.asked = true, now
	for _, sp := range spans {
		sp.unlist()
		s.home(sp).push(sp)
	}
	return append(out, Recall{Process: sl.process.number, Slab: sl.number})
}
