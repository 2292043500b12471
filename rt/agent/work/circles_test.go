package work

import "maps"

// inCircles tells whether all that is left are values that keep one another, as those of a task that ran twice may, and what they
// keep else: what they contain, and what the tasks that made them would need.
func inCircles(c *Core) bool {
	in := map[*object][]*object{} // what its value keeps
	for _, e := range c.entries {
		if e.task != nil && (e.actor == nil || e.task != e.actor.create) {
			return false
		}
		for i := range len(e.others()) + 1 {
			o := e.object(uint32(i))
			if o == nil || o.holders != nil {
				if o != nil {
					return false
				}
				continue
			}
			in[o] = nil
			for _, t := range []*task{e.task, e.made} { // that makes an actor, or would make the value again
				for k := 0; t != nil && k < int(t.deps+t.refs); k++ {
					in[o] = append(in[o], c.lookup(objectAt(t.args(), k)))
				}
			}
			if o.value == nil {
				continue
			}
			m, payload := c.readResult(o.value)
			for k := range int(m.Refs) {
				in[o] = append(in[o], c.lookup(objectAt(payload, k)))
			}
		}
	}
	kept := maps.Clone(in)
	for n := -1; n != len(kept); { // without what no value keeps
		n = len(kept)
		contained := map[*object]bool{}
		for o := range kept {
			for _, x := range in[o] {
				contained[x] = true
			}
		}
		maps.DeleteFunc(kept, func(o *object, _ []*object) bool { return !contained[o] })
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
