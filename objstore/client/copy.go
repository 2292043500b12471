package client

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// shareFrom is the size from which two threads copy faster than one (measured; at 1 MiB one is faster).
	shareFrom = 8 << 20
	// piece is how much is copied at a time, so that the garbage collector does not wait long for the thread.
	piece = 4 << 20
)

// copyParts fills dst, which is as long as all parts together and of a slab.
func copyParts(dst []byte, parts [][]byte, cold bool) {
	if len(dst) < shareFrom || runtime.GOMAXPROCS(0) < 2 {
		copyRange(dst, parts, 0, len(dst), cold)
		return
	}
	half := len(dst) / 2 / align * align
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyRange(dst, parts, half, len(dst), cold)
	}()
	copyRange(dst, parts, 0, half, cold)
	<-done
}

// copyRange fills [from, to) of dst.
func copyRange(dst []byte, parts [][]byte, from, to int, cold bool) {
	at := 0 // where the part begins
	for _, p := range parts {
		for lo, hi := max(from, at), min(to, at+len(p)); lo < hi; {
			d := dst[lo:min(hi, lo+piece)]
			if cold {
				populate(d)
			}
			lo += copy(d, p[lo-at:])
		}
		at += len(p)
	}
}

// populate enters the pages of b in the page table, which takes a fraction of what as many faults take. Kernels
// before 5.14 don't know how to; there the faults come.
func populate(b []byte) {
	page := uintptr(os.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	before := at % page // of the mapping, too: slabs begin at pages
	unix.Madvise(unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -int(before))), len(b)+int(before)), unix.MADV_POPULATE_WRITE)
}
