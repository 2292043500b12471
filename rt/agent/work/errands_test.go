package work

import (
	"fmt"
	"slices"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// errand is a job's way from an agent to another one, which runs tasks of it: the first end is the owner's side.
type errand struct {
	h       *history
	ends    [2]*site
	process [2]id.Process // that the other end is to each
	job     [2]uint32
	up      [2]bool
	gone    [2]bool
	doomed  [2]bool // its core closes it
}

// parcel is what is under way to an end of an errand: frames, or its beginning or end. What goes to an agent keeps its order.
type parcel struct {
	of     *errand
	end    int
	frames []byte
	opens  bool
	closes string
}

// lentBy names a group that an agent has made, with a bundle at each other one: for tasks, or for actors.
func lentBy(s *site, actors bool) id.Task {
	if actors {
		return id.Task{Agent: s.agent, Process: 90, Counter: 2}
	}
	return id.Task{Agent: s.agent, Process: 90, Counter: 1}
}

// lend has each agent have a bundle at each other one.
func (h *history) lend() {
	for _, s := range h.sites {
		h.step(s, Nodes{N: len(h.sites)})
		for i, there := range h.sites {
			if there != s {
				h.step(there, Grant{Group: lentBy(s, false), Bundle: int32(i), Resources: []Amount{{"CPU", 2 * one}, {"GPU", one}}, Devices: []string{fmt.Sprint("x", s.agent)}})
				h.step(there, Grant{Group: lentBy(s, true), Bundle: int32(i), Resources: []Amount{{"memory", one}}})
				h.places(s, there)
			}
		}
	}
}

// places tells an agent of the bundles that it has at another one.
func (h *history) places(s, there *site) {
	i := int32(slices.Index(h.sites, there))
	h.step(s, Place{Group: lentBy(s, false), Bundle: i, Agent: there.agent, Node: there.core.cfg.Node, Resources: []Amount{{"CPU", 2 * one}, {"GPU", one}}, Open: true, More: true})
	h.step(s, Place{Group: lentBy(s, true), Bundle: i, Agent: there.agent, Node: there.core.cfg.Node, Resources: []Amount{{"memory", one}}, Open: true, Where: anyNode})
}

// relend has an agent have again what was recalled.
func (h *history) relend(s *site) {
	for _, there := range h.sites {
		if there != s {
			h.places(s, there)
		}
	}
}

func (h *history) errandOf(s *site, p id.Process) *errand {
	for _, k := range h.errands {
		if i := k.end(s); i >= 0 && k.process[i] == p && !k.gone[i] {
			return k
		}
	}
	return nil
}

// end tells which end of an errand an agent is, -1: none.
func (k *errand) end(s *site) int { return slices.Index(k.ends[:], s) }

// open begins an errand of a job. Both ends hear of it later.
func (h *history) open(s *site, to id.Agent, job uint32) {
	there := h.sites[slices.IndexFunc(h.sites, func(x *site) bool { return x.agent == to })]
	s.last++
	there.last++
	k := &errand{h: h, ends: [2]*site{s, there}, process: [2]id.Process{s.last, there.last}, job: [2]uint32{job, 1000 + uint32(there.last)}}
	h.errands = append(h.errands, k)
	k.send(parcel{end: 0, opens: true})
	k.send(parcel{end: 1, opens: true})
}

// says has an end send frames to the other one.
func (k *errand) says(s *site, b []byte) {
	k.show(s, b)
	k.countListed(k.ends[1-k.end(s)], b)
	k.send(parcel{end: 1 - k.end(s), frames: slices.Clone(b)})
	k.h.away++
}

// show prints frames that an end sends.
func (k *errand) show(s *site, b []byte) {
	for *showFrames && len(b) > 0 {
		f, rest, _ := cut(b)
		b = rest
		m, _ := wire.Unmarshal(f.kind, f.body)
		text, names := "", uint32(0)
		switch m := m.(type) {
		case *fb.SubmitT:
			text, names = fmt.Sprintf("%v, attempt %d", taskOf(m.Task), m.Attempt), m.Deps+m.Refs
		case *fb.CallT:
			text, names = fmt.Sprintf("%v of %v#%d", taskOf(m.Task), taskOf(m.Actor), m.Incarnation), m.Deps+m.Refs
		case *fb.CreateT:
			text, names = taskOf(m.Actor).String(), m.Deps+m.Refs
		case *fb.ResultT:
			text, names = fmt.Sprintf("%v[%d] flags %d%s", taskOf(m.Task), m.Index, m.Flags, failure(m, f.payload)), m.Refs
		case *fb.ActorStateT:
			text = fmt.Sprintf("%v#%d %v", taskOf(m.Actor), m.Incarnation, m.Phase)
		case *fb.GetT:
			text = fmt.Sprint(objectOf(m.Object))
		case *fb.ReadyT:
			text = fmt.Sprint(objectOf(m.Object), m.State)
		case *fb.ReleaseT:
			text = fmt.Sprint(objectOf(m.Object), m.Deliveries)
		case *fb.CancelT:
			text = taskOf(m.Task).String()
		}
		for i := range int(names) {
			text += fmt.Sprint(" ", objectAt(f.payload, i))
		}
		k.h.t.Logf("agent %d, errand %d: %v %s", s.agent, k.process[k.end(s)], f.kind, text)
	}
}

func (k *errand) send(x parcel) {
	x.of = k
	s, from := k.ends[x.end], k.h.index(k.ends[1-x.end])
	for len(s.coming) <= from {
		s.coming = append(s.coming, nil)
	}
	s.coming[from] = append(s.coming[from], x)
}

func (h *history) index(s *site) int { return slices.Index(h.sites, s) }

// arrive has something arrive at an agent.
func (h *history) arrive(s *site) bool {
	for _, k := range slices.Clone(h.errands) {
		if i := k.end(s); i >= 0 && k.doomed[i] && !k.gone[i] {
			k.over(i, "it is over there", true)
			return true
		}
	}
	var from []int
	for i, line := range s.coming {
		if len(line) > 0 {
			from = append(from, i)
		}
	}
	if len(from) == 0 {
		return false
	}
	i := from[h.rng.IntN(len(from))]
	x := s.coming[i][0]
	s.coming[i] = s.coming[i][1:]
	switch k := x.of; {
	case k.gone[x.end]:
	case x.opens && x.end == 0:
		k.begin()
	case x.opens:
		k.up[1] = true
		h.step(s, ProcessUp{Process: k.process[1], Kind: Owner, Job: k.job[1], Agent: k.ends[0].agent, Node: k.ends[0].core.cfg.Node})
	case x.closes != "":
		k.over(x.end, x.closes, false)
	default:
		h.step(s, &Frames{Process: k.process[x.end], Bytes: x.frames})
	}
	h.errands = slices.DeleteFunc(h.errands, func(k *errand) bool { return k.gone == [2]bool{true, true} })
	return true
}

// begin tells the owner's side that the errand is open.
func (k *errand) begin() {
	k.up[0] = true
	k.h.step(k.ends[0], ProcessUp{Process: k.process[0], Kind: Host, Job: k.job[0], Agent: k.ends[1].agent, Node: k.ends[1].core.cfg.Node})
}

// over ends an errand at an end, which tells the other one.
func (k *errand) over(i int, why string, tells bool) {
	k.gone[i] = true
	if *showFrames {
		k.h.t.Logf("agent %d, errand %d: %s", k.ends[i].agent, k.process[i], why)
	}
	k.sever()
	if tells {
		k.send(parcel{end: 1 - i, closes: why})
	}
	k.h.inherits(k.ends[i], k.process[i])
	stay := k.h.copiesOf(k.ends[i], k.process[i])
	k.h.step(k.ends[i], ProcessGone{Process: k.process[i], Why: why, Cut: why == connectionLost})
	k.h.checkStay(k.ends[i], stay)
}

// sever: what the workers at the far end do from now on is for nobody.
func (k *errand) sever() {
	for _, p := range k.h.peers {
		if p.at != k.ends[1] || p.job != k.job[1] {
			continue
		}
		p.severed = true
		for t, w := range k.h.runs {
			if w == p {
				delete(k.h.runs, t)
			}
		}
	}
}

// connectionLost is why an errand ends whose agents live.
const connectionLost = "the connection is lost"

// cut has two agents lose each other: what is under way between them is lost. They meet again.
func (h *history) cut() {
	a := h.sites[h.rng.IntN(len(h.sites))]
	b := h.sites[(h.index(a)+1+h.rng.IntN(len(h.sites)-1))%len(h.sites)]
	h.part(a, b)
}

func (h *history) part(a, b *site) {
	h.cuts[[2]id.Agent{a.agent, b.agent}], h.cuts[[2]id.Agent{b.agent, a.agent}] = true, true
	forget := func() {
		for _, s := range []*site{a, b} {
			for i := range s.coming {
				if other := h.sites[i]; other == a || other == b {
					s.coming[i] = nil
				}
			}
		}
	}
	h.step(a, Place{Agent: b.agent, Gone: true})
	h.step(b, Place{Agent: a.agent, Gone: true})
	forget()
	for {
		i := slices.IndexFunc(h.errands, func(k *errand) bool { return k.end(a) >= 0 && k.end(b) >= 0 })
		if i < 0 {
			break
		}
		k := h.errands[i]
		if !k.up[0] { // that comes from nowhere
			k.begin()
		}
		h.errands = slices.DeleteFunc(h.errands, func(x *errand) bool { return x == k })
		for i := range k.ends {
			if k.up[i] && !k.gone[i] { // else it never hears of it
				k.over(i, connectionLost, false)
			}
		}
	}
	forget() // what was said to who is not there any more
	h.places(a, b)
	h.places(b, a)
}

// fetched answers the oldest Fetch of an agent.
func (h *history) fetched(s *site) bool {
	if len(s.wanted) == 0 {
		return false
	}
	w := s.wanted[0]
	s.wanted = s.wanted[1:]
	k := h.errandOf(s, w.Process)
	if k == nil {
		return true // unless Process is gone
	}
	if w.Do == Slice {
		h.sliced(s, w, k)
		return true
	}
	ev := Fetched{Process: w.Process, Object: w.Object}
	there := k.ends[1-k.end(s)]
	lost := there.store.views[w.Object] == nil
	if s.dropped[w.Object] && !lost {
		delete(s.dropped, w.Object)
		h.copies.again++
	}
	from := there.core.lookup(w.Object)
	// It was here, where it can't be read any more, which comes out by this; or is being made again.
	back := from != nil && (from.missing() || from.state == objectFailed || from.state == objectAway && there.core.home(from).agent == s.agent)
	if o := s.core.lookup(w.Object); lost && !back && !there.store.dropped[w.Object] && !there.store.lost[w.Object] && !k.gone[1-k.end(s)] && o != nil && (o.state == objectPending || o.state == objectAway) && (o.pins > 0 || o.holders != nil) && s.core.home(o) == s.core.byProcess[w.Process] {
		h.t.Fatalf("seed %d: agent %d fetches %v, which agent %d has no more", h.seed, s.agent, w.Object, there.agent)
	}
	switch at := h.rng.IntN(5); {
	case lost, k.gone[1-k.end(s)]:
		ev.Why = "it can't be had"
	case !h.calm && at == 0:
		ev.Why, ev.Here = storeFull, true
		h.returned["of other agents' values"]++
	case !h.calm && at == 2 && h.rng.IntN(2) == 0:
		ev.Why, ev.Here, ev.Anew = "it was made anew while it came", true, true
	case !h.calm && at == 1 && len(there.store.views[w.Object]) == 0 && !slices.Contains(h.sealing(there), w.Object) && !slices.Contains(there.store.copies, w.Object):
		ev.Why = "it can't be read"
		h.returned["damaged"]++
		there.store.filed[w.Object], there.store.lost[w.Object] = true, true
		h.step(there, Damaged{Object: w.Object, Why: ev.Why})
		if h.errandOf(s, w.Process) != k {
			return true
		}
	default:
		s.store.views[w.Object] = map[id.Process]int{}
		ev.Arena, ev.Offset = 5, 64
	}
	h.step(s, ev)
	return true
}

// between does something that is between agents, at times.
func (h *history) between(s *site) bool {
	switch k := h.rng.IntN(100); {
	case k < 35:
		for range 1 + h.rng.IntN(3) {
			h.arrive(s)
		}
	case k < 40:
		h.fetched(s)
	case k == 40 && h.rng.IntN(3) == 0 && (len(h.sites) == 2 || h.seed%4 == 0): // with three, mostly only at the end
		h.cut()
	case k == 42 && h.rng.IntN(4) == 0: // what it has of others is recalled, and after a while it has it again
		if h.rng.IntN(2) == 0 {
			h.step(s, Place{Group: lentBy(s, false), Recalled: true})
			break
		}
		h.relend(s)
	case k == 43 && h.rng.IntN(2) == 0 && s.cpus > 0:
		h.recall(s, int64(h.rng.IntN(int(s.cpus)+1)))
	case k == 41 || k == 44:
		h.now += int64(h.rng.IntN(2000)) * int64(time.Millisecond)
		h.step(s, Tick{})
	default:
		return false
	}
	return true
}

// wantAll has every process ask for all that it holds, after agents have lost each other once more: what was away is made again. All get
// an answer.
func (h *history) wantAll() {
	for i := range h.sites {
		if i > 0 && h.rng.IntN(2) == 0 {
			h.cut()
		}
	}
	asked := map[*refs]id.Object{}
	for _, p := range h.peers {
		for _, o := range p.keys {
			r := p.held[o]
			if h.actors[o.Task] != nil || p.doomed || p.severed {
				continue
			}
			r.unsettled = true
			asked[r] = o
			p.ask(o)
		}
	}
	h.quiesce("values to come")
	for r, o := range asked {
		for _, p := range h.peers {
			if p.held[o] == r && r.unsettled {
				h.t.Fatalf("seed %d: LIN-7: process %d of agent %d asked for %v (%v) and had no answer: %s", h.seed, p.id, p.at.agent, o, r.want, h.explain(p.at, o.Task))
			}
		}
	}
}

// again tells whether a call is not the first attempt of its owner, or may not be, as that has given up on it: what was made again comes behind what
// was called since.
func (h *history) again(call id.Task) bool {
	i := slices.IndexFunc(h.sites, func(s *site) bool { return s.agent == call.Agent })
	e := h.sites[i].core.entries[call]
	return e == nil || e.task == nil || e.task.attempt > 0
}
