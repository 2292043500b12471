package head

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// A node that is being drained takes nothing new: no group, no lease, no actor. Leases that agents have there are recalled; groups that somebody
// asked for stay until the deadline, and are then placed anew if they fit elsewhere. What agents do with their tasks, actors and
// values there is their own affair: they are told (docs/adr/0043). It is part of the journal, ends with the node, and can be undone. Who asks for it and a launcher that
// announces that the node goes do not know of each other: what the launcher takes back is its own word, while who undoes a drain undoes both.

// jsonDrained answers whoever drains a node.
type jsonDrained struct {
	Version int      `json:"version"`
	Node    jsonNode `json:"node"`
}

// drainNode takes a node out of use, or back into it, and answers whoever asked.
func (c *Core) drainNode(m *member, q *fb.NodeDrainT, corr uint64) {
	reply, payload := &fb.StateReplyT{}, []byte(nil)
	n, err := c.toDrain(m, q)
	if err == nil {
		payload, err = json.Marshal(jsonDrained{stateVersion, c.jsonNode(n)})
	}
	if err != nil {
		reply.Error = err.Error()
	}
	if corr != 0 {
		c.out = append(c.out, Send{Agent: m.number, Msg: reply, Corr: corr, Payload: payload})
	}
}

// toDrain does it. Asked again, what is said then counts; what is not said stays.
func (c *Core) toDrain(m *member, q *fb.NodeDrainT) (*node, error) {
	n, err := c.drainable(m, q)
	if err != nil {
		return nil, err
	}
	rec := &fb.RecNodeDrainT{Node: n.index, Reason: line(q.Reason), Deadline: q.Deadline, Undo: q.Undo, Wall: c.now, Goes: q.Goes}
	if old := n.drainOf(q.Goes); old != nil && !q.Undo {
		rec.Wall = old.Wall
		if rec.Reason == "" {
			rec.Reason = old.Reason
		}
		if later := rec.Deadline - old.Deadline; rec.Deadline == 0 || old.Deadline != 0 && later > -sameDrain && later < sameDrain {
			rec.Deadline = old.Deadline // not said, or the same one, by the clock of another node
		}
		if rec.Reason == old.Reason && rec.Deadline == old.Deadline {
			return n, nil
		}
	}
	if rec.Reason == "" && !q.Undo {
		rec.Reason = "asked for"
	}
	if c.short != "" {
		return nil, fmt.Errorf("head: %s can't be drained for now, since that can't be written down: %s", n.name, c.short)
	}
	if err := c.record(rec); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	if d := n.drain; d == nil {
		if o := c.state.byAgent[n.agent]; o != nil && (!o.run.linked || !o.run.synced) {
			c.pause(o, "its connection to the head broke")
		}
		c.announce(fb.LevelInfo, "NODE_DRAIN", n.name+" takes new work again")
	} else {
		c.announce(fb.LevelWarning, "NODE_DRAIN", fmt.Sprintf("%s is being drained%s: %s", n.name, c.within(d), d.Reason))
		if d.Deadline != 0 {
			c.timers.add(d.Deadline, timerDrain, 0)
		}
	}
	c.tellDrain(n, n.drain == nil)
	c.changed()
	return n, nil
}

// reasonMost is how many characters of a reason are kept.
const reasonMost = 200

// line makes one of what somebody wrote, for tables and terminals: without what is no letter there, and not too long.
func line(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if all := []rune(text); len(all) > reasonMost {
		return string(all[:reasonMost-1]) + "…"
	}
	return text
}

// drainable finds the node that is meant, and says why it can't be drained, or have that undone.
func (c *Core) drainable(m *member, q *fb.NodeDrainT) (*node, error) {
	n, others := m.node, 0
	var names []string
	if q.Node != "" {
		n = nil
	}
	for _, o := range c.state.nodes {
		if o.name == q.Node {
			n = o
		}
		if !o.dead {
			names = append(names, o.name)
		}
	}
	for _, o := range c.state.nodes {
		if o != n && !o.dead && o.drain == nil {
			others++
		}
	}
	switch {
	case n == nil && slices.Contains(c.missing(), q.Node):
		return nil, fmt.Errorf("head: node %s is expected and has not joined: there is nothing to drain", q.Node)
	case n == nil:
		return nil, fmt.Errorf("head: no node is called %q: there are %s", q.Node, placement.FoldNames(names))
	case n.dead:
		return nil, fmt.Errorf("head: node %s is dead (%s): there is nothing left to drain", n.name, n.why)
	case q.Undo && (n.drain == nil || q.Goes && n.goes == nil):
		return nil, fmt.Errorf("head: node %s is not being drained", n.name)
	case c.state.drain != nil:
		return nil, fmt.Errorf("head: the whole cluster is shutting down: %s", c.state.drain.Reason)
	case !q.Undo && !q.Goes && n.drain == nil && others == 0:
		return nil, fmt.Errorf("head: node %s is the last one that takes anything: with it drained nothing could start any more; `maniple down` ends the cluster", n.name)
	}
	return n, nil
}

// within says how long a node that is being drained has.
func (c *Core) within(d *fb.RecNodeDrainT) string {
	switch left := time.Duration(d.Deadline - c.now).Round(time.Second); {
	case d.Deadline == 0:
		return ""
	case d.Deadline <= c.now:
		return " at once"
	default:
		return fmt.Sprintf(" within %v", left)
	}
}

// applyNodeDrain takes a node out of use, or back.
func (s *state) applyNodeDrain(r *fb.RecNodeDrainT) error {
	n := s.nodeAt(r.Node)
	switch {
	case n == nil || n.dead:
		return fmt.Errorf("node index %d is drained, and is not there", r.Node)
	case r.Undo && r.Goes:
		n.goes = nil
	case r.Undo:
		n.asked, n.goes = nil, nil
	case r.Goes:
		n.goes = r
	default:
		n.asked = r
	}
	if n.drain = n.bothDrains(); n.drain == nil {
		s.view.SetState(int(n.index), placement.Open, "")
	}
	s.closeDrained(n)
	return nil
}

// drainOf is what somebody, or, goes, its launcher, has said; nil: nothing.
func (n *node) drainOf(goes bool) *fb.RecNodeDrainT {
	if goes {
		return n.goes
	}
	return n.asked
}

// drains lists what was said.
func (n *node) drains() (out []*fb.RecNodeDrainT) {
	for _, d := range [...]*fb.RecNodeDrainT{n.asked, n.goes} {
		if d != nil {
			out = append(out, d)
		}
	}
	return out
}

// bothDrains is what comes of it: both reasons, and the time that is over first; nil: nobody drains it.
func (n *node) bothDrains() *fb.RecNodeDrainT {
	list := n.drains()
	if len(list) < 2 {
		return slices.Concat(list, []*fb.RecNodeDrainT{nil})[0]
	}
	d, goes := *n.asked, n.goes
	if d.Wall = min(d.Wall, goes.Wall); d.Deadline == 0 || goes.Deadline != 0 && goes.Deadline < d.Deadline {
		d.Deadline = goes.Deadline
	}
	if d.Reason != goes.Reason {
		d.Reason += "; " + goes.Reason
	}
	return &d
}

// closeDrained has placement leave out a node that is being drained.
func (s *state) closeDrained(n *node) {
	if n.drain != nil {
		s.view.SetState(int(n.index), placement.Draining, n.drain.Reason)
	}
}

// drains says which nodes are being drained, to an agent that joins or comes back.
func (c *Core) drains() (out []*fb.NodeDrainT) {
	for _, n := range c.state.nodes {
		if n.drain != nil {
			out = append(out, n.drained())
		}
	}
	return out
}

func (n *node) drained() *fb.NodeDrainT {
	return &fb.NodeDrainT{Node: n.name, Agent: uint32(n.agent), Reason: n.drain.Reason, Deadline: n.drain.Deadline}
}

// tellDrain tells all agents of a node that is being drained, or is not any more.
func (c *Core) tellDrain(n *node, undo bool) {
	d := &fb.NodeDrainT{Node: n.name, Agent: uint32(n.agent), Undo: undo}
	if !undo {
		d = n.drained()
	}
	for _, m := range c.state.members {
		if m.run.synced {
			c.send(m.number, d)
		}
	}
}

// maxDrained is how many nodes are remembered that ended while they were being drained.
const maxDrained = 1000

// endDrained remembers that a node ended while it was being drained, of which agents hear only when a node of that name joins: what is lost with it is
// nobody's fault.
func (c *Core) endDrained(name string) {
	c.leftBehind = slices.DeleteFunc(c.leftBehind, func(s string) bool { return s == name })
	if len(c.leftBehind) == maxDrained {
		c.leftBehind = slices.Delete(c.leftBehind, 0, 1)
	}
	c.leftBehind = append(c.leftBehind, name)
}

// isBack tells agents that a node is not being drained which has just joined, if they believe so of one of its name.
func (c *Core) isBack(n *node) {
	i := slices.Index(c.leftBehind, n.name)
	if i < 0 {
		return
	}
	c.leftBehind = slices.Delete(c.leftBehind, i, i+1)
	for _, m := range c.state.members {
		if m.run.synced && m.node != n { // what that one says of itself stays
			c.send(m.number, &fb.NodeDrainT{Node: n.name, Agent: uint32(n.agent), Undo: true})
		}
	}
}

// drainsOn recalls what agents have of nodes that are being drained, and has groups placed anew whose time there is over, if they fit elsewhere.
func (c *Core) drainsOn() {
	c.drainDue = false
	if c.state.drain != nil || !slices.ContainsFunc(c.state.nodes, func(n *node) bool { return n.drain != nil }) {
		return
	}
	for _, g := range slices.Clone(c.state.groups) {
		n := c.drainedUnder(g)
		switch {
		case n == nil:
		case g.leased():
			c.recallFrom(g, fb.LeaseRecallNow, "the drain of "+n.name)
		case n.drain.Deadline != 0 && c.now >= n.drain.Deadline && g.create.Program == nil && g.phase == fb.GroupPhaseCreated:
			c.moveGroup(g, n)
		}
	}
}

// drainedUnder is the node of a group that is being drained, of several the one whose time is over first; nil: none is.
func (c *Core) drainedUnder(g *group) (first *node) {
	for _, p := range g.places {
		n := c.state.nodeAt(p.node)
		if p.lost || n == nil || n.drain == nil {
			continue
		}
		if due := n.drain.Deadline; first == nil || due != 0 && (first.drain.Deadline == 0 || due < first.drain.Deadline) {
			first = n
		}
	}
	return first
}

// moveGroup has a group without programs placed anew, if there is a place for it now. If not, it stays as long as the node does.
func (c *Core) moveGroup(g *group, n *node) {
	if g.run.moved == c.gen+1 {
		return // nothing has changed since
	}
	g.run.moved = c.gen + 1
	after := c.state.view.Clone()
	after.Release(g.id, g.incarnation)
	if plan, _ := placement.Solve(after, g.run.request); plan != nil {
		c.conclude(g, c.ending(codeNodeLost, causeNode, n.name+" is being drained: "+n.drain.Reason), true, false)
	}
}

// explainDrain says of a node that is being drained what is left there.
func (c *Core) explainDrain(n *node) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\ntakes nothing new: it is being drained since %v", time.Duration(c.now-n.drain.Wall).Round(time.Second))
	switch d := n.drain; {
	case d.Deadline == 0:
	case c.now < d.Deadline:
		fmt.Fprintf(&b, ", which is to be done%s", c.within(d))
	default:
		fmt.Fprintf(&b, ", whose time is over since %v", time.Duration(c.now-d.Deadline).Round(time.Second))
	}
	fmt.Fprintf(&b, ": %s", n.drain.Reason)
	fmt.Fprintf(&b, "\n`maniple drain --undo %s` takes that back", n.name)
	return b.String()
}

// drainedNames are the nodes that are being drained.
func (c *Core) drainedNames() (out []string) {
	for _, n := range c.state.nodes {
		if n.drain != nil {
			out = append(out, n.name)
		}
	}
	return out
}
