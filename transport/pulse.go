package transport

// PulseCore decides when a peer is silent. It is pure: its owner says what time it is. Silence is
// counted in ticks that were really made, so a process that was itself stopped or starved for a
// while does not find everybody else silent when it wakes (LIVE-1).
type PulseCore struct {
	Interval int64 // between ticks, as planned
	Deadline int64

	last    int64 // the tick before
	silence int64 // time since the peer's loop was last seen to turn
	loop    uint64
	heard   bool
	told    bool
}

// Begin starts the clock.
func (p *PulseCore) Begin(now int64) { p.last, p.silence = now, 0 }

// Heard takes a proof: the peer's loop has made so many turns. One that is not new proves nothing.
// A peer that started again counts from the beginning: its number comes with another agent number,
// and so with another PulseCore.
func (p *PulseCore) Heard(loop uint64) {
	if p.heard && loop <= p.loop {
		return
	}
	p.heard, p.loop, p.silence = true, loop, 0
}

// Tick is called every Interval; true, once, when the peer is silent. A tick that comes late counts
// for at most two intervals.
func (p *PulseCore) Tick(now int64) bool {
	passed := min(max(now-p.last, 0), 2*p.Interval)
	p.last = now
	p.silence += passed
	if p.told || p.silence < p.Deadline {
		return false
	}
	p.told = true
	return true
}
