package gang

import (
	"sync"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// ID-2: a client mints no ID twice, not at the same time and not under the agent after its own, which may number it anew.
func TestIDsAreMintedOnce(t *testing.T) {
	a := newAgent(t)
	c := attachTo(t, a)
	var mu sync.Mutex
	counters := map[uint64]bool{}
	mint := func() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 100 {
					g := c.mint()
					mu.Lock()
					if counters[g.Counter] || g.IsZero() {
						t.Errorf("%v is minted again", g)
					}
					counters[g.Counter] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}
	mint()
	next[*fb.AttachT](a)
	a.crash(true)
	next[*fb.AttachT](a)
	mint()
}
