package agent

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// claimedName is the name of an actor of this agent's, as far as the head was told: it has the name, or asks for it. A head that
// takes this agent in anew hears of all of them: of the first by Register, and is asked for the others again.
type claimedName struct {
	process uint32 // the client that asked
	m       *fb.NameClaimT
	has     bool
}

// onClaim asks the head for a name, or tells it more of the actor that has it.
func (c *Core) onClaim(cl *client, m *fb.NameClaimT) {
	if i := c.relay.name(m.Actor); i >= 0 {
		c.relay.names[i].m = m
	} else {
		c.relay.names = append(c.relay.names, claimedName{cl.process, m, false})
	}
	c.toHead(m) // behind Register; after the next one it is said again, if this does not get there
}

// onFree gives one back.
func (c *Core) onFree(m *fb.NameFreeT) {
	if i := c.relay.name(m.Actor); i >= 0 {
		c.relay.names = slices.Delete(c.relay.names, i, i+1)
	}
	c.toHead(m)
}

// onClaimed tells who asked for a name whether it has that.
func (c *Core) onClaimed(m *fb.NameClaimedT) {
	i := c.relay.name(m.Actor)
	if i < 0 {
		return // it was given back meanwhile
	}
	process := c.relay.names[i].process
	if m.Error != "" || taskOf(m.Holder) != taskOf(m.Actor) {
		c.relay.names = slices.Delete(c.relay.names, i, i+1)
	} else {
		c.relay.names[i].has = true
	}
	c.toClient(process, m)
}

// namesHeld are those that this agent has, without what the head keeps of their actors.
func (r *relay) namesHeld() (held []*fb.NameClaimT) {
	for _, n := range r.names {
		if n.has {
			short := *n.m
			short.Spec, short.JobName, short.Language, short.JobConfig = nil, "", "", ""
			held = append(held, &short)
		}
	}
	return held
}

// claimAgain asks a head that takes this agent in anew for the names that nobody has said anything of.
func (c *Core) claimAgain() {
	for _, n := range c.relay.names {
		if !n.has {
			c.toHead(n.m)
		}
	}
}

func (r *relay) name(actor *fb.TaskIDT) int {
	return slices.IndexFunc(r.names, func(n claimedName) bool { return taskOf(n.m.Actor) == taskOf(actor) })
}
