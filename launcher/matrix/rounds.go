package matrix

import "time"

// Pair is two nodes, by their places.
type Pair struct{ A, B int }

// Round is pairs that are measured at the same time.
type Round []Pair

// Rounds plans who is measured with whom (MATRIX-1): a tournament in which each node meets one other in a round. hosts are where
// the nodes are: those of one host can't be measured at the same time, nor can the way between them beside others of it.
func Rounds(hosts []string) []Round {
	n := len(hosts)
	if n%2 == 1 {
		n++ // who meets the one that is not there rests
	}
	var out []Round
	for r := range max(n-1, 0) {
		rest := Round{}
		for i := range n / 2 { // the last stands still, the others turn around it
			a, b := (r+i)%(n-1), (r+n-1-i)%(n-1)
			if i == 0 {
				b = n - 1
			}
			if a < len(hosts) && b < len(hosts) {
				rest = append(rest, Pair{min(a, b), max(a, b)})
			}
		}
		for len(rest) > 0 { // of one round when each node has a host of its own
			var now, later Round
			busy := map[string]bool{}
			for _, p := range rest {
				if busy[hosts[p.A]] || busy[hosts[p.B]] {
					later = append(later, p)
					continue
				}
				busy[hosts[p.A]], busy[hosts[p.B]] = true, true
				now = append(now, p)
			}
			out, rest = append(out, now), later
		}
	}
	return out
}

const (
	shortest = 100 * time.Millisecond // a way is measured
	longest  = time.Second
	around   = 50 * time.Millisecond // that each measurement costs beside that
)

// Fit gives how many of the rounds go into a time, and how long each way is measured then. A round has two: there and back.
func Fit(rounds int, limit time.Duration) (some int, each time.Duration) {
	if rounds == 0 {
		return 0, 0
	}
	each = min(max(limit/time.Duration(2*rounds)-around, shortest), longest)
	return min(rounds, max(1, int(limit/(2*(each+around))))), each
}
