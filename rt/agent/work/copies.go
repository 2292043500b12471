package work

import "github.com/maniple-hpc/maniple/transport/wire/fb"

// The value of another agent's object that was fetched is a copy: the object's home has it, or knows who has. So the Store may let go of it when memory is wanted,
// before anything is written to a file; it is fetched once more when somebody here wants it. A copy stays, and is written to a file like any other value, as long as another agent
// holds the object from here, which may be about to fetch it or count on it; and for good once its home is lost, or does not have it (docs/adr/0056).

// copied notes that the value of an object has just come from its home.
func (c *Core) copied(o *object) {
	if o.placed && o.foreign && !c.lent[o].stays {
		o.set(markCopy, true)
		c.offer(o)
	}
}

// offer has the Store let go of a copy when memory is wanted, unless another agent holds the object from here.
func (c *Core) offer(o *object) {
	if o.has(markCopy) && !o.heldAfar() {
		c.cfg.Store.Loosen(o.id())
	}
}

// heldAfar tells whether another agent holds an object from here.
func (o *object) heldAfar() bool {
	for h := o.holders; h != nil; h = h.next {
		if h.process.remote() {
			return true
		}
	}
	return false
}

// secure has a copy stay for good, if it is still here.
func (c *Core) secure(o *object) {
	if !o.has(markCopy) {
		return
	}
	if o.set(markCopy, false); !c.cfg.Store.Reuse(o.id()) {
		c.gone(o) // a moment ago, of which Evicted is about to tell
	}
}

// onEvicted: the Store has let go of a copy, or of what rested. That may have been asked for since, and was found to be gone.
func (c *Core) onEvicted(ev Evicted) {
	if x := c.cache.byObject[ev.Object]; x != nil && x.value != nil {
		c.uncache(x)
		return
	}
	if o := c.lookup(ev.Object); o != nil && o.has(markCopy) {
		if c.gone(o); o.waiting != nil {
			c.ask(o)
		}
	}
}

// gone takes in that the copy of an object is. It is as if it had not come yet.
func (c *Core) gone(o *object) {
	l := c.lent[o]
	o.set(markVoid, o.heldBy(l.home.agent))
	o.placed = false // so that it is not freed
	c.empty(o)
	l.asked, l.again = fb.WantNone, false
}
