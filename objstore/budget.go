package objstore

import "fmt"

// Account names what memory is used for.
type Account uint8

const (
	Arenas  Account = iota // shared memory, whether objects fill it or not
	Inline                 // values kept as bytes, InlineCost included
	Specs                  // specs of tasks that have not ended
	Queues                 // what waits in sockets' queues
	Lineage                // how to make objects again
	accounts
)

func (a Account) String() string {
	names := [...]string{"arenas", "inline values", "task specs", "socket queues", "lineage"}
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("account %d", uint8(a))
}

// budget is one limit over all accounts.
type budget struct {
	limit int64
	total int64
	used  [accounts]int64
}

func (b *budget) room() int64 { return b.limit - b.total }

func (b *budget) take(a Account, n int64) bool {
	if n < 0 || n > b.room() {
		return false
	}
	b.used[a] += n
	b.total += n
	return true
}

func (b *budget) give(a Account, n int64) {
	b.used[a] -= n
	b.total -= n
}

// Used gives what an account holds.
func (s *Store) Used(a Account) int64 {
	if a >= accounts {
		return 0
	}
	return s.budget.used[a]
}

// Total gives what all accounts hold, which is at most Budget.
func (s *Store) Total() int64 { return s.budget.total }

// Charge takes n bytes for an account whose memory others manage: Specs, Queues or Lineage. It makes
// room as a put does, but does not wait: the error is a *FullError.
func (s *Store) Charge(now int64, a Account, n int64, out []Effect) ([]Effect, error) {
	if a <= Inline || a >= accounts || n < 0 {
		return out, fmt.Errorf("objstore: charge %d bytes to %s: %w", n, a, ErrForbidden)
	}
	out = s.makeRoom(now, n, out)
	if !s.budget.take(a, n) {
		return out, &FullError{Size: n, Never: n > s.budget.limit, Holders: s.Explain().Text()}
	}
	return out, nil
}

// Refund gives back what Charge took.
func (s *Store) Refund(now int64, a Account, n int64, out []Effect) ([]Effect, error) {
	if a <= Inline || a >= accounts || n < 0 || n > s.budget.used[a] {
		return out, fmt.Errorf("objstore: refund %d bytes to %s: %w", n, a, ErrForbidden)
	}
	s.budget.give(a, n)
	return s.serve(now, out), nil
}
