package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// licensed is a pair of whose nodes each has a CPU or two and one license, of which tasks of shape 4 need it.
func licensed(t *testing.T) *pair {
	p := newPair(t)
	p.step(0, Grant{Resources: []Amount{{"CPU", 2 * one}, {"lic", one}}})
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 2, Bundle: -1}, nil)
	p.say(0, 1, &fb.ShapeT{Number: 4, Resources: []*fb.ResourceT{{Name: "lic", Amount: one}}, Retries: 2, Bundle: -1}, nil)
	return p
}

// here has a process at a submit a task.
func (p *pair) here(process id.Process, shape uint32, parent id.Task, deps, refs []id.Object) id.Task {
	p.t.Helper()
	if c := p.cores[0].byProcess[process]; process != 1 && len(c.shapes) == 0 {
		p.say(0, process, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 2, Bundle: -1}, nil)
		p.say(0, process, &fb.ShapeT{Number: 4, Resources: []*fb.ResourceT{{Name: "lic", Amount: one}}, Retries: 2, Bundle: -1}, nil)
	}
	t := p.mint(0, process)
	p.say(0, process, &fb.SubmitT{Task: taskT(t), Parent: taskT(parent), Function: numberOf("f"), Job: 1, Shape: shape, Returns: 1,
		Deps: uint32(len(deps)), Refs: uint32(len(refs))}, append(objectBytes(append(deps, refs...)...), "args"...))
	return t
}

// later lets what waits be looked at again.
func (p *pair) later() {
	p.now += chainAfter
	p.step(0, Tick{})
}

// What waits may go on as long as a value is on its way from another node to a sibling of what can't start.
func TestChainWithAnArgumentOnItsWay(t *testing.T) {
	p := licensed(t)
	away := p.submit(nil, nil)
	p.runs(away)
	p.here(1, 4, id.Task{}, nil, []id.Object{of(away)})
	parent, w := id.Task{Agent: 1, Process: 1, Counter: p.next}, p.last[0]
	stuck := p.here(w, 4, parent, nil, nil)
	sibling := p.here(w, 3, parent, []id.Object{of(away)}, nil)
	p.say(0, w, &fb.BlockedT{Task: taskT(parent)}, nil)
	p.later()
	if v := p.told(fmt.Sprint("a ", w), of(stuck)); len(p.wanted) != 1 || v != "" {
		t.Fatalf("with %d values on their way its parent is told %q", len(p.wanted), v)
	}
	p.fetched("")
	if !p.runsAt(0, sibling) {
		t.Fatal("the sibling does not run")
	}
	p.say(0, p.last[0], &fb.ResultT{Task: taskT(sibling), Flags: uint32(fb.ResultFlagLast)}, nil)
	if v := p.told(fmt.Sprint("a ", w), of(stuck)); v != "" {
		t.Fatalf("before its parent can have heard of the sibling it is told %q", v)
	}
	p.later()
	if v := p.told(fmt.Sprint("a ", w), of(stuck)); !strings.HasPrefix(v, "DEADLOCK: ") || !strings.Contains(v, " -> ") {
		t.Errorf("when it waits for nothing else it is told %q", v)
	}
}

// What is made again for a task that waits is as a child of it: it has what that lends, and can never start if that keeps what it needs.
func TestWaiterOfWhatIsMadeAgain(t *testing.T) {
	for _, shape := range []uint32{3, 4} {
		p := licensed(t)
		p.step(0, Grant{Resources: []Amount{{"CPU", 2 * one}}}) // made there, as there is no license here
		p.say(0, 1, &fb.ShapeT{Number: 5, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 2, Bundle: 0, Group: taskT(groupOfPair)}, nil)
		p.step(0, Place{Group: leaseOfPair, Agent: 2, Node: "n2", Resources: []Amount{{"lic", one}, {"CPU", one}}, Open: true})
		p.step(1, Grant{Group: leaseOfPair, Resources: []Amount{{"lic", one}, {"CPU", one}}})
		p.step(0, Grant{Resources: []Amount{{"CPU", 0}}})
		lost := p.here(1, shape, id.Task{}, nil, nil)
		p.runs(lost)
		p.step(0, Place{Group: leaseOfPair, Gone: true})
		p.step(0, Grant{Resources: []Amount{{"CPU", one}, {"lic", one}}})
		parent := p.here(1, shape, id.Task{}, nil, []id.Object{of(lost)})
		w := p.last[0]
		p.step(0, Grant{Resources: []Amount{{"CPU", 0}, {"lic", one}}, Kept: []Amount{{"CPU", one}}})
		p.cut()
		p.say(0, w, &fb.GetT{Object: objectT(of(lost)), Want: fb.WantValue}, nil)
		p.say(0, w, &fb.BlockedT{Task: taskT(parent)}, nil)
		p.later()
		if shape == 3 && !p.runsAt(0, lost) {
			t.Errorf("with the CPU that its waiter lends it does not run: %s", p.cores[0].explainTask(p.cores[0].entries[lost].task))
		}
		if v := p.told(fmt.Sprint("a ", w), of(lost)); shape == 4 && (!strings.HasPrefix(v, "DEADLOCK: ") || !strings.Contains(v, " -> ")) {
			t.Errorf("when its waiter has the license that is told %q", v)
		}
		p.say(0, 1, &fb.CancelT{Task: taskT(parent), Recursive: 1}, nil)
		if shape == 3 && p.cores[0].entries[lost].task.cancelled {
			t.Error("who cancels its waiter cancels what others may wait for, too")
		}
	}
}

// What another node has may come free: who waits for that waits for no ancestor.
func TestChainThatMayGoOnElsewhere(t *testing.T) {
	for _, k := range []struct {
		name  string
		event Event
		ends  bool
	}{
		{"nodes that have less", Nodes{2, [][]Amount{{{"CPU", 9 * one}}, {{"lic", one / 2}}}}, true},
		{"another node that has one", Nodes{2, [][]Amount{{{"CPU", 9 * one}, {"lic", one}}}}, false},
		{"a lease of another node", Place{Group: leaseOfPair, Agent: 2, Node: "n2", Resources: []Amount{{"lic", one}}, Open: true}, false},
		{"a placement group's bundle", Place{Group: groupOfPair, Bundle: 3, Agent: 2, Node: "n2", Resources: []Amount{{"lic", one}}}, true},
	} {
		p := licensed(t)
		parent := p.here(1, 4, id.Task{}, nil, nil)
		w := p.last[0]
		p.step(0, k.event)
		if _, is := k.event.(Place); is { // in use
			p.here(1, 4, id.Task{}, nil, nil)
		}
		stuck := p.here(w, 4, parent, nil, nil)
		p.say(0, w, &fb.BlockedT{Task: taskT(parent)}, nil)
		p.later()
		if v := p.told(fmt.Sprint("a ", w), of(stuck)); strings.HasPrefix(v, "DEADLOCK: ") != k.ends {
			t.Errorf("%s: it is told %q", k.name, v)
		}
	}
}

// A task that was cancelled goes on with that, whatever it waits for: what it has started may start then.
func TestChainOfACancelledTask(t *testing.T) {
	p := licensed(t)
	parent := p.here(1, 4, id.Task{}, nil, nil)
	w := p.last[0]
	stuck := p.here(w, 4, parent, nil, nil)
	p.say(0, w, &fb.AwaitsT{Task: taskT(parent), Objects: 1, Need: 1}, objectBytes(of(stuck)))
	p.say(0, 1, &fb.CancelT{Task: taskT(parent)}, nil)
	p.later()
	if v := p.told(fmt.Sprint("a ", w), of(stuck)); v != "" {
		t.Fatalf("its parent is told %q", v)
	}
	p.say(0, w, &fb.ResultT{Task: taskT(parent), Flags: uint32(fb.ResultFlagLast)}, nil)
	if !p.runsAt(0, stuck) {
		t.Error("it does not start when its parent is over")
	}
}

// What an ancestor holds that waits for one which runs is had when that is over.
func TestChainWithOneThatRunsInIt(t *testing.T) {
	p := licensed(t)
	top := p.here(1, 4, id.Task{}, nil, nil)
	topAt := p.last[0]
	middle := p.here(topAt, 3, top, nil, nil)
	middleAt := p.last[0]
	p.say(0, topAt, &fb.AwaitsT{Task: taskT(top), Objects: 1, Need: 1}, objectBytes(of(middle)))
	low := p.here(middleAt, 3, middle, nil, nil)
	lowAt := p.last[0]
	stuck := p.here(lowAt, 4, low, nil, nil)
	p.say(0, lowAt, &fb.AwaitsT{Task: taskT(low), Objects: 1, Need: 1}, objectBytes(of(stuck)))
	p.later()
	if v := p.told(fmt.Sprint("a ", lowAt), of(stuck)); v != "" {
		t.Fatalf("while one of its ancestors runs its parent is told %q", v)
	}
	p.say(0, middleAt, &fb.AwaitsT{Task: taskT(middle), Objects: 1, Need: 1}, objectBytes(of(low)))
	p.later()
	if v := p.told(fmt.Sprint("a ", lowAt), of(stuck)); !strings.HasPrefix(v, "DEADLOCK: ") || strings.Count(v, " -> ") != 3 {
		t.Errorf("when all of them wait its parent is told %q", v)
	}
}
