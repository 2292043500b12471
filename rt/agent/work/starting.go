package work

import "fmt"

// newcomer gives one of its workers that start; nil: there is none.
func (cl *class) newcomer() *worker {
	for _, w := range cl.leased {
		if w.process == nil {
			return w
		}
	}
	return nil
}

// Wanted tells whether something waits for a worker that was asked for and is not there.
func (c *Core) Wanted(key uint64) bool {
	w := c.workerOf(key)
	return w != nil && w.killed == "" && (w.actor != nil || w.class != nil && w.class.queue.n > 0)
}

// starts says that a worker is not there yet.
func (w *worker) starts() string {
	if w == nil || w.slow == "" {
		return "its worker, which starts"
	}
	return "its worker, which starts: " + w.slow
}

// unstarted says that workers before the next one did not start.
func (cl *class) unstarted() string {
	if cl.failed == 0 {
		return ""
	}
	return fmt.Sprintf("; %d before it did not start: %s", cl.failed, cl.why)
}
