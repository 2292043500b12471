package work

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Wants is what the shell has to know to ask the head for more of the node, or to give some of it back.
type Wants struct {
	Hungry  [][]Amount // what tasks wait for that belong to no group: one lease of each class
	Tasks   int        // that wait so
	Used    []Amount   // of the node, by those that wait, too: they take it again without asking
	Devices []Share    // of the node that are used; they are not among Used
	Parts   []Lacking  // what tasks wait for that need less than a device each
	Away    []Lack     // what tasks wait for that may run on other nodes
	Lent    []id.Task  // groups for tasks that belong to none, of which something is used
}

// Idle is what of a node this agent has for tasks that belong to no group, and none of them uses.
type Idle struct {
	Node      string
	Resources []Amount
}

// Idle tells what the head's ledger has given to this agent, of its own node and of others, that nothing uses now. Where tasks of another
// agent have started some of their own, all is used.
func (c *Core) Idle() (out []Idle) {
	note := func(node string, free []int64) {
		i := Idle{Node: node}
		for r, n := range free {
			if n > 0 {
				i.Resources = append(i.Resources, Amount{Name: c.names[r], Amount: n})
			}
		}
		out = append(out, i)
	}
	for _, g := range c.grants {
		if g.open || g.group == (id.Task{}) {
			note(c.cfg.Node, g.free)
		}
	}
	for _, p := range c.places {
		if p.open && p.others() == 0 {
			note(p.node, p.free)
		}
	}
	return out
}

// Share is what of a device somebody has.
type Share struct {
	Device string
	Amount int64
}

// Lacking is an amount that each of some tasks waits for.
type Lacking struct {
	Amount int64
	Tasks  int
}

// Wants tells what of the node is used and whether more is wanted. The slices are good until the next call.
func (c *Core) Wants() *Wants {
	w := &c.wants
	w.Tasks, w.Hungry, w.Used, w.Devices = 0, w.Hungry[:0], w.Used[:0], w.Devices[:0]
	w.Parts = w.Parts[:0]
	w.Away, w.Lent = c.lacks(w.Away[:0]), c.lentUsed(w.Lent[:0])
	for _, j := range c.jobs {
		for _, cl := range j.active {
			if cl.group == (id.Task{}) && (cl.where == "" || cl.spreads()) && !cl.wishing() && len(cl.lease) > 0 && cl.queue.n > 0 && (cl.hungry || c.grantsOf(cl) == 0) {
				w.Hungry = append(w.Hungry, cl.lease)
				w.Tasks += cl.queue.n
				if cl.need.gpu > 0 && cl.need.gpu < one {
					w.Parts = append(w.Parts, Lacking{cl.need.gpu, cl.queue.n})
				}
			}
		}
	}
	for _, k := range c.workers {
		if !k.held || k.grant.group != (id.Task{}) {
			continue
		}
		for _, p := range k.class.need.parts {
			if p.resource == resGPU && len(k.devices) > 0 {
				continue
			}
			for len(w.Used) <= p.resource {
				w.Used = append(w.Used, Amount{Name: c.names[len(w.Used)]})
			}
			w.Used[p.resource].Amount += p.amount
		}
		w.Devices = k.shares(w.Devices)
	}
	return w
}

// Shares tells who has how much of which device, of the node and of groups, but for workers that are being ended.
func (c *Core) Shares(out []Share) []Share {
	for _, k := range c.workers {
		if k.held && k.killed == "" {
			out = k.shares(out)
		}
	}
	return out
}

func (w *worker) shares(out []Share) []Share {
	for _, name := range w.devices {
		out = append(out, Share{name, w.share()})
	}
	return out
}

// Use is a task or an actor that has something of a grant or a place.
type Use struct {
	Name    string
	Since   int64
	Stays   bool // it is an actor
	Needs   []Amount
	Devices []string
}

// Uses tells what runs on a group for tasks that belong to none, here and elsewhere; zero: on the node.
func (c *Core) Uses(group id.Task) (out []Use) {
	use := func(t *task, a *actor, cl *class, devices []string) {
		u := Use{Name: fmt.Sprintf("a worker of job %d that starts or ends", cl.job.number), Since: c.now, Needs: cl.lease, Devices: devices}
		switch {
		case a != nil:
			u.Name, u.Stays = "actor "+a.title(), true
		case t != nil:
			u.Name, u.Since = t.name(), t.since
		}
		out = append(out, u)
	}
	for _, w := range c.workers {
		if w.held && w.grant.group == group {
			use(w.flight.head, w.actor, w.class, w.devices)
		}
	}
	for _, p := range c.places {
		if p.others() > 0 && p.group == group {
			out = append(out, Use{Name: "a task that was started at node " + p.node + " by a task there", Since: c.now})
		}
	}
	for _, h := range c.hosts {
		for _, w := range h.actors {
			if w.place != nil && w.place.group == group {
				use(nil, w.actor, w.class, nil)
			}
		}
		if h.tasks == nil { // its errand is not open yet
			continue
		}
		for t := h.tasks.flight.head; t != nil; t = t.listed {
			if t.place != nil && t.place.group == group {
				use(t, nil, t.class, nil)
			}
		}
	}
	return out
}

// Has tells whether anything is left of a job: a process, an actor, or a task.
func (c *Core) Has(job uint32) bool {
	for _, j := range c.jobs {
		if j.number == job {
			return true
		}
	}
	return false
}
