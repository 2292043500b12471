package objstore

import "math/bits"

// An arena is cut into spans without gaps:
//
//	|-- slab of process 7 ------------------|          |-- slab of process 9 --|
//	| live | live | hole | live | open      |   free   | open                  | live | free |
//
// A span is live (an object), open (to the slab's process) or free; free inside a slab is a hole. What was given back to the
// system is void: addresses without memory, until its arena goes.
// Neighbours that are alike are one span, so what is freed grows together by itself. A live span without a
// slab is of one that was returned.
type span struct {
	arena      *arena
	off, size  int64
	kind       spanKind
	slab       *slab
	object     *object
	prev, next *span // by address
	list       *list // of free spans, or of the slab's open ones
	lprev      *span
	lnext      *span
}

type spanKind uint8

const (
	free spanKind = iota
	open
	live
	void
)

// arena is one piece of shared memory.
type arena struct {
	number uint64
	size   int64
	held   int64 // of that, what has memory behind it: all but what is void
	first  *span
	spare  bool  // it is being made, and nobody waits for it
	idle   int64 // since when nothing is in it; valid while empty
}

// empty tells whether nothing is in the arena: no slab and no object.
func (a *arena) empty() bool {
	for sp := a.first; sp != nil; sp = sp.next {
		if sp.slab != nil || sp.kind == open || sp.kind == live || a.held == a.size && sp.next != nil {
			return false
		}
	}
	return true
}

// slab is a range of an arena that one process has mapped for writing.
type slab struct {
	number     uint64
	arena      *arena
	start, end int64
	process    *process
	open       list
	opened     int64 // bytes open
	holes      int64 // bytes in holes
	live       int64 // bytes of objects
	touched    int64 // when something in it last became open, sealed or free
	recalled   bool
	asked      int64 // when it was recalled
	back       list  // holes, once it is recalled
}

// list holds spans, the newest first: what was freed last is warm in the caches.
type list struct{ head *span }

func (l *list) push(s *span) {
	s.list, s.lprev, s.lnext = l, nil, l.head
	if l.head != nil {
		l.head.lprev = s
	}
	l.head = s
}

func (s *span) unlist() {
	if s.list == nil {
		return
	}
	if s.lprev != nil {
		s.lprev.lnext = s.lnext
	} else {
		s.list.head = s.lnext
	}
	if s.lnext != nil {
		s.lnext.lprev = s.lprev
	}
	s.list, s.lprev, s.lnext = nil, nil, nil
}

// pool holds free spans by size: bin i those of 2^i bytes to just under 2^(i+1).
type pool struct{ bins [64]list }

func bin(n int64) int { return bits.Len64(uint64(n)) - 1 }

// find gives a span with n bytes that begin at a multiple of align, of the smallest bin that has one.
func (p *pool) find(n, align int64) *span {
	for i := bin(n); i < len(p.bins); i++ {
		for s := p.bins[i].head; s != nil; s = s.lnext {
			if _, size := s.usable(align); size >= n {
				return s
			}
		}
	}
	return nil
}

// largest gives the most bytes that find could find.
func (p *pool) largest(align int64) (n int64) {
	for i := len(p.bins) - 2; i >= 0; i-- { // in the last one there can be nothing
		for s := p.bins[i].head; s != nil; s = s.lnext {
			_, size := s.usable(align)
			n = max(n, size)
		}
		if n >= 1<<i { // smaller bins have less
			break
		}
	}
	return n
}

// usable gives the part of s that begins and ends at a multiple of align.
func (s *span) usable(align int64) (off, size int64) {
	off = roundUp(s.off, align)
	return off, roundDown(s.off+s.size, align) - off
}

// home is the list in which a span of that kind and slab is found again; nil for live ones and void.
func (s *Store) home(sp *span) *list {
	switch {
	case sp.kind == open:
		return &sp.slab.open
	case sp.kind == live || sp.kind == void:
		return nil
	case sp.slab != nil && sp.slab.recalled:
		return &sp.slab.back
	case sp.slab != nil:
		return &sp.slab.process.holes.bins[bin(sp.size)]
	}
	return &s.pool.bins[bin(sp.size)]
}

// tally adds sign times the span's bytes to what its slab and its process know of themselves.
func (sp *span) tally(sign int64) {
	switch {
	case sp.slab == nil:
	case sp.kind == open:
		sp.slab.opened += sign * sp.size
		sp.slab.process.opened += sign * sp.size
	case sp.kind == free:
		sp.slab.holes += sign * sp.size
	default:
		sp.slab.live += sign * sp.size
	}
}

// become gives [off, off+size) of the span sp another kind, and joins it with its likes on both sides.
func (s *Store) become(sp *span, off, size int64, kind spanKind, sl *slab, o *object) *span {
	sp.unlist()
	sp.tally(-1)
	if off > sp.off {
		s.settle(s.insert(sp, sp.prev, sp, sp.off, off-sp.off))
	}
	if end, spEnd := off+size, sp.off+sp.size; end < spEnd {
		s.settle(s.insert(sp, sp, sp.next, end, spEnd-end))
	}
	sp.off, sp.size, sp.kind, sp.slab, sp.object = off, size, kind, sl, o
	if n := sp.next; n != nil && sp.joins(n) {
		n.unlist()
		n.tally(-1)
		sp.size += n.size
		s.remove(n)
	}
	if p := sp.prev; p != nil && sp.joins(p) {
		p.unlist()
		p.tally(-1)
		sp.off, sp.size = p.off, sp.size+p.size
		s.remove(p)
	}
	s.settle(sp)
	return sp
}

func (sp *span) joins(n *span) bool {
	return sp.kind != live && sp.kind == n.kind && sp.slab == n.slab
}

func (s *Store) settle(sp *span) {
	sp.tally(1)
	if l := s.home(sp); l != nil {
		l.push(sp)
	}
}

// insert makes a span of what is cut from of, between prev and next.
func (s *Store) insert(of, prev, next *span, off, size int64) *span {
	n := s.spare
	if n != nil {
		s.spare = n.next
	} else {
		n = new(span)
	}
	*n = span{arena: of.arena, off: off, size: size, kind: of.kind, slab: of.slab, prev: prev, next: next}
	if prev != nil {
		prev.next = n
	} else {
		n.arena.first = n
	}
	if next != nil {
		next.prev = n
	}
	return n
}

// remove forgets a span whose bytes a neighbour has taken.
func (s *Store) remove(sp *span) {
	if sp.prev != nil {
		sp.prev.next = sp.next
	} else {
		sp.arena.first = sp.next
	}
	if sp.next != nil {
		sp.next.prev = sp.prev
	}
	*sp = span{next: s.spare}
	s.spare = sp
}
