package work

import (
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// set is labels of one key each.
func set(pairs ...string) *fb.LabelSetT {
	s := &fb.LabelSetT{}
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		s.Labels = append(s.Labels, &fb.LabelT{Key: key, Value: value})
	}
	return s
}

// wishLabels gives some of the model's shapes labels that no node has, and that they can do without.
func wishLabels(m *fb.ShapeT, i int) {
	switch i % 4 {
	case 1:
		m.Labels, m.Fallbacks = set("disk=ssd").Labels, []*fb.LabelSetT{set("?disk=tape", "disk=any"), set()}
	case 3:
		m.Labels = set("?disk=ssd").Labels
	}
}

// wants gives the places that the driver's agent asks for, which must be those that the labels say.
func (p *pair) wants() (all []string) {
	p.t.Helper()
	for _, k := range p.cores[0].Wants().Away {
		var labels []string
		for _, l := range k.Shape.Labels {
			labels = append(labels, l.Key+"="+l.Value)
		}
		if where := strings.TrimPrefix(k.Where, "rather "); where != strings.Join(labels, ", ") {
			p.t.Errorf("a place where %s is asked for by %v", k.Where, labels)
		}
		all = append(all, k.Where)
	}
	return all
}

// nowhere says of all that is asked for that no node has it.
func (p *pair) nowhere() {
	p.t.Helper()
	for _, k := range p.cores[0].Wants().Away {
		p.step(0, Waits{Class: k.Class, Where: k.Where, Why: "no node has it", Never: true})
	}
}

// lend has the other node's CPU lent for a place.
func (p *pair) lend(where string) id.Task {
	p.t.Helper()
	p.next++
	group := id.Task{Agent: 1, Process: 2, Counter: p.next}
	p.step(1, Grant{Group: group, Resources: []Amount{{"CPU", one}}})
	p.step(0, Place{Group: group, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", one}}, Open: true, Where: where})
	return group
}

// Labels with fallbacks are tried in their order, a second each, or not at all if no node has them; none runs where none of them is.
func TestFallbacks(t *testing.T) {
	p := newPair(t)
	p.step(0, Nodes{N: 2})
	p.step(0, Grant{Resources: []Amount{{"CPU", 3 * one}}})
	shape := func(number uint32) *fb.ShapeT {
		return &fb.ShapeT{Number: number, Labels: set("zone=a").Labels, Fallbacks: []*fb.LabelSetT{set("zone=b", "disk=ssd"), set("zone=a"), set("zone=c")}}
	}
	task := p.shaped(shape(3))
	for i, where := range []string{"rather zone=a", "rather zone=b, disk=ssd", "zone=c"} {
		if got := p.wants(); len(got) != 1 || got[0] != where || len(p.cores[0].Wants().Hungry) > 0 {
			t.Errorf("after %d s it wants %q", i, got)
		}
		if why := p.at(task); !strings.Contains(why, strings.TrimPrefix(where, "rather ")) {
			t.Errorf("it waits for %s", why)
		}
		p.wait(0, wishWait)
	}
	// What comes late for the first one is used, what is for another kind is not.
	p.lend("rather zone=q")
	if at := p.at(task); at == "here" || at == "there" {
		t.Fatalf("it is %s", at)
	}
	p.lend("rather zone=a")
	if at := p.at(task); at != "there" {
		t.Errorf("with a place that it wishes it is %s", at)
	}
	p.result(task, nil, "done")
	// A new one asks from the beginning, later.
	p.wait(0, wishAgain)
	first, second := p.shaped(shape(3)), p.shaped(shape(3))
	if p.at(first) != "there" || len(p.wants()) != 1 || p.wants()[0] != "rather zone=a" {
		t.Errorf("the first is %s, and for the second it wants %q", p.at(first), p.wants())
	}
	p.nowhere()
	if got := p.wants(); len(got) != 1 || got[0] != "rather zone=b, disk=ssd" {
		t.Errorf("when no node has the first one it wants %q", got)
	}
	p.lend("rather zone=b, disk=ssd")
	if at := p.at(second); at != "there" {
		t.Errorf("then the second is %s", at)
	}
}

// A task fails only when no node has anything that it may do with; while one has, it waits for that.
func TestFallbacksThatAreNowhere(t *testing.T) {
	p := newPair(t)
	p.step(0, Nodes{N: 2})
	p.step(0, Grant{Resources: []Amount{{"CPU", 3 * one}}})
	shape := &fb.ShapeT{Number: 3, Labels: set("zone=a").Labels, Fallbacks: []*fb.LabelSetT{set("zone=b")}}
	task := p.shaped(shape)
	p.wait(0, wishWait)
	p.nowhere() // zone=b
	for range 3 {
		if got := p.wants(); len(got) != 1 || got[0] != "rather zone=a" {
			t.Fatalf("it wants %q", got)
		}
		if why := p.at(task); !strings.Contains(why, "zone=a") || strings.Contains(why, "at most") {
			t.Errorf("it waits for %s", why)
		}
		p.wait(0, wishWait)
	}
	p.nowhere()
	if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "TASK_UNSCHEDULABLE: ") || !strings.Contains(v, "where zone=a, or else zone=b: no node has it") {
		t.Errorf("the driver is told %q", v)
	}
	// An actor, the other way around.
	p.wait(0, wishNever)
	actor := p.mint(0, 1)
	p.say(0, 1, &fb.ShapeT{Number: 4, Bundle: -1, Labels: shape.Labels, Fallbacks: shape.Fallbacks}, nil)
	p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 4, MaxPending: -1}, []byte("args"))
	p.nowhere()
	if v := p.told("a 1", of(actor)); v != "" {
		t.Errorf("too early the driver is told %q", v)
	}
	p.nowhere()
	if v := p.told("a 1", of(actor)); !strings.HasPrefix(v, "ACTOR_UNSCHEDULABLE: ") {
		t.Errorf("of an actor the driver is told %q", v)
	}
}

// A fallback without labels is any node; soft labels are wished for before each set does without.
func TestFallbackToAnyNode(t *testing.T) {
	p := newPair(t)
	p.step(0, Nodes{N: 2})
	p.step(0, Grant{Resources: []Amount{{"CPU", 3 * one}}})
	task := p.shaped(&fb.ShapeT{Number: 3, Labels: set("zone=a", "?disk=ssd").Labels, Fallbacks: []*fb.LabelSetT{set("?disk=ssd"), set("zone=q")}})
	for _, where := range []string{"rather zone=a, disk=ssd", "rather zone=a", "rather disk=ssd"} {
		if got := p.wants(); len(got) != 1 || got[0] != where {
			t.Errorf("it wants %q, not %q", got, where)
		}
		p.nowhere()
	}
	if at := p.at(task); at != "here" {
		t.Errorf("in the end it is %s", at)
	}
}
