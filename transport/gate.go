package transport

import (
	"fmt"
	"sync"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Gate refuses what is foreign or stale, and counts it. It is used inside the admit function of
// Answer, before the owner's core is asked. A zero field is not checked. Safe for concurrent use.
type Gate struct {
	Cluster string // ID of the cluster
	Job     string // the site scheduler's job ID
	Epoch   uint32 // its restart count
	// Dead tells whether an agent number was declared dead; nil: none is.
	Dead func(agent uint32) bool
	// Agent is the number of the side that answers, 0: it has none (yet). Nil: a hello that means one
	// agent is not for this side. At the address of an agent that died another one may answer.
	Agent func() uint32

	mu     sync.Mutex
	counts [fb.RefuseCodeMalformed + 1]uint64
}

// Check returns nil, or why h is refused.
func (g *Gate) Check(h *fb.HelloT, p Peer) *fb.RefuseT {
	switch {
	case h.WireVersion != wire.Version:
		return g.Refuse(fb.RefuseCodeWireVersion, fmt.Sprintf("wire version %d (%s), this side speaks %d: use the same maniple on all nodes", h.WireVersion, h.Build, wire.Version))
	case g.Cluster != "" && (h.Cluster != g.Cluster || p.Cluster != "" && p.Cluster != g.Cluster):
		return g.Refuse(fb.RefuseCodeCluster, "another cluster lives at this address")
	case g.Job != h.Job && g.Job != "" && h.Job != "":
		return g.Refuse(fb.RefuseCodeEpoch, fmt.Sprintf("job %s, this is job %s", h.Job, g.Job))
	case h.Epoch != g.Epoch:
		return g.Refuse(fb.RefuseCodeEpoch, fmt.Sprintf("start %d of the job, this is start %d", h.Epoch, g.Epoch))
	case p.Role != fb.RoleNone && p.Role != h.Role:
		return g.Refuse(fb.RefuseCodeIdentity, fmt.Sprintf("says %s, its certificate says %s", h.Role, p.Role))
	case h.Purpose > fb.PurposeProbe:
		return g.Refuse(fb.RefuseCodeMalformed, fmt.Sprintf("purpose %d is not known", h.Purpose))
	case h.Purpose == fb.PurposeWork && (p.UID < 0 || h.Role != fb.RoleClient || h.Session != 0):
		return g.Refuse(fb.RefuseCodeMalformed, "a work connection is a program's with the agent of its own node, without a session")
	case h.Purpose == fb.PurposeProbe && (p.Role != fb.RoleAgent || h.Agent == 0 || h.To == 0 || h.Session != 0):
		return g.Refuse(fb.RefuseCodeMalformed, "a probe connection is an agent's, by its certificate, with another one that it names, without a session")
	case h.Agent != 0 && g.Dead != nil && g.Dead(h.Agent):
		return g.Refuse(fb.RefuseCodeDead, fmt.Sprintf("agent %d was declared dead", h.Agent))
	}
	if h.To != 0 {
		return g.meant(h.To)
	}
	return nil
}

// meant returns nil if this side is agent to, or why not.
func (g *Gate) meant(to uint32) *fb.RefuseT {
	var agent uint32
	if g.Agent != nil {
		agent = g.Agent()
	}
	switch {
	case agent == to:
		return nil
	case agent == 0 && g.Agent != nil:
		return g.Refuse(fb.RefuseCodeBusy, "this agent is not a member yet")
	case agent == 0:
		return g.Refuse(fb.RefuseCodeIdentity, fmt.Sprintf("agent %d is meant, and no agent answers here", to))
	}
	return g.Refuse(fb.RefuseCodeIdentity, fmt.Sprintf("agent %d is meant, and agent %d answers here: ask the head where it is", to, agent))
}

// Refuse counts one refusal and returns it; for reasons that only the owner knows.
func (g *Gate) Refuse(code fb.RefuseCode, text string) *fb.RefuseT {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(code) < len(g.counts) {
		g.counts[code]++
	}
	return &fb.RefuseT{Code: code, Text: text}
}

// Refused tells how many were refused with code.
func (g *Gate) Refused(code fb.RefuseCode) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(code) >= len(g.counts) {
		return 0
	}
	return g.counts[code]
}
