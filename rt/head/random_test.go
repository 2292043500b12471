package head

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run one random history only")
	seeds    = flag.Int("seeds", 40, "how many random histories")
)

// TestRandomHistories lets agents join, crash, restart, break off and come back, the head crash, and
// gangs come and go, with messages of different agents in any order. After each step carry proves
// HEAD-1, HEAD-3 and HEAD-6; at the end every group has ended, once and the same for all who ask
// (HEAD-2), for a reason that is none of our own signals (HEAD-7), and nothing is held any more.
func TestRandomHistories(t *testing.T) {
	if *seedFlag != 0 {
		newHistory(t, *seedFlag).run(400)
		return
	}
	for seed := uint64(1); seed <= uint64(*seeds); seed++ {
		newHistory(t, seed).run(150)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type history struct {
	*world
	rng     *rand.Rand
	seed    uint64
	next    uint64
	groups  []id.Task
	owners  map[id.Task]*fakeAgent
	ended   map[id.Task]fb.GroupEndT
	terms   uint64
	numbers uint32
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{rng: rand.New(rand.NewPCG(seed, 7)), seed: seed, owners: map[id.Task]*fakeAgent{}, ended: map[id.Task]fb.GroupEndT{}}
	cfg := Config{Name: "random"}
	if h.rng.IntN(3) == 0 {
		cfg.Expect = []string{"n1", "n2", "n3", "n4"}
	}
	h.world = newWorld(t, cfg)
	h.onEnd = func(a *fakeAgent, u *fb.GroupUpdateT) {
		task := taskOf(u.Group)
		if old, found := h.ended[task]; found && old != *u.End {
			t.Fatalf("seed %d: HEAD-2: group %v ended as %+v and as %+v", seed, task, old, *u.End)
		}
		h.ended[task] = *u.End
	}
	for i := range 2 + h.rng.IntN(3) {
		h.join(fmt.Sprintf("n%d", i+1), "CPU=4", h.rng.IntN(3))
	}
	h.settle()
	return h
}

func (h *history) run(steps int) {
	for range steps {
		h.act()
		h.watch()
		if h.exit != nil || h.t.Failed() {
			break
		}
	}
	h.calm()
}

// watch holds what may only grow against what was.
func (h *history) watch() {
	s := &h.core.state
	if s.term < h.terms || s.nextAgent < h.numbers {
		h.t.Fatalf("seed %d: HEAD-4: term %d after %d, number %d after %d", h.seed, s.term, h.terms, s.nextAgent, h.numbers)
	}
	h.terms, h.numbers = s.term, s.nextAgent
	for _, m := range s.members {
		if uint32(m.number) >= s.nextAgent {
			h.t.Fatalf("seed %d: HEAD-4: number %d is alive and not issued", h.seed, m.number)
		}
	}
	h.watchAdrift()
	for i, n := range s.names {
		if s.byAgent[n.agent] == nil && !(n.agent == 0 && n.coming) || s.byActor[n.actor] != n || i > 0 && compareNames(s.names[i-1], n.claim) >= 0 {
			h.t.Fatalf("seed %d: HEAD-8: %s/%s of %v is agent %d's", h.seed, n.claim.Namespace_, n.claim.Name, n.actor, n.agent)
		}
	}
	for _, g := range s.ended {
		if g.end.Rank >= 0 && g.end.Cause == causeRank && g.end.Code == 0 {
			h.t.Fatalf("seed %d: group %v failed with code 0", h.seed, g.id)
		}
	}
	if h.rng.IntN(8) > 0 {
		return
	}
	again := newState()
	for _, r := range s.snapshot(nil) {
		body, err := wire.Marshal(nil, r)
		if err != nil {
			h.t.Fatal(err)
		}
		rec, err := wire.Unmarshal(wire.TypeOf(r), slices.Clone(body))
		if err != nil {
			h.t.Fatal(err)
		}
		if err := again.apply(rec); err != nil {
			h.t.Fatalf("seed %d: snapshot: %s: %v", h.seed, show(rec), err)
		}
	}
	if live, copied := dump(s), dump(&again); live != copied {
		h.t.Fatalf("seed %d: HEAD-6: a snapshot is not the state\n%s", h.seed, diff(live, copied))
	}
}

func (h *history) pick() *fakeAgent { return h.agents[h.rng.IntN(len(h.agents))] }

// deliver moves some messages, each agent's in order.
func (h *history) deliver(n int) {
	for range n {
		a := h.pick()
		switch {
		case a.dead || a.number == 0:
		case len(a.inbox) > 0 && h.rng.IntN(2) == 0:
			m := a.inbox[0]
			a.inbox = a.inbox[1:]
			h.handle(a, m)
		case len(a.outbox) > 0:
			m := a.outbox[0]
			a.outbox = a.outbox[1:]
			h.step(FromAgent{Agent: id.Agent(a.number), Msg: m})
		}
	}
}

func (h *history) act() {
	a := h.pick()
	switch n := h.rng.IntN(100); {
	case n < 8:
		h.name(a)
	case n < 40:
		h.deliver(1 + h.rng.IntN(12))
	case n < 58:
		h.newGroup(a)
	case n < 72: // a rank ends
		if len(a.ranks) > 0 && a.number != 0 && !a.dead {
			k := a.ranks[h.rng.IntN(len(a.ranks))]
			if k.Phase != fb.RankPhaseEnded {
				code := int32(0)
				if h.rng.IntN(3) == 0 {
					code = int32(1 + h.rng.IntN(5))
				}
				h.endRank(a, k, code, 0, false, "")
			}
		}
	case n < 80: // those told TERM end
		for _, k := range slices.Clone(a.stopping) {
			h.endRank(a, k, 0, 15, true, "")
		}
	case n < 84:
		h.advance(int64(h.rng.IntN(3000)) * 1_000_000)
	case n < 87:
		if a.number != 0 && !a.dead {
			h.step(LinkDown{id.Agent(a.number), "EOF"})
			switch h.rng.IntN(3) {
			case 0:
				h.dial(a, true)
			case 1:
				h.dial(a, false)
			default:
				h.advance(int64(h.rng.IntN(2500)) * 1_000_000)
				h.back(a)
			}
		}
	case n < 91:
		if a.number != 0 && !a.dead {
			a.inbox, a.outbox = nil, nil
			h.restartAgent(a)
		}
	case n < 93: // the whole node is gone, and perhaps another takes its place
		if len(h.agents) > 2 && a.number != 0 && !a.dead {
			a.bundles, a.ranks, a.stopping, a.names, a.inbox, a.outbox = nil, nil, nil, nil, nil, nil
			h.step(Silent{id.Agent(a.number), "silent"})
			h.advance(int64(h.rng.IntN(12)) * second)
			a.number, a.previous, a.dead = 0, 0, false
			h.next++
			a.key = fmt.Sprintf("%032x", 1000+h.next)
			h.dial(a, false)
		}
	case n < 96: // kill -9 of the head
		h.headCrash()
	case n < 98:
		if len(h.groups) > 0 {
			g := h.groups[h.rng.IntN(len(h.groups))]
			mode := []fb.CancelMode{fb.CancelModeDrain, fb.CancelModeStop}[h.rng.IntN(2)]
			a.outbox = append(a.outbox, &fb.GroupCancelT{Group: wireTask(g), Mode: mode, ExitCode: 130, Reason: "asked"})
		}
	case n == 98 && h.rng.IntN(2) == 0: // the disk runs out, or has room again
		h.step(Short{[]string{"", "no room"}[h.rng.IntN(2)]})
	default:
		if len(h.groups) > 0 {
			g := h.groups[h.rng.IntN(len(h.groups))]
			a.outbox = append(a.outbox, &fb.GroupWatchT{Group: wireTask(g), Owner: h.rng.IntN(2) == 0 && h.owners[g] == a, OwnerProcess: 1})
		}
	}
}

// back brings an agent back whatever became of its number.
func (h *history) back(a *fakeAgent) {
	if a.dead {
		a.previous, a.number, a.dead, a.stopping, a.bundles, a.names = a.number, 0, false, nil, nil, nil
		a.inbox, a.outbox = nil, nil
	}
	h.dial(a, false)
}

func (h *history) headCrash() {
	for _, a := range h.agents {
		a.inbox, a.outbox = nil, nil
	}
	h.cfg.Instead = ""
	a := h.pick()
	if m := h.core.state.byAgent[id.Agent(a.number)]; m != nil && m.node != nil && len(h.agents) > 2 && h.rng.IntN(4) == 0 { // its node is gone with it
		a.bundles, a.ranks, a.stopping, a.names = nil, nil, nil, nil
		h.next++
		a.number, a.previous, a.dead, a.key = 0, 0, false, fmt.Sprintf("%032x", 1000+h.next)
		h.cfg.Instead = m.node.name
	}
	h.open()
	for _, i := range h.rng.Perm(len(h.agents)) {
		if a := h.agents[i]; h.rng.IntN(8) > 0 {
			h.back(a)
		}
	}
	// what agents and clients ask again
	for _, g := range h.groups {
		if a := h.owners[g]; a.number != 0 && !a.dead {
			a.outbox = append(a.outbox, &fb.GroupWatchT{Group: wireTask(g), Owner: true, OwnerProcess: 1})
		}
	}
}

func (h *history) newGroup(a *fakeAgent) {
	if a.number == 0 || a.dead {
		return
	}
	h.next++
	g := id.Task{Agent: 77, Process: 1, Counter: h.next}
	q := &fb.GroupCreateT{Group: wireTask(g), OwnerAgent: a.number, OwnerProcess: 1, Strategy: fb.Strategy(h.rng.IntN(4)),
		MaxRestarts: int32(h.rng.IntN(4)) - 1, Detached: h.rng.IntN(4) == 0}
	if h.rng.IntN(5) == 0 {
		q.Wait = int64(h.rng.IntN(20)) * second
	}
	if h.rng.IntN(4) == 0 {
		q.Name = fmt.Sprintf("name%d", h.rng.IntN(3))
	}
	ranks := uint32(1 + h.rng.IntN(2))
	if h.rng.IntN(6) == 0 {
		ranks = 0
	} else {
		q.Program = &fb.ProgramT{Argv: []string{"x"}, MasterPort: h.rng.IntN(2) == 0}
	}
	for range 1 + h.rng.IntN(4) {
		res := []*fb.ResourceT{{Name: "CPU", Amount: int64(1+h.rng.IntN(3)) * 10_000}}
		if h.rng.IntN(4) == 0 {
			res = append(res, &fb.ResourceT{Name: "GPU", Amount: []int64{2_500, 5_000, 10_000}[h.rng.IntN(3)]})
		}
		q.Bundles = append(q.Bundles, &fb.BundleT{Resources: res, Ranks: ranks})
	}
	if whole := h.bare(a); whole != nil && h.rng.IntN(2) == 0 {
		q.Part, q.Program, q.Wait, q.Name = whole, nil, 0, ""
		q.Bundles = []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: int64(1+h.rng.IntN(4)) * 5_000}}}}
	}
	h.groups = append(h.groups, g)
	h.owners[g] = a
	a.outbox = append(a.outbox, q)
}

// bare gives a group of an agent's that a piece may be cut off, or that is no such thing any more.
func (h *history) bare(a *fakeAgent) *fb.TaskIDT {
	for _, i := range h.rng.Perm(len(h.groups)) {
		if g := h.core.state.byID[h.groups[i]]; g != nil && g.create.Program == nil && h.owners[g.id] == a {
			return wireTask(g.id)
		}
	}
	return nil
}

// calm ends the faults: all agents are there, all programs end; then nothing may be left.
func (h *history) calm() {
	t := h.t
	h.step(Short{})
	for _, a := range h.agents {
		h.back(a)
	}
	h.settle()
	h.advance(returnGrace + second) // those whose node went with a head's are waited for no more
	for round := 0; len(h.core.state.groups) > 0; round++ {
		if round > 300 {
			for _, g := range h.core.state.groups {
				t.Errorf("seed %d: group %v never ends: %s", h.seed, g.id, h.core.explainGroup(g))
			}
			return
		}
		for _, a := range h.agents {
			if a.dead {
				h.back(a)
			}
			for _, k := range slices.Clone(a.ranks) {
				if k.Phase == fb.RankPhaseRunning {
					h.endRank(a, k, 0, 0, false, "")
				}
			}
		}
		h.settle()
		for _, g := range slices.Clone(h.core.state.groups) {
			if len(h.core.state.members) > 0 && (g.create.Program == nil || round > 200) {
				h.step(FromAgent{Agent: h.core.state.members[0].number, Msg: &fb.GroupCancelT{Group: wireTask(g.id)}})
			}
		}
		h.advance(second)
		h.watch()
	}
	for _, g := range h.groups { // everybody asks once more
		for _, a := range h.agents {
			a.outbox = append(a.outbox, &fb.GroupWatchT{Group: wireTask(g)})
		}
	}
	h.settle()
	for _, a := range h.agents {
		if a.dead {
			h.back(a)
			h.settle()
		}
		if len(a.bundles)+len(a.ranks) > 0 {
			t.Errorf("seed %d: %s still has %d bundles and %d ranks", h.seed, a.name, len(a.bundles), len(a.ranks))
		}
	}
	for g, e := range h.ended {
		if e.Cause == causeRank && e.Signal == 15 {
			t.Errorf("seed %d: HEAD-7: group %v ended by our own TERM: %+v", h.seed, g, e)
		}
	}
	for _, n := range h.core.state.nodes {
		if v := h.core.state.view.Node(int(n.index)); v != nil && !v.Free.Equal(v.Total) {
			t.Errorf("seed %d: HEAD-1: %s: %v of %v is free at the end", h.seed, n.name, v.Free, v.Total)
		}
	}
	h.checkNames()
	h.refusesDead()
}

// refusesDead is HEAD-5: every number that is not alive is refused.
func (h *history) refusesDead() {
	for n := uint32(1); n < h.core.state.nextAgent; n++ {
		if h.core.state.byAgent[id.Agent(n)] != nil {
			continue
		}
		h.log = nil
		h.step(Admit{0, &fb.HelloT{WireVersion: wire.Version, Cluster: h.cfg.Cluster, Role: fb.RoleAgent, Agent: n, NodeKey: "x"}})
		if len(h.log) != 1 || !strings.Contains(h.log[0], "refused: Dead") {
			h.t.Errorf("seed %d: HEAD-5: number %d: %v", h.seed, n, h.log)
		}
	}
}
