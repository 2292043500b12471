package shm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	// ErrUnknown: no such arena or slab here.
	ErrUnknown = errors.New("unknown here")
	// ErrGivenUp: a spare arena was not made to its end, since who wanted it does not any more.
	ErrGivenUp = errors.New("given up")
	// ErrLent: a part of that range is lent to a process that has not returned it.
	ErrLent = errors.New("lent")
)

// Memory is the arenas of a node. The zero value is empty and ready to use.
type Memory struct {
	mu     sync.Mutex
	arenas map[uint64]*arena
	slabs  map[uint64]uint64 // the arena of each slab that is lent
	closed bool
	ended  chan struct{} // closed with it; nil: nobody has asked
}

// slab is a range that is lent.
type slab struct {
	number  uint64
	start   int64
	end     int64
	process id.Process
}

// Make makes an arena; number is new.
func (m *Memory) Make(number uint64, size int64) error { return m.make(number, size, nil, nil) }

// Spare makes one that nobody waits for yet, when nothing else is to be done on the machine; closing hurry says that now somebody does,
// and closing stop that nobody will: then its memory goes back.
func (m *Memory) Spare(number uint64, size int64, hurry, stop <-chan struct{}) error {
	return m.make(number, size, hurry, stop)
}

func (m *Memory) make(number uint64, size int64, hurry, stop <-chan struct{}) error {
	m.mu.Lock()
	if m.closed || m.arenas[number] != nil {
		m.mu.Unlock()
		return fmt.Errorf("shm: arena %d: %w", number, os.ErrExist)
	}
	if m.ended == nil {
		m.ended = make(chan struct{})
	}
	ended := m.ended
	m.mu.Unlock()
	a, err := create(number, size, hurry, stop, ended)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.arenas[number] != nil {
		return errors.Join(fmt.Errorf("shm: arena %d: %w", number, os.ErrExist), a.close())
	}
	if m.arenas == nil {
		m.arenas, m.slabs = map[uint64]*arena{}, map[uint64]uint64{}
	}
	m.arenas[number] = a
	return nil
}

// Drop gives an arena back. Nothing of it may be lent.
func (m *Memory) Drop(number uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.arenas[number]
	switch {
	case a == nil:
		return fmt.Errorf("shm: drop arena %d: %w", number, ErrUnknown)
	case len(a.lent) > 0:
		return fmt.Errorf("shm: drop arena %d: slab %d: %w", number, a.lent[0].number, ErrLent)
	}
	delete(m.arenas, number)
	return a.close()
}

// Punch gives a part of an arena back to the system, in which nothing is and never will be. Who maps it reads zeros, and must not.
func (m *Memory) Punch(number uint64, offset, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) error {
		return fmt.Errorf("shm: punch [%d, +%d) of arena %d: %w", offset, size, number, err)
	}
	a := m.arenas[number]
	switch {
	case a == nil:
		return fail(ErrUnknown)
	case offset < 0 || size <= 0 || offset > a.size || size > a.size-offset:
		return fail(os.ErrInvalid)
	case slices.ContainsFunc(a.lent, func(s slab) bool { return s.start < offset+size && offset < s.end }):
		return fail(ErrLent)
	}
	a.late.punched(offset, size)
	if err := punch(int(a.rw.Fd()), offset, size); err != nil {
		return fail(err)
	}
	a.punched += size
	return nil
}

// Lend notes that a process has [start, start+size) of an arena, and gives a descriptor to map it for
// writing, which the caller sends and closes.
func (m *Memory) Lend(p id.Process, number, arena uint64, start, size int64) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) (*os.File, error) {
		return nil, fmt.Errorf("shm: lend slab %d, [%d, +%d) of arena %d, to process %d: %w", number, start, size, arena, p, err)
	}
	a := m.arenas[arena]
	if a == nil {
		return fail(ErrUnknown)
	}
	if _, twice := m.slabs[number]; twice {
		return fail(ErrLent)
	}
	if start < 0 || size <= 0 || start > a.size || size > a.size-start {
		return fail(os.ErrInvalid)
	}
	at, _ := slices.BinarySearchFunc(a.lent, start, func(s slab, start int64) int { return cmp.Compare(s.start, start) })
	if at > 0 && a.lent[at-1].end > start || at < len(a.lent) && a.lent[at].start < start+size { // SHM-3
		return fail(ErrLent)
	}
	fd, err := unix.FcntlInt(a.rw.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	a.lent = slices.Insert(a.lent, at, slab{number, start, start + size, p})
	m.slabs[number] = arena
	return os.NewFile(uintptr(fd), "arena to write"), nil
}

// Return notes that the process of a slab has unmapped it.
func (m *Memory) Return(number uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	arena, ok := m.slabs[number]
	if !ok {
		return fmt.Errorf("shm: return slab %d: %w", number, ErrUnknown)
	}
	delete(m.slabs, number)
	a := m.arenas[arena]
	a.lent = slices.DeleteFunc(a.lent, func(s slab) bool { return s.number == number })
	return nil
}

// Died notes that a process has ended, and its mappings with it.
func (m *Memory) Died(p id.Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arenas {
		a.lent = slices.DeleteFunc(a.lent, func(s slab) bool {
			if s.process == p {
				delete(m.slabs, s.number)
			}
			return s.process == p
		})
	}
}

// Reader gives an arena's descriptor for reading, to be sent; it stays the Memory's.
func (m *Memory) Reader(number uint64) (*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.arenas[number]
	if a == nil {
		return nil, fmt.Errorf("shm: read arena %d: %w", number, ErrUnknown)
	}
	return a.ro, nil
}

// Writer gives a descriptor of a whole arena, which the caller closes, and its size: for what reads and writes in the agent's name.
func (m *Memory) Writer(number uint64) (*os.File, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.arenas[number]
	if a == nil {
		return nil, 0, fmt.Errorf("shm: arena %d: %w", number, ErrUnknown)
	}
	fd, err := unix.FcntlInt(a.rw.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("shm: arena %d: dup: %w", number, err)
	}
	return os.NewFile(uintptr(fd), "arena"), a.size, nil
}

// Bytes gives a part of an arena as this process has it mapped, to read. Writing there faults.
func (m *Memory) Bytes(number uint64, offset, size int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.arenas[number]
	if a == nil {
		return nil, fmt.Errorf("shm: arena %d: %w", number, ErrUnknown)
	}
	if offset < 0 || size < 0 || offset > a.size || size > a.size-offset {
		return nil, fmt.Errorf("shm: [%d, +%d) of arena %d: %w", offset, size, number, os.ErrInvalid)
	}
	return a.bytes[offset : offset+size : offset+size], nil
}

// Write writes b into an arena: into what the store has opened to the agent itself, which has no slab mapped.
func (m *Memory) Write(number uint64, offset int64, b []byte) error {
	m.mu.Lock()
	a := m.arenas[number]
	m.mu.Unlock()
	if a == nil {
		return fmt.Errorf("shm: write to arena %d: %w", number, ErrUnknown)
	}
	if size := int64(len(b)); offset < 0 || offset > a.size || size > a.size-offset {
		return fmt.Errorf("shm: write [%d, +%d) of arena %d: %w", offset, size, number, os.ErrInvalid)
	}
	_, err := a.rw.WriteAt(b, offset)
	return err
}

// Used gives the number of arenas and the bytes of memory behind them.
func (m *Memory) Used() (arenas int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.arenas {
		bytes += a.size - a.punched
	}
	return len(m.arenas), bytes
}

// GiveUp has no arena be made any more: Make fails from then on, and a spare one is not made to its end.
func (m *Memory) GiveUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended != nil && !m.closed {
		close(m.ended)
	}
	m.closed = true
}

// Close gives all arenas back, whoever has what of them, after GiveUp.
func (m *Memory) Close() error {
	m.GiveUp()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, a := range m.arenas {
		errs = append(errs, a.close())
	}
	clear(m.arenas)
	clear(m.slabs)
	return errors.Join(errs...)
}
