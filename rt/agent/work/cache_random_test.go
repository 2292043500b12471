package work

import (
	"fmt"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// cacheCounts are what became of what was asked of the cache in random histories.
type cacheCounts struct{ made, unmade, found, evicted, late int }

func (k *cacheCounts) add(o cacheCounts) {
	k.made, k.unmade, k.found, k.evicted, k.late = k.made+o.made, k.unmade+o.unmade, k.found+o.found, k.evicted+o.evicted, k.late+o.late
}

func (k *cacheCounts) check(t *testing.T, seeds int) {
	if min(k.made, k.found) < seeds || min(k.unmade, k.evicted) < seeds/4 || k.late < seeds/60 {
		t.Errorf("%d histories have too little of what may become of cached values: %+v", seeds, *k)
	}
}

// wantCached has a process ask the cache, or go on with what it makes; false: it does something else.
func (p *peer) wantCached() bool {
	rng := p.h.rng
	switch {
	case rng.IntN(2) == 0:
		return false
	case rng.IntN(2) == 0 && p.makesCached():
	default:
		p.send(&fb.CacheWantedT{Key: []byte{byte(rng.IntN(4))}}, nil)
	}
	return true
}

// cached is the answer. CACHE-1: only one process makes a value.
func (p *peer) cached(m *fb.CachedT) {
	o := id.Object{Task: taskOf(m.Object)}
	p.delivered(o)
	if !m.Make {
		p.h.kept.found++
		if p.held[o].asked++; p.h.rng.IntN(3) > 0 { // the value may come behind it
			p.drop(o)
		}
		return
	}
	for _, q := range p.h.peers {
		for _, x := range q.making {
			if x == o {
				p.h.t.Fatalf("seed %d: CACHE-1: processes %d and %d make %v", p.h.seed, p.id, q.id, o)
			}
		}
	}
	p.making = append(p.making, o)
}

// makesCached ends the making of a value; false: there is none.
func (p *peer) makesCached() bool {
	if len(p.making) == 0 {
		return false
	}
	o := p.making[0]
	p.making = p.making[1:]
	if p.h.rng.IntN(4) == 0 {
		p.unmakes(o)
		return true
	}
	p.h.kept.made++
	if p.seal(o, nil); p.h.rng.IntN(3) > 0 {
		p.drop(o)
	}
	return true
}

func (p *peer) unmakes(o id.Object) {
	p.h.kept.unmade++
	p.send(&fb.CacheUnmadeT{Object: taskT(o.Task)}, nil)
}

// dropsMaking has a process that lets go of what it makes say so: by the release alone it would not, if another reference is under way.
func (p *peer) dropsMaking(o id.Object) {
	if i := slices.Index(p.making, o); i >= 0 {
		p.making = slices.Delete(p.making, i, i+1)
		p.unmakes(o)
	}
}

// evict has a store drop what rests, at times, and the core hear of it, later.
func (h *history) evict(s *site) {
	if len(s.store.resting) > 0 && h.rng.IntN(4) == 0 {
		h.kept.evicted++
		s.gone = append(s.gone, s.store.evict())
	}
	if h.rng.IntN(20) == 0 {
		h.tellEvicted(s)
	}
}

func (h *history) tellEvicted(s *site) bool {
	if len(s.gone) == 0 {
		return false
	}
	ev := s.gone[0]
	s.gone = s.gone[1:]
	if s.core.cache.byObject[ev.Object] == nil { // somebody asked for it meanwhile
		h.kept.late++
	}
	h.step(s, ev)
	return true
}

// checkCache recounts what is cached. CACHE-2: what rests is in no table of objects, and known to the cache alone.
func checkCache(c *Core) error {
	making, n := map[*process]int{}, 0
	var before *cached
	for x := c.cache.oldest; x != nil; before, x = x, x.newer {
		if n++; x.value == nil || x.older != before || c.cache.byKey[x.key] != x {
			return fmt.Errorf("CACHE-2: %v is among those that rest, and does not", x.object)
		}
	}
	if n != c.cache.resting || before != c.cache.newest || n > c.cfg.Resting || len(c.cache.byKey) != len(c.cache.byObject) {
		return fmt.Errorf("CACHE-2: %d values rest, counts %d; %d keys of %d objects", n, c.cache.resting, len(c.cache.byKey), len(c.cache.byObject))
	}
	for key, x := range c.cache.byKey {
		if x.key != key || c.cache.byObject[x.object] != x {
			return fmt.Errorf("CACHE-1: key %q is that of %v", key, x.object)
		}
		if x.value != nil {
			if n--; x.maker != nil {
				return fmt.Errorf("CACHE-2: %v rests, and is made", x.object)
			}
			continue
		}
		o := c.lookup(x.object)
		if o == nil || !o.has(markCached) {
			return fmt.Errorf("CACHE-2: %v is in use, and no object", x.object)
		}
		if x.maker == nil {
			continue
		}
		making[x.maker]++
		if o.state != objectPending || x.maker.gone || c.holderOf(x.maker, o) == nil {
			return fmt.Errorf("CACHE-1: %v is made by process %d, which is gone, or has it not", x.object, x.maker.id)
		}
	}
	if n != 0 {
		return fmt.Errorf("CACHE-2: %d values rest under no key", n)
	}
	for name, e := range c.entries {
		if o := e.first; o != nil && o.has(markCached) && c.cache.byObject[o.id()] == nil {
			return fmt.Errorf("CACHE-2: object %v has no key", name)
		}
	}
	for _, p := range c.processes {
		if p.making != making[p] {
			return fmt.Errorf("CACHE-1: process %d makes %d values, counts %d", p.id, making[p], p.making)
		}
	}
	return nil
}
