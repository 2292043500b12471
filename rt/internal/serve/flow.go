package serve

import (
	"context"

	"github.com/maniple-hpc/maniple/rt/internal/session"
)

// flow is what a job has given of a stream that its reader has not taken. There may be so many items, and so many bytes of them, but always
// one item. The session's lock guards it.
type flow struct {
	items  uint64 // 0: any number
	bytes  uint64 // 0: any number
	costs  []uint64
	weight uint64 // of costs
	given  uint64
	taken  uint64
	wanted uint64        // all before this was taken, as the reader says: it may have been given by an attempt before, or a moment ago
	gate   chan struct{} // closed when the reader has gone on; nil: nobody waits
}

// gave notes an item of so many bytes.
func (f *flow) gave(size int) {
	cost := uint64(size) + session.ItemCost
	f.given++
	f.costs = append(f.costs, cost)
	f.weight += cost
	f.settle()
}

// readerAt notes how far the reader is.
func (f *flow) readerAt(index uint32) {
	f.wanted = max(f.wanted, uint64(index))
	f.settle()
	if f.gate != nil {
		close(f.gate)
		f.gate = nil
	}
}

func (f *flow) settle() {
	for f.taken < min(f.wanted, f.given) {
		f.weight -= f.costs[0]
		f.costs = f.costs[1:]
		f.taken++
	}
}

// held tells whether the next item, which is taken to be as large as the last, has to wait.
func (f *flow) held() bool {
	n := len(f.costs)
	return n > 0 && (f.items > 0 && uint64(n) >= f.items || f.bytes > 0 && f.weight+f.costs[n-1] > f.bytes)
}

// turn waits until the next item of a stream may be made. Its task's CPU is free meanwhile: the reader may need it.
func (w *worker) turn(ctx context.Context, j *job) error {
	w.s.Lock()
	defer w.s.Unlock()
	if !j.flow.held() {
		return ctx.Err()
	}
	w.s.Unlock()
	goesOn := w.s.AwaitReader(&j.task)
	defer goesOn()
	w.s.Lock()
	for j.flow.held() && ctx.Err() == nil {
		gate := make(chan struct{})
		j.flow.gate = gate
		w.s.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		w.s.Lock()
	}
	return ctx.Err()
}
