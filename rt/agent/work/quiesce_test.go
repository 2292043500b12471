package work

import (
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// quiesce moves everything until nothing moves.
func (h *history) quiesce(what string) {
	still := false
	for n := 0; ; n++ {
		moved := false
		for _, p := range slices.Clone(h.peers) {
			for !p.dead && h.move(p) {
				moved = true
			}
			for !p.dead && p.reads() {
				moved = true
			}
			if !p.dead && p.doomed {
				h.end(p, "it was told to")
				moved = true
			}
			for !p.dead && p.makesCached() {
				moved = true
			}
			if !p.dead && p.waitsDirect() {
				p.direct()
				moved = true
			}
			if !p.dead && (len(p.inbox)+len(p.running) > 0 || p.kind == Worker && p.line.waits()) {
				p.work()
				moved = true
			}
		}
		h.now += int64(10 * time.Millisecond)
		for _, s := range h.sites {
			for len(s.needs) > 0 {
				h.need(s)
				moved = true
			}
			for h.fetched(s) || h.arrive(s) || h.names(s) || h.brought(s) || h.tellEvicted(s) {
				moved = true
			}
			moved = moved || slices.ContainsFunc(s.core.actors, func(a *actor) bool { return a.naming })
			moved = h.unwish(s) || moved
			moved = h.rested(s) || moved
		}
		if moved {
			still = false
		} else if !still { // what is told late is told
			still = true
			h.now += int64(time.Second)
			for _, s := range h.sites {
				h.step(s, Tick{})
			}
		} else {
			h.checkUses()
			return
		}
		if n > 20000 {
			h.t.Fatalf("seed %d: waiting for %s never ends", h.seed, what)
		}
	}
}

func (h *history) need(s *site) {
	n := s.needs[0]
	s.needs = s.needs[1:]
	if n.Key%8 == 0 {
		h.step(s, WorkerSlow{Key: n.Key, Why: "it is being made"})
		s.core.Wanted(n.Key)
	}
	switch dead := slices.Contains(s.killed, n.Key); {
	case dead && h.rng.IntN(2) == 0 || !h.calm && h.rng.IntN(12) == 0:
		h.step(s, WorkerFailed{Key: n.Key, Why: "no memory"})
	default:
		h.attach(s, Worker, n.Job, n.Key)
	}
}

func (h *history) explain(s *site, t id.Task) string {
	e, err := s.core.explain(t.String())
	if err != nil {
		return err.Error()
	}
	return e.Text
}
