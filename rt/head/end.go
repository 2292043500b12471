package head

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Causes of a group's end (GroupEnd.cause).
const (
	causeOK         = "ok"
	causeRank       = "rank"
	causeNode       = "node"
	causeCancelled  = "cancelled"
	causeInfeasible = "infeasible"
	causeStart      = "start"
	causeDrained    = "drained"
	causePort       = "port"
	causeTimeout    = "timeout"
	causeLost       = "lost"
)

// Exit codes of ends that are not the program's own. See docs/spec/errors.md.
const (
	codeCannotCreate = 73
	codeTryAgain     = 75
	codeInfeasible   = 78
	codeNotExec      = 126
	codeNotFound     = 127
	codeNodeLost     = 137
	codeCancelled    = 143
)

// ending is an end that no rank caused.
func (c *Core) ending(code int32, cause, reason string) *fb.GroupEndT {
	return &fb.GroupEndT{Code: code, Cause: cause, Rank: -1, Reason: reason, Wall: c.now}
}

// drained is the end of a group that a drain of the cluster caused.
func (c *Core) drained(reason string) *fb.GroupEndT {
	e := c.ending(codeTryAgain, causeDrained, reason)
	if d := c.state.drain; d != nil && d.ExitCode != 0 {
		e.Code = d.ExitCode
	}
	return e
}

// lostEnd is the end of a group because a node is gone.
func (c *Core) lostEnd(g *group, node, why string) *fb.GroupEndT {
	e := c.ending(codeNodeLost, causeNode, node+" died")
	e.Node = node
	if why != "" {
		e.Reason += ": " + why
	}
	return e
}

// restartsLeft tells whether an end of this cause is followed by another incarnation, and whether
// it is counted. Nobody's program is started again unless its user asked for restarts, but for the
// port, which is our own affair.
func (c *Core) restartsLeft(g *group, cause string) (again, counted bool) {
	if c.state.drain != nil || c.short != "" {
		return false, false
	}
	free := g.incarnation - 1 - g.restarts
	if g.portFree {
		free--
	}
	switch cause {
	case causeRank:
		return g.create.MaxRestarts < 0 || int64(g.restarts) < int64(g.create.MaxRestarts), true
	case causeNode:
		return g.create.MaxRestarts != 0 && free < maxLosses, false
	case causePort:
		return !g.portFree, false
	}
	return false, false
}

// finish is the last step of an incarnation: nothing of it runs any more. Either it begins again or
// the group has ended.
func (c *Core) finish(g *group, end *fb.GroupEndT) {
	again, counted := c.restartsLeft(g, end.Cause)
	c.conclude(g, end, again, counted)
}

func (c *Core) conclude(g *group, end *fb.GroupEndT, again, counted bool) {
	var tell []Effect
	for _, p := range g.places {
		if !p.lost {
			tell = append(tell, Send{Agent: p.agent, Msg: &fb.BundleReleaseT{Group: wireTask(g.id), Incarnation: g.incarnation}})
		}
	}
	final := *end
	final.Wall, final.Restarts = c.now, g.incarnation-1
	if (end.Cause == causeCancelled || end.Cause == causeDrained) && len(g.ranks) > 0 && g.allZero() {
		final.Code = 0
	}
	held := len(g.places) > 0
	rec := &fb.RecGroupStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Restarts: g.restarts, PortFree: g.portFree, Wall: c.now}
	if again {
		rec.Phase, rec.Incarnation = fb.GroupPhasePending, g.incarnation+1
		rec.PortFree = g.portFree || end.Cause == causePort
		if counted {
			rec.Restarts++
		}
	} else {
		rec.Phase, rec.End = fb.GroupPhaseEnded, &final
		for _, p := range g.places {
			if p.ranks > 0 && !p.lost {
				rec.Holders = append(rec.Holders, uint32(p.agent))
			}
		}
	}
	if !c.must(rec) {
		return
	}
	c.out = append(c.out, tell...)
	watchers := g.run.watchers
	request, ownerDue := g.run.request, g.run.ownerDue
	g.run = groupRun{request: request, watchers: watchers, ownerDue: ownerDue}
	if held {
		c.changed()
	}
	c.dirty = true
	if again {
		c.waitTimer(g)
		c.restartNotice(g, end)
		c.tell(g)
		return
	}
	c.tell(g)
	g.run = groupRun{}
	c.idleSince = c.now
	for len(c.state.ended) > maxEnded {
		if !c.must(&fb.RecGroupGoneT{Group: wireTask(c.state.ended[0].id)}) {
			break
		}
	}
}

func (c *Core) restartNotice(g *group, end *fb.GroupEndT) {
	switch {
	case end.Cause == causePort:
		c.notice(fb.LevelWarning, "MASTER_PORT_NOT_REUSABLE", fmt.Sprintf(
			"gang %s starts again with another MASTER_PORT, free by then and not held: %s", g.title(), end.Reason), g)
	case end.Cause == causeNode:
		c.notice(fb.LevelWarning, "GANG_RESTARTED", fmt.Sprintf("gang %s starts again (a lost node doesn't count as a restart): %s", g.title(), end.Reason), g)
	case g.create.MaxRestarts < 0:
		c.notice(fb.LevelWarning, "GANG_RESTARTED", fmt.Sprintf("gang %s starts again (restart %d): %s", g.title(), g.restarts, end.Reason), g)
	default:
		c.notice(fb.LevelWarning, "GANG_RESTARTED", fmt.Sprintf("gang %s starts again (restart %d of %d): %s", g.title(), g.restarts, g.create.MaxRestarts, end.Reason), g)
	}
}
