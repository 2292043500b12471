package client

import (
	"runtime"

	"github.com/maniple-hpc/maniple/objstore/client/pages"
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
				pages.Enter(d)
			}
			lo += copy(d, p[lo-at:])
		}
		at += len(p)
	}
}
