package shm

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

// idle allocates an arena in time that nobody else wants, until hurry is closed: then what is left is done at once, beside the threads that began
// it. Those work on a descriptor and a mapping of their own, so that nothing has to wait for them; and what was given back meanwhile the last one
// takes back, if they made it again too late (SHM-4).
func (a *arena) idle(hurry, stop, ended <-chan struct{}) error {
	fd, err := unix.FcntlInt(a.rw.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("dup: %w", err)
	}
	b, err := mapped(fd, a.size)
	if err != nil {
		_ = unix.Close(fd)
		return err
	}
	a.late.begin()
	over, done := make(chan struct{}), make(chan error, 1)
	go func() {
		err := inParts(a.size, func(from, to int64) error {
			runtime.LockOSThread() // whose time counts
			defer runtime.UnlockOSThread()
			p := &gentle{over: over}
			if err := allocate(fd, b, from, to, p); err != nil {
				return err
			}
			clearPages(b[from:to], p)
			return nil
		})
		_ = pages.Unmap(b)
		a.late.end(fd)
		if a.closed.Load() {
			_ = punch(fd, 0, a.size)
		}
		_ = unix.Close(fd)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ended:
		err = os.ErrClosed
	case <-stop:
		err = ErrGivenUp
	case <-hurry:
	}
	close(over)
	if err != nil {
		return err
	}
	return hasten(int(a.rw.Fd()), a.bytes)
}

// clearPages has the small pages of a new arena cleared, which otherwise waits for whoever meets them first.
func clearPages(b []byte, p pace) {
	for at := 0; at < len(b); {
		size := min(int(p.next()), len(b)-at)
		if size == 0 {
			break
		}
		part := b[at : at+size]
		pages.Enter(part)
		_ = unix.Madvise(part, unix.MADV_DONTNEED) // see enlarge
		at += size
	}
}

// late is what an arena that is in use has to do with those who made it ahead, and may be at work still.
type late struct {
	mu     sync.Mutex
	works  bool
	ranges []span // were punched meanwhile, and will never be used again
}

// span is a part of an arena.
type span struct{ offset, size int64 }

func (l *late) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.works = true
}

// punched notes a range that is about to be punched.
func (l *late) punched(offset, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.works {
		l.ranges = append(l.ranges, span{offset, size})
	}
}

// end says that nobody makes anything any more, and punches again what may have been made again.
func (l *late) end(fd int) {
	l.mu.Lock()
	ranges := l.ranges
	l.works, l.ranges = false, nil
	l.mu.Unlock()
	for _, s := range ranges {
		_ = punch(fd, s.offset, s.size)
	}
}
