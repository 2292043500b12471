package work

import (
	"encoding/json"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// registry does what the head does for names: the first that asks for one has it until it gives it back.
type registry struct {
	holders map[string]holding
	actors  map[id.Task]string // by whom
	claims  map[id.Task]Name   // what was said last
}

type holding struct {
	actor id.Task
	agent id.Agent
	node  string
}

func newRegistry() *registry {
	return &registry{holders: map[string]holding{}, actors: map[id.Task]string{}, claims: map[id.Task]Name{}}
}

// answer gives what the head answers to an effect of a core; nil: nothing.
func (r *registry) answer(c *Core, e Effect) Event {
	switch e.Do {
	case Claim:
		ref := e.Name.Namespace + "/" + e.Name.Name
		r.claims[e.Group] = *e.Name
		h, taken := r.holders[ref]
		if !taken {
			h = holding{e.Group, c.cfg.Agent, c.cfg.Node}
			r.holders[ref], r.actors[e.Group] = h, ref
		}
		return Named{Actor: e.Group, Holder: h.actor, Agent: h.agent, Node: h.node}
	case Free:
		if ref, has := r.actors[e.Group]; has {
			delete(r.holders, ref)
			delete(r.actors, e.Group)
		}
	case Find:
		h := r.holders[e.Text]
		return Found{Key: e.Key, Actor: h.actor, Agent: h.agent, Node: h.node}
	}
	return nil
}

// names lets the head hear one question of an agent, or that agent one of its answers.
func (h *history) names(s *site) bool {
	switch {
	case len(s.says) > 0 && (len(s.asks) == 0 || h.rng.IntN(2) == 0):
		ev := s.says[0]
		s.says = s.says[1:]
		h.step(s, ev)
	case len(s.asks) > 0:
		e := s.asks[0]
		s.asks = s.asks[1:]
		if ev := h.head.answer(s.core, e); ev != nil {
			s.says = append(s.says, ev)
		}
	default:
		return false
	}
	return true
}

// checkNames: one actor at most has a name, and once the agents have nothing more to say the head knows which.
func (h *history) checkNames() {
	has := map[string]id.Task{}
	for _, s := range h.sites {
		for _, a := range s.core.actors {
			if !a.named {
				continue
			}
			if other, taken := has[a.ref()]; taken {
				h.t.Fatalf("seed %d: %v and %v are both called %s", h.seed, other, a.id(), a.ref())
			}
			has[a.ref()] = a.id()
			if h.head.holders[a.ref()].actor != a.id() {
				h.t.Fatalf("seed %d: %v is called %s, and the head knows another", h.seed, a.id(), a.ref())
			}
		}
	}
}

// name gives an actor that is being created a name, at times; there are so few that they meet.
func (p *peer) name(m *fb.CreateT) {
	if k := p.h.rng.IntN(6 / len(p.h.sites)); k < 3 {
		m.Namespace_, m.Name = "s", fmt.Sprint("n", k)
	}
}

// look has a process look for a name.
func (p *peer) look() {
	p.looks++
	p.out = append(p.out, numbered(frameOf(p.h.t, &fb.StateQueryT{What: "actor", Id: fmt.Sprint("s/n", p.h.rng.IntN(3))}, nil), uint64(p.looks))...)
}

// found takes the answer, and the handle that comes with it.
func (p *peer) found(m *fb.StateReplyT, payload []byte) {
	p.looks--
	if m.Error != "" {
		return
	}
	var r jsonReply
	err := json.Unmarshal(payload, &r)
	name, err2 := id.ParseTask(r.Actor.ID)
	if err != nil || err2 != nil {
		p.h.t.Fatalf("seed %d: what an actor is can't be read: %v, %v", p.h.seed, err, err2)
	}
	p.h.finds++
	p.delivered(id.Object{Task: name})
}
