package work

import (
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// The arguments of a task that is to start are here. The large ones lie in the Store, and those that came from another agent lie there, too.
const (
	moveRate = 512 << 20 // bytes a second that go to another node, for all that is known of the network
	maxArgs  = 64        // so many arguments are looked at
)

// bytesAt adds up what of a task's large arguments lies at another agent; zero: here.
func (c *Core) bytesAt(t *task, agent id.Agent) (sum int64) {
	for i := 0; i < int(t.deps) && i < maxArgs; i++ {
		o := c.lookup(objectAt(t.args(), i))
		away := o != nil && o.state == objectAway
		switch {
		case o == nil || o.state == objectPending || !o.placed && !away:
			continue
		case agent == 0 && away, agent != 0 && (!o.foreign && !away || c.home(o).agent != agent):
			continue
		}
		sum += int64(c.size(o))
	}
	return sum
}

// stays tells whether a task waits for room here still, as its arguments would take longer to be where that place is than it has waited.
func (c *Core) stays(t *task, p *place) bool {
	if t.deps == 0 {
		return false
	}
	until := t.since + (c.bytesAt(t, 0)-c.bytesAt(t, p.agent))*int64(time.Second)/moveRate
	if c.now < until {
		c.later(until)
	}
	return c.now < until
}

// nearer tells whether a task goes rather to a place than to another one: where its class wishes to be, where more of its arguments lie, and else
// where less is.
func (c *Core) nearer(t *task, p, than *place) bool {
	if a, b := t.class.rank(p.where), t.class.rank(than.where); a != b {
		return a < b
	}
	if t.deps > 0 && p.agent != than.agent {
		if a, b := c.bytesAt(t, p.agent), c.bytesAt(t, than.agent); a != b {
			return a > b
		}
	}
	if t.class.spreads() {
		return c.load(p.agent) < c.load(than.agent)
	}
	return p.n < than.n
}
