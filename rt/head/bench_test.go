package head

import (
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// bare is a core with nodes that answer nothing: what it costs alone.
type bare struct {
	core *Core
	now  int64
	out  []Effect
}

func newBare(nodes int) *bare {
	b := &bare{core: New(Config{Cluster: testCluster}), now: second}
	b.out, _ = b.core.Open(b.now, nil)
	b.join(0, nodes)
	return b
}

func (b *bare) join(from, to int) {
	for i := from; i < to; i++ {
		key := fmt.Sprintf("%032x", i)
		b.step(Admit{1, &fb.HelloT{WireVersion: wire.Version, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: key}})
		agent := id.Agent(i + 1)
		b.step(LinkUp{Agent: agent})
		b.step(FromAgent{Agent: agent, Msg: &fb.RegisterT{Name: fmt.Sprintf("n%d", i), NodeKey: key, Addresses: []string{"10.0.0.1:1"},
			Resources: []*fb.ResourceT{{Name: "CPU", Amount: 8 * 10_000}, {Name: "memory", Amount: 64 << 30 * 10_000}}}})
	}
}

func (b *bare) step(ev Event) []Effect {
	b.out = b.core.Step(b.now, ev, b.out[:0])
	return b.out
}

// The idle head allocates nothing: ticks, links that break and resume, states told again.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	b := newBare(100)
	b.step(FromAgent{Agent: 1, Msg: benchGang(1, 64, -1)})
	finishStart(b, 1, 64)
	up, down, state := Event(LinkUp{7, true}), Event(LinkDown{7, "EOF"}), Event(FromAgent{Agent: 1, Msg: &fb.RankStateT{Group: wireTask(task(1)), Incarnation: 1, Phase: fb.RankPhaseRunning}})
	for range 64 { // grow what may grow
		b.step(down)
		b.step(up)
		b.now += 3 * second
		b.step(Tick{})
	}
	if n := testing.AllocsPerRun(100, func() {
		b.now += 3 * second
		b.step(down)
		b.step(up)
		b.step(state)
		b.step(Tick{})
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func benchGang(n uint64, bundles int, restarts int32) *fb.GroupCreateT {
	q := &fb.GroupCreateT{Group: wireTask(task(n)), OwnerAgent: 1, OwnerProcess: 1, MaxRestarts: restarts, Program: &fb.ProgramT{Argv: []string{"x"}}}
	for range bundles {
		q.Bundles = append(q.Bundles, &fb.BundleT{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Ranks: 1})
	}
	return q
}

// finishStart answers for the agents until the gang runs.
func finishStart(b *bare, n uint64, ranks int) {
	g := b.core.state.byID[task(n)]
	for _, p := range g.places {
		b.step(FromAgent{Agent: p.agent, Msg: &fb.BundleReservedT{Group: wireTask(g.id), Incarnation: g.incarnation}})
	}
	for r := range ranks {
		b.step(FromAgent{Agent: g.placeOf(uint32(r)).agent, Msg: &fb.RankStateT{Group: wireTask(g.id), Incarnation: g.incarnation, Rank: uint32(r), Phase: fb.RankPhaseRunning}})
	}
}

// BenchmarkGang is the life of a gang of 64 ranks on 8 nodes, all the core's part of it.
func BenchmarkGang(b *testing.B) {
	h := newBare(8)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		h.step(FromAgent{Agent: 1, Msg: benchGang(n, 64, 0)})
		finishStart(h, n, 64)
		g := h.core.state.byID[task(n)]
		for r := range uint32(64) {
			h.step(FromAgent{Agent: g.placeOf(r).agent, Msg: &fb.RankStateT{Group: wireTask(g.id), Incarnation: 1, Rank: r, Phase: fb.RankPhaseEnded}})
		}
		if g.phase != fb.GroupPhaseEnded {
			b.Fatalf("it is %v", g.phase)
		}
	}
}

// BenchmarkJoin is 1,000 nodes that join while 100 gangs wait for all of them.
func BenchmarkJoin(b *testing.B) {
	for b.Loop() {
		h := newBare(1)
		for i := range 1001 {
			h.core.cfg.Expect = append(h.core.cfg.Expect, fmt.Sprintf("n%d", i))
		}
		for n := range uint64(100) {
			h.step(FromAgent{Agent: 1, Msg: benchGang(n+1, 80, 0)})
		}
		for i := 1; i <= 1000; i += 10 {
			h.now += second / 10 // ten seconds in all
			h.join(i, i+10)
		}
		if h.core.state.groups[0].phase != fb.GroupPhaseReserving {
			b.Fatal(h.core.explainGroup(h.core.state.groups[0]))
		}
	}
}

// BenchmarkSnapshot is a compaction with 1,000 nodes, 50 running gangs and a full history.
func BenchmarkSnapshot(b *testing.B) {
	h := newBare(1000)
	for n := range uint64(maxEnded + 50) {
		h.step(FromAgent{Agent: 1, Msg: benchGang(n+1, 64, 0)})
		if n < maxEnded {
			h.step(FromAgent{Agent: 1, Msg: &fb.GroupCancelT{Group: wireTask(task(n + 1))}})
		} else {
			finishStart(h, n+1, 64)
		}
	}
	b.ReportAllocs()
	var size int
	for b.Loop() {
		size = 0
		for _, rec := range h.core.Snapshot(nil) {
			body, err := wire.Marshal(nil, rec)
			if err != nil {
				b.Fatal(err)
			}
			size += len(body)
		}
	}
	b.ReportMetric(float64(size)/1024, "KiB")
}
