package pull

// next gives the fetch to ask for now of what comes from an agent: of the most urgent ones the first of which no more than a chunk is left, else
// the first.
func (c *Core) next(w *way) (best *fetch) {
	for _, f := range c.fetches {
		if f.source == w.agent && !f.over && f.left() > 0 && (best == nil || c.before(f, best)) {
			best = f
		}
	}
	return best
}

// before tells whether f goes before one that was wanted earlier.
func (c *Core) before(f, earlier *fetch) bool {
	if f.urgency != earlier.urgency {
		return f.urgency < earlier.urgency
	}
	return f.left() <= c.cfg.Chunk && earlier.left() > c.cfg.Chunk
}
