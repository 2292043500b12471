package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// What tasks have waited for in vain is asked for anywhere, used wherever it is, and goes back when nothing uses it.
func TestLentByOtherNodes(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.nodes[2], d.up = "n2", 2
	cpu := []work.Amount{{Name: "CPU", Amount: whole / 2}}
	d.wants = &work.Wants{Away: []work.Lack{{Class: 3, Shape: &fb.ShapeT{}, Lease: cpu, Tasks: 2, Since: now}}}
	if next := d.settleLent(t.Context()); next != now+lentAfter || len(d.asked()) > 0 {
		t.Fatal("other nodes were asked at once")
	}
	now += lentAfter
	d.settleLent(t.Context())
	asked := d.asked()
	if len(asked) != 2 || len(asked[0].(*fb.GroupCreateT).Bundles) != 1 || asked[0].(*fb.GroupCreateT).Bundles[0].Resources[0].Amount != whole {
		t.Fatalf("for two tasks of half a CPU: %v", asked)
	}
	d.settleLent(t.Context())
	if len(d.asked()) > 0 {
		t.Error("it was asked again before there was an answer")
	}
	here := []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 1)}}}
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseCreated}, here)
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[1].group), Phase: fb.GroupPhaseCreated, Places: []*fb.RecPlaceT{{Agent: 2, Bundles: here}}}, nil)
	if s := fmt.Sprintf("%T %T", d.events[0], d.events[1]); s != "work.Grant work.Place" || d.events[1].(work.Place).Node != "n2" || !d.events[0].(work.Grant).Open {
		t.Errorf("one here and one there: %s", s)
	}
	d.wants = &work.Wants{}
	d.settleLent(t.Context())
	now += stakeIdle
	d.settleLent(t.Context())
	if m := d.asked(); len(m) != 2 || m[0].(*fb.GroupCancelT).Mode != fb.CancelModeStop {
		t.Errorf("unused for 3 s: %v", m)
	}
	for len(d.lent) > 0 {
		d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseEnded}, nil)
	}
	if next := d.settleLent(t.Context()); next != never {
		t.Errorf("afterwards the next look is due at %d", next)
	}
}

// What no node can have is not asked for again and again; its tasks hear of it.
func TestLentByNobody(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.up = 2
	lack := work.Lack{Class: 3, Where: "node=n9", Shape: &fb.ShapeT{Node: "n9"}, Tasks: 1, Since: now}
	d.wants = &work.Wants{Away: []work.Lack{lack}}
	d.settleLent(t.Context())
	m := d.asked()
	if len(m) != 1 || m[0].(*fb.GroupCreateT).Bundles[0].Labels[0].Value != "n9" || len(m[0].(*fb.GroupCreateT).Bundles[0].Resources) == 0 {
		t.Fatalf("for a task that names a node it is asked for %v", m)
	}
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhasePending, Explain: "busy"}, nil)
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "infeasible", Reason: "no such node"}}, nil)
	if s := fmt.Sprintf("%+v", d.events); !strings.Contains(s, "Why:busy Never:false") || !strings.Contains(s, "Why:no such node Never:true") {
		t.Errorf("the core hears %s", s)
	}
	if next := d.settleLent(t.Context()); next != now+lentNever || len(d.asked()) > 0 {
		t.Errorf("the next question is due in %v", time.Duration(next-now))
	}
	now += int64(time.Second)
	d.wants.Away[0].Since = now // those have heard it, and these come anew
	d.settleLent(t.Context())
	if m := d.asked(); len(m) != 1 || m[0].(*fb.GroupCreateT).Bundles[0].Labels[0].Value != "n9" {
		t.Fatalf("for the next task of the kind %v is asked", m)
	}
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "infeasible", Reason: "no such node"}}, nil)
	if next := d.settleLent(t.Context()); next != now+lentNever || len(d.asked()) > 0 {
		t.Errorf("when it has heard it, too, the next question is due in %v", time.Duration(next-now))
	}
	d.toldDesk(t.Context(), ToClient{M: &fb.NoticeT{Level: fb.LevelInfo, Code: "NODE_JOINED"}}, nil)
	d.settleLent(t.Context())
	if m := d.asked(); len(m) != 2 || m[0].(*fb.StateQueryT).What != "nodes" || m[1].(*fb.GroupCreateT).Bundles[0].Labels[0].Value != "n9" {
		t.Errorf("when a node has joined it asks for %v", m)
	}
}

// Of tasks of one kind after the other that no node can have nothing is kept for ever; what is still waited for is.
func TestLentIsForgotten(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.up = 2
	for class := range uint32(2 * lentKept) {
		d.wants = &work.Wants{Away: []work.Lack{{Class: class, Where: "node=n9", Shape: &fb.ShapeT{Node: "n9"}, Tasks: 1, Since: now}}}
		d.settleLent(t.Context())
		d.asked()
		d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "infeasible", Reason: "no such node"}}, nil)
		now += lentNever / 100
	}
	if next := d.settleLent(t.Context()); next <= now || len(d.lentDue) > lentKept || len(d.lentTight) > lentKept || len(d.lentNever) > lentKept || len(d.lentNever) < 99 {
		t.Errorf("%d, %d and %d are kept, the next look is in %v", len(d.lentDue), len(d.lentTight), len(d.lentNever), time.Duration(next-now))
	}
}

// Where the other nodes died, what is to be spread runs at home, and nobody is told that it never can.
func TestSpreadWithoutOthers(t *testing.T) {
	for cpus, impossible := range map[int64]bool{1: false, 9: true} {
		now := int64(time.Second)
		d := alone(&now)
		d.nodes[2], d.up = "n2", 2
		d.stake.total = map[string]float64{"CPU": 2}
		lease := []work.Amount{{Name: "CPU", Amount: cpus * whole}}
		d.wants = &work.Wants{Away: []work.Lack{{Class: 3, Where: "spread", Shape: &fb.ShapeT{Strategy: "spread"}, Lease: lease, Tasks: 1, Since: now}}}
		d.settleLent(t.Context())
		if len(d.asked()) != 1 {
			t.Fatal("the others were not asked")
		}
		d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "infeasible", Reason: "n2 died"}}, nil)
		if s := fmt.Sprintf("%+v", d.events); !strings.Contains(s, fmt.Sprint("Why:n2 died Never:", impossible)) {
			t.Errorf("%d CPUs: the core hears %s", cpus, s)
		}
	}
}

// What is to be spread and finds the others' room gives this node's share a moment to come before it asks for more of
// them: else two of three tasks have one node.
func TestSpreadWaitsForHome(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.nodes[2], d.up = "n2", 2
	d.stake.total = map[string]float64{"CPU": 2}
	d.wants = &work.Wants{Away: []work.Lack{{Class: 3, Where: "spread", Shape: &fb.ShapeT{Strategy: "spread"}, Lease: []work.Amount{{Name: "CPU", Amount: whole}}, Tasks: 2, Since: now}}}
	d.settleLent(t.Context())
	if len(d.asked()) != 1 {
		t.Fatal("the others were not asked")
	}
	d.toldLent(&fb.GroupUpdateT{Group: taskT(d.lent[0].group), Phase: fb.GroupPhaseCreated}, nil)
	if next := d.settleLent(t.Context()); len(d.lent) != 1 || next > now+lentAfter {
		t.Fatalf("%d groups were asked for at once; the next look is in %v", len(d.lent), time.Duration(next-now))
	}
	now += lentAfter
	if d.settleLent(t.Context()); len(d.lent) != 2 {
		t.Error("nothing more was asked for when this node had nothing")
	}
}

// The core hears what other nodes have, as often as that is something else.
func TestWhatOtherNodesHave(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	say := func(gpus string) int {
		d.nodeOf([]byte(`{"nodes":[{"name":"n1","agent":1,"state":"up","total":{"CPU":8}},{"name":"n2","agent":2,"state":"up","total":{"GPU":` + gpus + `,"CPU":2}},{"name":"n3","agent":3,"state":"dead","total":{"CPU":9}}]}`))
		n := 0
		for _, ev := range d.events {
			if nodes, is := ev.(work.Nodes); is {
				n++
				if s := fmt.Sprint(nodes.N, nodes.Others); s != "2 [[{CPU 20000} {GPU "+gpus+"0000}]]" {
					t.Errorf("it hears %s", s)
				}
			}
		}
		d.events = nil
		return n
	}
	if first, again, other := say("1"), say("1"), say("3"); first != 1 || again != 0 || other != 1 {
		t.Errorf("it hears of them %d, %d and %d times", first, again, other)
	}
}
