package agent

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// A small heap may grow to some times of itself: an agent stays small, and does not collect every two megabytes of what
	// it allocates for groups and nodes.
	smallPercent = 200
	smallHeap    = 8 << 20
	heapPercent  = 50
	largeHeap    = 64 << 20
	// What a large heap may grow by before it is collected: a core at work makes no garbage, so collections are as rare, and
	// a million results that a driver holds take what they take and not a quarter as much again.
	largePercent = 8
)

// thrift has the collector leave little room beside a large heap. It looks after each collection.
func thrift() {
	percent := smallPercent
	debug.SetGCPercent(percent)
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	var watch func(struct{})
	watch = func(struct{}) {
		metrics.Read(live)
		want := heapPercent
		switch size := live[0].Value.Uint64(); {
		case size < smallHeap:
			want = smallPercent
		case size > largeHeap:
			want = largePercent
		}
		if want != percent {
			percent = want
			debug.SetGCPercent(percent)
		}
		runtime.AddCleanup(new([64]byte), watch, struct{}{})
	}
	watch(struct{}{})
}
