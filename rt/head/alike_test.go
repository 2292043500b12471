package head

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Equal bundles are said once, on the way to the head and from it, and in the journal; its owner hears first that a group is there.
func TestEqualBundlesAreSaidOnce(t *testing.T) {
	for _, lease := range []bool{false, true} {
		w := newWorld(t, Config{})
		a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
		w.settle()
		group := &fb.GroupCreateT{Group: wireTask(id.Task{Agent: id.Agent(a.number), Process: 1, Counter: 5}), OwnerAgent: a.number, Strategy: fb.StrategySpread, MaxRestarts: -1, Lease: lease,
			Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}, Times: 8}}}
		out := w.core.Step(w.now, FromAgent{Agent: id.Agent(a.number), Msg: group}, nil)
		var order []string
		for _, e := range out {
			s, ok := e.(Send)
			if !ok {
				continue
			}
			switch m := s.Msg.(type) {
			case *fb.BundleReserveT:
				if len(m.Bundles) != 1 || len(m.Bundles[0].Also) != 3 {
					t.Errorf("a share of four is said as %d", len(m.Bundles))
				}
				order = append(order, "reserve")
			case *fb.GroupUpdateT:
				if len(m.Places) != 2 || len(m.Places[1].Bundles) != 1 {
					t.Errorf("the owner is told %+v", m.Places)
				}
				order = append(order, "there")
			}
			if s.Calm != (s.Agent == id.Agent(b.number) && !lease) {
				t.Errorf("lease %v: %T to agent %d may wait: %v", lease, s.Msg, s.Agent, s.Calm)
			}
		}
		if got := strings.Join(order, " "); got != "reserve there reserve" {
			t.Errorf("it says %s", got)
		}
		g := w.core.state.byID[taskOf(group.Group)]
		if len(g.create.Bundles) != 8 || len(g.places) != 2 || len(g.places[1].bundles) != 4 || g.create.Bundles[7].Times > 1 {
			t.Errorf("the group has %d bundles, and %d nodes", len(g.create.Bundles), len(g.places))
		}
	}
}

// Billions of bundles end with a reason, and take no memory.
func TestTooManyBundles(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.join("n1", "CPU=4", 0)
	w.settle()
	g := w.ask(a, 1, 1, "CPU=1", func(q *fb.GroupCreateT) { q.Bundles[0].Times = 1 << 31 })
	if g.phase != fb.GroupPhaseEnded || !strings.Contains(g.end.Reason, "more bundles than a group may have") {
		t.Errorf("it is %s: %+v", g.phase, g.end)
	}
}
