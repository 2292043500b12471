package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// resAll stands for all resources of a lease.
const resAll = -1

// owe counts what a worker's job has of what all jobs share: the node, and what was lent for tasks of no group.
func (c *Core) owe(w *worker, resource int, sign int64) {
	if w.grant.group != (id.Task{}) && !w.grant.open {
		return
	}
	for _, p := range w.class.need.parts {
		if resource == resAll || p.resource == resource {
			w.job.held = add(w.job.held, p.resource, sign*p.amount)
		}
	}
}

// shared adds up what all jobs share.
func (c *Core) shared() []int64 {
	sum := c.totals[:0]
	for _, g := range c.grants {
		if g.group == (id.Task{}) || g.open {
			for i, n := range g.total {
				sum = add(sum, i, n)
			}
		}
	}
	for _, p := range c.places {
		for i, n := range p.total {
			if p.open {
				sum = add(sum, i, n)
			}
		}
	}
	c.totals = sum
	return sum
}

// shareOf is the largest part of any resource.
func shareOf(held, totals []int64) (most float64) {
	for i, n := range held {
		if total := get(totals, i); total > 0 {
			most = max(most, float64(n)/float64(total))
		}
	}
	return most
}

// hasMore tells whether a job has more than that of a class would have with one more lease.
func (c *Core) hasMore(other *job, cl *class) bool {
	totals := c.shared()
	with := slices.Clone(cl.job.held)
	for _, p := range cl.need.parts {
		with = add(with, p.resource, p.amount)
	}
	return shareOf(other.held, totals) > shareOf(with, totals)
}

// hasShare tells whether a job has as much as each that has tasks to start could have.
func (c *Core) hasShare(j *job) bool {
	n := 0
	for _, k := range c.jobs {
		if len(k.active) > 0 {
			n++
		}
	}
	return shareOf(j.held, c.shared())*float64(n) >= 1
}

// within tells whether a demand asks for no more of anything than another.
func (d *demand) within(other *demand) bool {
	return !slices.ContainsFunc(d.parts, func(p part) bool { return other.get(p.resource) < p.amount })
}

// overdrawn tells whether a grant is to take no new task that needs this: it was recalled, or more is used of it than there is.
func (g *grant) overdrawn(d *demand) bool {
	return g.back || slices.ContainsFunc(d.parts, func(p part) bool { return get(g.free, p.resource) < 0 })
}
