package shm

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who makes what nobody waits for takes larger steps while the processor is its own, and rests the longer the more often others want it.
func TestGentle(t *testing.T) {
	const ms = time.Millisecond
	g := gentle{step: leastStep}
	for i, x := range []struct {
		took, waited time.Duration
		step         int64
		rest         time.Duration
	}{
		{took: ms / 5, step: 2 * leastStep},
		{took: ms / 2, waited: ms / 10, step: 4 * leastStep}, // as it is, on a machine where others have something to do now and then
		{took: 2 * ms, step: 4 * leastStep},
		{took: 40 * ms, waited: 9 * ms, step: 2 * leastStep}, // no part of it to speak of
		{took: 2 * ms, waited: 3 * ms, step: leastStep, rest: 24 * ms},
		{took: 1 * ms, waited: ms, step: leastStep, rest: 48 * ms},
		{took: 1 * ms, waited: 400 * ms, step: leastStep, rest: mostRest},
		{took: 2 * ms, step: leastStep, rest: mostRest / 8},
		{took: 2 * ms, step: leastStep},
		{took: ms / 100, waited: ms / 4, step: leastStep, rest: leastRest},
		{took: ms / 100, step: 2 * leastStep},
		{took: ms / 100, step: 4 * leastStep},
		{took: ms / 100, step: mostStep},
		{took: ms / 100, step: mostStep},
	} {
		g.look(x.took, x.waited)
		if g.step != x.step || g.rest != x.rest {
			t.Errorf("%d, after %v of CPU and %v without one: steps of %d and %v between them", i, x.took, x.waited, g.step, g.rest)
		}
	}
}

// It has rested before it goes on, and does not once somebody waits.
func TestGentleRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		g := gentle{over: over}
		began := time.Now()
		if step := g.next(); step != leastStep || time.Since(began) != mostRest {
			t.Errorf("the first step is of %d bytes, after %v", step, time.Since(began))
		}
		g.waited = delayed() - time.Hour // since when it has waited for an hour
		began = time.Now()
		if step := g.next(); step != leastStep || time.Since(began) != mostRest {
			t.Errorf("one that had to wait is followed by %d bytes, after %v", step, time.Since(began))
		}
		time.AfterFunc(mostRest/8, func() { close(over) })
		g.waited = delayed() - time.Hour
		began = time.Now()
		if step := g.next(); step != 0 || time.Since(began) != mostRest/8 {
			t.Errorf("when somebody waits %d bytes follow, after %v", step, time.Since(began))
		}
	})
}
