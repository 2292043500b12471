package agent

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// A large heap is collected before it is half as large again; a small one is left alone as before.
func TestLargeHeapIsCollectedSooner(t *testing.T) {
	thrift()
	percent := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	becomes := func(want uint64) {
		t.Helper()
		for range 1000 {
			if runtime.GC(); percent() == want {
				return
			}
		}
		t.Errorf("the percentage is %d, not %d", percent(), want)
	}
	becomes(smallPercent)
	large := make([]byte, 2*largeHeap)
	becomes(largePercent)
	runtime.KeepAlive(large)
	medium := make([]byte, 2*smallHeap)
	becomes(heapPercent)
	runtime.KeepAlive(medium)
	becomes(smallPercent)
}
