package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Lack is what tasks of a class that belong to no group wait for, and where they may run.
type Lack struct {
	Class uint32
	Where string // "": anywhere; else what Shape says of it, as a text that names it
	Shape *fb.ShapeT
	Lease []Amount
	Tasks int
	Since int64
}

// Waits tells why there is nothing to be had now of what a class lacks. Never: no node can ever have it, so that
// tasks which may run nowhere else fail.
type Waits struct {
	Class uint32
	Where string // as Lack says
	Why   string
	Never bool
}

// Nodes tells how many nodes the cluster has, and what those have in all that are not this one.
type Nodes struct {
	N      int
	Others [][]Amount
}

func (Waits) event() {}
func (Nodes) event() {}

// Tasks that are to be spread wait for so long, before they all start here, for other nodes to have places for them.
const (
	spread      = "spread"
	anyNode     = "any node will do" // actors that need nothing in particular
	spreadWait  = int64(time.Second)
	spreadAgain = int64(10 * time.Second)
)

// spreads tells whether tasks of a class are to run on as many nodes as there are.
func (cl *class) spreads() bool { return cl.where == spread || cl.where == anyNode }

// rather tells whether the next of the tasks that are to be spread should not start here, though it could.
func (c *Core) rather(cl *class) bool {
	here := c.atHome(cl)
	if len(c.places) == 0 && c.nodes < 2 || here == 0 && cl.where == anyNode {
		return false
	}
	var others []id.Agent
	better := false
	for _, p := range c.places {
		if !cl.mayGo(p) {
			continue
		}
		if !slices.Contains(others, p.agent) {
			others = append(others, p.agent)
		}
		better = better || c.load(p.agent) < here && cl.need.fits(p.free)
	}
	enough := len(others)+1 >= c.nodes || len(others) > 0 && cl.where == anyNode
	if enough { // when they have gone back, the next ones are worth waiting for, too
		cl.spreadFrom = 0
	}
	if better || enough {
		return better
	}
	if cl.spreadFrom == 0 || c.now >= cl.spreadFrom+spreadAgain {
		cl.spreadFrom = c.now
	}
	if c.now >= cl.spreadFrom+spreadWait {
		return false
	}
	c.later(cl.spreadFrom + spreadWait)
	return true
}

// atHome is how many leases a class has on this node, and actors that stay.
func (c *Core) atHome(cl *class) int {
	n := len(cl.leased)
	for _, w := range c.workers {
		if w.actor != nil && w.held && w.class == cl && !w.actor.ending {
			n++
		}
	}
	return n
}

// load is how many tasks of this agent are at another one, and actors that stay.
func (c *Core) load(agent id.Agent) (n int) {
	for _, p := range c.places {
		if p.agent == agent {
			n += p.n
		}
	}
	for _, h := range c.hosts {
		if h.agent != agent {
			continue
		}
		for _, w := range h.actors {
			if w.actor.ending {
				n--
			}
		}
	}
	return max(n, 0)
}

// placeOf says where a shape's tasks may run only, but for labels, none for anywhere; home: on this node and no other. Which labels
// a node has the head knows.
func (c *Core) placeOf(t *fb.ShapeT) (words []string, home bool) {
	if taskOf(t.Group) != (id.Task{}) {
		return nil, false
	}
	if t.Strategy == "spread" {
		words = append(words, spread)
	}
	switch {
	case t.Node == "":
	case len(t.Labels)+len(t.Fallbacks) == 0 && (t.Node == c.cfg.Node || t.Node == fmt.Sprint(c.cfg.Agent)):
		home = true
	default:
		words = append(words, "node="+t.Node)
	}
	return words, home
}

// outgrow has the head asked of this node, too, like of any that a task names, for what it can't have as a whole: what may run nowhere
// else fails then, and what would only rather be here goes elsewhere.
func (c *Core) outgrow(cl *class) {
	if !cl.home {
		return
	}
	for _, g := range c.grants {
		if g.group == (id.Task{}) && g.node != nil && !cl.need.fits(g.node) {
			cl.home = false
			cl.where = "node=" + cl.table.Node
			cl.needs.where = cl.where
			return
		}
	}
}

// lacks lists the classes that want what other nodes have.
func (c *Core) lacks(out []Lack) []Lack {
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if cl.group != (id.Task{}) || cl.queue.n == 0 || !cl.hungry || cl.home || cl.queue.head.owner.kind == Owner && cl.where == "" {
				continue
			}
			where, shape := cl.where, cl.needs.shape
			if cl.wishing() {
				where, shape = cl.wishes[cl.stage].where, cl.wishes[cl.stage].shape
			} else if shape.Node != "" && where == "" { // that one is being drained
				anywhere := *shape
				anywhere.Node = ""
				shape = &anywhere
			}
			out = append(out, Lack{Class: cl.number, Where: where, Shape: shape, Lease: cl.lease, Tasks: cl.queue.n, Since: cl.since})
		}
	}
	return out
}

// lentUsed lists the groups on whose open bundles something runs.
func (c *Core) lentUsed(out []id.Task) []id.Task {
	for _, w := range c.workers {
		if w.held && w.grant.open && !slices.Contains(out, w.grant.group) {
			out = append(out, w.grant.group)
		}
	}
	for _, p := range c.places {
		if p.open && p.n+p.others() > 0 && !slices.Contains(out, p.group) {
			out = append(out, p.group)
		}
	}
	return out
}

// onWaits takes in what the head says of what a class lacks.
func (c *Core) onWaits(ev Waits) {
	for _, j := range slices.Clone(c.jobs) {
		for _, cl := range slices.Clone(j.active) {
			if cl.number != ev.Class {
				continue
			}
			w := &cl.needs
			if r := cl.rank(ev.Where); r < len(cl.wishes) {
				w = &cl.wishes[r]
			}
			if ev.Never && w.where != "" {
				w.never = c.now + wishNever
				c.restless = true
			}
			if w != &cl.needs && !c.hopeless(cl) {
				continue
			}
			first := cl.nowhere == ""
			cl.nowhere = ev.Why
			switch t := cl.queue.head; {
			case !ev.Never || t == nil:
			case cl.where != "" && cl.table.Soft:
				cl.where, cl.nowhere = "", ""
				c.restless = true
			case cl.where != "" && !cl.spreads() && !c.hopeless(cl): // but a wish may be met
			case cl.where != "" && !cl.spreads():
				for ; t != nil; t = cl.queue.head {
					code := codeUnschedulable
					if t.kind == create {
						code = codeActorNowhere
					}
					c.unschedulable(t, code, "it is to run where "+cl.places()+": "+ev.Why)
				}
			case first: // a node that has it may join
				c.out = append(c.out, Effect{Do: Say, Process: t.owner.id, Code: "INFEASIBLE", Text: fmt.Sprintf("%s waits for what no node has: %s", t.name(), ev.Why)})
			}
		}
	}
}
