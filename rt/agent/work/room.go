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
// little is left. What is kept at a node its own agent knows. A lease goes back as a whole, so one on which anything waits keeps all that it has; of what it has itself by a lease
// an agent may use the rest, if that is enough by itself, and knows what it has sent there. What belongs to a placement group comes free with that alone, and counts as if it might
// at any time. Which nodes there are the head knows (WORK-13, docs/adr/0045).

// roomOf is what that waiting does not free is needed: amounts and names, by lines; "": nothing, or it can't be said.
func (c *Core) roomOf(d *demand, idle bool) string {
	var lines []string
	for _, p := range d.parts {
		if p.resource == resCPU && !idle {
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
	return strings.Join(lines, "\n")
}

// waitsForAny: a task goes on when there is room for it at any node, or on what its agent has there already.
func (c *Core) waitsForAny(k *stop, t *task, idle bool) bool {
	room := c.roomOf(&t.class.need, idle)
	if t.class.group != (id.Task{}) || room == "" {
		return false
	}
	k.to = []spot{{room: room}}
	for _, p := range c.places {
		if t.class.mayGo(p) && t.class.need.fits(p.total) && !c.keptThere(k, p, &t.class.need, idle) {
			return false
		}
	}
	for _, g := range c.grants {
		lease := g.group != (id.Task{}) && !g.back && t.class.mayUse(g) && g.tooSmall(&t.class.need) < 0
		if lease && !slices.ContainsFunc(t.class.need.parts, func(p part) bool { return c.keptBy(k, g, p, idle) }) {
			return false
		}
	}
	if !slices.ContainsFunc(t.class.need.parts, func(p part) bool { return c.has(p.resource) < p.amount }) {
		k.to = append(k.to, spot{agent: c.cfg.Agent, room: room}) // the last one is looked at first, and needs no question
	}
	return true
}

// keptThere tells whether tasks and actors that this agent has sent to a place have so much of something there that too little is left, and adds them to a stop.
func (c *Core) keptThere(k *stop, p *place, d *demand, idle bool) bool {
	for _, x := range d.parts {
		cpu := x.resource == resCPU
		if cpu && !idle {
			continue
		}
		left, to := get(p.total, x.resource), k.to
		for _, h := range c.hosts {
			if h.agent != p.agent || h.tasks == nil {
				continue
			}
			for t := h.tasks.flight.head; t != nil && !cpu; t = t.listed {
				if n := t.class.need.get(x.resource); t.place == p && n > 0 {
					left, to = left-n, append(to, c.spotOf(t))
				}
			}
			for _, w := range h.actors { // one that does nothing may be gone at any time
				n := w.need.get(x.resource)
				switch {
				case w.place != p || n == 0:
				case idle && c.idles(w):
					left, to = left-n, append(to, spot{agent: h.agent, what: id.Object{Task: w.id, Index: whole}})
				case !cpu && w.flight.n > 0:
					left, to = left-n, append(to, c.does(w)...)
				}
			}
		}
		if left < x.amount {
			k.to = to
			return true
		}
	}
	return false
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
func (c *Core) roomAt(k *stop, idle bool) bool {
	k.name = c.cfg.Node
	for line := range strings.SplitSeq(k.room, "\n") {
		text, name, _ := strings.Cut(line, " ")
		amount, err := strconv.ParseInt(text, 10, 64)
		i := slices.Index(c.names, name)
		if err != nil || i < 0 || c.has(i) < amount { // the head knows of more than this agent
			return false
		}
		if kept, by := c.keptOf(i, idle); (i != resCPU || idle) && c.has(i)-kept < amount {
			k.to = by
			return true
		}
	}
	return false
}

// keptOf is how much of a resource those that wait here keep from who has none of it yet, and what they do.
func (c *Core) keptOf(resource int, idle bool) (kept int64, by []spot) {
	var whole []*grant
	for _, w := range c.workers {
		if !w.held || w.shutting || !c.clings(w, idle) {
			continue
		}
		g, n := w.grant, w.has(resource)
		switch {
		case g.group != (id.Task{}) && !g.open && !g.lease: // a placement group's
			continue
		case g.group != (id.Task{}):
			n = get(g.total, resource)
			if slices.Contains(whole, g) {
				continue // who waits there first will do
			}
			whole = append(whole, g)
		}
		if n == 0 {
			continue
		}
		kept, by = kept+n, append(by, c.does(w)...)
	}
	return kept, by
}

// has is how much a worker has of a resource.
func (w *worker) has(resource int) int64 {
	if resource == resCPU && w.lent {
		return 0
	}
	return w.class.need.get(resource)
}

// roomless adds the first of each class that waits for room at any node: its ancestors may be at nodes where nothing does, and what keeps it a lease may need nothing of it.
func (c *Core) roomless(list []spot) []spot {
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if t := cl.queue.head; t != nil && cl.need.sticks && cl.group == (id.Task{}) {
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
