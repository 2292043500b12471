package head

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// name has an agent ask for a name for an actor of its, one of few so that they meet, or give one back.
func (h *history) name(a *fakeAgent) {
	switch {
	case a.number == 0 || a.dead:
	case len(a.names) > 0 && h.rng.IntN(2) == 0:
		i := h.rng.IntN(len(a.names))
		a.outbox = append(a.outbox, &fb.NameFreeT{Actor: a.names[i].Actor})
		a.names = slices.Delete(a.names, i, i+1)
	default:
		h.next++
		q := &fb.NameClaimT{Actor: wireTask(id.Task{Agent: id.Agent(a.number), Process: 2, Counter: h.next}), Namespace_: fmt.Sprint("s", h.rng.IntN(2)), Name: fmt.Sprint("n", h.rng.IntN(3))}
		if h.rng.IntN(2) == 0 {
			q.Spec, q.JobConfig, q.MaxRestarts = []byte("how"), "{}", int32(h.rng.IntN(4)-1)
		}
		a.claim(q)
	}
}

// watchAdrift: an actor whose agent is dead waits for another one only while none is there that takes something new (HEAD-8).
func (h *history) watchAdrift() {
	s, n := &h.core.state, 0
	for _, name := range s.names {
		if name.agent == 0 {
			n++
		}
	}
	if n != s.adrift {
		h.t.Fatalf("seed %d: HEAD-8: %d names are of no agent, and %d are counted", h.seed, n, s.adrift)
	}
	if n > 0 && s.drain == nil && h.core.short == "" && !h.core.leaving && h.core.fewestNames(nil) != nil {
		h.t.Fatalf("seed %d: HEAD-8: %d actors wait for an agent, and one is there", h.seed, n)
	}
}

// checkNames: once all is said, the head knows of each agent the names that this one knows of, and no others.
func (h *history) checkNames() {
	known := 0
	for _, a := range h.agents {
		for _, q := range a.names {
			known++
			if n := h.core.state.byActor[taskOf(q.Actor)]; n == nil || uint32(n.agent) != a.number {
				h.t.Errorf("seed %d: HEAD-8: %s has the name %s/%s, and the head does not know it", h.seed, a.name, q.Namespace_, q.Name)
			}
		}
	}
	if n := len(h.core.state.names); n != known || len(h.core.state.byActor) != n {
		h.t.Errorf("seed %d: HEAD-8: the head knows %d names, the agents %d", h.seed, n, known)
	}
}

// TestNamesThatAreTooLong: what the head keeps of a name is bounded.
func TestNamesThatAreTooLong(t *testing.T) {
	w := newWorld(t, Config{Name: "test"})
	a := w.join("n1", "CPU=1", 0)
	w.settle()
	w.log = nil
	for i, size := range []int{maxNameLen, maxNameLen + 1} {
		a.claim(&fb.NameClaimT{Actor: wireTask(id.Task{Agent: 1, Process: 1, Counter: uint64(i)}), Name: strings.Repeat("x", size)})
		w.settle()
	}
	if n := len(w.core.state.names); n != 1 || !strings.Contains(strings.Join(w.log, "\n"), "have 1 to 1024 bytes together") {
		t.Errorf("the head keeps %d names, and says %v", n, w.log)
	}
}

// TestSpecsThatAreTooLarge: what the head keeps to have actors made again is bounded, one by one and together; the names are given anyway.
func TestSpecsThatAreTooLarge(t *testing.T) {
	c := New(Config{Cluster: testCluster})
	for _, q := range []struct {
		size, used int
		kept       bool
	}{{maxSpec, 0, true}, {maxSpec + 1, 0, false}, {2, maxSpecs - 2, true}, {2, maxSpecs - 1, false}} {
		c.state.specs = q.used
		claim := &fb.NameClaimT{Name: "x", Spec: make([]byte, q.size-1), JobConfig: "x"}
		if k := c.fitting(claim); k.Name != "x" || len(k.Spec) > 0 != q.kept || k.JobConfig == "x" != q.kept || len(claim.Spec) != q.size-1 {
			t.Errorf("of %d bytes beside %d the head keeps %d", q.size, q.used, len(k.Spec))
		}
	}
}
