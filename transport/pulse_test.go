package transport

import "testing"

// TestPulse plays ticks of 500 ms against a deadline of 5 s; times in ms.
func TestPulse(t *testing.T) {
	run := func(until int64, tick func(now int64, p *PulseCore) int64) (silentAt int64) {
		p := &PulseCore{Interval: 500, Deadline: 5000}
		p.Begin(0)
		p.Heard(1)
		for now := int64(500); now <= until; now = tick(now, p) {
			if p.Tick(now) {
				return now
			}
		}
		return -1
	}
	loop := uint64(1)
	cases := []struct {
		name   string
		until  int64
		tick   func(now int64, p *PulseCore) int64
		silent int64
	}{
		{"a peer that turns", 60000, func(now int64, p *PulseCore) int64 { loop++; p.Heard(loop); return now + 500 }, -1},
		{"a peer that is gone", 60000, func(now int64, p *PulseCore) int64 { return now + 500 }, 5000},
		{"a peer whose helper answers but whose loop stands still", 60000, func(now int64, p *PulseCore) int64 { p.Heard(loop); return now + 500 }, 5500},
		{"a peer that was stopped for a second, every two", 60000, func(now int64, p *PulseCore) int64 {
			if now%3000 > 1000 {
				loop++
				p.Heard(loop)
			}
			return now + 500
		}, -1},
		{"this process was stopped for a minute", 130000, func(now int64, p *PulseCore) int64 {
			loop++
			p.Heard(loop)
			if now == 10000 {
				return now + 60000
			}
			return now + 500
		}, -1},
		{"both were stopped, the peer for longer", 130000, func(now int64, p *PulseCore) int64 {
			if now == 1000 {
				return now + 60000
			}
			return now + 500
		}, 64000}, // the minute counts for two intervals
	}
	for _, c := range cases {
		if got := run(c.until, c.tick); got != c.silent {
			t.Errorf("LIVE-1: %s: silent at %d, want %d", c.name, got, c.silent)
		}
	}
}
