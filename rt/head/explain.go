package head

import (
	"fmt"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// explainPending says why a group is not placed. It asks what place asks, in the same order.
func (c *Core) explainPending(g *group) string {
	switch {
	case len(c.state.nodes) == 0 && len(c.cfg.Expect) == 0:
		return "no node has joined yet"
	case !c.formed() && len(c.cfg.Expect) == 0:
		return fmt.Sprintf("%d of %d nodes joined", len(c.state.nodes), c.cfg.minNodes())
	case !c.formed():
		return c.explainJoin()
	case g.run.request == nil:
		return "its description can't be read"
	}
	if c.short != "" {
		return "nothing new can begin: " + c.short
	}
	e := placement.Explain(&c.state.view, g.run.request)
	if e == nil {
		return "it fits, and is being placed"
	}
	text := e.Text() + c.explainRecalled(g)
	if gone := c.replaced(); len(gone) > 0 && e.Verdict == placement.Infeasible {
		return text + fmt.Sprintf("\n%s died, or never came; another node is started in its place, which is waited for", placement.FoldNames(gone))
	}
	if left := g.since + returnGrace - c.now; e.Verdict == placement.Infeasible && g.incarnation > 1 && left > 0 {
		text += fmt.Sprintf("\n%s died; unless it comes back within 10 s the gang ends", placement.FoldNames(c.deadNodes()))
	}
	return text
}

// explainJoin says which nodes are missing. Many gangs may wait for the same nodes, so the text is kept
// until another joins.
func (c *Core) explainJoin() string {
	if c.joinText == "" || c.joinCount != len(c.state.nodes) {
		missing := c.missing()
		c.joinText = fmt.Sprintf("%d of %d nodes joined, missing %s", len(c.cfg.Expect)-len(missing), len(c.cfg.Expect), placement.FoldNames(missing))
		if c.cfg.minNodes() != len(c.cfg.Expect) {
			c.joinText += fmt.Sprintf(" (%d are enough)", c.cfg.minNodes())
		}
		c.joinCount = len(c.state.nodes)
	}
	return c.joinText
}

// tellWait tells the owner why its group waits, when that changed and not too often.
func (c *Core) tellWait(g *group) {
	if c.now < g.run.explainAt {
		return // a timer is set
	}
	if text := c.explainPending(g); text != g.run.explain {
		g.run.explain = text
		g.run.explainAt = c.now + explainEvery
		c.timers.addGroup(g.run.explainAt, g.id)
		c.tell(g)
	}
}

// explainGroup says what a group is waiting for, or how it ended: lines.
func (c *Core) explainGroup(g *group) string {
	for_ := time.Duration(c.now - g.since).Round(time.Millisecond)
	head := fmt.Sprintf("group %s: ", g.title())
	switch g.phase {
	case fb.GroupPhasePending:
		text := head + fmt.Sprintf("waiting since %v", for_)
		if g.incarnation > 1 {
			text += fmt.Sprintf(" to start again (incarnation %d)", g.incarnation)
		}
		return text + strings.ReplaceAll("\n"+c.explainPending(g), "\n", "\n  ")
	case fb.GroupPhaseReserving:
		var names []string
		for _, p := range g.places {
			if !p.run.reserved && !p.lost {
				names = append(names, c.state.nodeName(p.node))
			}
		}
		return head + fmt.Sprintf("placed %v ago, waiting for %s to set its share aside", for_, placement.FoldNames(names))
	case fb.GroupPhaseCreated:
		if g.create.Lease {
			return head + c.explainLease(g)
		}
		return head + "its bundles are held on " + c.hosts(g)
	case fb.GroupPhaseStarting:
		return head + fmt.Sprintf("starting since %v: %d of %d ranks run, waiting for %s", for_, g.run.nRunning, len(g.ranks), c.notRunning(g))
	case fb.GroupPhaseRunning:
		done := 0
		for r := range g.ranks {
			if g.ranks[r].done {
				done++
			}
		}
		text := head + fmt.Sprintf("running since %v on %s, %d ranks", for_, c.hosts(g), len(g.ranks))
		if done > 0 {
			text += fmt.Sprintf(", %d of them done", done)
		}
		return text
	case fb.GroupPhaseStopping:
		text := head + fmt.Sprintf("ending since %v (%s), waiting for %s", for_, g.end.Reason, c.unfinished(g))
		if left := g.end.Wall - c.now; left > 0 {
			text += fmt.Sprintf("; KILL in %v", time.Duration(left).Round(time.Millisecond))
		} else {
			text += fmt.Sprintf("; KILL was due %v ago", time.Duration(-left).Round(time.Millisecond))
		}
		return text
	}
	return head + endText(g)
}

func endText(g *group) string {
	e := g.end
	text := fmt.Sprintf("ended with code %d (%s)", e.Code, e.Cause)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Restarts > 0 {
		text += fmt.Sprintf("; it was started %d times", e.Restarts+1)
	}
	if e.Tail != "" {
		text += "\nits last lines:\n" + e.Tail
	}
	return text
}

func (c *Core) hosts(g *group) string {
	var names []string
	for _, p := range g.places {
		names = append(names, c.state.nodeName(p.node))
	}
	return placement.FoldNames(names)
}

// unfinished names ranks that have not ended: "ranks 3-5 on n2, rank 9 on n3".
func (c *Core) unfinished(g *group) string {
	return c.ranksWhere(g, func(r uint32) bool { return !g.ranks[r].done })
}

func (c *Core) notRunning(g *group) string {
	return c.ranksWhere(g, func(r uint32) bool { return !g.ranks[r].done && !g.run.running[r] })
}

func (c *Core) ranksWhere(g *group, want func(uint32) bool) string {
	var parts []string
	for _, p := range g.places {
		if p.lost {
			continue
		}
		var ranks []uint32
		for r := p.first; r < p.first+p.ranks; r++ {
			if want(r) {
				ranks = append(ranks, r)
			}
		}
		if len(ranks) > 0 {
			parts = append(parts, fmt.Sprintf("%s on %s", foldRanks(ranks), c.state.nodeName(p.node)))
		}
	}
	if len(parts) > 8 {
		parts = append(parts[:8], fmt.Sprintf("and %d more nodes", len(parts)-8))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// foldRanks writes sorted ranks as "rank 3" or "ranks 0-3,7".
func foldRanks(ranks []uint32) string {
	if len(ranks) == 1 {
		return fmt.Sprintf("rank %d", ranks[0])
	}
	var b strings.Builder
	b.WriteString("ranks ")
	for i := 0; i < len(ranks); {
		j := i + 1
		for j < len(ranks) && ranks[j] == ranks[j-1]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d", ranks[i])
		if j > i+1 {
			fmt.Fprintf(&b, "-%d", ranks[j-1])
		}
		i = j
	}
	return b.String()
}

// explainNode says what a node has, who holds it and why it takes no more: lines.
func (c *Core) explainNode(n *node) string {
	ago := time.Duration(c.now - n.since).Round(time.Second)
	if n.dead {
		return fmt.Sprintf("node %s died %v ago: %s", n.name, ago, n.why)
	}
	v := c.state.view.Node(int(n.index))
	var b strings.Builder
	fmt.Fprintf(&b, "node %s: joined %v ago as agent %d", n.name, ago, n.agent)
	if n.register.Grant != "" {
		fmt.Fprintf(&b, " with %s", n.register.Grant)
	}
	if v == nil {
		return b.String()
	}
	switch {
	case n.drain != nil:
		b.WriteString(c.explainDrain(n))
	case v.State != placement.Open:
		fmt.Fprintf(&b, "\ntakes nothing now: %s", v.Why)
	}
	for _, r := range v.Total {
		fmt.Fprintf(&b, "\n%s: %s of %s free", r.Name, amount(r.Name, v.Free.Get(r.Name)), amount(r.Name, r.Amount))
	}
	for _, g := range c.state.groups {
		for _, p := range g.places {
			if p.node == n.index && !p.lost {
				share := c.share(p)
				if g.leased() {
					share = c.explainLease(g)
				}
				fmt.Fprintf(&b, "\nheld by group %s: %s", g.title(), share)
			}
		}
	}
	return b.String()
}

// share is what a place holds in all.
func (c *Core) share(p *place) string {
	var all []placement.Resource
	var devices []string
	for _, b := range p.bundles {
		if res, err := resourcesOf(b.Resources); err == nil {
			all = append(all, res...)
		}
		devices = append(devices, b.Devices...)
	}
	sum, err := placement.Make(all...)
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, r := range sum {
		parts = append(parts, amount(r.Name, r.Amount)+" "+r.Name)
	}
	if len(devices) > 0 {
		parts = append(parts, "devices "+strings.Join(devices, ","))
	}
	if p.ranks > 0 {
		ranks := make([]uint32, 0, p.ranks)
		for r := p.first; r < p.first+p.ranks; r++ {
			ranks = append(ranks, r)
		}
		parts = append(parts, foldRanks(ranks))
	}
	return strings.Join(parts, ", ")
}

// amount writes memory in binary units, all else as a number.
func amount(name string, a placement.Amount) string {
	if name != placement.Memory {
		return a.String()
	}
	bytes := int64(a / placement.One)
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	u, f := 0, float64(bytes)
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[u]
}

// explainCluster says where the whole stands: lines.
func (c *Core) explainCluster() string {
	var b strings.Builder
	live := 0
	for _, n := range c.state.nodes {
		if !n.dead {
			live++
		}
	}
	fmt.Fprintf(&b, "cluster %s: %d nodes", c.cfg.Name, live)
	if m := c.missing(); len(m) > 0 {
		fmt.Fprintf(&b, ", %d of %d joined, missing %s", len(c.cfg.Expect)-len(m), len(c.cfg.Expect), placement.FoldNames(m))
		if !c.formed() {
			fmt.Fprintf(&b, " (they have %v left)", c.joinLeft())
		}
	}
	if d := c.deadNodes(); len(d) > 0 {
		fmt.Fprintf(&b, ", %s died", placement.FoldNames(d))
	}
	if d := c.drainedNames(); len(d) > 0 {
		fmt.Fprintf(&b, ", %s draining", placement.FoldNames(d))
	}
	if c.state.drain != nil {
		fmt.Fprintf(&b, "\nshutting down: %s; groups that are left have %v", c.state.drain.Reason,
			time.Duration(max(0, c.state.drain.Deadline-c.now)).Round(time.Second))
	}
	if c.short != "" {
		fmt.Fprintf(&b, "\nnothing new can begin: %s", c.short)
	}
	for _, g := range c.state.groups {
		fmt.Fprintf(&b, "\n%s", c.explainGroup(g))
	}
	return b.String()
}

// findGroup finds by ID or by name; of several ended ones of a name the last.
func (c *Core) findGroup(ref string) *group {
	if task, err := id.ParseTask(ref); err == nil {
		return c.state.byID[task]
	}
	if ref == "" {
		return nil
	}
	if g := c.state.named(ref); g != nil {
		return g
	}
	for i := len(c.state.ended) - 1; i >= 0; i-- {
		if c.state.ended[i].create.Name == ref {
			return c.state.ended[i]
		}
	}
	return nil
}
