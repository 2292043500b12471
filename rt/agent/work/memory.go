package work

import "unsafe"

// memory lends bytes and takes them back, so that a core at work allocates nothing.
type memory struct {
	free  [sizes][][]byte
	block []byte
}

const (
	grain   = 8 // sizes are multiples of it up to 1 KiB, then powers of two
	fine    = 128
	sizes   = fine + 6
	largest = 1 << 16 // beyond it, memory is the garbage collector's and never used again
)

// sizeOf gives the number of the size class that holds n bytes, and its size.
func sizeOf(n int) (int, int) {
	if n <= grain*fine {
		k := max(n+grain-1, grain) / grain
		return k - 1, k * grain
	}
	k, size := fine, 2*grain*fine
	for size < n {
		k, size = k+1, 2*size
	}
	return k, size
}

// take gives n bytes, with whatever was in them.
func (m *memory) take(n int) []byte {
	if n > largest {
		return make([]byte, n)
	}
	k, size := sizeOf(n)
	if last := len(m.free[k]) - 1; last >= 0 {
		b := m.free[k][last]
		m.free[k] = m.free[k][:last]
		return b[:n]
	}
	if len(m.block) < size {
		m.block = make([]byte, 4*largest)
	}
	b := m.block[:n:size]
	m.block = m.block[size:]
	return b
}

// give takes back what take gave.
func (m *memory) give(b []byte) {
	if cap(b) == 0 || cap(b) > largest {
		return
	}
	k, size := sizeOf(cap(b))
	if size != cap(b) {
		return // not from here
	}
	m.free[k] = append(m.free[k], b[:0])
}

func (m *memory) copy(b []byte) []byte {
	out := m.take(len(b))
	copy(out, b)
	return out
}

// recordsBlock is a size that Go's memory has, without the word that Go keeps with each piece of it: one byte more, and an eighth would be lost.
const recordsBlock = 8<<10 - 8

// records lends structs, zeroed.
type records[T any] struct {
	free []*T
	used int
}

func (r *records[T]) take() *T {
	r.used++
	if last := len(r.free) - 1; last >= 0 {
		t := r.free[last]
		r.free = r.free[:last]
		return t
	}
	var one T
	block := make([]T, recordsBlock/unsafe.Sizeof(one))
	for i := 1; i < len(block); i++ {
		r.free = append(r.free, &block[i])
	}
	return &block[0]
}

func (r *records[T]) give(t *T) {
	var zero T
	*t = zero
	r.used--
	r.free = append(r.free, t)
}
