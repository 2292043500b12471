package work

import (
	"fmt"
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// checkSpares: a spare is an object's owner, which its home is not, and is known to list this agent; and what was lost on its way here and is waited for,
// its owner is asked for.
func checkSpares(c *Core) error {
	questions := map[id.Object]bool{}
	spares := 0
	for _, p := range c.processes {
		for i, o := range p.spares {
			l := c.lent[o]
			if spares++; l == nil || l.spare != p || l.spareAt != i || p.agent != o.owner() || l.home == p {
				return fmt.Errorf("REF-6: object %v has a spare that it does not know", o.id())
			}
		}
		for _, name := range p.listings {
			questions[name] = true
		}
		for _, o := range p.lends {
			if c.lent[o].spare != nil {
				spares--
			}
		}
	}
	if spares != 0 {
		return fmt.Errorf("REF-6: %d spares are not counted", spares)
	}
	for _, h := range c.hosts {
		for _, name := range h.lists {
			questions[name] = true
		}
	}
	for name, e := range c.entries {
		for i := range len(e.others()) + 1 {
			if o := e.object(uint32(i)); o != nil && o.has(markLost) && !o.foreign && o.state == objectPending && e.task == nil && e.actor == nil && !questions[o.id()] {
				return fmt.Errorf("REF-6: object %v[%d] is adrift", name, i)
			}
		}
	}
	return nil
}

// asked has the owners of all that is borrowed asked, and their answers come.
func (h *history) asked() {
	for range 2 {
		h.now += 2 * borrowAfter
		for _, s := range h.sites {
			h.step(s, Tick{})
		}
		h.quiesce("owners to answer")
	}
}

// checkHomes: whoever sent a reference lists the agent to which it went (REF-5), and none is kept by way of an agent that does not own it, if the owner
// can tell and be asked (REF-6). It gives how many came by way of another one.
func (h *history) checkHomes() {
	for _, s := range h.sites {
		for _, p := range s.core.processes {
			for _, o := range slices.Concat(p.lends, p.spares) {
				k := h.errandOf(s, p.id)
				if k == nil {
					h.t.Fatalf("seed %d: agent %d has %v from nowhere", h.seed, s.agent, o.id())
				}
				if s.core.lent[o].home == p && s.core.lent[o].owed == 0 { // an argument's value, which its task keeps there
					continue
				}
				i := 1 - k.end(s)
				there := k.ends[i].core
				if x, q := there.lookup(o.id()), there.byProcess[k.process[i]]; x == nil || q == nil || there.holderOf(q, x) == nil {
					h.t.Fatalf("seed %d: REF-5: agent %d has %v from agent %d, which does not list it", h.seed, s.agent, o.id(), k.ends[i].agent)
				}
			}
			for _, o := range p.lends {
				owner := h.siteOf(o.owner())
				if !s.core.borrowed(o) || h.cuts[[2]id.Agent{s.agent, owner.agent}] {
					continue
				}
				if x := owner.core.lookup(o.id()); x != nil && !x.has(markLost) && !s.unlisted[o.id()] && s.core.lent[o].spare == nil {
					h.t.Fatalf("seed %d: REF-6: agent %d has %v by way of agent %d, and agent %d, its owner, could list it", h.seed, s.agent, o.id(), p.agent, owner.agent)
				}
			}
		}
	}
}

func (h *history) siteOf(agent id.Agent) *site {
	return h.sites[slices.IndexFunc(h.sites, func(s *site) bool { return s.agent == agent })]
}

// middle has an agent be lost to all others. What lies at its owner, elsewhere, is still there for all who have a reference, whichever way that came.
func (h *history) middle() {
	m := h.sites[h.rng.IntN(len(h.sites))]
	type wish struct {
		p *peer
		o id.Object
		r *refs
	}
	var wishes []wish
	for _, p := range h.peers {
		for _, o := range p.keys {
			if p.at != m && p.at.copyAt(o) && h.actors[o.Task] == nil && !p.doomed && !p.severed && !h.worksFor(p, m) { // a copy is there whoever is lost
				wishes = append(wishes, wish{p, o, p.held[o]})
				continue
			}
			if p.at == m || o.Task.Agent == m.agent || h.actors[o.Task] != nil || p.doomed || p.severed || p.at.unlisted[o] || p.at.store.lost[o] || h.worksFor(p, m) || h.cuts[[2]id.Agent{p.at.agent, o.Task.Agent}] {
				continue
			}
			if x := h.siteOf(o.Task.Agent).core.lookup(o); x == nil || x.state != objectThere {
				continue
			}
			wishes = append(wishes, wish{p, o, p.held[o]})
		}
	}
	for _, s := range h.sites {
		if s != m {
			h.part(s, m)
		}
	}
	h.quiesce("what an agent had to be lost")
	h.dropWhatCanBeHad()
	for _, w := range wishes {
		if w.p.dead || w.p.doomed || w.p.severed || w.p.held[w.o] != w.r {
			continue
		}
		w.r.asked++
		w.r.failed = ""
		w.p.send(&fb.GetT{Object: objectT(w.o), Want: fb.WantValue}, nil)
	}
	h.quiesce("values to come from their owners")
	for _, w := range wishes {
		if w.r.failed != "" && !w.p.dead {
			h.t.Fatalf("seed %d: REF-6: agent %d was lost, and process %d of agent %d can't have %v: %s", h.seed, m.agent, w.p.id, w.p.at.agent, w.o, w.r.failed)
		}
	}
	h.outlived += len(wishes)
}

// meet has a driver find an actor of any node, or call one, at times: so references go from one node by way of a second one to a third.
func (h *history) meet(p *peer) bool {
	if p.kind != Driver || p.doomed || p.waitsDirect() {
		return false
	}
	switch h.rng.IntN(8) {
	case 0:
		p.look()
	case 1, 2:
		for _, o := range p.keys {
			if h.actors[o.Task] != nil && o.Task.Agent != p.at.agent && h.rng.IntN(2) == 0 {
				p.callOf(o.Task)
				return true
			}
		}
		return false
	default:
		return false
	}
	return true
}

// callOf calls an actor with what the process has.
func (p *peer) callOf(actor id.Task) {
	p.define()
	deps, in := p.some(1), p.some(2)
	if p.h.direct && p.h.rng.IntN(4) > 0 { // as a direct line takes them
		deps, in = nil, nil
	}
	t := p.mint()
	m := &fb.CallT{Task: taskT(t), Actor: taskT(actor), Parent: &fb.TaskIDT{}, Job: p.job, Shape: uint32(6 + p.h.rng.IntN(2)), Method: uint32(p.h.rng.IntN(2)), Returns: 1,
		Deps: uint32(len(deps)), Refs: uint32(len(in))}
	if p.h.rng.IntN(6) == 0 {
		m.Returns = stream | uint32(1+p.h.rng.IntN(mostAhead))
		p.flows = append(p.flows, &flow{task: t})
	} else {
		p.expect(t, 1)
	}
	p.send(m, objectBytes(append(deps, in...)...))
	p.line.called(actor, t)
	p.h.submitted++
}

// countListed counts what owners list for an agent to which others sent references, and notes what they had no more when they were asked.
func (k *errand) countListed(to *site, b []byte) {
	for len(b) > 0 {
		f, rest, _ := cut(b)
		b = rest
		if f.kind != fb.FrameTypeReady {
			continue
		}
		switch m, err := wire.Unmarshal(f.kind, f.body); {
		case err != nil:
		case m.(*fb.ReadyT).State == fb.ObjectStateListed:
			k.h.listed++
		case m.(*fb.ReadyT).State == fb.ObjectStateUnlisted:
			to.unlisted[objectOf(m.(*fb.ReadyT).Object)] = true
		}
	}
}

// worksFor tells whether a process is a worker of a job of another agent's.
func (h *history) worksFor(p *peer, m *site) bool {
	return p.kind == Worker && slices.ContainsFunc(h.errands, func(k *errand) bool { return k.ends[1] == p.at && k.job[1] == p.job && k.ends[0] == m })
}

// failure is what the runtime says of a value that a process can't have.
func failure(m *fb.ResultT, payload []byte) string {
	if m.Flags&uint32(fb.ResultFlagError) == 0 {
		return ""
	}
	if e, err := wire.Unmarshal(fb.FrameTypeFailure, payload); err == nil && m.Format == fb.FormatError {
		return " " + e.(*fb.FailureT).Code + ": " + e.(*fb.FailureT).Message
	}
	return " an error"
}

var modelShapes = []struct {
	need       string
	retries    int32
	exceptions bool
	calls      uint32
	env        string
}{
	{"CPU:1", 3, false, 0, ""},
	{"CPU:1", 0, false, 0, ""},
	{"CPU:2", 1, true, 0, ""},
	{"CPU:1,GPU:0.5", 3, false, 1, ""},
	{"CPU:0.5,lic:1", 3, false, 0, "e"},
	{"", 0, false, 0, ""},
	{"", 2, false, 0, ""},
	{"CPU:0.5,lic:2", 3, false, 0, ""},
}
