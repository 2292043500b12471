package work

import "maps"

// inCircles tells whether all that is left are values that contain one another, as those of a task that ran twice may, and what they
// keep: what they contain, and what the tasks that made them would need.
func inCircles(c *Core) bool {
	in := map[*object][]*object{} // what its value contains
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
			if t := e.task; t != nil { // that makes an actor
				for k := range int(t.deps + t.refs) {
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
	for n := -1; n != len(kept); { // without what no value contains
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
			more := in[o]
			if t := o.entry.made; t != nil {
				for k := range int(t.deps + t.refs) {
					more = append(more, c.lookup(objectAt(t.args(), k)))
				}
			}
			for _, x := range more {
				kept[x] = in[x]
			}
		}
	}
	return len(kept) == len(in)
}
