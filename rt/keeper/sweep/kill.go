package sweep

import (
	"time"

	"golang.org/x/sys/unix"
)

// Kill sends KILL to targets. Process groups that consist of targets only, judged by `all`, are killed
// as groups: there the kernel lets no fork slip through. The last failure is returned; a target that is
// gone is none.
func Kill(targets, all []Process) (failed error) {
	mixed := map[int]bool{0: true, 1: true, unix.Getpgrp(): true}
	mine := make(map[int]bool, len(targets))
	for _, p := range targets {
		mine[p.PID] = true
	}
	for _, p := range all {
		if !mine[p.PID] && !p.Dead() {
			mixed[p.Group] = true
		}
	}
	for _, p := range targets {
		if p.Dead() || mixed[p.Group] {
			continue
		}
		mixed[p.Group] = true // once is enough
		if q, err := Read(p.PID); err == nil && q.Same(p) && q.Group == p.Group {
			_ = unix.Kill(-p.Group, unix.SIGKILL) // what it could not reach is met again below
		}
	}
	for _, p := range targets {
		if p.Dead() {
			continue
		}
		if err := p.Signal(unix.SIGKILL); err != nil {
			failed = err
		}
	}
	return failed
}

// Closure adds to the processes of which `pick` is true all that descend from them. Those of which
// `skip` is true are left out, with what descends from them.
func Closure(all []Process, pick, skip func(Process) bool) []Process {
	below := make(map[int][]Process)
	for _, p := range all {
		below[p.Parent] = append(below[p.Parent], p)
	}
	var found []Process
	taken := make(map[int]bool)
	var take func(p Process)
	take = func(p Process) {
		if taken[p.PID] || skip(p) {
			return
		}
		taken[p.PID] = true
		found = append(found, p)
		for _, child := range below[p.PID] {
			take(child)
		}
	}
	for _, p := range all {
		if pick(p) {
			take(p)
		}
	}
	return found
}

// Effort bounds killing. It is over when nothing has ended for as long as Patience says: as long as it
// helps it goes on, however many there are and however long it takes to look at them.
type Effort struct {
	Patience time.Duration
	fewest   int // that were ever left
	until    time.Time
}

// Over is asked after each round, with how many are left.
func (e *Effort) Over(now time.Time, left int) bool {
	if e.until.IsZero() || left < e.fewest {
		e.fewest, e.until = left, now.Add(e.Patience)
	}
	return now.After(e.until)
}
