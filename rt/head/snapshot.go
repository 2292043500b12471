package head

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Snapshot appends records that make an empty core equal to this one: the start of a compacted
// journal. Its size is O(nodes + groups + names), whatever happened before.
func (c *Core) Snapshot(out []Message) []Message { return c.state.snapshot(out) }

func (s *state) snapshot(out []Message) []Message {
	// Numbers are issued in rising order, those of the dead among them; the term, which says how
	// many were issued in all, follows.
	type issued struct {
		number id.Agent
		member *member
		node   *node
	}
	var list []issued
	for _, m := range s.members {
		list = append(list, issued{m.number, m, m.node})
	}
	for _, n := range s.nodes {
		if n.dead {
			list = append(list, issued{n.agent, nil, n})
		}
	}
	slices.SortFunc(list, func(a, b issued) int { return int(int64(a.number) - int64(b.number)) })
	for _, i := range list {
		key := ""
		if i.node != nil {
			key = i.node.nodeKey
		}
		if i.member != nil {
			key = i.member.nodeKey
		}
		out = append(out, &fb.RecAgentT{Agent: uint32(i.number), NodeKey: key})
		if n := i.node; n != nil {
			out = append(out, &fb.RecAgentT{Agent: uint32(i.number), NodeKey: key, Name: n.name, Node: n.index, Register: n.register, Wall: n.since})
		}
		if i.member == nil {
			out = append(out, &fb.RecAgentDeadT{Agent: uint32(i.number), Reason: i.node.why, Wall: i.node.since})
		}
	}
	if s.term > 0 {
		out = append(out, &fb.RecTermT{Term: s.term, Cluster: s.cluster, Epoch: s.epoch, Wall: s.began, NextAgent: s.nextAgent})
	}
	for _, n := range s.nodes {
		for _, d := range n.drains() {
			out = append(out, d)
		}
	}
	for _, n := range s.names {
		out = append(out, &fb.RecNameT{Claim: n.claim, Agent: uint32(n.agent), Wall: n.since})
		if n.coming || n.restarts != n.claim.Restarts {
			out = append(out, &fb.RecNameMovedT{Actor: n.claim.Actor, Agent: uint32(n.agent), Restarts: n.restarts, Settled: !n.coming})
		}
	}
	for _, g := range s.ended {
		end := &fb.RecGroupStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Phase: fb.GroupPhaseEnded,
			Restarts: g.restarts, End: g.end, PortFree: g.portFree, Wall: g.since}
		for _, a := range g.last {
			end.Holders = append(end.Holders, uint32(a))
		}
		out = append(g.begin(out), end)
	}
	for _, g := range s.groups {
		out = g.snapshot(out)
	}
	if s.drain != nil {
		out = append(out, s.drain)
	}
	return out
}

func (g *group) begin(out []Message) []Message {
	out = append(out, &fb.RecGroupT{Create: g.create, Wall: g.created})
	if uint32(g.owner) != g.create.OwnerAgent || uint32(g.process) != g.create.OwnerProcess {
		out = append(out, &fb.RecGroupOwnerT{Group: wireTask(g.id), Agent: uint32(g.owner), Process: uint32(g.process)})
	}
	return out
}

func (g *group) snapshot(out []Message) []Message {
	out = g.begin(out)
	at := &fb.RecGroupStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Restarts: g.restarts, PortFree: g.portFree, Wall: g.since}
	out = append(out, at) // Pending
	if g.phase == fb.GroupPhasePending {
		return out
	}
	placed := &fb.RecGroupPlacedT{Group: at.Group, Incarnation: g.incarnation, Wall: g.since}
	for _, p := range g.places {
		placed.Places = append(placed.Places, &fb.RecPlaceT{Agent: uint32(p.agent), Node: p.node, Bundles: p.told()})
	}
	now := *at
	now.Phase, now.MasterAddr, now.MasterPort, now.End = g.phase, g.master, g.port, g.end
	out = append(out, placed, &now)
	for r := range g.ranks {
		if e := &g.ranks[r]; e.done {
			out = append(out, &fb.RecRankEndT{Group: at.Group, Incarnation: g.incarnation, State: &fb.RankStateT{
				Rank: uint32(r), Phase: fb.RankPhaseEnded, Code: e.code, Signal: e.signal, ByUs: e.byUs}})
		}
	}
	return out
}

// gist is what is kept of a description once the group has ended.
func gist(c *fb.GroupCreateT) *fb.GroupCreateT {
	k := *c
	if c.Program != nil {
		k.Program = &fb.ProgramT{Argv: c.Program.Argv, Driver: c.Program.Driver}
		if len(k.Program.Argv) > 8 {
			k.Program.Argv = append(slices.Clone(k.Program.Argv[:8]), "...")
		}
	}
	return &k
}
