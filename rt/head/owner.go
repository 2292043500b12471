package head

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// tell sends the group's state to its owner and to whoever watches it.
func (c *Core) tell(g *group) {
	u := c.update(g)
	if m := c.state.byAgent[g.owner]; m != nil {
		c.send(g.owner, u)
	}
	for _, w := range g.run.watchers {
		if w != g.owner {
			c.send(w, u)
		}
	}
}

// update is what a client sees of its group.
func (c *Core) update(g *group) *fb.GroupUpdateT {
	u := &fb.GroupUpdateT{Group: wireTask(g.id), Phase: g.phase, Incarnation: g.incarnation}
	switch g.phase {
	case fb.GroupPhasePending:
		u.Explain = g.run.explain
	case fb.GroupPhaseEnded:
		u.End = g.end
		return u
	case fb.GroupPhaseStopping:
		u.Explain = "ending: " + g.end.Reason
	}
	if g.run.recall != fb.LeaseRecallNone {
		u.Recall, u.Explain = g.run.recall, g.run.recalledFor+" waits"
	}
	if g.phase == fb.GroupPhaseCreated || g.phase == fb.GroupPhaseStarting || g.phase == fb.GroupPhaseRunning {
		if g.port != 0 {
			u.Master = fmt.Sprintf("%s:%d", g.master, g.port)
		}
		for _, p := range g.places {
			u.Ranks = g.ranksOf(u.Ranks, p)
			u.Nodes = append(u.Nodes, c.peer(p.agent))
			if g.create.Program == nil { // whose bundles other agents may give tasks to
				u.Places = append(u.Places, &fb.RecPlaceT{Agent: uint32(p.agent), Node: p.node, Bundles: p.told()})
			}
		}
	}
	return u
}

// watch answers with the group's state now, and its changes later; late: nothing more is waited for. With Owner, the client that lost
// its agent claims its group.
func (c *Core) watch(m *member, w *fb.GroupWatchT, late bool) {
	c.idleSince = c.now
	task := taskOf(w.Group)
	g := c.state.byID[task]
	if g == nil && !late && task.Agent != m.number && c.state.byAgent[task.Agent] != nil && len(c.early) < maxEarly {
		c.early = append(c.early, earlyWatch{m.number, w, c.now + 2*linkGrace})
		c.timers.add(c.now+2*linkGrace, timerWatch, 0)
		return
	}
	if g == nil {
		c.send(m.number, &fb.GroupUpdateT{Group: w.Group, Phase: fb.GroupPhaseEnded, End: c.ending(codeTryAgain, causeLost,
			fmt.Sprintf("no group %v is known here; the ends of the last %d are", task, maxEnded))})
		return
	}
	if w.Owner && g.phase != fb.GroupPhaseEnded {
		process := id.Process(w.OwnerProcess)
		if g.owner != m.number || g.process != process {
			lost := c.state.byAgent[g.owner] == nil
			c.must(&fb.RecGroupOwnerT{Group: w.Group, Agent: uint32(m.number), Process: uint32(process)})
			if lost { // it could not be told then
				c.notice(fb.LevelWarning, "AGENT_RESTARTED", fmt.Sprintf("the agent of %s restarted; gang %s was not touched", m.node.name, g.title()), g)
			}
		}
		g.run.ownerDue = 0
		sink := c.peer(m.number)
		for _, p := range g.places {
			if p.ranks > 0 && !p.lost && g.master != "" {
				c.send(p.agent, &fb.RankSinkT{Group: w.Group, SinkAgent: uint32(m.number), SinkProcess: uint32(process), Sink: sink, Received: w.Received})
			}
		}
	} else if w.Owner {
		// It ended while its owner was away: what it printed last may wait at its agents.
		g.run.claim = &fb.RankSinkT{Group: w.Group, SinkAgent: uint32(m.number), SinkProcess: w.OwnerProcess, Sink: c.peer(m.number), Received: w.Received}
		for _, a := range g.last {
			c.send(a, g.run.claim)
		}
	} else if g.phase != fb.GroupPhaseEnded && g.owner != m.number && !slices.Contains(g.run.watchers, m.number) && len(g.run.watchers) < maxWatchers {
		g.run.watchers = append(g.run.watchers, m.number)
	}
	c.send(m.number, c.update(g))
}

const maxEarly = 10_000

// earlyWatch asks for a group that its maker's agent may have said is there: its word comes by another connection, which may
// be the slower one, or broken for a moment.
type earlyWatch struct {
	by  id.Agent
	m   *fb.GroupWatchT
	due int64 // wall: it is answered whatever is known
}

// watchEarly answers those who asked for a group that is there now, or have waited for long enough.
func (c *Core) watchEarly() {
	early := c.early
	c.early = nil
	for _, e := range early {
		switch m := c.state.byAgent[e.by]; {
		case m == nil:
		case c.now >= e.due || c.state.byID[taskOf(e.m.Group)] != nil:
			c.watch(m, e.m, true)
		default:
			c.early = append(c.early, e)
		}
	}
}

// sinks tells an agent where the output of its programs goes, as it may not know or be mistaken: it took
// over from another, of which it has what that one left behind; or it was away while an owner came back
// for the output of a gang that had ended. It comes before Registered, so that an agent which has that
// knows the sinks too, and needs not be told again.
func (c *Core) sinks(m *member, heir bool) {
	for _, g := range c.state.groups {
		p := g.placeAt(m.number)
		if !heir || p == nil || p.ranks == 0 || g.master == "" || c.state.byAgent[g.owner] == nil {
			continue // an owner that is away names its sink when it comes back
		}
		c.send(m.number, &fb.RankSinkT{Group: wireTask(g.id), SinkAgent: uint32(g.owner), SinkProcess: uint32(g.process), Sink: c.peer(g.owner)})
	}
	for _, g := range c.state.withOutput() {
		if g.run.claim != nil && slices.Contains(g.last, m.number) && c.state.byAgent[id.Agent(g.run.claim.SinkAgent)] != nil {
			c.send(m.number, g.run.claim)
		}
	}
}

// ownerLost gives a client that lost its agent time to claim its group.
func (c *Core) ownerLost(g *group) {
	g.run.ownerDue = c.now + ownerGrace
	c.timers.addGroup(g.run.ownerDue, g.id)
}

// cancel ends or signals a group on behalf of a client.
func (c *Core) cancel(q *fb.GroupCancelT) {
	if g := c.state.byID[taskOf(q.Group)]; g != nil && g.phase != fb.GroupPhaseEnded {
		c.cancelGroup(g, q)
	}
}

func (c *Core) cancelGroup(g *group, q *fb.GroupCancelT) {
	if q.Mode == fb.CancelModeSignal {
		c.signal(g, q.Signal)
		return
	}
	grace := q.Grace
	if q.Mode == fb.CancelModeDrain && grace <= 0 {
		grace = g.grace()
	}
	end := c.ending(codeCancelled, causeCancelled, q.Reason)
	if q.ExitCode != 0 {
		end.Code = q.ExitCode
	}
	if end.Reason == "" {
		end.Reason = "cancelled"
	}
	if g.phase != fb.GroupPhaseStopping {
		c.stop(g, end, max(0, grace))
		return
	}
	c.stopSooner(g, end, max(0, grace))
}

// stopSooner is for a gang that is ending already: it may have to end earlier, and is not started
// again. Why it ends stays, unless it was to start again.
func (c *Core) stopSooner(g *group, end *fb.GroupEndT, grace int64) {
	keep := *g.end
	if again, _ := c.restartsLeft(g, g.end.Cause); again {
		keep = *end
		keep.Wall = g.end.Wall
	}
	if due := c.now + grace; due < keep.Wall {
		keep.Wall = due
	}
	if keep == *g.end {
		return
	}
	sooner := keep.Wall < g.end.Wall
	if !c.phase(g, fb.GroupPhaseStopping, &keep) {
		return
	}
	for _, p := range g.places {
		if sooner {
			c.stopRanks(g, p)
		}
	}
	c.tell(g)
	c.advance(g)
}

// signal passes a signal to all ranks. Negative grace: no KILL follows.
func (c *Core) signal(g *group, signal int32) {
	if g.master == "" || signal <= 0 || signal > 64 {
		return
	}
	if signal == sigKILL {
		c.stop(g, c.ending(codeNodeLost, causeCancelled, "killed by a signal that was asked for"), 0)
		return
	}
	for _, p := range g.places {
		if !p.allDone(g) {
			c.send(p.agent, &fb.RankStopT{Group: wireTask(g.id), Incarnation: g.incarnation, Signal: signal, Grace: -1})
		}
	}
}

// grace is the program's time between TERM and KILL.
func (g *group) grace() int64 {
	if p := g.create.Program; p != nil && p.Grace > 0 {
		return p.Grace
	}
	return defaultGrace
}

// announce tells all clients of all agents, and keeps it for the log.
func (c *Core) announce(level fb.Level, code, text string) {
	n := c.logged(level, code, text, nil)
	for _, m := range c.state.members {
		if m.run.synced {
			c.send(m.number, n)
		}
	}
}

func (c *Core) logged(level fb.Level, code, text string, g *group) *fb.NoticeT {
	n := &fb.NoticeT{Level: level, Code: code, Text: text, Wall: c.now}
	if g != nil {
		n.Group = wireTask(g.id)
	}
	if len(c.notices) < maxNotices {
		c.notices = append(c.notices, n)
	} else {
		c.notices[c.noticesAt] = n
		c.noticesAt = (c.noticesAt + 1) % maxNotices
	}
	return n
}

// notice tells the owner of g, or the owners of all groups, and keeps it for the log.
func (c *Core) notice(level fb.Level, code, text string, g *group) {
	n := c.logged(level, code, text, g)
	if g != nil {
		if c.state.byAgent[g.owner] != nil {
			c.send(g.owner, n)
		}
		return
	}
	var told []id.Agent
	for _, g := range c.state.groups {
		if c.state.byAgent[g.owner] != nil && !slices.Contains(told, g.owner) {
			told = append(told, g.owner)
			c.send(g.owner, n)
		}
	}
}
