package shm

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
)

const (
	// stride is how much is made huge at once; a power of two, and no less than a huge page.
	stride = 64 << 20
	// slow is how long a stride may take. It takes 5 ms; where memory is in pieces the kernel moves other pages first,
	// and small ones are sooner there.
	slow = 100 * time.Millisecond
)

// enlarge makes huge pages of a new arena as far as the kernel has any. What it can't is left to fallocate: a huge page that
// a control group has no room for is refused, where a small one would have the kernel end a process.
func enlarge(fd int, mapped []byte) {
	huge := pages.Huge()
	if huge == 0 || huge > stride {
		return
	}
	last := int64(len(mapped)) / huge * huge
	for at := int64(0); at < last; at += stride {
		end := min(at+stride, last)
		for first := at; first < end; first += huge { // a huge page is made of a small one
			if _, err := unix.Pwrite(fd, []byte{0}, first); err != nil {
				return
			}
		}
		began := time.Now()
		err := unix.Madvise(mapped[at:end], unix.MADV_COLLAPSE)
		if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EINVAL) || time.Since(began) > slow {
			break // else one of them was busy, at most
		}
	}
	// The agent maps what it reads. Where memory is counted for each process that maps it, this would count.
	_ = unix.Madvise(mapped, unix.MADV_DONTNEED)
}
