package work

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// amountOf writes an amount with its resource: "2 CPU", "0.5 GPU", "4GiB memory" as bytes.
func amountOf(n int64, name string) string {
	if name == "memory" {
		return fmt.Sprintf("%v bytes of memory", placement.Amount(n))
	}
	return placement.Amount(n).String() + " " + name
}

// explainTask says what a task waits for, by the tests that keep it from going on (WORK-10).
func (c *Core) explainTask(t *task) string {
	why := c.explainState(t)
	if c.pressed(t) {
		return fmt.Sprintf("memory: %s, %v ago; and then %s", c.shortText, time.Duration(c.now-c.shortAt).Round(time.Millisecond), why)
	}
	return why
}

func (c *Core) explainState(t *task) string {
	switch t.state {
	case taskWaiting:
		if t.rests != 0 {
			return fmt.Sprintf("the next try in %v: its worker was ended for want of memory", time.Duration(t.rests-c.now).Round(time.Millisecond))
		}
		if t.kind == create && t.actor.naming {
			return c.explainName(t)
		}
		return c.explainArgs(t)
	case taskGiven:
		if t.worker != nil && t.worker.host != nil {
			return fmt.Sprintf("nothing here: node %s has it", t.worker.host.node)
		}
		if t.worker == nil || t.worker.process == nil || t.worker.process.mute {
			return t.worker.starts()
		}
		if t != t.worker.flight.head && t.worker.actor == nil {
			return fmt.Sprintf("task %s, which runs before it in process %d", t.worker.flight.head.name(), t.worker.process.id)
		}
		return c.explainRunning(t)
	case taskBuilt:
		return "nothing: it is alive"
	}
	if t.kind == call {
		return c.explainCall(t)
	}
	return c.explainClass(t)
}

func (c *Core) explainArgs(t *task) string {
	var names []string
	n := 0
	for i := range int(t.deps) {
		o := c.lookup(objectAt(t.args(), i))
		if o == nil || o.here() {
			continue
		}
		if n++; n > 3 {
			continue
		}
		name := fmt.Sprintf("%v[%d]", o.entry.id, o.index)
		if o.state == objectAway {
			name += ", which is on its way from node " + c.home(o).node
		} else if m := o.entry.task; m != nil {
			name = fmt.Sprintf("the result of %s, which waits for %s", m.name(), c.explainShort(m))
		}
		names = append(names, name)
	}
	if n > 3 {
		names = append(names, fmt.Sprintf("%d more", n-3))
	}
	return fmt.Sprintf("%d of its %d arguments: %s", n, t.deps, strings.Join(names, "; "))
}

// explainShort is explainTask without what other tasks wait for in turn.
func (c *Core) explainShort(t *task) string {
	switch {
	case t.state == taskWaiting:
		return "arguments of its own"
	case t.kind == call && t.follower(): // whose arguments may be what this one gives
		return "an earlier call of the same process, " + t.lane.queue.head.name()
	}
	return c.explainTask(t)
}

// follower tells whether a call waits for one before it that waits for its arguments.
func (t *task) follower() bool {
	return t.lane != nil && t.lane.queue.head != nil && t.lane.queue.head != t && t.lane.queue.head.state == taskWaiting
}

func (c *Core) explainCall(t *task) string {
	a := t.actor
	switch {
	case a.phase == fb.ActorPhasePending && a.create != nil, a.phase == fb.ActorPhaseRestarting && a.create != nil:
		return fmt.Sprintf("actor %s, which is %s and waits for %s", a.title(), strings.ToLower(a.phase.String()), c.explainTask(a.create))
	case t.follower():
		return fmt.Sprintf("an earlier call of the same process, %s, which waits for %s", t.lane.queue.head.name(), c.explainArgs(t.lane.queue.head))
	}
	return fmt.Sprintf("its turn: actor %s has %d calls before it", a.title(), a.flying)
}

// explainClass says what keeps the next task of a class from starting.
func (c *Core) explainClass(t *task) string {
	cl := t.class
	ahead := 0
	for k := cl.queue.head; k != nil && k != t; k = k.listed {
		ahead++
	}
	behind := ""
	if ahead > 0 {
		behind = fmt.Sprintf("; %d tasks are before it", ahead)
	}
	if cl.starting > ahead {
		return cl.newcomer().starts() + cl.unstarted() + behind
	}
	if cl.wishing() {
		most := ", for a second at most"
		if c.barred(&cl.needs) {
			most = "" // for what comes behind is nowhere
		}
		return fmt.Sprintf("a place where it would %s%s%s", strings.Replace(cl.wishes[cl.stage].where, "rather ", "rather be, ", 1), most, behind)
	}
	var why []string
	if cl.kept != "" {
		why = append(why, cl.kept)
	}
	for _, g := range c.grants {
		if !cl.mayUse(g) {
			continue
		}
		if c.closed(g) {
			why = append(why, "another node: "+c.drainOf(c.cfg.Agent).why())
			continue
		}
		if r := g.tooSmall(&cl.need); r >= 0 {
			why = append(why, g.explainSmall(cl.need.get(r), r, c.names[r]))
			continue
		}
		if g.back {
			why = append(why, "what was lent of this node was recalled, as others wait for it")
			continue
		}
		if r := g.lacks(cl); r >= 0 {
			why = append(why, fmt.Sprintf("%s: %s of %s are free, %s", amountOf(cl.need.get(r), c.names[r]),
				placement.Amount(max(get(g.free, r), 0)), amountOf(get(g.total, r), c.names[r]), c.holders(g, r)))
			continue
		}
		if other := c.before(cl, g); other != nil {
			why = append(why, fmt.Sprintf("%s, which has waited for %v and gets what becomes free first", other.queue.head.name(), time.Duration(c.now-other.since).Round(time.Millisecond)))
			continue
		}
		if c.soon(cl) {
			return "a worker of its kind, which will be free soon" + behind
		}
		if len(c.workers) >= c.cfg.Processes {
			return fmt.Sprintf("a process: the node has %d workers, which is its cap%s", len(c.workers), behind)
		}
		return "its turn" + cl.unstarted() + behind
	}
	if r := c.explainKin(t); r != "" {
		return r + behind
	}
	for _, p := range c.places {
		switch {
		case cl.mayGo(p):
			why = append(why, c.explainPlace(cl, p))
		case p.drained && cl.suits(p):
			why = append(why, c.drainOf(p.agent).why())
		case p.shut && p.open && cl.suits(p):
			why = append(why, "what was lent of node "+p.node+" was recalled, as others wait for it")
		}
	}
	if len(why) == 0 {
		if cl.group != (id.Task{}) {
			return fmt.Sprintf("group %v, of which no bundle that it may use is here", cl.group)
		}
		if cl.where != "" {
			return strings.TrimSuffix("a place where "+cl.where+": "+cl.nowhere, ": ") + behind
		}
		return "resources: nothing is granted to this node yet"
	}
	if cl.nowhere != "" {
		why = append(why, "elsewhere: "+cl.nowhere)
	}
	return strings.Join(why, "; ") + behind
}

// explainPlace says what keeps the next task of a class from going to a place of another agent.
func (c *Core) explainPlace(cl *class, p *place) string {
	at := "bundle " + fmt.Sprint(p.bundle) + " at node " + p.node
	if p.open {
		at = "what is lent of node " + p.node
	}
	for _, x := range cl.need.parts {
		if get(p.total, x.resource) < x.amount {
			return fmt.Sprintf("%s: %s has %s at all", amountOf(x.amount, c.names[x.resource]), at, amountOf(get(p.total, x.resource), c.names[x.resource]))
		}
	}
	for _, h := range c.hosts {
		if h.job == cl.job && h.agent == p.agent && h.process == nil {
			return "the way to node " + p.node + ", which is being opened"
		}
	}
	for _, x := range cl.need.parts {
		if get(p.free, x.resource) < x.amount {
			return fmt.Sprintf("%s: %s is used by %d tasks and actors that this node has sent there", amountOf(x.amount, c.names[x.resource]), at, p.n)
		}
	}
	return "its turn to go to node " + p.node
}

// explainSmall says what a grant has of a resource of which it has too little for a demand.
func (g *grant) explainSmall(need int64, resource int, name string) string {
	has := g.ever(resource)
	if need <= has {
		return fmt.Sprintf("%s: %s has %s, of which %s is granted to tasks now", amountOf(need, name), g.name(), amountOf(has, name), placement.Amount(get(g.total, resource)))
	}
	return fmt.Sprintf("%s: %s has %s at all", amountOf(need, name), g.name(), amountOf(has, name))
}

func (g *grant) name() string {
	if g.group == (id.Task{}) {
		return "the node"
	}
	return fmt.Sprintf("bundle %d of group %v", g.bundle, g.group)
}

// holders names who holds a resource of a grant.
func (c *Core) holders(g *grant, resource int) string {
	var names []string
	n := 0
	for _, w := range c.workers {
		if !w.held || w.grant != g || w.class.need.get(resource) == 0 || resource == resCPU && w.lent {
			continue
		}
		n++
		name := ""
		switch {
		case w.actor != nil:
			name = "actor " + w.actor.title()
		case w.flight.head != nil:
			name = w.flight.head.name()
		default:
			name = fmt.Sprintf("a worker of job %d that starts or ends", w.job.number)
		}
		if !slices.Contains(names, name) && len(names) < 4 {
			names = append(names, name)
		}
	}
	if n > len(names) {
		names = append(names, fmt.Sprintf("%d more", n-len(names)))
	}
	return "held by " + strings.Join(names, ", ")
}
