package pull

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var seeds = flag.Int("seeds", 60, "random worlds")

// Verifies PULL-6: eight nodes get a value at the same time, the one that has it sends no more than two copies, and it takes little longer than
// one copy does.
func TestBroadcast(t *testing.T) {
	for _, n := range []int{2, 3, 8, 100} {
		w := newWorld(t, 1, n+1, Config{})
		const size = 256 << 20
		w.nodes[0].has[object(1)] = size
		for _, x := range w.nodes[1:] {
			x.wants(object(1), size, 1)
		}
		done := int64(0)
		for len(w.events) > 0 && done == 0 {
			e := w.events[0]
			w.events, w.now = w.events[1:], e.at
			e.do()
			if !slices.ContainsFunc(w.nodes[1:], func(x *simNode) bool { return len(x.ended) == 0 }) {
				done = w.now
			}
		}
		for _, x := range w.nodes[1:] {
			for _, e := range x.ended {
				if e.Why != "" {
					t.Errorf("of %d nodes, %d has not got it: %s", n, x.agent, e.Why)
				}
			}
		}
		copies, once := float64(w.out[1])/size, float64(size)/w.rate*1e9
		if copies > 2 || float64(done) > 3*once {
			t.Errorf("%d nodes: %.1f copies left the first one, and it took %.1f times what one takes", n, copies, float64(done)/once)
		}
		t.Logf("%d nodes: %.1f copies from the first, %.2f times the time of one", n, copies, float64(done)/once)
	}
}

// Verifies PULL-1, PULL-2, PULL-5, PULL-7 and PULL-10 in random worlds: streams break, connections are refused, agents die, values go, are made anew and are
// not wanted any more; all that is wanted from an agent that lives and has the value comes whole, and nothing is left over.
func TestRandomWorlds(t *testing.T) {
	for seed := range uint64(*seeds) {
		w := newWorld(t, seed, 3+int(seed%6), Config{Chunk: 1 << 10, Worth: 8 << 10, Large: 16 << 10, Idle: 1_000_000_000, Patience: 2_000_000_000})
		w.rate, w.faulty = 1e6, seed%3 > 0
		type value struct {
			object id.Object
			size   int64
		}
		var values []value
		for i := range 5 {
			v := value{object(uint64(i + 1)), 1 + w.rng.Int64N(100<<10)>>w.rng.IntN(10)}
			values = append(values, v)
			w.nodes[0].has[v.object], w.nodes[0].made[v.object] = v.size, 1
		}
		made := uint32(1)
		gone, dropped, died := map[id.Object]bool{}, map[uint64]bool{}, map[uint32]bool{}
		wanted := map[uint64]value{}
		w.anew = func(n *simNode, before *simFetch, number uint64) { wanted[number] = wanted[before.Fetch] }
		for range 30 + w.rng.IntN(30) {
			w.after(w.rng.Int64N(1_000_000_000), func() {
				n := w.nodes[1+w.rng.IntN(len(w.nodes)-1)]
				v := values[w.rng.IntN(len(values))]
				busy := slices.ContainsFunc(n.sortedFetches(), func(f *simFetch) bool { return f.Object == v.object })
				switch k := w.rng.IntN(100); {
				case n.dead:
				case k < 60 && !busy && n.has[v.object] == 0:
					wanted[n.wants(v.object, v.size, 1)] = v
				case k < 70: // it frees its copy
					delete(n.has, v.object)
					n.step(Freed{v.object})
				case k < 78:
					if fs := n.sortedFetches(); len(fs) > 0 {
						f := fs[w.rng.IntN(len(fs))]
						dropped[f.Fetch] = true
						n.step(Drop{f.Fetch})
					}
				case k < 80 && len(gone) < 2 && w.faulty:
					gone[v.object] = true
					delete(w.nodes[0].has, v.object)
					w.nodes[0].step(Freed{v.object})
				case k < 90 && k >= 82 && !gone[v.object]: // the one that had it first makes it anew
					made++
					w.nodes[0].made[v.object] = made
				case k < 82 && len(died) < 2 && w.faulty:
					died[n.agent] = true
					n.dies()
				}
			})
		}
		w.run()
		for _, n := range w.nodes {
			if n.dead {
				continue
			}
			if fetches, streams := n.core.Under(); fetches+streams+len(n.coming)+len(n.waits)+len(n.core.waits) > 0 {
				t.Fatalf("seed %d: node %d has %d fetches, %d streams, %d waits", seed, n.agent, fetches, streams, len(n.waits))
			}
			for number, e := range n.ended {
				v, all := wanted[number] // a part may not come
				if all && e.Why != "" && !gone[v.object] && !dropped[number] && !(e.Here && w.faulty) && !e.Anew {
					t.Errorf("seed %d: node %d has not got %v: %s", seed, n.agent, v, e.Why)
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// Verifies PULL-8.
func TestSameCallsSameEffects(t *testing.T) {
	say := func() (text string) {
		c := New(Config{Agent: 1})
		for i, ev := range []Event{Want{Fetch: 1, Object: object(1), Size: 100 << 20, Owner: 2, Urgency: 1}, Want{Fetch: 2, Object: object(1), Size: 5, Owner: 2, Part: true, Offset: 3}, Hasten{1, 0}, SourceIs{2, 3, object(1)}, Opened{3, 1}, Opened{3, 2}, Came{1, 1, ""}, Broke{2, 5, 2, "cut"}, Lost{3, "gone"}, SourceIs{2, 2, object(1)}, Drop{1}} {
			text += fmt.Sprintf("%#v\n", c.Step(int64(i), ev, nil))
		}
		return text
	}
	if first, again := say(), say(); first != again {
		t.Errorf("they differ:\n%s\n%s", first, again)
	}
}

// Verifies PULL-4: nobody is sent to one that came after it, or twice.
func TestNobodyWaitsForHimself(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		c := New(Config{Agent: 1})
		parent := map[uint32]uint32{}
		for range 100 {
			agent := uint32(2 + rng.IntN(20))
			out := c.Step(1, Asked{agent, object(1), parent[agent] != 0 && rng.IntN(2) == 0}, nil)
			parent[agent] = out[0].(TellSource).Source
			at := agent
			for range 25 {
				if at = parent[at]; at == 1 {
					break
				}
			}
			if at != 1 {
				t.Fatalf("seed %d: agent %d waits for itself: %v", seed, agent, parent)
			}
		}
	}
}

// A part of a value that is on its way is given to nobody who wants bytes of that value.
func TestPartIsGivenToNobody(t *testing.T) {
	c := New(Config{Agent: 1})
	var out []Effect
	for _, ev := range []Event{Want{Fetch: 1, Object: object(1), Size: 12 << 20, Owner: 2, Part: true, Offset: 5}, Opened{2, 1}, Came{1, 1, ""}, Wanted{Line: 1, Wait: 1, Object: object(1), Size: 10}} {
		out = c.Step(1, ev, nil)
	}
	if _, refused := out[0].(Refuse); len(out) != 1 || !refused {
		t.Errorf("who wants the value is given %#v", out)
	}
}
