package work

import (
	"slices"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// license is how many a node has, and who may use them: its own agent, or another one by a lease, which comes back as a whole.
type license struct {
	n     int64
	by    *site
	group id.Task
	moves int
}

// license has the nodes of a history have licenses that go around.
func (h *history) license() {
	for _, s := range h.sites {
		h.rings.lends = append(h.rings.lends, &license{n: 1, by: s})
	}
	for _, s := range h.sites {
		h.stakeOf(s)
	}
}

// stakeOf tells an agent what of its node tasks of its own may use.
func (h *history) stakeOf(s *site) {
	k := h.rings.lends[slices.Index(h.sites, s)]
	ev := Grant{Resources: []Amount{{"CPU", one}}, Node: []Amount{{"CPU", one}, {"lic", k.n * one}}}
	if k.by == s {
		ev.Resources = append(ev.Resources, Amount{"lic", k.n * one})
	}
	h.step(s, ev)
	var others [][]Amount
	for i, o := range h.sites {
		if o != s {
			others = append(others, []Amount{{"CPU", one}, {"lic", h.rings.lends[i].n * one}})
		}
	}
	h.step(s, Nodes{N: len(h.sites), Others: others})
}

// usesLicense tells whether anything at a node has one, or may be given one on its way there.
func (h *history) usesLicense(s *site) bool {
	k := h.rings.lends[slices.Index(h.sites, s)]
	if k.by != s && slices.ContainsFunc(k.by.core.places, func(p *place) bool { return p.group == k.group && p.n > 0 }) {
		return true
	}
	return slices.ContainsFunc(s.core.workers, func(w *worker) bool {
		return w.held && w.class.need.get(s.core.index("lic")) > 0 && w.flight.n > 0
	})
}

// lacksLicense tells whether a task waits at an agent that needs one.
func (h *history) lacksLicense(s *site) bool {
	return slices.ContainsFunc(s.core.jobs, func(j *job) bool {
		return slices.ContainsFunc(j.active, func(cl *class) bool {
			return cl.queue.n > 0 && cl.group == (id.Task{}) && cl.need.get(s.core.index("lic")) > 0
		})
	})
}

// lendLicense gives what is free at a node to an agent that lacks it, or, at times, to any.
func (h *history) lendLicense(all bool) {
	for i, s := range h.sites {
		k := h.rings.lends[i]
		if !all && h.rng.IntN(len(h.sites)) > 0 || h.usesLicense(s) || h.lacksLicense(k.by) {
			continue
		}
		to := h.sites[h.rng.IntN(len(h.sites))]
		if to == k.by || !h.lacksLicense(to) && (all || h.rng.IntN(4) > 0) {
			continue
		}
		if k.by != s {
			h.step(k.by, Place{Group: k.group, Gone: true})
			h.step(s, Grant{Group: k.group})
		}
		k.by, k.moves = to, k.moves+1
		h.stakeOf(s)
		if to != s {
			h.last++
			k.group = id.Task{Agent: to.agent, Process: 91, Counter: h.last}
			what := []Amount{{"CPU", one}, {"lic", k.n * one}}
			h.step(s, Grant{Group: k.group, Resources: what})
			h.step(to, Place{Group: k.group, Agent: s.agent, Node: s.core.cfg.Node, Resources: what, Open: true})
		}
	}
}

// freeOf tells whether there is a license at a node for a task of an agent, now or when something goes on.
func (h *history) freeOf(s *site, of id.Agent, seen map[id.Task]bool) bool {
	k := h.rings.lends[slices.Index(h.sites, s)]
	lic := s.core.index("lic")
	for _, p := range h.peers {
		w := p.at.core.byProcess[p.id].worker
		if p.at != s || w == nil || !w.held || len(p.running) == 0 {
			continue
		}
		keeps := w.class.need.get(lic) > 0 || k.by != s && k.by.agent != of && w.grant.group == k.group // a lease comes back as a whole
		if keeps && !h.goesOn(p, p.running[0], seen) {
			return false
		}
	}
	return true
}

// survey lets the head hear one question for room of an agent, or that agent one of its answers.
func (h *history) survey(s *site) bool {
	switch {
	case len(s.says) > 0 && (len(s.asks) == 0 || h.rng.IntN(2) == 0):
		ev := s.says[0]
		s.says = s.says[1:]
		h.step(s, ev)
	case len(s.asks) > 0:
		ev := Surveyed{Key: s.asks[0].Key, Issued: uint64(len(h.sites))}
		s.asks = s.asks[1:]
		for _, o := range h.sites {
			ev.Agents = append(ev.Agents, o.agent)
		}
		s.says = append(s.says, ev)
	default:
		return false
	}
	return true
}
