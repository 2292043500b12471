package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// newNodes is a pair with a CPU at each, of which the second is lent to tasks of no group.
func newNodes(t *testing.T) (*pair, id.Task) {
	p := newPair(t)
	lent := id.Task{Agent: 1, Process: 2, Counter: 5}
	p.step(0, Nodes{N: 2})
	p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
	p.step(1, Grant{Group: lent, Resources: []Amount{{"CPU", one}}})
	p.step(0, Place{Group: lent, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", one}}, Open: true})
	return p, lent
}

// shaped submits a task of a shape that is said with it.
func (p *pair) shaped(m *fb.ShapeT) id.Task {
	p.t.Helper()
	if p.cores[0].byProcess[1].shape(m.Number) == nil {
		m.Bundle = -1
		m.Resources = []*fb.ResourceT{{Name: "CPU", Amount: one}}
		p.say(0, 1, m, nil)
	}
	t := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: m.Number, Returns: 1}, []byte("args"))
	return t
}

// at tells where a task is: "here", "there", or what it waits for.
func (p *pair) at(t id.Task) string {
	p.t.Helper()
	e := p.cores[0].entries[t]
	switch {
	case e == nil || e.task == nil:
		return "over"
	case e.task.state != taskGiven:
		return p.cores[0].explainTask(e.task)
	case e.task.worker.host != nil:
		return "there"
	}
	return "here"
}

// Tasks that belong to no group go to what is lent of other nodes when their own has no room, and wait for that.
func TestRoomOnAnotherNode(t *testing.T) {
	p, lent := newNodes(t)
	shape := &fb.ShapeT{Number: 3}
	first, second, third := p.shaped(shape), p.shaped(shape), p.shaped(shape)
	if p.at(first) != "here" || p.at(second) != "there" {
		t.Errorf("the first is %s, the second %s", p.at(first), p.at(second))
	}
	if why := p.at(third); !strings.Contains(why, "what is lent of node n2 is used by 1 tasks") || !strings.Contains(why, "1 CPU: 0 of 1 CPU are free") {
		t.Errorf("the third waits for %s", why)
	}
	w := p.cores[0].Wants()
	if len(w.Away) != 1 || w.Away[0].Tasks != 1 || w.Away[0].Where != "" || fmt.Sprint(w.Lent) != fmt.Sprint([]id.Task{lent}) {
		t.Errorf("more is wanted of %+v, used of %v", w.Away, w.Lent)
	}
	p.result(second, nil, "done")
	if p.at(third) != "there" {
		t.Errorf("with room there, the third is %s", p.at(third))
	}
}

// A task that names a node runs there, and fails if there is none of that name; a wish it may do without.
func TestTaskThatNamesANode(t *testing.T) {
	p, _ := newNodes(t)
	if at := p.at(p.shaped(&fb.ShapeT{Number: 3, Node: "n1"})); at != "here" {
		t.Errorf("of its own node: %s", at)
	}
	if at := p.at(p.shaped(&fb.ShapeT{Number: 3, Node: "n1"})); !strings.Contains(at, "0 of 1 CPU are free") {
		t.Errorf("a second one of its own node: %s", at)
	}
	if at := p.at(p.shaped(&fb.ShapeT{Number: 4, Node: "n2"})); at != "there" {
		t.Errorf("of the other: %s", at)
	}
	hard, soft := p.shaped(&fb.ShapeT{Number: 5, Node: "n3"}), p.shaped(&fb.ShapeT{Number: 6, Node: "n3", Soft: true})
	if at := p.at(hard); !strings.Contains(at, "a place where node=n3") {
		t.Errorf("of one that is not: %s", at)
	}
	for _, k := range p.cores[0].Wants().Away {
		if k.Where == "node=n3" {
			p.step(0, Waits{Class: k.Class, Why: "no node has that name", Never: true})
		}
	}
	if v := p.told("a 1", of(hard)); !strings.HasPrefix(v, "TASK_UNSCHEDULABLE: ") || !strings.Contains(v, "no node has that name") {
		t.Errorf("of a node that is not the driver is told %q", v)
	}
	if at := p.at(soft); !strings.Contains(at, "0 of 1 CPU are free") {
		t.Errorf("a wish for it: %s", at)
	}
}

// Every task that no node can have is told so, as the first one was: also one that comes when those before it are over.
func TestEachTaskThatNoNodeCanHave(t *testing.T) {
	p, _ := newNodes(t)
	p.say(0, 1, &fb.ShapeT{Number: 3, Bundle: -1, Resources: []*fb.ResourceT{{Name: "lic", Amount: one}}}, nil)
	p.now++
	ask := func() (k Lack) {
		for _, k = range p.cores[0].Wants().Away {
			p.step(0, Waits{Class: k.Class, Where: k.Where, Why: "no node has lic", Never: true})
		}
		return k
	}
	for round := range 2 {
		p.said = nil
		p.now++
		began := p.now
		first := p.shaped(&fb.ShapeT{Number: 3})
		if k := ask(); k.Since != began {
			t.Errorf("round %d: it is asked for as since %d, not %d", round, k.Since, began)
		}
		p.now++
		second := p.shaped(&fb.ShapeT{Number: 3})
		if k := ask(); k.Since != began || len(p.said) != 1 || !strings.Contains(p.said[0], "waits for what no node has: no node has lic") {
			t.Errorf("round %d: since %d, %q", round, k.Since-began, p.said)
		}
		for _, task := range []id.Task{first, second} {
			if at := p.at(task); !strings.Contains(at, "no node has lic") {
				t.Errorf("round %d: it waits for %s", round, at)
			}
			p.say(0, 1, &fb.CancelT{Task: taskT(task)}, nil)
		}
		p.step(0, Tick{})
	}
}

// A node that joins may be what a class may do with, of which none had anything.
func TestNodeThatJoinsMeetsAWish(t *testing.T) {
	p, _ := newNodes(t)
	shape := &fb.ShapeT{Number: 3, Labels: []*fb.LabelT{{Key: "disk", Value: "fast"}}, Fallbacks: []*fb.LabelSetT{{Labels: []*fb.LabelT{{Key: "disk", Value: "slow"}}}}}
	first := p.shaped(shape)
	for range 2 {
		for _, k := range p.cores[0].Wants().Away {
			p.step(0, Waits{Class: k.Class, Where: k.Where, Why: "none has such a disk", Never: true})
		}
		p.step(0, Tick{})
	}
	if v := p.told("a 1", of(first)); !strings.HasPrefix(v, "TASK_UNSCHEDULABLE: ") {
		t.Fatalf("where no node has any it is told %q", v)
	}
	p.now += 12 * int64(time.Second)
	p.step(0, Nodes{N: 3})
	second := p.shaped(shape)
	if w := p.cores[0].Wants().Away; len(w) != 1 || w[0].Where != "rather disk=fast" {
		t.Errorf("when a node has joined, %+v is asked for; it waits for %s", w, p.at(second))
	}
}

// Tasks that are to be spread go where the fewest are, and wait for other nodes' places, but not for ever.
func TestTasksThatAreSpread(t *testing.T) {
	p, lent := newNodes(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", 3 * one}}})
	shape := &fb.ShapeT{Number: 3, Strategy: "spread"}
	if a, b := p.shaped(shape), p.shaped(shape); p.at(a) != "here" || p.at(b) != "there" {
		t.Errorf("the first is %s, the second %s", p.at(a), p.at(b))
	}
	p.step(0, Place{Group: lent, Gone: true})
	late := p.shaped(&fb.ShapeT{Number: 4, Strategy: "spread", Name: "late"})
	if at := p.at(late); at == "here" || len(p.cores[0].Wants().Away) != 1 {
		t.Errorf("without a place elsewhere it is %s at once", at)
	}
	p.now += spreadWait
	p.step(0, Tick{})
	if at := p.at(late); at != "here" {
		t.Errorf("after a second it is %s", at)
	}
}

// Actors that need nothing in particular live on all nodes: the first here at once, then where the fewest are. What outlives its driver is
// not moved about.
func TestActorsOfNoParticularNode(t *testing.T) {
	p, lent := newNodes(t)
	p.say(0, 1, &fb.ShapeT{Number: 7, Bundle: -1, Resources: []*fb.ResourceT{{Name: "CPU"}}}, nil) // num_cpus=0 is no need either
	lent.Counter++                                                                                 // lent for such actors: what is lent for tasks they leave alone, or it would never go back
	p.step(1, Grant{Group: lent, Resources: []Amount{{"memory", one}}})
	p.step(0, Place{Group: lent, Agent: 2, Node: "n2", Resources: []Amount{{"memory", one}}, Open: true, Where: anyNode})
	born := func(change func(*fb.CreateT)) id.Task {
		t.Helper()
		m := &fb.CreateT{Actor: taskT(p.mint(0, 1)), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 7, MaxPending: -1}
		if change != nil {
			change(m)
		}
		p.say(0, 1, m, []byte("args"))
		return taskOf(m.Actor)
	}
	var where []string
	for range 4 {
		where = append(where, p.at(born(nil)))
	}
	if got := strings.Join(where, " "); got != "here there here there" {
		t.Errorf("four actors are %s", got)
	}
	for range 3 {
		if at := p.at(born(func(m *fb.CreateT) { m.Detached = true })); at != "here" {
			t.Errorf("one that outlives its driver is %s", at)
		}
	}
	if w := p.cores[0].Wants(); len(w.Away) > 0 || fmt.Sprint(w.Lent) != fmt.Sprint([]id.Task{lent}) {
		t.Errorf("more is wanted of %+v, used of %v", w.Away, w.Lent)
	}
}

// The places of a group are known all at once, and what went back when idle is waited for again.
func TestActorsOfThreeNodes(t *testing.T) {
	p, lent := newNodes(t)
	p.step(0, Nodes{N: 3})
	p.say(0, 1, &fb.ShapeT{Number: 7, Bundle: -1}, nil)
	born := func() id.Task {
		actor := p.mint(0, 1)
		p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 7, MaxPending: -1}, []byte("args"))
		return actor
	}
	for round := range 3 {
		p.now += 2 * spreadWait
		lent.Counter++
		var actors []id.Task
		for range 6 {
			actors = append(actors, born())
		}
		if at := p.at(actors[2]); at == "here" || len(p.cores[0].Wants().Away) != 1 {
			t.Errorf("round %d: without a place elsewhere the third is %s", round, at)
		}
		for i, agent := range []id.Agent{2, 3} {
			p.step(0, Place{Group: lent, Bundle: int32(i), Agent: agent, Node: fmt.Sprint("n", agent), Resources: []Amount{{"memory", one}}, Open: true, Where: anyNode, More: i == 0})
		}
		if second, third := p.cores[0].load(2), p.cores[0].load(3); second != 2 || third != 2 {
			t.Errorf("round %d: six actors of three nodes, but %d and %d at the others", round, second, third)
		}
		for _, a := range actors {
			p.say(0, 1, &fb.CancelT{Task: taskT(a), Force: 1}, nil)
		}
		p.step(0, Place{Group: lent, Gone: true})
	}
}

// Actors that are to be spread are, like tasks: what lives here counts.
func TestActorsThatAreSpread(t *testing.T) {
	p, _ := newNodes(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", 9 * one}}})
	p.say(0, 1, &fb.ShapeT{Number: 7, Bundle: -1, Strategy: "spread", Resources: []*fb.ResourceT{{Name: "CPU", Amount: one / 2}}}, nil)
	var where []string
	for range 4 {
		actor := p.mint(0, 1)
		p.say(0, 1, &fb.CreateT{Actor: taskT(actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 7, MaxPending: -1}, []byte("args"))
		where = append(where, p.at(actor))
	}
	if got := strings.Join(where, " "); got != "here there here there" {
		t.Errorf("four actors are %s", got)
	}
}

// Labels that are only wished for: what was lent where they are is used first; without any tasks wait for a second, or not at all if no node has them.
func TestTasksThatWishForLabels(t *testing.T) {
	p, _ := newNodes(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", 3 * one}}})
	labels := []*fb.LabelT{{Key: "?disk", Value: "ssd"}}
	first := p.shaped(&fb.ShapeT{Number: 3, Labels: labels})
	away := p.cores[0].Wants().Away
	if len(away) != 1 || away[0].Where != "rather disk=ssd" || away[0].Shape.Labels[0].Key != "disk" || len(p.cores[0].Wants().Hungry) > 0 {
		t.Fatalf("at first it wants %+v", away)
	}
	if why := p.at(first); !strings.Contains(why, "a place where it would rather be, disk=ssd") {
		t.Errorf("it waits for %s", why)
	}
	lent := id.Task{Agent: 1, Process: 2, Counter: 6}
	p.step(1, Grant{Group: lent, Resources: []Amount{{"CPU", one}}})
	p.step(0, Place{Group: lent, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", one}}, Open: true, Where: "rather disk=ssd"})
	if at := p.at(first); at != "there" {
		t.Errorf("with a place that has it, it is %s", at)
	}
	second := p.shaped(&fb.ShapeT{Number: 3, Labels: labels})
	p.now += wishWait
	p.step(0, Tick{})
	if at := p.at(second); at != "here" {
		t.Errorf("after a second without room there, another one is %s", at)
	}
	p.result(first, nil, "done")
	if at := p.at(p.shaped(&fb.ShapeT{Number: 3, Labels: labels})); at != "there" {
		t.Errorf("with room there again, the next is %s", at)
	}
	other := []*fb.LabelT{{Key: "?disk", Value: "tape"}}
	never := p.shaped(&fb.ShapeT{Number: 4, Labels: other, Name: "never"})
	for _, k := range p.cores[0].Wants().Away {
		p.step(0, Waits{Class: k.Class, Where: k.Where, Why: "no node has it", Never: true})
	}
	if at := p.at(never); at != "here" {
		t.Errorf("of what no node has: %s", at)
	}
	plain := &fb.ShapeT{Number: 5, Name: "plain"}
	p.shaped(plain)
	if at := p.at(p.shaped(plain)); at == "there" && len(p.cores[0].places) < 2 {
		t.Errorf("what was lent for a wish is used by others")
	}
}

// Of a task that another node has explain says what it waits for there; when that node is gone, what is known here.
func TestExplainAtAnotherNode(t *testing.T) {
	p := newPair(t)
	var tasks []id.Task
	for range 3 {
		tasks = append(tasks, p.submit(nil, nil))
	}
	explain := func(task id.Task) string {
		t.Helper()
		n := len(p.got["a 1"])
		p.say(0, 1, &fb.StateQueryT{What: "explain", Id: task.String()}, nil)
		if len(p.got["a 1"]) != n+1 || p.got["a 1"][n].kind != fb.FrameTypeStateReply {
			t.Fatalf("%d frames answer", len(p.got["a 1"])-n)
		}
		return string(p.got["a 1"][n].payload)
	}
	if s := explain(tasks[0]); !strings.Contains(s, "node n2 has it, where it waits for nothing: it runs in process") {
		t.Errorf("of one that runs there: %s", s)
	}
	if s := explain(tasks[2]); !strings.Contains(s, "node n2 has it, where it waits for 1 CPU: 0 of 2 CPU are free, held by f (") {
		t.Errorf("of one that waits there: %s", s)
	}
	n := len(p.got["a 1"])
	busy := p.busy
	p.busy = true // what is said to n2 does not come
	p.say(0, 1, &fb.StateQueryT{What: "explain", Id: tasks[2].String()}, nil)
	p.queue[0]()
	p.queue, p.busy = nil, busy
	p.cutOff("it died")
	answers := ""
	for _, f := range p.got["a 1"][n:] {
		answers += string(f.payload)
	}
	if !strings.Contains(answers, "does not say what it waits for there: it is gone: it died") || len(p.cores[0].asked) > 0 {
		t.Errorf("of a node that died: %s", answers)
	}
}

// What its own node can't ever have is a task told as of any other that it names: it fails, or goes elsewhere if it may.
func TestTaskThatNamesItsOwnNodeWhichIsTooSmall(t *testing.T) {
	for _, name := range []string{"n1", "1"} {
		p, _ := newNodes(t)
		p.step(0, Grant{Resources: []Amount{{"CPU", one}}, Node: []Amount{{"CPU", 2 * one}}})
		ask := func(number uint32, soft bool, resource string, n int64) id.Task {
			m := &fb.ShapeT{Number: number, Node: name, Soft: soft, Bundle: -1, Resources: []*fb.ResourceT{{Name: resource, Amount: n * one}}}
			p.say(0, 1, m, nil)
			return p.shaped(m)
		}
		fits := ask(3, false, "CPU", 2)
		if w := p.cores[0].Wants(); len(w.Away) > 0 || len(w.Hungry) != 1 {
			t.Errorf("what the node as a whole has is waited for here, not asked for as %+v", w.Away)
		}
		if why := p.at(fits); why != "2 CPU: the node has 2 CPU, of which 1 is granted to tasks now" {
			t.Errorf("it waits for %s", why)
		}
		p.say(0, 1, &fb.CancelT{Task: taskT(fits)}, nil)
		hard, gpu, soft := ask(4, false, "CPU", 9), ask(5, false, "GPU", 1), ask(6, true, "CPU", 9)
		away := slices.Clone(p.cores[0].Wants().Away)
		if len(away) != 3 {
			t.Fatalf("of its own node is asked for %+v", away)
		}
		for _, k := range away {
			if k.Where != "node="+name || k.Shape.Node != name {
				t.Errorf("it is asked for where %s, %+v", k.Where, k.Shape)
			}
			p.step(0, Waits{Class: k.Class, Where: k.Where, Why: "it has 2", Never: true})
		}
		for _, task := range []id.Task{hard, gpu} {
			if v := p.told("a 1", of(task)); !strings.HasPrefix(v, "TASK_UNSCHEDULABLE: ") || !strings.Contains(v, "it has 2") {
				t.Errorf("its driver is told %q", v)
			}
		}
		if away = p.cores[0].Wants().Away; len(away) != 1 || away[0].Where != "" || away[0].Shape.Node != "" {
			t.Errorf("for what may be elsewhere is asked for %+v", away)
		}
		if why := p.at(soft); !strings.Contains(why, "9 CPU: the node has 2 CPU at all") {
			t.Errorf("it waits for %s", why)
		}
		lent := id.Task{Agent: 1, Process: 2, Counter: 6}
		p.step(1, Grant{Group: lent, Resources: []Amount{{"CPU", 9 * one}}})
		p.step(0, Place{Group: lent, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", 9 * one}}, Open: true})
		if at := p.at(soft); at != "there" {
			t.Errorf("with a node that has it, it is %s", at)
		}
	}
}

// Labels beside its own node are the head's to judge: the agent does not know them, and waited for ever.
func TestTaskThatNamesItsOwnNodeAndLabels(t *testing.T) {
	p, _ := newNodes(t)
	task := p.shaped(&fb.ShapeT{Number: 3, Node: "n1", Labels: []*fb.LabelT{{Key: "disk", Value: "ssd"}}})
	away := p.cores[0].Wants().Away
	if len(away) != 1 || away[0].Where != "node=n1, disk=ssd" || away[0].Shape.Node != "n1" {
		t.Fatalf("it is asked for %+v", away)
	}
	lent := id.Task{Agent: 1, Process: 2, Counter: 6}
	p.step(0, Grant{Group: lent, Resources: []Amount{{"CPU", one}}, Open: true, Where: away[0].Where})
	if at := p.at(task); at != "here" {
		t.Errorf("with what was lent of its node it is %s", at)
	}
}
