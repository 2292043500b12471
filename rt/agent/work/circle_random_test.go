package work

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// rings are what a history of calls that wait for each other knows of all of it, whoever runs it.
type rings struct {
	actor map[id.Task]id.Task   // of a call
	made  map[id.Task][]id.Task // by a task
	told  map[id.Task]bool      // that failed because of a circle
	ends  map[string]int        // these, by what they were
	lends []*license            // of each node, if what is free of them goes to who lacks it
	needs map[id.Task]int64     // so many of them tasks need
	going map[id.Task]bool      // that go on, as was found
	kept  map[id.Task]bool      // actors of which drivers were told that they do nothing, and keep what others need
	idle  bool                  // such are taken to stay
}

// TestRandomCircles (WORK-13) has actors and tasks on one, two and three nodes call each other and wait, as honest processes do: one that has said what it waits for
// goes on when that has come. Whoever is told that it is in a circle was stuck, for all that anybody knows; and nobody waits for ever.
func TestRandomCircles(t *testing.T) {
	ends, over, lent, kept := map[string]int{}, 0, 0, 0
	first, last := uint64(1), uint64(*seeds)
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	for seed := first; seed <= last; seed++ {
		h := newHistories(t, seed, 1+int(seed%3))
		h.rings = &rings{actor: map[id.Task]id.Task{}, made: map[id.Task][]id.Task{}, told: map[id.Task]bool{}, ends: ends, needs: map[id.Task]int64{}, kept: map[id.Task]bool{}}
		if seed%2 == 0 {
			h.license()
		}
		h.ring(4000)
		for _, k := range h.rings.lends {
			lent += k.moves
		}
		kept += len(h.rings.kept)
		for _, s := range h.sites {
			over += int(s.core.questions)
		}
	}
	if *seedFlag == 0 && (ends["task of several nodes"] < *seeds/12 || lent < *seeds) {
		t.Errorf("only %v ended so in %d histories, and licenses were lent %d times", ends, *seeds, lent)
	}
	if *seedFlag == 0 && (kept < *seeds/12 || ends["idle actors"] < *seeds/12) {
		t.Errorf("drivers were told of %d actors only in %d histories that they keep what others need, and %d times that was so still", kept, *seeds, ends["idle actors"])
	}
	if *seedFlag == 0 && (ends["call"] < *seeds/2 || ends["task"] < *seeds/2 || over < *seeds/2) {
		t.Errorf("only %v ended so in %d histories, and %d questions were asked", ends, *seeds, over)
	}
}

func (h *history) ring(steps int) {
	for _, s := range h.sites {
		if h.rings.lends == nil {
			h.grant(s, 1)
		}
		s.core.cfg.Processes = 1000
	}
	for range steps {
		p, s := h.peers[h.rng.IntN(len(h.peers))], h.sites[h.rng.IntN(len(h.sites))]
		switch k := h.rng.IntN(100); {
		case k < 45:
			h.move(p)
		case k < 55:
			h.come(s)
		case k < 60:
			h.arrive(s)
		case k >= 62 && k < 66 && h.rings.lends != nil:
			h.lendLicense(false)
		case k >= 66 && k < 72:
			h.survey(s)
		case k == 60:
			h.pass(int64(h.rng.IntN(700)) * int64(time.Millisecond))
		case p.kind == Worker && !p.doomed:
			p.work()
		case p.kind == Driver && k < 62:
			p.ring(id.Task{})
		}
	}
	h.calm = true
	for n := 0; ; n++ {
		for _, p := range slices.Clone(h.peers) {
			for !p.dead && h.move(p) {
			}
			switch {
			case p.dead:
			case len(p.inbox)+len(p.running) > 0:
				p.work()
			case p.actor != nil && h.rings.kept[taskOf(p.actor.Actor)]: // it would keep its license for ever
				h.end(p, "it has nothing to do")
			}
		}
		for _, s := range h.sites {
			h.come(s)
			for h.fetched(s) || h.arrive(s) || h.survey(s) {
			}
		}
		if h.rings.lends != nil {
			h.lendLicense(true)
			h.pass(int64(80 * time.Millisecond)) // who waits for an actor that does nothing is told after a while
		}
		h.pass(int64(20 * time.Millisecond))
		waits := h.unsettled()
		if waits.IsZero() {
			return
		}
		if n > 4000 {
			h.t.Fatalf("seed %d: WORK-13: after %v %v has no outcome: %s", h.seed, 4000*20*time.Millisecond, waits, h.ringText(waits))
		}
	}
}

func (h *history) pass(d int64) {
	h.now += d
	for _, s := range h.sites {
		h.step(s, Tick{})
	}
}

// come has a worker come up that a node waits for.
func (h *history) come(s *site) {
	for len(s.needs) > 0 {
		n := s.needs[0]
		s.needs = s.needs[1:]
		h.attach(s, Worker, n.Job, n.Key)
	}
	for _, p := range slices.Clone(h.peers) {
		if p.at == s && p.doomed && !p.dead {
			h.end(p, "it was told to")
		}
	}
}

// unsettled finds a task of which a driver has not heard.
func (h *history) unsettled() id.Task {
	for _, p := range h.alive(Driver) {
		for _, o := range p.keys {
			if r := p.held[o]; r.own && r.unsettled && h.actors[o.Task] == nil {
				return o.Task
			}
		}
	}
	return id.Task{}
}

// ring has a process, in a task or as a driver, make an actor, call one, or submit a task that needs what waiting does not free.
func (p *peer) ring(parent id.Task) {
	p.define()
	rng := p.h.rng
	var handles []id.Object
	for _, o := range p.keys {
		if p.h.actors[o.Task] != nil && len(handles) < 4 {
			handles = append(handles, o)
		}
	}
	t := p.mint()
	switch {
	case p.kind == Driver && len(p.h.actors) < 2+len(p.h.sites) && rng.IntN(3) == 0:
		m := &fb.CreateT{Actor: taskT(t), Function: numberOf("C"), Job: p.job, Shape: 6, MaxPending: -1, Concurrency: uint32(rng.IntN(3)), OutOfOrder: rng.IntN(5) == 0}
		if p.h.rings.lends != nil && rng.IntN(3) == 0 {
			m.Shape, p.h.rings.needs[t] = 5, 1
		}
		p.send(m, nil)
		p.h.actors[t] = m
	case len(handles) == 0 || rng.IntN(4) == 0:
		shape := uint32(1 + 4*rng.IntN(2))
		if shape == 5 {
			p.h.rings.needs[t] = 1
			if rng.IntN(3) == 0 && slices.ContainsFunc(p.h.rings.lends, func(k *license) bool { return k.n > 1 }) {
				shape, p.h.rings.needs[t] = 8, 2
			}
		}
		p.send(&fb.SubmitT{Task: taskT(t), Parent: taskT(parent), Function: numberOf("f"), Job: p.job, Shape: shape, Returns: 1, Refs: uint32(len(handles))}, objectBytes(handles...))
	default:
		actor := handles[rng.IntN(len(handles))].Task
		p.send(&fb.CallT{Task: taskT(t), Actor: taskT(actor), Parent: taskT(parent), Job: p.job, Shape: 6, Returns: 1, Refs: uint32(len(handles))}, objectBytes(handles...))
		p.h.rings.actor[t] = actor
	}
	p.expect(t, 1)
	p.h.rings.made[parent] = append(p.h.rings.made[parent], t)
	p.h.submitted++
}

// circle goes on with a task.
func (p *peer) circle(j *job1) {
	rng := p.h.rng
	made := slices.DeleteFunc(slices.Clone(p.h.rings.made[j.id]), func(t id.Task) bool { return p.settled(t) })
	switch {
	case j.blocked && (p.opens(j) || j.cancel || j.timed && rng.IntN(20) == 0):
		j.blocked, j.awaits, j.timed = false, nil, false
		p.send(&fb.UnblockedT{Task: taskT(j.id)}, nil)
	case j.blocked:
	case !p.h.calm && j.kind != create && len(p.h.rings.made[j.id]) < 2 && rng.IntN(3) > 0:
		p.ring(j.id)
	case len(made) > 0 && j.kind != create && rng.IntN(5) > 0:
		j.blocked, j.awaits, j.timed = true, made[:1+rng.IntN(len(made))], rng.IntN(8) == 0
		j.need = 1 + rng.IntN(len(j.awaits))
		m := &fb.AwaitsT{Task: taskT(j.id), Objects: uint32(len(j.awaits)), Need: uint32(j.need)}
		if j.timed {
			m.Timed = 1
		}
		var names []id.Object
		for _, t := range j.awaits {
			names = append(names, of(t))
		}
		p.send(m, objectBytes(names...))
	default:
		p.finish(j)
	}
}

// settled tells whether a process has heard of a task.
func (p *peer) settled(t id.Task) bool {
	r := p.held[of(t)]
	return r == nil || !r.unsettled || r.failed != ""
}

// opens tells whether enough has come of what a task waits for.
func (p *peer) opens(j *job1) bool {
	n := 0
	for _, t := range j.awaits {
		r := p.held[of(t)]
		if r == nil || r.failed != "" {
			return true
		}
		if !r.unsettled {
			n++
		}
	}
	return n >= j.need
}

// toldOfCircles looks whether those are stuck to which an agent says so.
func (h *history) toldOfCircles(s *site, b []byte) {
	for len(b) > 0 {
		f, rest, _ := cut(b)
		b = rest
		if f.kind != fb.FrameTypeResult {
			continue
		}
		m, _ := wire.Unmarshal(f.kind, f.body)
		r := m.(*fb.ResultT)
		if !strings.HasPrefix(failure(r, f.payload), " DEADLOCK: ") || h.rings.told[taskOf(r.Task)] {
			continue
		}
		if e, _ := wire.Unmarshal(fb.FrameTypeFailure, f.payload); taskOf(e.(*fb.FailureT).Task) != taskOf(r.Task) {
			continue // an argument's
		}
		h.isStuck(s, taskOf(r.Task), failure(r, f.payload))
	}
}

// isStuck: what an agent says of a task when it fails it, or asks it back to do so.
func (h *history) isStuck(s *site, t id.Task, what string) {
	h.rings.told[t] = true
	h.rings.ends[map[bool]string{true: "task", false: "call"}[h.rings.actor[t].IsZero()]]++
	if strings.Count(what, " of node ") > 1 {
		h.rings.ends["task of several nodes"]++
	}
	h.rings.going = map[id.Task]bool{}
	for n := -1; n < len(h.rings.going); {
		n = len(h.rings.going)
		h.goes(t, map[id.Task]bool{})
	}
	if h.rings.going[t] {
		h.t.Fatalf("seed %d: WORK-13: %v may go on, and agent %d says: %s; %s", h.seed, t, s.agent, what, h.ringText(t))
	}
}

// toldKept (WORK-14): what is said of a task waits for actors that do nothing, and goes on by nothing else.
func (h *history) toldKept(s *site, text string) bool {
	if h.rings == nil {
		return true
	}
	var names []id.Task
	for _, x := range taskNames.FindAllStringSubmatch(text, -1) {
		t, err := id.ParseTask(x[1])
		if err != nil {
			h.t.Fatal(err)
		}
		names = append(names, t)
	}
	for _, t := range names[1:] {
		h.rings.kept[t] = true
		if !slices.ContainsFunc(h.peers, func(p *peer) bool { return p.idles() && taskOf(p.actor.Actor) == t }) {
			return true // since it was asked about another agent's has gone, or been called
		}
	}
	h.rings.going, h.rings.idle = map[id.Task]bool{}, true
	for n := -1; n < len(h.rings.going); {
		n = len(h.rings.going)
		h.goes(names[0], map[id.Task]bool{})
	}
	h.rings.idle = false
	if h.rings.going[names[0]] || len(names) < 2 {
		h.t.Fatalf("seed %d: WORK-14: %v may go on, and agent %d says: %s; %s", h.seed, names[0], s.agent, text, h.ringText(names[0]))
	}
	h.rings.ends["idle actors"]++
	return true
}

var taskNames = regexp.MustCompile(`\((\d+\.\d+\.\d+)\)`)

// idles tells whether a process is an actor that does nothing.
func (p *peer) idles() bool { return p.actor != nil && len(p.running)+len(p.inbox) == 0 }

// goes tells whether a task that has no outcome may go on by itself, or by others that were found to.
func (h *history) goes(t id.Task, seen map[id.Task]bool) bool {
	if !seen[t] && !h.rings.going[t] {
		seen[t] = true
		if h.may(t, seen) {
			h.rings.going[t] = true
		}
	}
	return h.rings.going[t]
}

func (h *history) may(t id.Task, seen map[id.Task]bool) bool {
	for _, p := range h.peers {
		for _, j := range p.running {
			if j.id == t {
				return h.goesOn(p, j, seen)
			}
		}
	}
	if a := h.rings.actor[t]; !a.IsZero() {
		for _, p := range h.peers {
			if p.actor != nil && taskOf(p.actor.Actor) == a {
				return len(p.running) < max(int(p.actor.Concurrency), 1) || slices.ContainsFunc(p.running, func(j *job1) bool { return h.goesOn(p, j, seen) })
			}
		}
		return true
	}
	if h.rings.lends != nil {
		return h.rings.needs[t] == 0 || slices.ContainsFunc(h.sites, func(s *site) bool { return h.freeOf(s, t.Agent, h.rings.needs[t], seen) })
	}
	// It needs the only license of its node.
	return !slices.ContainsFunc(h.peers, func(p *peer) bool {
		w := p.at.core.byProcess[p.id].worker
		return p.at.agent == t.Agent && w != nil && w.held && w.class.need.get(p.at.core.index("lic")) > 0 && len(p.running) > 0 && !h.goesOn(p, p.running[0], seen)
	})
}

func (h *history) goesOn(p *peer, j *job1, seen map[id.Task]bool) bool {
	if !j.blocked || j.timed || j.cancel || p.opens(j) {
		return true
	}
	came := 0
	for _, t := range j.awaits {
		o := p.at.core.lookup(of(t))
		switch {
		case p.settled(t), o != nil && (o.state == objectThere || p.at.core.exists(o)): // be it on its way
			came++
		case h.goes(t, seen):
			return true
		}
	}
	return came >= j.need
}

// ringText says where everything is that waits.
func (h *history) ringText(t id.Task) string {
	text := h.explain(h.sites[t.Agent-agentNumber], t)
	for i, k := range h.rings.lends {
		s := h.sites[i]
		text += fmt.Sprintf("; node %d has %d licenses, lacks %d", i+1, k.n, h.lacksLicense(s))
		for _, l := range k.loans {
			text += fmt.Sprintf(", has lent %d to agent %d, used: %v", l.n, l.by.agent, h.usesLoan(s, l))
		}
		for _, j := range s.core.jobs {
			for _, cl := range j.active {
				for t := cl.queue.head; t != nil; t = t.listed {
					text += fmt.Sprintf("; %v is queued at agent %d: %s", t.id(), s.agent, s.core.explainTask(t))
				}
			}
		}
	}
	for _, p := range h.peers {
		if w := p.at.core.byProcess[p.id].worker; w != nil && w.held && h.rings.lends != nil {
			text += fmt.Sprintf("; process %d of agent %d has %d licenses of %v, blocked: %d", p.id, p.at.agent, w.class.need.get(p.at.core.index("lic"))/one, w.grant.group, w.blocked)
			if p.actor != nil {
				text += fmt.Sprintf(", and is actor %v", taskOf(p.actor.Actor))
			}
		}
		for _, j := range p.running {
			text += fmt.Sprintf("; %v runs at agent %d, process %d, waits: %v for %d of %v, timed: %v, opens: %v", j.id, p.at.agent, p.id, j.blocked, j.need, j.awaits, j.timed, p.opens(j))
		}
		for _, j := range p.inbox {
			text += fmt.Sprintf("; %v waits at agent %d, process %d", j.id, p.at.agent, p.id)
		}
	}
	return text
}
