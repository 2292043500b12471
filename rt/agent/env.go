package agent

import (
	"cmp"
	"slices"

	programs "github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// here is a requested environment with this node's own variables in the place of those of the node that asked.
func (c *Core) here(env []string) []string {
	if len(c.cfg.Env) == 0 {
		return env
	}
	return append(slices.Clone(env), c.cfg.Env...) // of a name that comes twice the last one counts
}

// environ is the environment of one rank.
func (c *Core) environ(b *fb.BundlePlaceT, p *fb.RankPlaceT, m *fb.RankStartT) (env, notes []string) {
	in := programs.EnvInput{
		Base: c.here(m.Program.Env), SlurmEnv: m.Program.SlurmEnv, Driver: m.Program.Driver, Cwd: cmp.Or(m.Program.Cwd, c.cfg.Dir),
		Group: taskOf(m.Group).String(), Incarnation: m.Incarnation,
		Rank: p.Rank, LocalRank: p.LocalRank, NodeRank: p.NodeRank,
		World: m.World, LocalWorld: m.LocalWorld, Nodes: m.Nodes,
		MasterAddr: m.MasterAddr, MasterPort: m.MasterPort,
		NodeName: c.cfg.Name, NodeKey: c.cfg.NodeKey, Address: c.cfg.Socket,
		Interface: c.cfg.Interface,
	}
	if c.cfg.HomeRO {
		in.BadHome = c.cfg.Home
	}
	for _, have := range c.cfg.Devices {
		in.NodeDevices = append(in.NodeDevices, programs.Device{ID: have.Id, Kind: have.Kind})
	}
	mine := b.Devices
	if in.OwnDevices, in.OwnPlace = m.Program.GpusPerRank, p.Rank-b.FirstRank; in.OwnDevices == 0 {
		// LOCAL_RANK counts over the bundles of a node, so its devices have to.
		mine = nil
		for _, beside := range c.gang(gangKey{taskOf(m.Group), m.Incarnation}).bundles {
			mine = append(mine, beside.Devices...)
		}
	}
	if m.Program.Driver && len(mine) == 0 {
		// It reserved none for itself: what it starts will. It looks at those of its node.
		in.Devices = in.NodeDevices
	}
	for i, name := range mine {
		for _, have := range c.cfg.Devices {
			if have.Id == name && !slices.Contains(mine[:i], name) {
				in.Devices = append(in.Devices, programs.Device{ID: have.Id, Kind: have.Kind})
			}
		}
	}
	for _, r := range b.Resources {
		if r.Name == "CPU" && b.Ranks > 0 {
			in.CPUs = int(r.Amount / 10000 / int64(b.Ranks))
		}
	}
	return programs.Env(in)
}
