package agent

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// claimedName is the name of an actor of this agent's, as far as the head was told: it has the name, or asks for it. A head that
// takes this agent in anew hears of all of them.
type claimedName struct {
	process uint32 // the client that asked
	m       *fb.NameClaimT
}

// onClaim asks the head for a name, or tells it more of the actor that has it.
func (c *Core) onClaim(cl *client, m *fb.NameClaimT) {
	if i := c.relay.name(m.Actor); i >= 0 {
		c.relay.names[i].m = m
	} else {
		c.relay.names = append(c.relay.names, claimedName{cl.process, m})
	}
	c.toHead(m) // behind Register, which tells of it if this does not get there
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
	}
	c.toClient(process, m)
}

func (r *relay) name(actor *fb.TaskIDT) int {
	return slices.IndexFunc(r.names, func(n claimedName) bool { return taskOf(n.m.Actor) == taskOf(actor) })
}
