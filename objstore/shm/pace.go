package shm

import "time"

// pace says how many bytes are made next; 0: no more are. It belongs to one thread.
type pace interface{ next() int64 }

// hasty is the pace of what somebody waits for.
type hasty int64

func (h hasty) next() int64 { return int64(h) }

const (
	leastStep  = 2 << 20 // that is made at a time while nobody waits for it,
	mostStep   = 16 << 20
	shortStep  = time.Millisecond       // and which is doubled if it takes less CPU than that,
	longStep   = 4 * time.Millisecond   // and halved if it takes more: on a virtual machine whose host has to give the memory 2 MiB take 11
	wantedTime = 200 * time.Microsecond // a thread that waits so long for a processor keeps others from it,
	wantedPart = 4                      // if that is this part of the time that it had
	restTimes  = 8                      // so many times as long it rests then, and twice as long as before,
	leastRest  = 10 * time.Millisecond  // at least,
	mostRest   = 250 * time.Millisecond // and at most
)

// gentle is the pace of what nobody waits for: small steps, and after each a look whether others wanted the processor. As long as they do, it rests.
//
// Threads of idle priority would not have to look. But one that gets no processor keeps what it has locked in the kernel, a page or the file, and who comes to wait for the
// arena then waits for that thread, whose priority can't be raised again (docs/adr/0057). This one has nothing locked while it rests, and gets processors as others do.
type gentle struct {
	over         <-chan struct{} // closed: no more
	step         int64
	rest         time.Duration
	used, waited time.Duration // of this thread, when the last step began
}

func (g *gentle) next() int64 {
	if g.step == 0 {
		g.step, g.rest = leastStep, mostRest // it is asked for when somebody begins to write a large value
	} else {
		g.look(spent()-g.used, delayed()-g.waited)
	}
	timer := time.NewTimer(g.rest)
	defer timer.Stop()
	select {
	case <-g.over:
		return 0
	default:
	}
	select {
	case <-g.over:
		return 0
	case <-timer.C:
	}
	g.used, g.waited = spent(), delayed()
	return g.step
}

// look learns from a step, which took so much CPU and waited so long for it.
func (g *gentle) look(took, waited time.Duration) {
	if waited > max(took/wantedPart, wantedTime) {
		g.rest = min(max(2*g.rest, restTimes*waited, leastRest), mostRest)
		g.step = leastStep
		return
	}
	if g.rest /= 8; g.rest < leastRest {
		g.rest = 0
	}
	switch {
	case took < shortStep && g.step < mostStep:
		g.step *= 2
	case took > longStep && g.step > leastStep:
		g.step /= 2
	}
}
