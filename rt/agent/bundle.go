package agent

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/rt/internal/alike"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

type gangKey struct {
	group       id.Task
	incarnation uint32
}

// gang is what one incarnation of a group has on this node.
type gang struct {
	key         gangKey
	bundles     []*fb.BundlePlaceT // nil: not (yet, any more) reserved
	port        uint16
	portPending bool   // the keeper was asked and has not answered
	portErr     string // why there is none
	released    bool
	sink        sink
	world       int // ranks, on all nodes
	window      int
	grace       int64
	ranks       []*rank // by number
}

// sink is the client that gets a gang's output. Agent 0: nobody, output is dropped.
type sink struct {
	known          bool // not known: output waits
	agent, process uint32
}

// gangs holds every gang with something on this node; order is that of arrival.
type gangs struct {
	byKey map[gangKey]*gang
	order []*gang
	ranks map[Key]*rank
}

// gang gives the gang of a key, made if there is none.
func (c *Core) gang(key gangKey) *gang {
	if g := c.gangs.byKey[key]; g != nil {
		return g
	}
	g := &gang{key: key, window: Window}
	c.gangs.byKey[key] = g
	c.gangs.order = append(c.gangs.order, g)
	return g
}

// dropGang forgets a gang that holds nothing.
func (c *Core) dropGang(g *gang) {
	if g.bundles != nil || len(g.ranks) > 0 {
		return
	}
	delete(c.gangs.byKey, g.key)
	if i := slices.Index(c.gangs.order, g); i >= 0 {
		c.gangs.order = slices.Delete(c.gangs.order, i, i+1)
	}
}

// onReserve takes bundles for a gang. It may come again: after a restart of the head, or of this agent.
func (c *Core) onReserve(m *fb.BundleReserveT) {
	key := gangKey{taskOf(m.Group), m.Incarnation}
	m.Bundles = alike.Places(m.Bundles)
	if why := c.unfit(m.Bundles); why != "" {
		c.toHead(&fb.BundleReservedT{Group: m.Group, Incarnation: m.Incarnation, Bundles: m.Bundles, Error: why})
		return
	}
	g := c.gang(key)
	g.bundles, g.released = m.Bundles, false
	if g.bundles == nil {
		g.bundles = []*fb.BundlePlaceT{}
	}
	switch {
	case g.portPending:
	case m.HoldPort && g.port == 0:
		g.portPending = true
		c.toKeeper(&fb.PortHoldT{Group: m.Group, Incarnation: m.Incarnation, Free: m.PortFree})
	case !m.Quiet:
		c.toHead(g.reserved())
	}
}

// unfit says which of the bundles this node can't have. That there is room is the head's business.
func (c *Core) unfit(bundles []*fb.BundlePlaceT) string {
	for _, b := range bundles {
		for _, d := range b.Devices {
			if !slices.ContainsFunc(c.cfg.Devices, func(have *fb.DeviceT) bool { return have.Id == d }) {
				return fmt.Sprintf("node %s has no device %s", c.cfg.Name, d)
			}
		}
		for _, cpu := range b.Cpus {
			if !slices.Contains(c.cfg.CPUs, cpu) {
				return fmt.Sprintf("node %s may not use CPU %d", c.cfg.Name, cpu)
			}
		}
	}
	return ""
}

func (g *gang) reserved() *fb.BundleReservedT {
	return &fb.BundleReservedT{
		Group: taskT(g.key.group), Incarnation: g.key.incarnation,
		Bundles: g.bundles, MasterPort: g.port, Error: g.portErr,
	}
}

func (c *Core) onPortHeld(m *fb.PortHeldT) {
	g := c.gangs.byKey[gangKey{taskOf(m.Group), m.Incarnation}]
	if g == nil || g.bundles == nil {
		c.toKeeper(&fb.PortReleaseT{Group: m.Group, Incarnation: m.Incarnation})
		return
	}
	g.portPending, g.port, g.portErr = false, m.Port, m.Error
	c.toHead(g.reserved())
	if g.portErr != "" {
		g.bundles = nil // refused as a whole
		c.dropGang(g)
	}
}

// onRelease gives bundles back; what still runs on them ends. Output that was read is still delivered.
func (c *Core) onRelease(m *fb.BundleReleaseT) {
	g := c.gangs.byKey[gangKey{taskOf(m.Group), m.Incarnation}]
	if g == nil {
		// Not known here, but perhaps to the keeper: an agent before this one held it.
		c.toKeeper(&fb.PortReleaseT{Group: m.Group, Incarnation: m.Incarnation})
		return
	}
	if !g.bare() {
		c.toKeeper(&fb.PortReleaseT{Group: m.Group, Incarnation: m.Incarnation})
	}
	g.bundles, g.port, g.portPending, g.released = nil, 0, false, true
	for _, k := range g.ranks {
		c.release(k)
	}
	c.dropDone(g)
	c.dropGang(g)
}

// bare tells whether nothing here can ever have had a port: its bundles are known, and no program is to run on them.
func (g *gang) bare() bool {
	return g.bundles != nil && len(g.ranks) == 0 && !slices.ContainsFunc(g.bundles, func(b *fb.BundlePlaceT) bool { return b.Ranks > 0 })
}

// bundle finds the bundle that a rank runs on.
func (g *gang) bundle(index uint32) *fb.BundlePlaceT {
	for _, b := range g.bundles {
		if b.Index == index {
			return b
		}
	}
	return nil
}
