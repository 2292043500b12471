package work

import (
	"maps"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// inCircles tells whether all that is left at the agents are values that keep one another, as those of a task that ran twice may, and what they
// keep else: what they contain, and what the tasks that made them would need. That one agent has a value for another is no reason to be.
func (h *history) inCircles() bool {
	in := map[id.Object][]id.Object{} // what it keeps
	for _, s := range h.sites {
		for _, e := range s.core.entries {
			if e.task != nil && (e.actor == nil || e.task != e.actor.create) {
				return false
			}
			for i := range len(e.others()) + 1 {
				o := e.object(uint32(i))
				if o == nil {
					continue
				}
				in[o.id()] = append(in[o.id()], s.core.keeps(o)...)
				for k := o.holders; k != nil; k = k.next {
					if !k.process.remote() {
						return false
					}
					x := h.siteOf(k.process.agent).core.lookup(o.id())
					if x == nil || o.pins == 0 && o.foreign && s.core.home(o).agent == k.process.agent { // of two that only keep each other's neither is of use
						return false
					}
				}
			}
		}
	}
	kept := maps.Clone(in)
	for n := -1; n != len(kept); { // without what no value keeps
		n = len(kept)
		contained := map[id.Object]bool{}
		for o := range kept {
			for _, x := range in[o] {
				contained[x] = true
			}
		}
		maps.DeleteFunc(kept, func(o id.Object, _ []id.Object) bool { return !contained[o] })
	}
	for n := -1; n != len(kept); {
		n = len(kept)
		for o := range maps.Clone(kept) {
			for _, x := range in[o] {
				kept[x] = in[x]
			}
		}
	}
	return len(kept) == len(in)
}

// keeps lists what an object at an agent keeps there: what its value contains, and what the task would need that makes an actor, or would make the value
// again.
func (c *Core) keeps(o *object) (list []id.Object) {
	for _, t := range []*task{o.entry.task, o.entry.made} {
		for k := 0; t != nil && k < int(t.deps+t.refs); k++ {
			list = append(list, objectAt(t.args(), k))
		}
	}
	if o.value != nil {
		m, payload := c.readResult(o.value)
		for k := range int(m.Refs) {
			list = append(list, objectAt(payload, k))
		}
	}
	return list
}
