package yarn

import (
	"context"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
)

// A master that YARN did not start has none after it: when YARN ends the application it ends what there is, and its node waits for nobody.
func TestMasterOutsideEnds(t *testing.T) {
	w := newWorld(t, 1)
	id, b := w.container(0)
	b.Last = true
	k := w.station(id, b)
	w.event(backend.KindReady)
	on := make(chan bool)
	w.s.post(func() { w.m.Outside = true; close(on) })
	<-on
	w.m.fromYARN(am.Over{Err: &yarn.Error{Op: "heartbeat", Text: "it was killed", Kind: yarn.ErrOver}})
	if ev := w.event(backend.KindStopping); !strings.Contains(ev.Text, "it was killed") {
		t.Errorf("%+v", ev)
	}
	k.hears(t, "it was killed")
	w.dies()
	if a, ok := k.st.next(0); ok {
		t.Errorf("%+v", a)
	}
	k.out.Close()
	w.stop()
	if len(w.left) > 0 {
		t.Error("it left")
	}
}

// What YARN is going to take is told once of each container, by name, and the programs are told as often.
func TestNodesAreAnnounced(t *testing.T) {
	w := newWorld(t, 2)
	told := make(chan bool, 100)
	w.m.Announced(func(context.Context) { told <- true })
	first, b := w.container(0)
	one := w.station(first, b)
	second, b := w.container(1)
	two := w.station(second, b)
	w.event(backend.KindReady)
	w.event(backend.KindReady)
	for range 3 { // it comes with each heartbeat
		w.m.fromYARN(am.PreemptionWarning{Negotiable: []yarn.ContainerID{second}})
	}
	if ev := w.event(backend.KindWarning); ev.Node != "n2" || !strings.Contains(ev.Text, "preemption") {
		t.Errorf("%+v", ev)
	}
	<-told
	two.hears(t, `{"drain_node":{"deadline_ns":1`)
	on := make(chan yarn.NodeID, 1)
	w.s.post(func() { on <- w.s.gang.members[0].container.Node })
	node := <-on
	w.m.fromYARN(am.NodeChanged{Node: yarn.Node{ID: node, State: yarn.NodeDecommissioning, Leaves: 90}})
	for _, name := range []string{"n1", "n2"} { // whose machine it is, too
		if ev := w.event(backend.KindWarning); ev.Node != name || !strings.Contains(ev.Text, "taken out of the cluster in 1m30s") {
			t.Errorf("%+v", ev)
		}
		<-told
	}
	one.hears(t, `taken out of the cluster in 1m30s"}}`)
	two.hears(t, "preemption") // which is sooner
	// YARN has found what it wanted elsewhere; the machine goes all the same.
	w.s.post(func() {
		g := w.s.goes["n2"]
		g.preempted.said = g.preempted.said.Add(-preemptionOver)
		w.s.goes["n2"] = g
	})
	if ev := w.event(backend.KindWarning); ev.Node != "n2" || !strings.Contains(ev.Text, "any more") {
		t.Errorf("%+v", ev)
	}
	two.hears(t, `taken out of the cluster in 1m30s"}}`)
	w.m.fromYARN(am.NodeChanged{Node: yarn.Node{ID: node, State: yarn.NodeRunning}})
	for i, k := range []*nodeKeeper{one, two} {
		if ev := w.event(backend.KindWarning); ev.Node != w.s.names[i] || !strings.Contains(ev.Text, "not taken out") {
			t.Errorf("%+v", ev)
		}
		k.hears(t, `"undo":true`)
	}
	// The container that takes its place may be announced, too.
	w.m.Announced(nil)
	w.cluster.End(first, yarn.ExitPreempted)
	w.event(backend.KindWarning)
	again := first
	for again == first {
		again, _ = w.container(0)
	}
	w.m.fromYARN(am.PreemptionWarning{Strict: []yarn.ContainerID{again}})
	if ev := w.event(backend.KindWarning); ev.Node != "n1" || !strings.Contains(ev.Text, "preemption") {
		t.Errorf("%+v", ev)
	}
	w.stop()
	if len(told) > 0 {
		t.Error("the programs were told", 3+len(told), "times")
	}
}
