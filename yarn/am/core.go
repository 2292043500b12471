package am

import (
	"cmp"
	"slices"

	"github.com/maniple-hpc/maniple/yarn"
)

// core is what a master asks for and has. The lists are in the order of their IDs or of arrival.
type core struct {
	attempt   int32 // number of this attempt
	response  int32 // the last one received
	asks      []*pending
	held      map[yarn.ContainerID]bool // granted and told, not ended
	surplus   map[yarn.ContainerID]bool // granted, not told, released
	releasing []yarn.ContainerID        // released, not known to be over
	unsent    []yarn.ContainerID        // of releasing, not in any answered request
	sending   int                       // so many of unsent are in the request under way
	nmTokens  map[yarn.NodeID]yarn.Token

	avoid       []string // blacklisted hosts
	avoidUnsent bool
	avoidGone   []string // taken from the list, not told yet

	headroom  yarn.Resource
	nodeCount int32
}

// pending is an ask with what of it is known to the ResourceManager.
type pending struct {
	Ask
	dirty  bool     // to be sent
	flying bool     // in the request under way
	names  []string // that the ResourceManager has counts for
}

func newCore(attempt int32) *core {
	return &core{attempt: attempt, held: map[yarn.ContainerID]bool{}, surplus: map[yarn.ContainerID]bool{}, nmTokens: map[yarn.NodeID]yarn.Token{}}
}

// registered takes what a first or a further registration told. What of it is news is for a further one to tell.
func (c *core) registered(r Registered) []Event {
	c.tokens(r.NMTokens)
	return c.previous(r.Containers)
}

// previous takes in containers of attempts before this one (AM-7).
func (c *core) previous(list []yarn.Container) (out []Event) {
	for _, k := range list {
		if !c.held[k.ID] && !c.surplus[k.ID] && !slices.Contains(c.releasing, k.ID) {
			c.held[k.ID] = true
			out = append(out, Found{k})
		}
	}
	return out
}

func (c *core) tokens(list []nmToken) {
	for _, t := range list {
		c.nmTokens[t.Node] = t.Token
	}
}

// set says what is wanted from now on.
func (c *core) set(a Ask) {
	i, found := slices.BinarySearchFunc(c.asks, a.ID, func(p *pending, id int64) int { return cmp.Compare(p.ID, id) })
	if !found {
		if a.Count == 0 {
			return
		}
		c.asks = slices.Insert(c.asks, i, &pending{})
	}
	p := c.asks[i]
	p.Ask, p.dirty = a, true
}

// wanting tells whether containers are awaited.
func (c *core) wanting() bool {
	return slices.ContainsFunc(c.asks, func(p *pending) bool { return p.Count > 0 })
}

func (c *core) release(id yarn.ContainerID) {
	if !slices.Contains(c.releasing, id) {
		c.releasing = append(c.releasing, id)
		c.unsent = append(c.unsent, id)
	}
}

// setAvoided says which hosts are not to be used.
func (c *core) setAvoided(hosts []string) {
	for _, h := range c.avoid {
		if !slices.Contains(hosts, h) && !slices.Contains(c.avoidGone, h) {
			c.avoidGone = append(c.avoidGone, h)
		}
	}
	c.avoid, c.avoidUnsent = slices.Clone(hosts), true
}

// request is the next heartbeat.
func (c *core) request(progress float32, url string) allocateRequest {
	r := allocateRequest{Response: c.response, Progress: progress, URL: url, Release: slices.Clone(c.unsent)}
	c.sending = len(c.unsent)
	if c.avoidUnsent {
		gone := slices.DeleteFunc(slices.Clone(c.avoidGone), func(h string) bool { return slices.Contains(c.avoid, h) })
		r.Blacklist = &blacklist{Add: c.avoid, Remove: gone}
	}
	for _, p := range c.asks {
		if !p.dirty {
			continue
		}
		p.dirty, p.flying = false, true
		lines := p.lines()
		names := make([]string, len(lines))
		for i, l := range lines {
			names[i] = l.Name
		}
		for _, old := range p.names { // where nothing is wanted any more
			if !slices.Contains(names, old) {
				l := lines[len(lines)-1]
				l.Name, l.Count = old, 0
				lines = append(lines, l)
			}
		}
		p.names = names
		r.Asks = append(r.Asks, lines...)
	}
	return r
}

// lost says that the request under way got no answer.
func (c *core) lost() {
	for _, p := range c.asks {
		p.dirty, p.flying = p.dirty || p.flying, false
	}
	c.sending = 0
}

// resync forgets what a ResourceManager that was restarted has forgotten.
func (c *core) resync() {
	c.lost()
	c.response = 0
	for _, p := range c.asks {
		p.dirty, p.names = true, nil
	}
	c.unsent = slices.Clone(c.releasing)
	c.avoidUnsent = len(c.avoid) > 0
}

// refused drops what was asked for in the request under way, which the ResourceManager has refused as a whole.
func (c *core) refused() []Ask {
	var out []Ask
	c.asks = slices.DeleteFunc(c.asks, func(p *pending) bool {
		if p.flying {
			out = append(out, p.Ask)
		}
		return p.flying
	})
	c.sending = 0
	return out
}

// answer takes what a heartbeat brought.
func (c *core) answer(r allocateResponse) (out []Event) {
	c.response, c.headroom, c.nodeCount = r.Response, r.Headroom, r.NodeCount
	c.unsent, c.sending = slices.Delete(c.unsent, 0, c.sending), 0
	c.avoidUnsent, c.avoidGone = false, nil
	c.tokens(r.NMTokens)
	out = c.previous(r.Previous)
	for _, k := range r.Granted {
		if c.grant(k) {
			out = append(out, Granted{k})
		}
	}
	c.asks = slices.DeleteFunc(c.asks, func(p *pending) bool {
		p.flying = false
		return p.Count == 0 && !p.dirty
	})
	for _, s := range r.Ended {
		if c.end(s.ID) {
			out = append(out, Ended{s})
		}
	}
	for _, n := range r.Nodes {
		out = append(out, NodeChanged{n})
	}
	if p := r.Preempt; p != nil {
		out = append(out, warning(p))
	}
	return out
}

// grant books a container, and tells whether it was wanted.
func (c *core) grant(k yarn.Container) bool {
	i := slices.IndexFunc(c.asks, func(p *pending) bool { return p.ID == k.Ask && p.Count > 0 })
	if i < 0 {
		if !c.held[k.ID] { // else it is told again, after a restart
			c.surplus[k.ID] = true
			c.release(k.ID)
		}
		return false
	}
	p := c.asks[i]
	p.Count--
	// The count that went out with this heartbeat did not know of this container: it is put right.
	p.dirty = p.dirty || p.flying
	c.held[k.ID] = true
	return true
}

// end books a container's end, and tells whether it is news.
func (c *core) end(id yarn.ContainerID) bool {
	same := func(other yarn.ContainerID) bool { return other == id }
	c.releasing, c.unsent = slices.DeleteFunc(c.releasing, same), slices.DeleteFunc(c.unsent, same)
	news := c.held[id] || id.Attempt.Number < c.attempt && !c.surplus[id]
	delete(c.held, id)
	delete(c.surplus, id)
	return news
}

func warning(p *preemption) (w PreemptionWarning) {
	if p.Strict != nil {
		for _, k := range p.Strict.Containers {
			w.Strict = append(w.Strict, k.ID)
		}
	}
	if p.Contract != nil {
		for _, k := range p.Contract.Containers {
			w.Negotiable = append(w.Negotiable, k.ID)
		}
		for _, r := range p.Contract.Wanted {
			w.Wanted = append(w.Wanted, Wanted{r.Request.Resource, r.Request.Count})
		}
	}
	return w
}
