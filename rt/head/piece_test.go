package head

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// plainGroup makes what ask asks for a group without a program, and change what is to be different besides.
func plainGroup(change func(*fb.GroupCreateT)) func(*fb.GroupCreateT) {
	return func(q *fb.GroupCreateT) {
		q.Program = nil
		for _, b := range q.Bundles {
			b.Ranks = 0
		}
		if change != nil {
			change(q)
		}
	}
}

func (w *world) free(node int) string {
	return w.core.state.view.Node(node).Free.Get(placement.CPU).String()
}

// A piece has its resources from the group that it is of, at once, and keeps them when that one ends.
func TestAPieceOfAShare(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.join("n1", "CPU=4", 0)
	w.join("n2", "CPU=4", 0)
	w.settle()
	share := w.ask(a, 1, 1, "CPU=4", plainGroup(nil))
	node := int(share.places[0].node)
	piece := w.ask(a, 2, 1, "CPU=1.5", plainGroup(func(q *fb.GroupCreateT) { q.Part = wireTask(share.id) }))
	if piece.phase != fb.GroupPhaseCreated || int(piece.places[0].node) != node || w.free(node) != "0" {
		t.Fatalf("the piece is %s, and %s CPUs are free", piece.phase, w.free(node))
	}
	if have := share.places[0].bundles[0].Resources; len(have) != 1 || have[0].Amount != 25_000 {
		t.Errorf("the group that it is of still has %v", have[0])
	}
	w.ask(a, 3, 1, "CPU=0.5", plainGroup(func(q *fb.GroupCreateT) { q.Part = wireTask(share.id) }))
	cancel := func(g *group, free string) {
		t.Helper()
		a.outbox = append(a.outbox, &fb.GroupCancelT{Group: wireTask(g.id), Mode: fb.CancelModeStop})
		w.settle()
		if w.free(node) != free {
			t.Errorf("without group %v %s CPUs are free, not %s", g.id, w.free(node), free)
		}
	}
	cancel(share, "2")
	cancel(piece, "3.5")
	w.open() // what the journal says
	if w.free(node) != "3.5" {
		t.Errorf("by the journal %s CPUs are free", w.free(node))
	}
}

// What an agent does not have it can't give; its own group stays as it was.
func TestPiecesOfWhatIsNotThere(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
	w.settle()
	share := w.ask(a, 1, 1, "CPU=2", plainGroup(nil))
	wide := w.ask(a, 2, 2, "CPU=1", plainGroup(nil))
	for n, c := range []struct {
		name, each string
		from       id.Task
		by         *fakeAgent
	}{
		{"too much", "CPU=3", share.id, a},
		{"another resource", "GPU=1", share.id, a},
		{"of another agent", "CPU=1", share.id, b},
		{"of nobody", "CPU=1", task(77), a},
		{"of more than one bundle", "CPU=1", wide.id, a},
	} {
		g := w.ask(c.by, uint64(10+n), 1, c.each, plainGroup(func(q *fb.GroupCreateT) { q.Part = wireTask(c.from) }))
		if g.phase != fb.GroupPhaseEnded || !strings.Contains(g.end.Reason, "is not its agent's any more") {
			t.Errorf("%s: it is %s: %+v", c.name, g.phase, g.end)
		}
	}
	if have := share.places[0].bundles[0].Resources[0].Amount; have != 20_000 || len(w.core.notices) > 0 && strings.Contains(w.core.notices[len(w.core.notices)-1].Code, "BUG") {
		t.Errorf("the share is %d now; notices %v", have, w.core.notices)
	}
}

// A head that died before it took a piece in does so when it is back.
func TestAPieceThatAHeadForgot(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.join("n1", "CPU=4", 0)
	w.settle()
	share := w.ask(a, 1, 1, "CPU=4", plainGroup(nil))
	rec := &fb.RecGroupT{Wall: w.now, Create: &fb.GroupCreateT{Group: wireTask(task(2)), OwnerAgent: a.number, OwnerProcess: 1, Part: wireTask(share.id),
		Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}}}}}
	if err := w.shadow.apply(rec); err != nil {
		t.Fatal(err)
	}
	w.recs = append(w.recs, rec)
	w.open()
	piece := w.core.state.byID[task(2)]
	if piece.phase != fb.GroupPhaseCreated || w.core.state.byID[share.id].places[0].bundles[0].Resources[0].Amount != 30_000 {
		t.Errorf("it is %s after a restart", piece.phase)
	}
}

// Another agent may hear of a group before the head does: its question waits for the group, but not for ever.
func TestAQuestionThatComesBeforeItsGroup(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
	w.settle()
	group := id.Task{Agent: id.Agent(a.number), Process: 1, Counter: 5}
	b.outbox = append(b.outbox, &fb.GroupWatchT{Group: wireTask(group), OwnerAgent: b.number})
	w.settle()
	if b.ends[group] != nil {
		t.Fatalf("it is told at once: %+v", b.ends[group])
	}
	w.ask(a, 1, 1, "CPU=1", plainGroup(func(q *fb.GroupCreateT) { q.Group = wireTask(group) }))
	a.outbox = append(a.outbox, &fb.GroupCancelT{Group: wireTask(group), Mode: fb.CancelModeStop, Reason: "removed"})
	w.settle()
	if b.ends[group] == nil || b.ends[group].Reason != "removed" {
		t.Errorf("of its end it hears %+v", b.ends[group])
	}
	never := id.Task{Agent: id.Agent(a.number), Process: 1, Counter: 6}
	b.outbox = append(b.outbox, &fb.GroupWatchT{Group: wireTask(never), OwnerAgent: b.number})
	w.settle()
	if said := strings.Join(w.log, "\n"); strings.Contains(said, "1.1.6#0 Ended") {
		t.Error("one that never was is said to be over at once")
	}
	w.log = nil
	w.advance(2 * linkGrace)
	if said := strings.Join(w.log, "\n"); !strings.Contains(said, "n2 <- GroupUpdate 1.1.6#0 Ended") {
		t.Errorf("of one that never was it hears %s", said)
	}
}
