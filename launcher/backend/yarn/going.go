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

// going is a node that is announced as going.
type going struct {
	container *yarn.Container
	text      string
	deadline  time.Time // zero: nobody knows
	said      time.Time // when YARN said last that it takes the container for others; zero: its machine leaves
}

// announced takes in that nodes will go whose container is one of those, in so long, 0: nobody knows. That is told once of each, they are drained, and the programs have
// their signal.
func (s *session) announced(of func(*yarn.Container) bool, text string, in time.Duration, preempted bool) {
	now := time.Now()
	for i, mem := range s.gang.members {
		name := s.names[i]
		if mem.container == nil || !of(mem.container) {
			continue
		}
		g, known := s.goes[name]
		if known = known && g.container.ID == mem.container.ID; !known {
			g = going{container: mem.container, text: text}
			if in > 0 {
				g.deadline = now.Add(in - min(in/4, goingMargin))
			}
		}
		if preempted && (!known || !g.said.IsZero()) {
			g.said = now
		}
		s.goes[name] = g
		if known {
			continue
		}
		s.tell(backend.Event{Kind: backend.KindWarning, Node: name, Text: text, Deadline: g.deadline})
		s.tellGoing(name)
		s.work.Go(s.m.announce)
	}
}

// tellGoing tells a node's keeper that its node goes, if so.
func (s *session) tellGoing(name string) {
	g, goes := s.goes[name]
	c := s.gang.members[s.place(name)].container
	if l := s.links[name]; goes && l != nil && c != nil && c.ID == g.container.ID {
		_ = l.send(backend.DrainNodeLine(g.text, g.deadline, false)) // one that is gone is found by who reads it
	}
}

// stays takes in that nodes do not go after all.
func (s *session) stays(text string, which func(going) bool) {
	for _, name := range s.names {
		g, goes := s.goes[name]
		if !goes || !which(g) {
			continue
		}
		delete(s.goes, name)
		if c := s.gang.members[s.place(name)].container; c == nil || c.ID != g.container.ID {
			continue // it went
		}
		s.tell(backend.Event{Kind: backend.KindWarning, Node: name, Text: text})
		if l := s.links[name]; l != nil {
			_ = l.send(backend.DrainNodeLine(text, time.Time{}, true))
		}
	}
}
