package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// placedPart gives a desk a part of its node.
func (d *desk) placedPart(t *testing.T, devices []string, r ...*fb.ResourceT) *part {
	t.Helper()
	p := d.askPart(t.Context(), r, time.Second)
	d.asked()
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated}, []*fb.BundlePlaceT{{Resources: r, Devices: devices}})
	return p
}

func (d *desk) recalls(p *part, how fb.LeaseRecall) {
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated, Recall: how}, nil)
}

// What was recalled is no task's any more, and goes back as soon as what is used fits without it, whichever part that is.
func TestRecalledParts(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	s := &d.stake
	a, b := d.placedPart(t, nil, res("CPU", 1)), d.placedPart(t, nil, res("CPU", 1))
	if g := s.grant(); g.Resources[0].Amount != 2*whole {
		t.Fatalf("of two parts it has %v", g.Resources)
	}
	d.recalls(a, fb.LeaseRecallNow)
	if g := s.grant(); g.Resources[0].Amount != whole || amountIn(g.Kept, "CPU") != whole || !a.create.Lease {
		t.Errorf("with one recalled it has %v, and %v of that", g.Resources, g.Kept)
	}
	used := func(n int64) { d.wants = &work.Wants{Used: []work.Amount{{Name: "CPU", Amount: n * whole}}} }
	used(2)
	d.settleRecalled(t.Context(), nil)
	if m := d.asked(); len(m) > 0 {
		t.Errorf("while both are used the head is told %v", m)
	}
	used(1)
	d.settleRecalled(t.Context(), nil)
	if m := d.asked(); len(m) != 1 || taskOf(m[0].(*fb.GroupCancelT).Group) != a.group || m[0].(*fb.GroupCancelT).Reason != "others waited for it" {
		t.Errorf("when one task has ended: %v", m)
	}
	d.recalls(b, fb.LeaseRecallIdle)
	if g := s.grant(); g.Resources[0].Amount != whole {
		t.Errorf("what is only to go back when idle is no task's: %v", g.Resources)
	}
	d.settleRecalled(t.Context(), nil)
	used(0)
	d.settleRecalled(t.Context(), nil)
	if m := d.asked(); len(m) != 1 || taskOf(m[0].(*fb.GroupCancelT).Group) != b.group {
		t.Errorf("when nothing is used: %v", m)
	}
	gpu := d.placedPart(t, []string{"g0"}, res("GPU", 1))
	d.recalls(gpu, fb.LeaseRecallNow)
	d.wants = &work.Wants{Devices: []work.Share{{Device: "g0", Amount: whole}}}
	if d.settleRecalled(t.Context(), nil); len(d.asked()) > 0 {
		t.Error("a device that is used went back")
	}
}

// Of a part that was recalled what is not used goes back at once: what is used becomes a part of its own first.
func TestTheRestOfARecalledPart(t *testing.T) {
	for _, end := range []string{"", "it ended"} {
		now := int64(time.Second)
		d := alone(&now)
		s := &d.stake
		p, gpu := d.placedPart(t, nil, res("CPU", 1), res("lic", 4)), d.placedPart(t, nil, res("GPU", 2), res("CPU", 1))
		d.wants = &work.Wants{Used: []work.Amount{{Name: "lic", Amount: whole}, {Name: "CPU", Amount: whole / 2}, {Name: "GPU", Amount: whole}}}
		if d.settleRecalled(t.Context(), nil); len(d.asked()) > 0 {
			t.Fatal("nobody has recalled anything")
		}
		d.recalls(p, fb.LeaseRecallNow)
		d.recalls(gpu, fb.LeaseRecallNow)
		d.settleRecalled(t.Context(), nil)
		m := d.asked()
		if len(m) != 1 || len(s.parts) != 3 {
			t.Fatalf("it asked for %v", m)
		}
		heir := s.parts[2]
		c := m[0].(*fb.GroupCreateT)
		if r := c.Bundles[0].Resources; !c.Lease || taskOf(c.Part) != p.group || len(r) != 1 || amountOf(r, "lic") != whole {
			t.Errorf("it makes a part of %+v", c)
		}
		if g := s.grant(); amountIn(g.Resources, "lic") != whole || amountIn(g.Kept, "lic") != 0 {
			t.Errorf("tasks have %v, and %v of what was recalled", g.Resources, g.Kept)
		}
		said := func() (made, back bool) {
			d.settleStake(t.Context()) // nothing is used any more: the other part goes back as a whole
			for _, m := range d.asked() {
				c, create := m.(*fb.GroupCreateT)
				b, cancel := m.(*fb.GroupCancelT)
				made = made || create && taskOf(c.Group) == heir.group
				back = back || cancel && taskOf(b.Group) == p.group
			}
			return made, back
		}
		now += stakeSaid
		if made, back := said(); !made || back || heir.gone {
			t.Errorf("while the head says nothing it is asked again: %v, and the other part goes back: %v", made, back)
		}
		u := &fb.GroupUpdateT{Group: taskT(heir.group), Phase: fb.GroupPhaseCreated}
		if end != "" {
			u.Phase, u.End = fb.GroupPhaseEnded, &fb.GroupEndT{Cause: "lost", Reason: end}
		}
		d.toldStake(u, []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("lic", 1)}}})
		if s.taken != (end != "") {
			t.Errorf("%q: what runs there is to end: %v", end, s.taken)
		}
		if made, back := said(); made || !back {
			t.Errorf("%q: then it is asked again: %v, and the other part goes back: %v", end, made, back)
		}
	}
}

// A head that can write nothing down has no part made of another one: then that stays whole for a while, and what runs there goes on.
func TestAPartThatIsNotSplit(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	s := &d.stake
	p := d.placedPart(t, nil, res("lic", 4))
	d.recalls(p, fb.LeaseRecallNow)
	p.recalled.said = "f"
	split := func() *part {
		t.Helper()
		d.wants = &work.Wants{Used: []work.Amount{{Name: "lic", Amount: 3 * whole}}}
		d.settleRecalled(t.Context(), nil)
		for _, m := range d.asked() {
			if c, is := m.(*fb.GroupCreateT); is && c.Wait == 0 {
				return s.parts[1]
			}
		}
		return nil
	}
	heir := split()
	if heir == nil || !p.gone {
		t.Fatal("what is used becomes no part of its own")
	}
	r := []*fb.ResourceT{res("lic", 1)}
	x, told := &piece{part: heir, conn: &workConn{}, m: &fb.GroupCreateT{Group: taskT(d.mint()), Bundles: []*fb.BundleT{{Resources: r}}}}, &piece{part: heir}
	x.group = taskOf(x.m.Group)
	heir.take(r[0], -1)
	d.pieces, d.unsure, d.groups[x.group] = []*piece{x}, []*piece{told}, &made{group: x.group}
	d.toldStake(&fb.GroupUpdateT{Group: taskT(heir.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "start", Reason: "no new groups for now"}}, nil)
	if len(s.parts) != 1 || p.gone || p.heir != nil || p.recalled.said != "" || told.part != p {
		t.Errorf("the head had none of it: %d parts, %+v", len(s.parts), p)
	}
	d.endPiece(x.group, "it was removed")
	if g := s.grant(); g.Taken || amountIn(g.Kept, "lic") != 4*whole {
		t.Errorf("what runs there is to end: %v, of what was recalled it has %v", g.Taken, g.Kept)
	}
	if split() != nil {
		t.Error("it is split again at once")
	}
	now += stakeSaid
	heir = split()
	if heir == nil || !p.gone {
		t.Fatal("later it is not split")
	}
	d.toldStake(&fb.GroupUpdateT{Group: taskT(heir.group), Incarnation: 1, Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "start"}}, nil)
	if !s.taken || len(s.parts) != 1 || p.heir != nil {
		t.Error("what was placed and ended is no more this agent's")
	}
}

// Where others have what tasks lack of their own node they stand in line, once, for as much as they could use; and leave it when none waits.
func TestInLineForTheOwnNode(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	lack := [][]work.Amount{{{Name: "CPU", Amount: whole}}}
	line := func(lent, free float64) []Message {
		t.Helper()
		d.standInLine(t.Context(), &jsonNode{Lent: map[string]float64{"CPU": lent}, Free: map[string]float64{"CPU": free}}, lack)
		return d.asked()
	}
	own := d.placedPart(t, nil, res("CPU", 2))
	if m := line(2, 0); len(m) > 0 {
		t.Errorf("all that is lent is its own, and it asks for %v", m)
	}
	if m := line(4, 0); len(m) != 1 || !m[0].(*fb.GroupCreateT).Lease { // of an empty core one task waits at least
		t.Errorf("others have two: %v", m)
	}
	if m := line(4, 0); len(m) > 0 {
		t.Errorf("a second time: %v", m)
	}
	if d.stake.coming() {
		t.Error("a group would wait for what stands in line")
	}
	d.wants = &work.Wants{}
	d.settleRecalled(t.Context(), nil)
	if m := d.asked(); len(m) != 1 || taskOf(m[0].(*fb.GroupCancelT).Group) == own.group {
		t.Errorf("when no task waits: %v", m)
	}
}

// A lent group that was recalled takes no new task, is given back when it is not used, and the head hears what holds it.
func TestRecalledLent(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.nodes[2], d.up = "n2", 2
	d.wants = &work.Wants{Away: []work.Lack{{Class: 3, Shape: &fb.ShapeT{}, Lease: []work.Amount{{Name: "CPU", Amount: whole}}, Tasks: 1, Since: now - lentAfter}}}
	d.settleLent(t.Context())
	if m := d.asked(); len(m) != 1 || !m[0].(*fb.GroupCreateT).Lease {
		t.Fatalf("it asked for %v", m)
	}
	l := d.lent[0]
	u := &fb.GroupUpdateT{Group: taskT(l.group), Phase: fb.GroupPhaseCreated, Places: []*fb.RecPlaceT{{Agent: 2, Bundles: []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 1)}}}}}}
	d.toldLent(u, nil)
	d.wants = &work.Wants{}
	d.settleLent(t.Context())
	if m := d.asked(); len(m) > 0 {
		t.Errorf("what nobody waits for goes back at once: %v", m)
	}
	u.Recall = fb.LeaseRecallNow
	d.toldLent(u, nil)
	if s := fmt.Sprintf("%+v", d.events); !strings.Contains(s, "Recalled:true") {
		t.Errorf("the core hears %s", s)
	}
	d.settleLent(t.Context())
	if m := d.asked(); len(m) != 1 || m[0].(*fb.GroupCancelT).Reason != "others waited for it" {
		t.Errorf("what was recalled and is not used: %v", m)
	}
	r := recalled{how: fb.LeaseRecallNow}
	say := func(u ...work.Use) []Message {
		d.sayHeld(t.Context(), l.group, &r, func(id.Task) []work.Use { return u })
		return d.asked()
	}
	task, old, actor := work.Use{Name: "f", Since: 5}, work.Use{Name: "g", Since: 3}, work.Use{Name: "actor A", Stays: true, Since: 4}
	if m := say(task, old); len(m) != 1 || m[0].(*fb.GroupHeldT).By != "g" || m[0].(*fb.GroupHeldT).Stays {
		t.Errorf("of two tasks the head is told %+v", m)
	}
	if m := say(old, task); len(m) > 0 {
		t.Errorf("and again: %+v", m)
	}
	if m := say(old, actor); len(m) != 1 || m[0].(*fb.GroupHeldT).By != "actor A" || !m[0].(*fb.GroupHeldT).Stays {
		t.Errorf("of an actor the head is told %+v", m)
	}
}

// Actors are counted to the parts that were not recalled, as far as they have room.
func TestWhatStays(t *testing.T) {
	now := int64(time.Second)
	d := alone(&now)
	d.core = nil
	uses := []work.Use{{Name: "f", Needs: []work.Amount{{Name: "CPU", Amount: whole}}}, {Name: "actor A", Stays: true, Needs: []work.Amount{{Name: "CPU", Amount: whole}}},
		{Name: "actor B", Stays: true, Needs: []work.Amount{{Name: "CPU", Amount: whole}}}}
	a, b, c := d.placedPart(t, nil, res("CPU", 1)), d.placedPart(t, nil, res("CPU", 1)), d.placedPart(t, nil, res("CPU", 1))
	d.recalls(a, fb.LeaseRecallNow)
	d.recalls(b, fb.LeaseRecallNow)
	stays := d.stake.staying(uses)
	if s := fmt.Sprint(stays(a)[0].Stays, stays(b)[0].Stays); s != "true false" {
		t.Errorf("beside one part that was not recalled, of two actors and a task: %s", s)
	}
	d.recalls(c, fb.LeaseRecallNow)
	stays = d.stake.staying(uses)
	if s := fmt.Sprint(stays(a)[0].Stays, stays(b)[0].Stays, stays(c)[0].Stays); s != "true true false" {
		t.Errorf("when all were recalled: %s", s)
	}
}
