package work

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	chainLinks = 16                     // so many in a row are a chain
	chainWait  = 300 * time.Microsecond // from one to the next at most
	chainEnds  = 2                      // milliseconds without a word after which there is none any more
)

// chain tells when work goes from process to process one at a time: who speaks is who was spoken to last, and nobody
// else was. None of them needs a processor of its own then, and waking an idle one costs most of what a round trip
// does. So the thread that polls keeps to the processor where it is, and names it in what it sends: who waits for the
// next frame may wait there (docs/spec/wire.md, 11). What the processes do in between runs wherever the kernel likes.
type chain struct {
	told  atomic.Pointer[Conn] // since the last wait
	more  atomic.Bool          // and others
	place atomic.Uint32        // 1 + the processor that this thread keeps to; 0: none

	links int
	all   affinity // what it may use else
}

// spoke tells that something is sent to c. Any goroutine may.
func (ch *chain) spoke(c *Conn) {
	if before := ch.told.Swap(c); before != nil && before != c {
		ch.more.Store(true)
	}
}

// heard tells that c spoke, nil: several did, after a wait that long.
func (ch *chain) heard(c *Conn, waited time.Duration) {
	if ch.follows(c, waited) {
		ch.keep()
	} else {
		ch.release()
	}
}

// follows tells whether that is a chain by now.
func (ch *chain) follows(c *Conn, waited time.Duration) bool {
	told, more := ch.told.Swap(nil), ch.more.Swap(false)
	if c == nil || told != c || more || waited > chainWait {
		ch.links = 0
		return false
	}
	ch.links = min(ch.links+1, chainLinks)
	return ch.links == chainLinks
}

// keep has the thread stay where it is. Processes and threads that others start are not its children.
func (ch *chain) keep() {
	if ch.place.Load() != 0 {
		return
	}
	runtime.LockOSThread()
	processor, one := here(), affinity{}
	if ch.all.get() && ch.all.count() > 1 && one.add(processor) && one.set(ch.all.size) {
		ch.place.Store(processor + 1)
		return
	}
	runtime.UnlockOSThread()
	ch.links = 0
}

// release ends that.
func (ch *chain) release() {
	if ch.place.Swap(0) == 0 {
		return
	}
	if !ch.all.set(ch.all.size) { // none of them is left: the kernel takes of all what there is
		every := affinity{}
		for i := range every.bits {
			every.bits[i] = 0xff
		}
		every.set(ch.all.size)
	}
	runtime.UnlockOSThread()
}

// timeout is how long the next wait may take, in milliseconds; -1: for ever.
func (ch *chain) timeout() int {
	if ch.place.Load() != 0 {
		return chainEnds
	}
	return -1
}

// name writes the place into the header of a frame.
func (ch *chain) name(frame []byte) {
	if place := ch.place.Load(); place != 0 {
		binary.LittleEndian.PutUint32(frame[12:], place)
	}
}

// affinity is a set of processors, with room for those of any kernel.
type affinity struct {
	bits [1024]byte
	size uintptr // of what the kernel told
}

func (a *affinity) get() bool {
	n, _, e := unix.RawSyscall(unix.SYS_SCHED_GETAFFINITY, 0, uintptr(len(a.bits)), uintptr(unsafe.Pointer(&a.bits)))
	a.size = n
	return e == 0
}

func (a *affinity) set(size uintptr) bool {
	_, _, e := unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&a.bits)))
	return e == 0
}

// add: the bits are those of words of 64, little-endian as the processors that this runs on are.
func (a *affinity) add(processor uint32) bool {
	if int(processor/8) >= len(a.bits) {
		return false
	}
	a.bits[processor/8] |= 1 << (processor % 8)
	return true
}

func (a *affinity) count() int {
	n := 0
	for _, b := range a.bits[:a.size] {
		for ; b != 0; b &= b - 1 {
			n++
		}
	}
	return n
}

// here is the processor that this thread is on.
func here() uint32 {
	var processor uint32
	_, _, _ = unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&processor)), 0, 0)
	return processor
}
