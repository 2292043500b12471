package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// What the keeper says of its node's going is said to every head, by that one's clock, until it is undone; what the head says the desk is told, by this node's.
func TestNodeDrain(t *testing.T) {
	w := newWorld(t, config())
	w.keeper(&fb.NodeDrainT{Reason: "preemption", Deadline: w.now + 20*sec, Goes: true}).want()
	w.do(HeadUp{Agent: 7, Term: 1})
	ahead := func() *fb.RegisteredT { return &fb.RegisteredT{Term: 1, Clock: w.now + 3*sec} }
	said := func() (list []*fb.NodeDrainT) {
		for _, e := range w.effs {
			switch e := e.(type) {
			case ToHead:
				if m, ok := e.M.(*fb.NodeDrainT); ok {
					list = append(list, m)
				}
			case NodeDrain:
				list = append(list, e.M)
			}
		}
		return list
	}
	for range 2 {
		w.head(ahead())
		if list := said(); len(list) != 1 || list[0].Deadline != w.now+23*sec || !list[0].Goes {
			t.Fatalf("%+v", list)
		}
	}
	w.head(&fb.NodeDrainT{Node: "n1", Agent: 7, Reason: "preemption", Deadline: w.now + 23*sec})
	if list := said(); len(list) != 1 || list[0].Deadline != w.now+20*sec {
		t.Errorf("%+v", list)
	}
	w.head(&fb.NodeDrainT{Node: "n1", Agent: 7, Undo: true})
	w.head(&fb.NodeDrainT{Node: "n9", Agent: 9, Reason: "r"})
	w.head(ahead()) // this head knows of none
	if list := said(); len(list) != 1 || list[0].Agent != 9 || !list[0].Undo {
		t.Errorf("%+v", list)
	}
}
