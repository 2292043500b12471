package head

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// drain begins the end of the cluster: the only way down. Asked again it can only be sooner.
func (c *Core) drain(d *fb.DrainT) {
	rec := &fb.RecDrainT{Deadline: d.Deadline, Reason: d.Reason, ExitCode: d.ExitCode, Now: d.Now, Wall: c.now}
	switch {
	case d.Now:
		rec.Deadline = c.now
	case rec.Deadline == 0:
		rec.Deadline = c.now + c.cfg.grace()
	}
	if rec.Reason == "" {
		rec.Reason = "asked to"
	}
	if old := c.state.drain; old != nil {
		if rec.Deadline > old.Deadline-sameDrain && (!rec.Now || old.Now) {
			return
		}
		rec.Reason = old.Reason // the first one is why
		if old.ExitCode != 0 {
			rec.ExitCode = old.ExitCode
		}
	}
	if !c.must(rec) {
		return
	}
	c.timers.add(rec.Deadline, timerDrain, 0)
	c.timers.add(rec.Deadline+overdueGrace, timerDrain, 0)
	text := fmt.Sprintf("shutting down now: %s", rec.Reason)
	if !rec.Now {
		text = fmt.Sprintf("shutting down within %v: %s", time.Duration(rec.Deadline-c.now).Round(time.Second), rec.Reason)
	}
	c.announce(fb.LevelWarning, "DRAIN", text)
	for _, g := range slices.Clone(c.state.groups) {
		c.drainGroup(g)
	}
}

func (c *Core) drainGroup(g *group) {
	d := c.state.drain
	end := c.drained("the cluster is shutting down: " + d.Reason)
	grace := max(0, d.Deadline-c.now)
	switch {
	case g.phase == fb.GroupPhaseEnded:
	case g.phase == fb.GroupPhaseStopping:
		c.stopSooner(g, end, grace)
	default:
		c.stop(g, end, grace)
	}
}

// drainOn goes on with a drain: when nothing runs any more, or its time is over, the agents go.
func (c *Core) drainOn() {
	d := c.state.drain
	if c.leaving {
		return
	}
	for _, g := range slices.Clone(c.state.groups) {
		switch {
		case g.phase != fb.GroupPhaseStopping: // it began just now, or the head restarted in between
			c.drainGroup(g)
		case c.now >= d.Deadline+overdueGrace:
			end := *g.end
			end.Reason = fmt.Sprintf("%s; %s did not end in time", end.Reason, c.unfinished(g))
			c.finish(g, &end)
		}
	}
	if len(c.state.groups) > 0 {
		return
	}
	c.leave(&fb.DrainT{Deadline: c.now, Reason: d.Reason, ExitCode: d.ExitCode, Now: true})
}

// leave tells the agents to go, and gives them a moment to say goodbye.
func (c *Core) leave(d *fb.DrainT) {
	c.leaving = true
	for _, m := range c.state.members {
		if m.run.linked {
			c.send(m.number, d)
		}
	}
	c.timers.add(c.now+leaveGrace, timerLeave, 0)
	c.leaveIfAlone()
}

func (c *Core) leaveIfAlone() {
	for _, m := range c.state.members {
		if m.run.linked {
			return
		}
	}
	if c.leaving {
		c.exit()
	}
}

func (c *Core) exit() {
	if c.exited {
		return
	}
	c.exited = true
	e := Exit{}
	if d := c.state.drain; d != nil {
		e.Code, e.Reason = d.ExitCode, d.Reason
	}
	if c.full {
		e.Code, e.Reason = codeCannotCreate, c.short
	}
	c.out = append(c.out, e)
}

// runShort is for a disk that runs out.
func (c *Core) runShort(reason string) {
	switch {
	case reason != "" && c.short == "":
		c.announce(fb.LevelError, "JOURNAL_SHORT", "nothing new can begin, what runs goes on: "+reason)
	case reason == "" && c.short != "":
		c.announce(fb.LevelInfo, "JOURNAL_ROOM", "there is room for the head's journal again")
		c.changed()
	}
	c.short = reason
}

// runFull is for a disk that has run out: no change can be written down, so none may be made. The
// agents end what runs, and the head goes.
func (c *Core) runFull(reason string) {
	if c.full {
		return
	}
	c.full, c.short = true, reason
	c.announce(fb.LevelError, "JOURNAL_FULL", "shutting down: "+reason)
	c.leave(&fb.DrainT{Deadline: c.now, Reason: reason, ExitCode: codeCannotCreate, Now: true})
}

// idleDue drains a cluster that nobody used for Config.Idle.
func (c *Core) idleDue() {
	due := c.idleSince + int64(c.cfg.Idle)
	if len(c.state.groups) > 0 {
		due = c.now + int64(c.cfg.Idle) // looked at again; a group's end sets idleSince
	}
	if c.now < due {
		c.timers.add(due, timerIdle, 0)
		return
	}
	if c.state.drain == nil {
		c.drain(&fb.DrainT{Reason: fmt.Sprintf("idle for %v", c.cfg.Idle)})
	}
}
