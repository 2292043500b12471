package shm

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

// arena is one piece of shared memory.
type arena struct {
	size    int64
	rw, ro  *os.File
	bytes   []byte // all of it, to read
	open    []byte // all of it, to write; nil: nobody has yet
	closed  atomic.Bool
	late    late
	punched int64  // bytes of it that were given back
	lent    []slab // by start
}

// step is how much is allocated at a time: a signal interrupts the call, which then undoes all of its work.
const step = 16 << 20

// sharedFrom is how much each of two threads makes, at least.
const sharedFrom = 32 << 20

// create makes an arena. It takes as long as the system needs to clear the memory. hurry: nobody waits for it until that is
// closed; nil: it is waited for. stop, ended: closed when it, or none at all, is not wanted any more.
func create(number uint64, size int64, hurry, stop, ended <-chan struct{}) (_ *arena, err error) {
	if size <= 0 {
		return nil, fmt.Errorf("shm: arena %d of %d bytes: %w", number, size, os.ErrInvalid)
	}
	a := &arena{size: size}
	defer func() {
		if err != nil {
			err = fmt.Errorf("shm: arena %d of %d bytes: %w", number, size, errors.Join(err, a.close()))
		}
	}()
	fd, err := memfd(fmt.Sprintf("maniple-%d", number))
	if err != nil {
		return nil, err
	}
	a.rw = os.NewFile(uintptr(fd), "arena")
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, fmt.Errorf("ftruncate: %w", err)
	}
	if a.bytes, err = mapped(fd, size); err != nil {
		return nil, err
	}
	if hurry == nil {
		err = hasten(fd, a.bytes)
	} else {
		err = a.idle(hurry, stop, ended)
	}
	if err != nil {
		return nil, err
	}
	// Who is not root can't open it for writing by /proc then; descriptors that are open are not touched.
	if err := unix.Fchmod(fd, 0o400); err != nil {
		return nil, fmt.Errorf("fchmod: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil { // SHM-1
		return nil, fmt.Errorf("seal: %w", err)
	}
	ro, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0) // SHM-2
	if err != nil {
		return nil, fmt.Errorf("open for reading: %w", err)
	}
	a.ro = os.NewFile(uintptr(ro), "arena to read")
	return a, nil
}

// mapped maps an arena for the agent, to read. A child between fork and exec has no use for it, and a core file neither.
func mapped(fd int, size int64) ([]byte, error) {
	b, err := pages.Map(fd, 0, size, unix.PROT_READ)
	if err == nil {
		unix.Madvise(b, unix.MADV_DONTFORK)
		unix.Madvise(b, unix.MADV_DONTDUMP)
	}
	return b, err
}

// inParts has two threads make an arena, each a part of it, where that pays: most of the time goes into clearing, or, on a virtual machine whose host gives it
// memory at the first touch, into that. work runs in a goroutine of its own, which it may lock to its thread for good.
func inParts(size int64, work func(from, to int64) error) error {
	ends := []int64{0, size}
	if half := size / 2 / step * step; half >= sharedFrom && runtime.GOMAXPROCS(0) > 1 {
		ends = []int64{0, half, size}
	}
	var errs [2]error
	var parts sync.WaitGroup
	for i, end := range ends[1:] {
		parts.Go(func() { errs[i] = work(ends[i], end) })
	}
	parts.Wait()
	return errors.Join(errs[:]...)
}

// hasten makes all pages of an arena that somebody waits for.
func hasten(fd int, b []byte) error {
	return inParts(int64(len(b)), func(from, to int64) error { return allocate(fd, b, from, to, hasty(stride)) })
}

// allocate makes the pages of [from, to) of an arena, or some until p says so. It may be done twice, and by two at once.
func allocate(fd int, b []byte, from, to int64, p pace) error {
	enlarge(b, from, to, p)
	for at := from; at < to; { // SHM-1
		size := min(p.next(), step, to-at)
		if size == 0 {
			break
		}
		err := unix.Fallocate(fd, 0, at, size)
		switch {
		case err == nil:
			at += size
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fallocate: %w", err)
		}
	}
	return nil
}

// memfd makes the file. Sites may forbid one that could be executed; kernels before 6.3 don't know how to say that.
func memfd(name string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	return fd, nil
}

// punch gives a part of an arena back to the system.
func punch(fd int, offset, size int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
}

// close gives everything back that create took, in whatever state it is.
func (a *arena) close() error {
	var errs []error
	a.closed.Store(true)
	made := a.bytes != nil
	if made {
		errs = append(errs, pages.Unmap(a.bytes))
		a.bytes = nil
	}
	if a.open != nil {
		errs = append(errs, pages.Unmap(a.open))
		a.open = nil
	}
	if a.rw != nil {
		if fd := int(a.rw.Fd()); made { // SHM-4; and who makes it ahead has it open for longer
			errs = append(errs, punch(fd, 0, a.size))
		}
		errs = append(errs, a.rw.Close())
	}
	if a.ro != nil {
		errs = append(errs, a.ro.Close())
	}
	a.rw, a.ro = nil, nil
	return errors.Join(errs...)
}
