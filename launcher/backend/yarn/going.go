package yarn

import (
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/yarn"
)

// YARN announces that it takes a container for others, with every heartbeat as long as it holds, or that a machine leaves its cluster. The node's keeper is told:
// its node is drained (docs/adr/0043). So it is when that is taken back.
const (
	preemptionTime = 15 * time.Second // between the first warning and the end of the container, where the site has not said otherwise
	preemptionOver = 20 * time.Second // what YARN has not said for so long does not hold any more
	goingMargin    = 10 * time.Second // what moves is to be gone so much earlier, or a quarter of the time
)

// going is a node that is announced as going, for one reason or two.
type going struct {
	container         *yarn.Container
	leaves, preempted cause // its machine does; YARN takes the container for others
}

// cause is why a node goes.
type cause struct {
	text     string
	deadline time.Time // zero: nobody knows
	said     time.Time // by YARN, last; zero: it does not hold
}

// first is the cause that comes first; the zero one: none holds.
func (g going) first() cause {
	c, o := g.preempted, g.leaves
	if c.said.IsZero() || !o.said.IsZero() && !o.deadline.IsZero() && (c.deadline.IsZero() || o.deadline.Before(c.deadline)) {
		return o
	}
	return c
}

// announced takes in that nodes will go whose container is one of those, in so long, 0: nobody knows. Of each cause that is told once: they are drained, and the
// programs have their signal. YARN says anew with each heartbeat that it takes a container, and of a machine when something changes.
func (s *session) announced(of func(*yarn.Container) bool, text string, in time.Duration, preempted bool) {
	now := time.Now()
	for i, mem := range s.gang.members {
		name := s.names[i]
		if mem.container == nil || !of(mem.container) {
			continue
		}
		g := s.goes[name]
		if g.container == nil || g.container.ID != mem.container.ID {
			g = going{container: mem.container}
		}
		why := &g.leaves
		if preempted {
			why = &g.preempted
		}
		anew := why.said.IsZero()
		if why.said = now; anew || !preempted {
			if why.text, why.deadline = text, (time.Time{}); in > 0 {
				why.deadline = now.Add(in - min(in/4, goingMargin))
			}
		}
		s.goes[name] = g
		if anew {
			s.tell(backend.Event{Kind: backend.KindWarning, Node: name, Text: text, Deadline: why.deadline})
			s.work.Go(s.m.announce)
		}
		if anew || !preempted {
			s.tellGoing(name)
		}
	}
}

// tellGoing tells a node's keeper that its node goes, if so.
func (s *session) tellGoing(name string) {
	g, goes := s.goes[name]
	c := s.gang.members[s.place(name)].container
	if l := s.links[name]; goes && l != nil && c != nil && c.ID == g.container.ID {
		_ = l.send(backend.DrainNodeLine(g.first().text, g.first().deadline, false)) // one that is gone is found by who reads it
	}
}

// stays takes in that a cause does not hold any more for nodes: without another one they do not go after all.
func (s *session) stays(text string, over func(*going) *cause) {
	for _, name := range s.names {
		g, goes := s.goes[name]
		if !goes {
			continue
		}
		why := over(&g)
		if why == nil || why.said.IsZero() {
			continue
		}
		*why = cause{}
		s.goes[name] = g
		c := s.gang.members[s.place(name)].container
		if c == nil || c.ID != g.container.ID {
			delete(s.goes, name) // it went
			continue
		}
		s.tell(backend.Event{Kind: backend.KindWarning, Node: name, Text: text})
		if !g.first().said.IsZero() {
			s.tellGoing(name)
			continue
		}
		delete(s.goes, name)
		if l := s.links[name]; l != nil {
			_ = l.send(backend.DrainNodeLine(text, time.Time{}, true))
		}
	}
}
