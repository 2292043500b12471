package work

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Whatever the two ends of a line, or one of them, tell of it, a core stays whole, and another driver of that actor is left alone (WORK-8).
func TestHostileLines(t *testing.T) {
	sent, taken := 0, 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 35))
		x := newLined(t, func(m *fb.CreateT) { m.MaxRestarts = int32(rng.IntN(2)) })
		x.send("other", &fb.ShapeT{Number: 1, Bundle: -1}, nil)
		x.send("other", &fb.SubmitT{Task: taskT(x.mint("other", "its")), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, Returns: 1}, nil)
		names := []id.Task{x.actor, x.task("first"), x.task("its"), x.mint("other", "none"), {}, {Agent: 9, Process: 1, Counter: 1}}
		for i := range 12 {
			names = append(names, x.mint("d", fmt.Sprint("c", i)))
		}
		odd := func(n int) bool { return rng.IntN(n) == 0 }
		pick := func() *fb.TaskIDT {
			if odd(40) {
				return taskT(names[rng.IntN(len(names))])
			}
			return taskT(names[len(names)-1-rng.IntN(12)])
		}
		some := func(n int) uint32 {
			if odd(40) {
				return uint32(rng.IntN(n))
			}
			return 0
		}
		for range 80 {
			who := []string{"d", "w1"}[rng.IntN(2)]
			p := x.core.byProcess[x.procs[who]]
			if p == nil || p.closing {
				continue
			}
			var m wire.Message
			switch k := rng.IntN(12); {
			case k < 4:
				m = &fb.ToldT{Task: pick(), Parent: &fb.TaskIDT{}, Actor: taskT(x.actor), Job: 1 + some(3), Attempt: uint32(rng.IntN(2)), Shape: 1 + some(3), Incarnation: uint32(rng.IntN(3)), Returns: 1 + some(2),
					Deps: some(2), Method: some(2) << groupShift}
			case who == "w1" && k < 9:
				t := x.core.byProcess[x.procs["w1"]].worker.flight.head
				if t == nil {
					continue
				}
				m = &fb.ResultT{Task: taskT(t.id()), Flags: uint32(fb.ResultFlagLast) | uint32(rng.IntN(2))<<1, Attempt: t.attempt + some(2)}
			case who == "w1" && k == 9:
				m = &fb.ResultT{Task: pick(), Flags: uint32(fb.ResultFlagLast)}
			case who == "w1" && (x.core.byProcess[x.procs["w1"]].worker.direct.asked || odd(20)):
				m = &fb.LineT{}
			case who == "w1":
				m = &fb.SealT{Object: &fb.ObjectIDT{Task: pick(), Index: some(2)}, Size: 1 << 20}
			case k < 7:
				m = &fb.CallT{Task: pick(), Parent: &fb.TaskIDT{}, Actor: taskT(x.actor), Job: 1, Shape: 1, Returns: 1, Sequence: rng.Uint64N(100)}
			case k < 9:
				m = &fb.CancelT{Task: pick(), Recursive: some(2)}
			default:
				m = &fb.ReleaseT{Object: &fb.ObjectIDT{Task: pick(), Index: some(2)}}
			}
			x.send(who, m, nil)
			sent++
			if _, told := m.(*fb.ToldT); told && !p.closing {
				taken++
			}
			if odd(40) {
				x.step(Nodes{N: 2, Others: [][]Amount{{{"CPU", 20_000}}}})
				x.step(Drain{Agent: agentNumber, Node: "n1", Reason: "it is old"})
			}
		}
		ends := []string{"d", "w1"}
		rng.Shuffle(2, func(i, j int) { ends[i], ends[j] = ends[j], ends[i] })
		for _, who := range ends {
			x.step(ProcessGone{Process: x.procs[who], Why: "it ended"})
		}
		x.now += int64(1e9)
		x.step(Tick{})
		if p := x.core.byProcess[x.procs["other"]]; p == nil || p.closing || x.core.entries[x.task("its")] == nil || x.core.entries[x.task("none")] != nil {
			t.Fatalf("seed %d: a driver that has no line was cut off, its task is gone, or it has one that it did not make", seed)
		}
	}
	if sent < 4000 || taken < 1000 {
		t.Errorf("only %d frames were sent, and %d calls told of", sent, taken)
	}
}
