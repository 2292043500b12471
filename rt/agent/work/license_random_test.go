package work

import (
	"fmt"
	"slices"
	"strings"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// license is how many a node has, and who may use them by leases, each of which comes back as a whole. The others are its own agent's.
type license struct {
	n     int64
	loans []*loan
	moves int
}

type loan struct {
	n     int64
	by    *site
	group id.Task
}

// license has the nodes of a history have licenses that go around.
func (h *history) license() {
	for range h.sites {
		h.rings.lends = append(h.rings.lends, &license{n: 1 + int64(max(h.rng.IntN(5)-2, 0))})
	}
	for _, s := range h.sites {
		h.stakeOf(s)
	}
}

func (h *history) licenses(s *site) *license { return h.rings.lends[slices.Index(h.sites, s)] }

// own is how many of a node are lent to nobody.
func (k *license) own() int64 {
	n := k.n
	for _, l := range k.loans {
		n -= l.n
	}
	return n
}

// stakeOf tells an agent what of its node tasks of its own may use.
func (h *history) stakeOf(s *site) {
	k := h.licenses(s)
	cpu := one + k.n*one/2 // so that actors with licenses keep no CPUs from others; each loan has one more
	h.step(s, Grant{Resources: []Amount{{"CPU", cpu}, {"lic", k.own() * one}}, Node: []Amount{{"CPU", cpu + int64(len(k.loans))*one}, {"lic", k.n * one}}})
	var others [][]Amount
	for _, o := range h.sites {
		if o != s {
			others = append(others, []Amount{{"CPU", one}, {"lic", h.licenses(o).n * one}})
		}
	}
	h.step(s, Nodes{N: len(h.sites), Others: others})
}

// usesLoan tells whether anything has a part of a loan, or may be given it on its way there.
func (h *history) usesLoan(s *site, l *loan) bool {
	return slices.ContainsFunc(l.by.core.places, func(p *place) bool { return p.group == l.group && p.n > 0 }) ||
		slices.ContainsFunc(s.core.workers, func(w *worker) bool { return w.held && w.grant.group == l.group && w.flight.n > 0 })
}

// freeAt is how many nobody uses at a node, of those that are lent to nobody.
func (h *history) freeAt(s *site) int64 {
	n := h.licenses(s).own()
	for _, w := range s.core.workers {
		if w.held && w.grant.group == (id.Task{}) {
			n -= w.class.need.get(s.core.index("lic")) / one
		}
	}
	return n
}

// lacksLicense is how many a task needs that waits at an agent; 0: none does.
func (h *history) lacksLicense(s *site) (most int64) {
	for _, j := range s.core.jobs {
		for _, cl := range j.active {
			if n := cl.need.get(s.core.index("lic")) / one; cl.queue.n > 0 && cl.group == (id.Task{}) && (most == 0 || h.rng.IntN(2) == 0) {
				most = n
			}
		}
	}
	return most
}

// lendLicense takes back what is lent and not used, and gives what is free at a node to an agent that lacks it. Not all: at times.
func (h *history) lendLicense(all bool) {
	for i, s := range h.sites {
		k := h.rings.lends[i]
		if !all && h.rng.IntN(len(h.sites)) > 0 {
			continue
		}
		for _, l := range slices.Clone(k.loans) {
			if h.usesLoan(s, l) || !all && h.rng.IntN(3) > 0 {
				continue
			}
			h.step(l.by, Place{Group: l.group, Gone: true})
			h.step(s, Grant{Group: l.group})
			k.loans = slices.DeleteFunc(k.loans, func(o *loan) bool { return o == l })
			h.stakeOf(s)
		}
		to := h.sites[h.rng.IntN(len(h.sites))]
		n := h.lacksLicense(to)
		if to == s || n == 0 || h.freeAt(s) < n {
			continue
		}
		h.last++
		l := &loan{n, to, id.Task{Agent: to.agent, Process: 91, Counter: h.last}}
		k.loans, k.moves = append(k.loans, l), k.moves+1
		h.stakeOf(s)
		what := []Amount{{"CPU", one}, {"lic", n * one}}
		h.step(s, Grant{Group: l.group, Resources: what})
		h.step(to, Place{Group: l.group, Agent: s.agent, Node: s.core.cfg.Node, Resources: what, Open: true})
	}
}

// freeOf tells whether there are so many licenses at a node for a task of an agent, now or when something goes on.
func (h *history) freeOf(s *site, of id.Agent, need int64, seen map[id.Task]bool) bool {
	k := h.licenses(s)
	kept := map[id.Task]int64{} // by the group of their grants, of what is stuck
	whole := map[id.Task]bool{}
	for _, p := range h.peers {
		w := p.at.core.byProcess[p.id].worker
		if p.at != s || w == nil || !w.held || len(p.running) == 0 && !(h.rings.idle && p.idles()) || slices.ContainsFunc(p.running, func(j *job1) bool { return h.goesOn(p, j, seen) }) {
			continue
		}
		kept[w.grant.group] += w.class.need.get(s.core.index("lic")) / one
		whole[w.grant.group] = true
	}
	n := k.n - kept[id.Task{}]
	for _, l := range k.loans {
		if whole[l.group] {
			n -= l.n
		}
		if l.by.agent == of && l.n-kept[l.group] >= need {
			return true
		}
	}
	return n >= need
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
		for _, o := range h.sites {
			if need := h.roomFor(s.asks[0].Text); h.licenses(o).n >= need {
				ev.Agents = append(ev.Agents, o.agent)
			}
		}
		s.asks = s.asks[1:]
		s.says = append(s.says, ev)
	default:
		return false
	}
	return true
}

// roomFor is how many licenses a question for room is for.
func (h *history) roomFor(text string) (n int64) {
	if _, err := fmt.Sscanf(text, "%d lic", &n); err == nil {
		return n / one
	}
	if !strings.HasSuffix(text, " CPU") {
		h.t.Fatalf("seed %d: asked for %q", h.seed, text)
	}
	return 0
}
