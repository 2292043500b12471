package work

// drain takes a node out of use, or back; all agents hear of it.
func (h *history) drain(s *site) {
	ev := Drain{Agent: s.agent, Node: s.core.cfg.Node, Reason: "a test", Undo: s.core.going}
	if h.rng.IntN(3) > 0 {
		ev.Until = h.now + int64(h.rng.IntN(3))*1e8
	}
	h.drained(ev)
}

func (h *history) drained(ev Drain) {
	for _, o := range h.sites {
		var others [][]Amount
		for _, p := range h.sites {
			if p != o && !(p.core.going && p.agent != ev.Agent) && (p.agent != ev.Agent || ev.Undo) {
				others = append(others, []Amount{{"CPU", 32 * one}, {"lic", one}})
			}
		}
		h.step(o, Nodes{N: len(h.sites), Others: others})
		h.step(o, ev)
	}
}

// undrain takes all nodes back.
func (h *history) undrain() {
	for _, s := range h.sites {
		if s.core.going {
			h.drained(Drain{Agent: s.agent, Node: s.core.cfg.Node, Undo: true})
		}
	}
}
