package head

import (
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Room is at nodes that have enough in all, be it used; whoever may come is told, and who came meanwhile makes a difference.
func TestRoom(t *testing.T) {
	w := newWorld(t, Config{Expect: []string{"n1", "n2", "n3"}, MinNodes: 2})
	a, b := w.join("n1", "CPU=4,lic=1", 0), w.join("n2", "CPU=4,lic=2", 0)
	w.settle()
	room := func(text string) jsonRoom {
		t.Helper()
		j, err := w.core.room(text)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	if j := room("10000 lic"); !j.More {
		t.Error("a node that has not joined may come")
	}
	c := w.join("n3", "CPU=4", 0)
	w.settle()
	w.ask(a, 1, 1, "CPU=1,lic=2", func(q *fb.GroupCreateT) {
		q.Program, q.Bundles[0].Ranks = nil, 0
	})
	one, two := room("10000 lic"), room("20000 lic\n10000 CPU")
	if !slices.Equal(one.Agents, []uint32{a.number, b.number}) || !slices.Equal(two.Agents, []uint32{b.number}) || one.More {
		t.Errorf("one is at %+v, two are at %+v", one, two)
	}
	if j := room("30000 lic"); len(j.Agents) > 0 {
		t.Errorf("three are at %v", j.Agents)
	}
	w.step(LinkDown{id.Agent(c.number), "EOF"})
	w.advance(10 * second)
	w.settle()
	if j := room("10000 lic"); !j.More {
		t.Error("one may come for a node that died")
	}
	for _, wrong := range []string{"", "lic", "1", "x lic", "10000 lic\n"} {
		if _, err := w.core.room(wrong); err == nil {
			t.Errorf("%q is answered", wrong)
		}
	}
}
