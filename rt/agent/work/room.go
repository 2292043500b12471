package work

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A task of no group that another node may have room for waits for room anywhere: what is free at a node may be lent to it, and what is used there comes
// free when that ends. So it goes on when there is room at any node, and there is none at one as long as tasks that wait keep so much of something that too
// little is left. What is kept at a node its own agent knows, whoever has it by a lease. A lease goes back as a whole, so one on which anything waits keeps all that it has from
// other agents than its own. What belongs to a placement group comes free with that alone, and counts as if it might at any time. Which nodes there are the head knows
// (WORK-13, docs/adr/0045).

// roomOf is who needs what that waiting does not free: an agent, and then amounts and names, by lines; "": nothing, or it can't be said.
func (c *Core) roomOf(d *demand) string {
	var lines []string
	for _, p := range d.parts {
		if p.resource == resCPU {
			continue
		}
		if strings.Contains(c.names[p.resource], "\n") {
			return ""
		}
		lines = append(lines, fmt.Sprint(p.amount, " ", c.names[p.resource]))
	}
	if len(lines) == 0 {
		return ""
	}
	slices.Sort(lines)
	return fmt.Sprint(c.cfg.Agent, "\n", strings.Join(lines, "\n"))
}

// waitsForAny: a task goes on when there is room for it at any node.
func (c *Core) waitsForAny(k *stop, t *task) bool {
	room := c.roomOf(&t.class.need)
	if t.class.group != (id.Task{}) || room == "" {
		return false
	}
	k.to = []spot{{room: room}}
	if !slices.ContainsFunc(t.class.need.parts, func(p part) bool { return c.has(p.resource) < p.amount }) {
		k.to = append(k.to, spot{agent: c.cfg.Agent, room: room}) // the last one is looked at first, and needs no question
	}
	return true
}

// has is how much this node has in all of a resource.
func (c *Core) has(resource int) int64 {
	for _, g := range c.grants {
		if g.group == (id.Task{}) {
			return get(g.node, resource)
		}
	}
	return 0
}

// roomAt: there is room at this node when one of those goes on that keep something of it. false: there may be some already.
func (c *Core) roomAt(k *stop) bool {
	k.name = c.cfg.Node
	number, lines, _ := strings.Cut(k.room, "\n")
	of, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return false
	}
	for line := range strings.SplitSeq(lines, "\n") {
		text, name, _ := strings.Cut(line, " ")
		amount, err := strconv.ParseInt(text, 10, 64)
		i := slices.Index(c.names, name)
		if err != nil || i < 0 || c.has(i) < amount { // the head knows of more than this agent
			return false
		}
		if kept, by := c.keptOf(i, id.Agent(of)); i != resCPU && c.has(i)-kept < amount {
			k.to = by
			return true
		}
	}
	return false
}

// keptOf is how much of a resource those that wait here keep from an agent, and what they do.
func (c *Core) keptOf(resource int, of id.Agent) (kept int64, by []spot) {
	var whole []*grant // leases of others
	for _, w := range c.workers {
		if !w.held || w.blocked == 0 || w.shutting {
			continue
		}
		g, n := w.grant, w.class.need.get(resource)
		switch {
		case g.group != (id.Task{}) && !g.open && !g.lease: // a placement group's
			continue
		case g.group != (id.Task{}) && g.group.Agent != of:
			n = get(g.total, resource)
			if slices.Contains(whole, g) {
				continue // who waits there first will do
			}
			whole = append(whole, g)
		}
		if n == 0 {
			continue
		}
		kept += n
		for t := w.flight.head; t != nil; t = t.listed {
			by = append(by, c.spotOf(t))
		}
	}
	return kept, by
}

// roomless adds the first of each class that waits for room at any node: its ancestors may be at nodes where nothing does.
func (c *Core) roomless(list []spot) []spot {
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if t := cl.queue.head; t != nil && cl.need.sticks && cl.group == (id.Task{}) && c.elsewhere(t) {
				list = append(list, c.spotOf(t))
			}
		}
	}
	return list
}

// onSurveyed goes on with what the head says of a room: it is to be had at one of some nodes.
func (c *Core) onSurveyed(ev Surveyed) {
	for _, s := range c.searches {
		for _, q := range s.inquiries {
			if q.agent != 0 || q.number != ev.Key {
				continue
			}
			k := &fb.WaitStopT{Task: &fb.TaskIDT{}, Room: q.rooms[0]}
			for _, a := range ev.Agents {
				k.To = append(k.To, &fb.WaitSpotT{Agent: uint32(a), Task: &fb.TaskIDT{}, Room: k.Room})
			}
			goes := ev.More || len(ev.Agents) == 0
			c.answered(0, ev.Key, goes, fmt.Append(nil, ev.Agents, ev.Issued), []*fb.WaitStopT{k})
			return
		}
	}
	c.strays++
}

// roomText says who keeps what a task needs, at which nodes.
func (l *trail) roomText() string {
	var parts []string
	for _, k := range l.stops {
		if k.room == "" || k.agent == 0 {
			continue
		}
		var by []string
		for _, s := range k.to {
			if n := l.at[s]; n != nil && !slices.Contains(by, n.name) {
				by = append(by, n.name)
			}
		}
		parts = append(parts, fmt.Sprintf("%s of node %s", strings.Join(by, " and "), k.name))
	}
	slices.Sort(parts)
	if n := len(parts); n > 8 {
		parts = append(parts[:8], fmt.Sprintf("%d more", n-8))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}
