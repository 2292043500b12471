package sim

import (
	"errors"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/rt/agent"
	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func isRefused(err error) bool {
	return errors.As(err, new(*transport.RefusedError))
}

func TestHeapOrder(t *testing.T) {
	var h events
	var want []event
	x := uint64(1)
	for i := range uint64(5000) {
		x = mix(x + i)
		e := event{at: int64(x % 100), tie: x >> 8 % 4, seq: i}
		want = append(want, e)
		h.push(e)
	}
	slices.SortFunc(want, func(a, b event) int {
		if a.before(&b) {
			return -1
		}
		return 1
	})
	for i, w := range want {
		if e := h.pop(); e.at != w.at || e.tie != w.tie || e.seq != w.seq {
			t.Fatalf("event %d is %d/%d/%d, not %d/%d/%d", i, e.at, e.tie, e.seq, w.at, w.tie, w.seq)
		}
	}
}

// TestCheckSees proves that Check is not blind: it is shown what no cluster may do (SIM-2).
func TestCheckSees(t *testing.T) {
	c := New(Config{Seed: 1, Nodes: 2})
	c.Run(second)
	cl := c.Submit(c.Node(1), Job{Bundles: 2, Argv: []string{"run=2s", "out=1000"}})
	c.Run(second)
	if f := c.Check(); len(f) > 0 {
		t.Fatalf("a cluster in order: %v", f)
	}
	held := c.seen.byID[cl.Group]
	held.lost[0] = true // as if the journal said that a share was given back
	if f := c.Check(); len(f) != 1 {
		t.Errorf("a ledger that does not balance: %v", f)
	}
	held.lost[0], c.faults = false, nil
	c.seen.dead[1] = true
	c.CutConnections(c.Node(0))
	c.Run(second)
	if f := c.Check(); len(f) == 0 {
		t.Errorf("a dead number that is let in: %v", f)
	}
	delete(c.seen.dead, 1)
	c.faults = nil
	out := &fb.RankOutputT{Group: taskT(cl.Group), Incarnation: 1, Rank: 1, Stream: agent.Stdout, Offset: agent.OffsetBase(1) + uint64(cl.stream(&fb.RankOutputT{Incarnation: 1, Rank: 1, Stream: agent.Stdout}).next)}
	cl.output(out, []byte{1, 2, 3})
	out.Offset += 1000
	cl.output(out, nil)
	if f := c.Check(); len(f) != 2 {
		t.Errorf("output that differs, and output with a gap: %v", f)
	}
}
