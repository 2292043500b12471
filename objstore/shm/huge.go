package shm

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

const (
	// stride is how much is made huge at once; a power of two, and no less than a huge page. For each the kernel asks all CPUs for
	// pages that they have put aside, which takes milliseconds.
	stride = 256 << 20
	// slow is how much CPU a stride may take, and stuck how long it may take beside waiting for a CPU. It takes 20 ms, or 500 to 1,500 on a virtual
	// machine that never had that memory from its host, which small pages would take as well. Where memory is in pieces the kernel moves other
	// pages first, and small ones are sooner there.
	slow, stuck = 3 * time.Second, 6 * time.Second
)

// enlarge makes huge pages of [from, to) of a new arena as far as the kernel has any. What it can't is left to fallocate: a huge page that
// a control group has no room for is refused, where a small one would have the kernel end a process. It writes nothing: who makes an arena ahead
// may come to run again when it is in use.
func enlarge(mapped []byte, from, to int64, p pace) {
	huge := pages.Huge()
	if huge == 0 || huge > stride {
		return
	}
	runtime.LockOSThread() // whose CPU counts
	defer runtime.UnlockOSThread()
	small, last := int64(os.Getpagesize()), to/huge*huge
steps:
	for at, end := (from+huge-1)/huge*huge, int64(0); at < last; at = end {
		step := p.next()
		if step == 0 {
			break
		}
		end = min(at+max(step, huge), last)
		for first := at; first < end; first += huge { // a huge page is made of a small one
			if unix.Madvise(mapped[first:first+small], unix.MADV_POPULATE_READ) != nil {
				break steps
			}
		}
		began, used, queued := time.Now(), spent(), delayed()
		err := unix.Madvise(mapped[at:end], unix.MADV_COLLAPSE)
		if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EINVAL) || spent()-used > slow || time.Since(began)-(delayed()-queued) > stuck {
			break // else one of them was busy, at most
		}
	}
	// The agent maps what it reads. Where memory is counted for each process that maps it, this would count.
	_ = unix.Madvise(mapped[from:to], unix.MADV_DONTNEED)
}

// spent is the CPU time of this thread.
func spent() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// delayed is how long this thread could have run and had no CPU, where the kernel counts that. On a busy machine that is most of the time.
func delayed() (d time.Duration) {
	b, err := os.ReadFile("/proc/thread-self/schedstat") // nanoseconds on a CPU, and waiting for one, and the number of slices
	if fields := bytes.Fields(b); err == nil && len(fields) > 1 {
		n, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		d = time.Duration(n)
	}
	return d
}
