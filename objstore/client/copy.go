package client

import "runtime"

const (
	// shareFrom is the size from which two threads copy faster than one (measured; at 1 MiB one is faster).
	shareFrom = 8 << 20
	// piece is how much is copied at a time, so that the garbage collector does not wait long for the thread.
	piece = 4 << 20
)

// copyParts fills dst, which is as long as all parts together.
func copyParts(dst []byte, parts [][]byte) {
	if len(dst) < shareFrom || runtime.GOMAXPROCS(0) < 2 {
		copyRange(dst, parts, 0, len(dst))
		return
	}
	half := len(dst) / 2 / align * align
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyRange(dst, parts, half, len(dst))
	}()
	copyRange(dst, parts, 0, half)
	<-done
}

// copyRange fills [from, to) of dst.
func copyRange(dst []byte, parts [][]byte, from, to int) {
	at := 0 // where the part begins
	for _, p := range parts {
		for lo, hi := max(from, at), min(to, at+len(p)); lo < hi; {
			lo += copy(dst[lo:min(hi, lo+piece)], p[lo-at:])
		}
		at += len(p)
	}
}
