package work

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// What waits for something at another agent is followed there by questions. When all that was found waits, and nothing of it goes on, everything is
// asked once more. If the answers are the same, and what waits here has waited all the while, then all of it waited at the moment between: what is stuck then is stuck for
// good.

const (
	maxSearches = 64                     // at a time; others have their turn a second later
	maxAsked    = 32                     // agents, by one search at a time: the first that something goes on at spares the others
	maxTold     = 1000                   // stops in an answer; where there are more something is taken to go on
	searchFor   = int64(5 * time.Second) // then it is given up, and begins anew
)

// search follows what waits from one spot on.
type search struct {
	from      spot
	since     int64
	trail     *trail
	inquiries []*inquiry
	again     bool // they are asked for the second time
}

// inquiry is a question to another agent, or, agent 0, to the head: of one room. number: of the question, 0: it has been answered.
type inquiry struct {
	agent  id.Agent
	what   []id.Object
	rooms  []string
	idle   bool // as the trail says
	number uint64
	answer []byte
}

func (s *search) asked() (n int) {
	for _, q := range s.inquiries {
		if q.number != 0 {
			n++
		}
	}
	return n
}

// trace looks for a circle from a spot on, or, idle, for actors that do nothing at the end of all ways.
func (c *Core) trace(from spot, idle bool) {
	if slices.ContainsFunc(c.searches, func(s *search) bool { return s.from == from && s.trail.idle == idle }) {
		return
	}
	s := &search{from: from, since: c.now, trail: &trail{at: map[spot]*stop{}, idle: idle}}
	c.walkWaits(s.trail, []spot{from})
	if s.trail.goes || len(s.trail.away) > 0 && len(c.searches) >= maxSearches {
		return
	}
	c.searches = append(c.searches, s)
	c.goOn(s)
}

// goOn asks what is to be asked next, or says what was found.
func (c *Core) goOn(s *search) {
	l := s.trail
	if l.goes {
		c.giveUp(s)
		return
	}
	for len(l.away) > 0 && s.asked() < maxAsked {
		q := l.next()
		s.inquiries = append(s.inquiries, q)
		c.inquire(q)
	}
	if s.asked() > 0 {
		return
	}
	if len(s.inquiries) > 0 && !s.again {
		s.again = true
		for _, q := range s.inquiries {
			c.inquire(q)
		}
		return
	}
	c.giveUp(s)
	switch {
	case slices.ContainsFunc(l.stops, func(k *stop) bool { return !l.whole(k) || k.agent == c.cfg.Agent && !c.still(k, l.idle) }):
	case l.idle:
		c.sayIdle(s)
	default:
		c.breakCircle(l)
	}
}

// next is what is to be asked of the agent of the first spot of others.
func (l *trail) next() *inquiry {
	q := &inquiry{agent: l.away[0].agent, idle: l.idle}
	l.away = slices.DeleteFunc(l.away, func(k spot) bool {
		switch {
		case k.agent != q.agent || q.agent == 0 && len(q.rooms) > 0:
			return false
		case k.room != "":
			q.rooms = append(q.rooms, k.room)
		default:
			q.what = append(q.what, k.what)
		}
		return true
	})
	return q
}

// whole tells whether of all that a stop waits for it was found what that is.
func (l *trail) whole(k *stop) bool {
	return !slices.ContainsFunc(k.to, func(s spot) bool { return l.at[s] == nil || !l.at[s].found })
}

// still tells whether a stop of this agent's is what it was.
func (c *Core) still(k *stop, idle bool) bool {
	now := &stop{spot: k.spot}
	return c.stopAt(now, idle) && now.stamp == k.stamp && now.queued == k.queued && slices.Equal(now.to, k.to)
}

func (c *Core) giveUp(s *search) {
	c.searches = slices.DeleteFunc(c.searches, func(k *search) bool { return k == s })
}

// giveUpSearches ends those that have no answers.
func (c *Core) giveUpSearches() {
	c.searches = slices.DeleteFunc(c.searches, func(s *search) bool { return c.now >= s.since+searchFor })
}

// searchesLost ends those that wait for an agent that is out of reach. closed: only the way to it is over, which nobody had use for; who has found one since then
// asks by the next.
func (c *Core) searchesLost(agent id.Agent, closed bool) {
	for _, s := range slices.Clone(c.searches) {
		for _, q := range s.inquiries {
			switch {
			case q.agent != agent:
			case !closed:
				c.giveUp(s)
			case q.number != 0:
				c.inquire(q)
			}
		}
	}
}

// inquired tells whether an agent owes an answer, or will be asked once more when others have given theirs.
func (c *Core) inquired(agent id.Agent) bool {
	return slices.ContainsFunc(c.searches, func(s *search) bool {
		return slices.ContainsFunc(s.inquiries, func(q *inquiry) bool { return q.agent == agent })
	})
}

// inquire sends a question by the way between the two agents that is no job's, once that is open.
func (c *Core) inquire(q *inquiry) {
	c.questions++
	q.number = c.questions
	if q.agent == 0 {
		c.out = append(c.out, Effect{Do: Survey, Key: q.number, Text: q.rooms[0]})
		return
	}
	if h := c.wayTo(q.agent, fmt.Sprintf("of agent %d", q.agent)); h.process != nil && !h.process.closing {
		c.sendInquiry(h.process, q)
	}
}

func (c *Core) sendInquiry(p *process, q *inquiry) {
	names := make([]byte, len(q.what)*objectSize)
	for i, o := range q.what {
		wire.PutObjectID(names[i*objectSize:], &fb.ObjectIDT{Task: taskT(o.Task), Index: o.Index})
	}
	c.table(p, &fb.WaitQueryT{Objects: uint32(len(q.what)), Rooms: q.rooms, Idle: q.idle}, q.number, names)
}

// sendInquiries sends what waited for the way to an agent to be open.
func (c *Core) sendInquiries(p *process) {
	for _, s := range c.searches {
		for _, q := range s.inquiries {
			if q.agent == p.agent && q.number != 0 {
				c.sendInquiry(p, q)
			}
		}
	}
}

// onWaitQuery answers another agent that follows what waits.
func (c *Core) onWaitQuery(p *process, m *fb.WaitQueryT, f frame) {
	if uint64(m.Objects)*objectSize > uint64(len(f.payload)) {
		c.refuse(p, "named more objects than its frame has")
		return
	}
	var from []spot
	for i := range int(m.Objects) {
		from = append(from, c.here(objectAt(f.payload, i)))
	}
	for _, r := range m.Rooms {
		from = append(from, spot{agent: c.cfg.Agent, room: r})
	}
	l := &trail{at: map[spot]*stop{}, idle: m.Idle}
	c.walkWaits(l, from)
	told := 0
	for _, k := range l.stops {
		told += 1 + len(k.to)
	}
	r := &fb.WaitReplyT{Goes: l.goes || told > maxTold}
	for _, k := range l.stops {
		if r.Goes {
			break
		}
		x := &fb.WaitStopT{Task: taskT(k.what.Task), Index: k.what.Index, Name: k.name, Stamp: k.stamp, Queued: k.queued, Room: k.room}
		for _, to := range k.to {
			x.To = append(x.To, &fb.WaitSpotT{Agent: uint32(to.agent), Task: taskT(to.what.Task), Index: to.what.Index, Room: to.room})
		}
		r.Stops = append(r.Stops, x)
	}
	c.table(p, r, f.corr, nil)
}

// onWaitReply goes on with what another agent has found.
func (c *Core) onWaitReply(p *process, m *fb.WaitReplyT, f frame) {
	c.answered(p.agent, f.corr, m.Goes, f.body, m.Stops)
}

// answered goes on with an answer: that something goes on, or else what waits, which body tells, too.
func (c *Core) answered(agent id.Agent, number uint64, goes bool, body []byte, stops []*fb.WaitStopT) {
	for _, s := range c.searches {
		i := slices.IndexFunc(s.inquiries, func(q *inquiry) bool { return q.number == number && q.agent == agent })
		if i < 0 {
			continue
		}
		q := s.inquiries[i]
		q.number = 0
		switch {
		case goes, s.again && !bytes.Equal(q.answer, body):
			c.giveUp(s)
			return
		case !s.again:
			q.answer = slices.Clone(body)
			c.learn(s.trail, agent, stops)
		}
		c.goOn(s)
		return
	}
	c.strays++ // of one that was given up
}

// learn adds what another agent has found to a trail, and goes on here where that leads here.
func (c *Core) learn(l *trail, agent id.Agent, stops []*fb.WaitStopT) {
	var next []spot
	for _, x := range stops {
		s := spot{agent, id.Object{Task: taskOf(x.Task), Index: x.Index}, x.Room}
		k := l.at[s]
		if k == nil {
			k = &stop{spot: s}
			l.at[s] = k
		} else if k.found || agent == c.cfg.Agent {
			continue
		}
		k.name, k.stamp, k.queued, k.found = x.Name, x.Stamp, x.Queued, true
		l.stops = append(l.stops, k)
		for _, to := range x.To {
			n := spot{id.Agent(to.Agent), id.Object{Task: taskOf(to.Task), Index: to.Index}, to.Room}
			k.to = append(k.to, n)
			next = append(next, n)
		}
	}
	// What is not among the answer's is another agent's, or known.
	c.walkWaits(l, next)
	l.goes = l.goes || len(l.stops) > maxStops
}
