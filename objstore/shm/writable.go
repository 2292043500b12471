package shm

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

// Fade takes what the agent has of the arenas out of its page table, where that counts for each process. It comes back at the next look.
func (m *Memory) Fade() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arenas {
		for _, b := range [][]byte{a.bytes, a.open} {
			if b != nil {
				_ = unix.Madvise(b, unix.MADV_DONTNEED)
			}
		}
	}
}

// Writable gives a part of an arena as this process has it mapped for writing: what the store has opened to the agent itself, which has
// no slab mapped. It is good until Drop. The mapping is made once for an arena, and stays warm with it.
func (m *Memory) Writable(number uint64, offset, size int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.arenas[number]
	if a == nil {
		return nil, fmt.Errorf("shm: write to arena %d: %w", number, ErrUnknown)
	}
	if offset < 0 || size < 0 || offset > a.size || size > a.size-offset {
		return nil, fmt.Errorf("shm: write [%d, +%d) of arena %d: %w", offset, size, number, os.ErrInvalid)
	}
	if a.open == nil {
		b, err := pages.Map(int(a.rw.Fd()), 0, a.size, unix.PROT_READ|unix.PROT_WRITE)
		if err != nil {
			return nil, fmt.Errorf("shm: arena %d: for writing: %w", number, err)
		}
		a.open = b
		unix.Madvise(b, unix.MADV_DONTFORK)
		unix.Madvise(b, unix.MADV_DONTDUMP)
	}
	return a.open[offset : offset+size : offset+size], nil
}
