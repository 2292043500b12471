package yarn

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
)

// gang is the core that assembles the containers and replaces those that are lost. It has no clock and no socket: now
// comes in, effects go out, and chance is a generator with a seed.
type gang struct {
	min    int // with so many it starts at the end of its wait; after its first start all are needed
	wait   time.Duration
	doubts string // why they may never all come, as of Job.Doubt; "": nobody knows of a reason, or they have all been there
	chance *rand.Rand

	held    []yarn.Container // granted and not launched, before the start
	since   time.Time        // of the first of them
	pause   time.Time        // until then nothing is asked for; zero: no pause
	tries   int              // that ended in a release, one after the other
	started bool             // all that are needed were there at once
	idle    bool             // the program waits to be placed: nothing of it runs
	lacking time.Time        // since when it waits while a place has no container, as far as ticks tell; zero: it does not
	closed  bool             // nothing is wanted any more
	members []member         // by place: n1 is the first
}

// member is a place in the gang.
type member struct {
	container *yarn.Container // nil: it waits for one
	ready     bool            // its node has joined
	proven    bool            // the program ran, or runs, since it has joined
	failures  int             // ends without being proven, one after the other
	unstarted int             // containers that did not become a node, one after the other
	rests     time.Time       // since they did not, the next one is asked for at this time; zero: at once
	back      bool            // its container did not become a node, and was given back,
	backAt    time.Time       // before this, as far as ticks tell; zero: not yet
	given     bool            // up: it will not be filled
}

// How often a place may fail before the program has run on its node: what happens twice happens again. That a container was not even started is not the program's
// doing: a NodeManager or the file system is away, and comes back. It is tried again after pauses that grow, for about 8 minutes, or 15 s where it will not pass.
const (
	maxFailures  = 2
	maxUnstarted = 20
	maxHopeless  = 5
	longestRest  = 30 * time.Second
)

// hopeless is what NodeManagers say that they will say again: of a file that is not there as it was submitted, and of a container that they do not know to be ours.
var hopeless = regexp.MustCompile(`does not exist|changed on src filesystem|Permission denied|Unauthorized request`)

// backTime is for how long YARN's word is waited for that what was given back is over. A ResourceManager that was started anew meanwhile knows nothing of it.
const backTime = 10 * time.Second

// doubtTries is how often all are asked for in vain before that is taken for more than a full queue. YARN tells nobody of what one user may have.
const doubtTries = 3

// effect is what the core wants done: one of the types below.
type effect interface{ effect() }

type (
	ask     struct{ count int }              // so many containers are wanted from now on
	release struct{ ids []yarn.ContainerID } // give them back
	launch  struct {                         // start the node of this place
		place     int
		container yarn.Container
	}
	loss struct { // the node of this place is gone
		place int
		text  string
		fatal bool // and the application with it
	}
	absent struct{ place int } // the gang starts without this place
	leave  struct{ place int } // its node is to end, and another one will come
	tell   struct{ text string }
)

func (ask) effect()     {}
func (release) effect() {}
func (launch) effect()  {}
func (loss) effect()    {}
func (absent) effect()  {}
func (leave) effect()   {}
func (tell) effect()    {}

func newGang(want, least int, wait time.Duration, seed uint64) *gang {
	return &gang{min: least, wait: wait, chance: rand.New(rand.NewPCG(seed, 1)), members: make([]member, want)}
}

// begin asks for all.
func (g *gang) begin() []effect { return []effect{ask{g.missing()}} }

// resume has a place filled by a container of the master before this one. The gang has started, and what is missing is asked for. One that was granted in its
// place meanwhile, and is no node yet, is not needed.
func (g *gang) resume(place int, c yarn.Container) (out []effect) {
	g.started, g.min, g.doubts = true, len(g.members), ""
	if old := g.members[place].container; old != nil {
		out = append(out, release{[]yarn.ContainerID{old.ID}})
	}
	g.members[place] = member{container: &c, ready: true, proven: true}
	return append(out, ask{g.wanted()})
}

// waits tells whether a place has no node.
func (g *gang) waits(place int) bool {
	return !g.closed && !g.members[place].ready && !g.members[place].given
}

// next is when the core wants to be ticked; zero: not before something happens.
func (g *gang) next() time.Time {
	switch {
	case g.closed:
		return time.Time{}
	case g.started && !g.lacking.IsZero():
		return g.lacking.Add(g.wait)
	case g.started:
		return time.Time{}
	case !g.pause.IsZero():
		return g.pause
	case len(g.held) > 0:
		return g.since.Add(g.wait)
	}
	return time.Time{}
}

// granted takes a container in.
func (g *gang) granted(now time.Time, c yarn.Container) []effect {
	if g.closed || !g.started && !g.pause.IsZero() {
		return []effect{release{[]yarn.ContainerID{c.ID}}} // it came when nothing was asked for any more
	}
	if g.started {
		for i := range g.members {
			if m := &g.members[i]; m.wanted() {
				m.container = &c
				return []effect{launch{i, c}}
			}
		}
		return []effect{release{[]yarn.ContainerID{c.ID}}}
	}
	if len(g.held) == 0 {
		g.since = now
	}
	g.held = append(g.held, c)
	if len(g.held) >= g.want() {
		return g.start()
	}
	return nil
}

// start launches what is held.
func (g *gang) start() (out []effect) {
	g.started, g.tries, g.min, g.doubts = true, 0, len(g.members), ""
	held := g.held
	for i := range g.members {
		m := &g.members[i]
		switch {
		case m.given:
		case len(held) > 0:
			c := held[0]
			held, m.container = held[1:], &c
			out = append(out, launch{i, c})
		default:
			m.given = true
			out = append(out, absent{i})
		}
	}
	g.held = nil
	return append(out, ask{0})
}

// tick does what is due.
func (g *gang) tick(now time.Time) (out []effect) {
	for i := range g.members {
		m := &g.members[i]
		switch {
		case g.closed || !m.back:
		case m.backAt.IsZero():
			m.backAt = now
		case now.Sub(m.backAt) >= backTime:
			m.container, m.back, m.backAt = nil, false, time.Time{}
			out = []effect{ask{g.wanted()}}
		}
		if !g.closed && g.started && !m.rests.IsZero() && !now.Before(m.rests) {
			if m.rests = (time.Time{}); m.wanted() {
				out = []effect{ask{g.wanted()}}
			}
		}
	}
	return append(out, g.due(now)...)
}

// due gives up what has waited for too long.
func (g *gang) due(now time.Time) []effect {
	if lacks := g.started && g.idle && g.missing() > 0; !lacks {
		g.lacking = time.Time{}
	} else if g.lacking.IsZero() {
		g.lacking = now
	}
	at := g.next()
	if at.IsZero() || now.Before(at) {
		return nil
	}
	if g.started {
		return g.giveUp(now)
	}
	if !g.pause.IsZero() {
		g.pause = time.Time{}
		return []effect{ask{g.want()}}
	}
	if len(g.held) >= g.min {
		return g.start()
	}
	pause := g.rest(now)
	var ids []yarn.ContainerID
	for _, c := range g.held {
		ids = append(ids, c.ID)
	}
	text := fmt.Sprintf("%d of %d containers came within %v; they are given back, and asked for again in %v%s", len(ids), g.want(), g.wait, pause, g.doubt())
	g.held = nil
	return []effect{ask{0}, release{ids}, tell{text}}
}

// rest begins a pause, and says how long it is. It grows, so that of several gangs one gets through (YJOB-2).
func (g *gang) rest(now time.Time) time.Duration {
	g.tries++
	most := g.wait * time.Duration(min(g.tries, 4))
	pause := g.wait/4 + time.Duration(g.chance.Int64N(int64(most)+1))
	g.pause = now.Add(pause)
	return pause.Round(time.Second)
}

// giveUp gives back the nodes of a program that waits in vain for those that were lost: another gang may wait for these (YJOB-2). All are asked for anew.
func (g *gang) giveUp(now time.Time) []effect {
	out := []effect{ask{0}}
	var ids []yarn.ContainerID
	missing := g.missing()
	for i := range g.members {
		m := &g.members[i]
		if m.container != nil {
			ids, out = append(ids, m.container.ID), append(out, leave{i})
			m.container, m.ready, m.proven, m.back, m.backAt = nil, false, false, false, time.Time{}
		}
		m.rests = time.Time{}
	}
	g.started, g.lacking = false, time.Time{}
	text := fmt.Sprintf("%d of %d containers were not replaced within %v, and the program waits for them; the others are given back, and all are asked for again in %v", missing, g.want(), g.wait, g.rest(now))
	return append(out, release{ids}, tell{text})
}

// waiting takes in whether the program waits to be placed, so that nothing of it runs. That it does not is progress for the nodes that are there.
func (g *gang) waiting(on bool) {
	g.idle = on
	for i := range g.members {
		if g.members[i].ready {
			g.prove(i)
		}
	}
}

// prove forgives a place its failures, once the program runs.
func (g *gang) prove(place int) {
	if m := &g.members[place]; !g.idle {
		m.proven, m.failures = true, 0
	}
}

// want counts the places that are to be filled.
func (g *gang) want() (n int) {
	for _, m := range g.members {
		if !m.given {
			n++
		}
	}
	return n
}

// joined notes that a place's node is ready.
func (g *gang) joined(place int) {
	m := &g.members[place]
	m.ready, m.unstarted = true, 0
	g.prove(place)
}

// unstarted takes in that a container did not become a node: its NodeManager refused it, or it said nothing for too long. It is
// given back, and replaced at its end, but not for ever.
func (g *gang) unstarted(now time.Time, id yarn.ContainerID, why string) []effect {
	place := slices.IndexFunc(g.members, func(m member) bool { return m.container != nil && m.container.ID == id })
	if place < 0 || g.closed {
		return nil // it ended meanwhile, or all are to end
	}
	m := &g.members[place]
	m.back = true
	lost := g.rested(now, place, m.container.Node.Host+": "+why, why)
	out := []effect{release{[]yarn.ContainerID{id}}, lost}
	if lost.fatal {
		g.closed = true
		return append(out, ask{0})
	}
	return out
}

// rested counts a container that did not start, and has its place rest before the next one. What was said of it decides for how long that goes on.
func (g *gang) rested(now time.Time, place int, text, said string) loss {
	m := &g.members[place]
	m.unstarted++
	if m.unstarted >= maxUnstarted || m.unstarted >= maxHopeless && hopeless.MatchString(said) {
		return loss{place: place, text: fmt.Sprintf("%s; that was the %dth container in a row that did not start", text, m.unstarted), fatal: true}
	}
	rest := min(time.Second<<min(m.unstarted-1, 10), longestRest)
	m.rests = now.Add(rest)
	return loss{place: place, text: fmt.Sprintf("%s; the next one is asked for in %v", text, rest)}
}

// away takes in that a place's node has been out of reach for longer than it lives then. YARN may not miss its machine for ten minutes, or, if it was
// started anew meanwhile, ever: it is given back, and another one asked for.
func (g *gang) away(place int, since time.Duration) []effect {
	m := &g.members[place]
	if g.closed || m.container == nil || !m.ready {
		return nil
	}
	c := m.container
	m.container, m.ready, m.proven = nil, false, false
	text := fmt.Sprintf("%s: its node is out of reach for %v; %s is given back, and another one takes its place", c.Node.Host, since, c.ID)
	return []effect{release{[]yarn.ContainerID{c.ID}}, loss{place: place, text: text}, ask{g.wanted()}}
}

// ended takes in that a container is over.
func (g *gang) ended(now time.Time, s yarn.ContainerStatus) []effect {
	if i := slices.IndexFunc(g.held, func(c yarn.Container) bool { return c.ID == s.ID }); i >= 0 {
		g.held = slices.Delete(g.held, i, i+1) // its node was lost before the start
		return []effect{ask{g.want() - len(g.held)}}
	}
	place := slices.IndexFunc(g.members, func(m member) bool { return m.container != nil && m.container.ID == s.ID })
	if place < 0 || g.closed {
		return nil // it was released, or all are to end
	}
	m := &g.members[place]
	lost := loss{place: place, text: m.container.Node.Host + ": " + describe(s)}
	m.container = nil
	if m.back {
		m.back, m.backAt = false, time.Time{}
		return []effect{ask{g.wanted()}}
	}
	switch {
	case s.ExitCode == yarn.ExitVirtualMemory || s.ExitCode == yarn.ExitPhysicalMemory:
		lost.fatal = true // YJOB-3
		lost.text += "; ask for more with --mem"
	case s.ExitCode == yarn.ExitInvalid && !m.ready:
		lost = g.rested(now, place, lost.text, s.Diagnostics)
	case !m.proven && !s.ExitCode.Free():
		if m.failures++; m.failures >= maxFailures {
			lost.fatal = true
			lost.text += fmt.Sprintf("; these are %d ends in a row, and the program has not run there in between", m.failures)
		}
	}
	m.ready, m.proven = false, false
	if lost.fatal {
		g.closed = true
		return []effect{lost, ask{0}}
	}
	return []effect{lost, ask{g.wanted()}}
}

// missing counts the places that wait for a container.
func (g *gang) missing() (n int) {
	for _, m := range g.members {
		if m.container == nil && !m.given {
			n++
		}
	}
	return n
}

// wanted tells whether a container is to be asked for.
func (m *member) wanted() bool { return m.container == nil && !m.given && m.rests.IsZero() }

// wanted counts the places for which one is.
func (g *gang) wanted() (n int) {
	for i := range g.members {
		if g.members[i].wanted() {
			n++
		}
	}
	return n
}

// close wants nothing any more.
func (g *gang) close() []effect {
	if g.closed {
		return nil
	}
	g.closed = true
	var ids []yarn.ContainerID
	for _, c := range g.held {
		ids = append(ids, c.ID)
	}
	g.held = nil
	return []effect{ask{0}, release{ids}}
}

// state is what it waits for; "" if it runs.
func (g *gang) state(now time.Time) string {
	switch {
	case g.closed || g.started && g.missing() == 0:
		return ""
	case g.started && g.wanted() == 0:
		return fmt.Sprintf("%d containers are being replaced: the last ones did not start, and the next are asked for within %v", g.missing(), longestRest)
	case g.started:
		return fmt.Sprintf("%d containers are being replaced", g.missing())
	case !g.pause.IsZero():
		return fmt.Sprintf("the queue had no room for all %d containers at once; asked for again in %v%s", g.want(), g.pause.Sub(now).Round(time.Second), g.doubt())
	}
	return fmt.Sprintf("%d of %d containers are granted%s", len(g.held), g.want(), g.doubt())
}

// doubt says why it may be that they never come all at once: what is known from the beginning, else what is likely after some tries; "" before.
func (g *gang) doubt() string {
	if g.doubts != "" {
		return "; " + g.doubts
	}
	if g.tries < doubtTries {
		return ""
	}
	return fmt.Sprintf("; %d times they did not all come: if nothing else fills the queue, what it gives to one user is the likely cause (user-limit-factor: 1 where a site does not set it, which is the queue's own capacity, "+
		"also where it may have more)", g.tries)
}

// describe is how a container ended, in YARN's words and ours.
func describe(s yarn.ContainerStatus) string {
	text := fmt.Sprintf("%s ended: %s", s.ID, s.ExitCode)
	if s.ExitCode < 0 {
		text += fmt.Sprintf(" (%d)", int32(s.ExitCode))
	}
	if d := firstLine(s.Diagnostics); d != "" {
		text += ": " + d
	}
	return text
}
