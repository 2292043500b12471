package placement

import "math/bits"

// matching gives rooms to shapes, at most one bundle to a room. Rooms are bits, in order of preference.
type matching struct {
	s     *solver
	rooms []int32
	of    []int32    // room position -> shape, -1: free
	adj   [][]uint64 // shape -> positions it fits
	free  []uint64   // positions that are free
	left  []int      // bundles of each shape without a room
}

func (s *solver) newMatching(rooms []int32) *matching {
	words := (len(rooms) + 63) / 64
	m := &matching{s: s, rooms: rooms, of: make([]int32, len(rooms)), free: make([]uint64, words), left: make([]int, len(s.shapes))}
	for i := range m.of {
		m.of[i] = -1
		m.free[i/64] |= 1 << (i % 64)
	}
	flat := make([]uint64, words*len(s.shapes))
	m.adj = make([][]uint64, len(s.shapes))
	for sh := range s.shapes {
		m.left[sh] = len(s.shapes[sh].members)
		m.adj[sh], flat = flat[:words:words], flat[words:]
		for i, r := range rooms {
			if _, ok := s.fit(&s.rooms[r], sh); ok {
				m.adj[sh][i/64] |= 1 << (i % 64)
			}
		}
	}
	return m
}

// all matches every bundle and says -1, or names a shape for which there are too few rooms. That is a proof:
// a shape without an augmenting path never gets one later.
func (m *matching) all() int {
	for _, sh := range m.s.hard {
		for m.left[sh] > 0 {
			if !m.augment(sh) {
				return sh
			}
		}
	}
	return -1
}

// most matches as many as it can.
func (m *matching) most() (matched int) {
	for _, sh := range m.s.hard {
		for m.left[sh] > 0 && m.augment(sh) {
			matched++
		}
	}
	return matched
}

// augment finds a room for one more bundle of the shape, moving others along a shortest chain if it must.
func (m *matching) augment(start int) bool {
	type via struct{ shape, room int } // the shape reached a room, whose own shape must move
	visited := make([]uint64, len(m.free))
	from := make([]via, len(m.s.shapes))
	seen := make([]bool, len(m.s.shapes))
	seen[start] = true
	queue := []int{start}
	for len(queue) > 0 {
		sh := queue[0]
		queue = queue[1:]
		for w, word := range m.adj[sh] {
			if open := word & m.free[w]; open != 0 {
				room := w*64 + bits.TrailingZeros64(open)
				m.free[w] &^= open & -open
				for {
					m.of[room] = int32(sh)
					if sh == start {
						break
					}
					room, sh = from[sh].room, from[sh].shape
				}
				m.left[start]--
				return true
			}
		}
		for w, word := range m.adj[sh] {
			for word &^= visited[w]; word != 0; word &= word - 1 {
				visited[w] |= word & -word
				room := w*64 + bits.TrailingZeros64(word)
				if owner := int(m.of[room]); !seen[owner] {
					seen[owner] = true
					from[owner] = via{sh, room}
					queue = append(queue, owner)
				}
			}
		}
	}
	return false
}
