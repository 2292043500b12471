package shm

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

// idle allocates an arena at idle priority, until hurry is closed: then what is left is done at once, beside the threads that began
// it, whose priority can't be raised without a privilege. Those work on a descriptor and a mapping of their own, so that nothing
// has to wait for them; and what was given back meanwhile the last one takes back, if they made it again too late (SHM-4).
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
	var hurried atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := inParts(a.size, func(from, to int64) error {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			// Where it is refused the work is done as any other. It is few calls, each long: a thread that waits for a CPU while it
			// runs Go code would hold up the garbage collector.
			_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
			if err := allocate(fd, b, from, to, atIdle, hurried.Load); err != nil {
				return err
			}
			clearPages(b[from:to], hurried.Load)
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
		hurried.Store(true)
		return os.ErrClosed
	case <-stop:
		hurried.Store(true)
		return ErrGivenUp
	case <-hurry:
		hurried.Store(true)
		return hasten(int(a.rw.Fd()), a.bytes)
	}
}

// clearPages has the small pages of a new arena cleared, which otherwise waits for whoever meets them first.
func clearPages(b []byte, stop func() bool) {
	for at := 0; at < len(b) && !stop(); at += step {
		part := b[at:min(at+step, len(b))]
		pages.Enter(part)
		_ = unix.Madvise(part, unix.MADV_DONTNEED) // see enlarge
	}
}

// late is what an arena that is in use has to do with those who made it at idle priority, and may be at work still.
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
