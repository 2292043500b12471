package session

import (
	"context"
	"sync"
)

// credits are bytes and records that the agent has granted and that are not spent. A message that is larger
// than seven eighths of the grant may go when so much is there: the agent gives back in eighths.
type credits struct {
	mu      sync.Mutex
	bytes   int64
	records int64
	enough  int64
	waiting []chan struct{}
	closed  bool
}

func (c *credits) init(bytes uint64, records uint32) {
	c.bytes, c.records = int64(bytes), int64(records)
	c.enough = c.bytes - c.bytes/8
}

// take spends one record and size bytes. Without enough of them it gives a channel that is closed when to try again.
func (c *credits) take(size int) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.records > 0 && c.bytes >= min(int64(size), c.enough) {
		c.records--
		c.bytes -= int64(size)
		return nil
	}
	ch := make(chan struct{})
	c.waiting = append(c.waiting, ch)
	return ch
}

func (c *credits) grant(bytes uint64, records uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += int64(bytes)
	c.records += int64(records)
	c.wake()
}

// close lets everybody go on, into the error of the session.
func (c *credits) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.wake()
}

func (c *credits) wake() {
	for _, ch := range c.waiting {
		close(ch)
	}
	c.waiting = nil
}

// spend takes credit, and waits for it if it must (SES-3). A task frees its CPU meanwhile: those that would give
// credit back may need it.
func (s *Session) spend(ctx context.Context, size int) error {
	ch := s.credits.take(size)
	if ch != nil {
		defer s.unblock(s.block(ctx, nil, 0))
	}
	for ; ch != nil; ch = s.credits.take(size) {
		s.Flush()
		select {
		case <-ch:
		case <-ctx.Done():
			return &Fault{Code: "TIMEOUT", Message: "waited for credit to submit more: " + ctx.Err().Error(), Err: ctx.Err()}
		}
	}
	return s.Err()
}
