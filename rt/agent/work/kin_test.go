package work

import (
	"fmt"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var leaseOfPair = id.Task{Agent: 1, Process: 90, Counter: 1}

// newLease is a pair of which a has a lease of some CPUs of b's node, and nothing of its own.
func newLease(t *testing.T, cpus int64) *pair {
	p := newPair(t)
	p.step(1, Grant{Resources: []Amount{{"CPU", 0}}})
	p.step(1, Grant{Group: leaseOfPair, Resources: []Amount{{"CPU", cpus * one}}})
	p.step(0, Grant{Resources: []Amount{{"CPU", 0}}})
	p.step(0, Place{Group: leaseOfPair, Agent: 2, Node: "n2", Resources: []Amount{{"CPU", cpus * one}}, Open: true})
	p.say(0, 1, &fb.ShapeT{Number: 3, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 1, Bundle: -1}, nil)
	return p
}

// free has the driver submit a task of no group.
func (p *pair) free() id.Task {
	p.t.Helper()
	t := p.mint(0, 1)
	p.say(0, 1, &fb.SubmitT{Task: taskT(t), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 3, Returns: 1}, []byte("args"))
	return t
}

// child has a task at b submit one that needs a CPU.
func (p *pair) child(of id.Task, cpus int64) id.Task {
	p.t.Helper()
	w := p.worker(of)
	n := uint32(cpus)
	if c := p.cores[1].byProcess[w]; c.shape(n) == nil {
		p.say(1, w, &fb.ShapeT{Number: n, Resources: []*fb.ResourceT{{Name: "CPU", Amount: cpus * one}}, Retries: 1, Bundle: -1}, nil)
	}
	t := p.mint(1, w)
	p.say(1, w, &fb.SubmitT{Task: taskT(t), Parent: taskT(of), Function: numberOf("f"), Job: uint32(p.errand[1]), Shape: n, Returns: 1}, []byte("args"))
	return t
}

func (p *pair) waits(t id.Task) { p.say(1, p.worker(t), &fb.BlockedT{Task: taskT(t)}, nil) }
func (p *pair) wakes(t id.Task) { p.say(1, p.worker(t), &fb.UnblockedT{Task: taskT(t)}, nil) }

// runsAt tells whether an agent has given a task to a worker.
func (p *pair) runsAt(at int, t id.Task) bool {
	e := p.cores[at].entries[t]
	return e != nil && e.task != nil && e.task.state == taskGiven
}

// leased is the place of the lease as a counts it, in words.
func (p *pair) leased() string {
	for _, k := range p.cores[0].places {
		if k.open {
			return fmt.Sprintf("%d free, %d sent, %d others", get(k.free, resCPU)/one, k.n, k.others())
		}
	}
	return "no place"
}

func (p *pair) counts(want string) {
	p.t.Helper()
	if s := p.leased(); s != want {
		p.t.Errorf("of the lease its agent counts %q, want %q", s, want)
	}
}

// A task that runs at another agent and waits lends its CPU to those that it has started. Its owner counts what is there, and when it goes on beside one of them,
// nothing else starts until there is room.
func TestChildrenOfTasksElsewhere(t *testing.T) {
	p := newLease(t, 1)
	parent := p.free()
	kid, second := p.child(parent, 1), p.child(parent, 1)
	if p.runsAt(1, kid) {
		t.Fatal("its child starts while it runs")
	}
	p.waits(parent)
	if !p.runsAt(1, kid) || p.runsAt(1, second) {
		t.Fatalf("while it waits of its children run: the first %v, the second %v", p.runsAt(1, kid), p.runsAt(1, second))
	}
	if s := p.cores[1].explainTask(p.cores[1].entries[second].task); !strings.Contains(s, "1 CPU: of what f (") || !strings.Contains(s, "lend while they wait 0 are free") {
		t.Errorf("the second waits for %s", s)
	}
	p.counts("0 free, 1 sent, 1 others")
	next := p.free()
	if p.runsAt(0, next) {
		t.Error("its owner sends another one")
	}
	p.wakes(parent)
	p.counts("-1 free, 1 sent, 1 others")
	p.result(parent, nil, "done before its children")
	p.counts("0 free, 0 sent, 1 others")
	if used := p.cores[0].lentUsed(nil); len(used) != 1 {
		t.Error("what a child runs on would go back")
	}
	if u := p.cores[0].Uses(leaseOfPair); len(u) != 1 || !strings.Contains(u[0].Name, "started at node n2") {
		t.Errorf("of what is there its owner says %v", u)
	}
	p.result(kid, nil, "done")
	if p.runsAt(1, second) || !p.runsAt(0, next) {
		t.Errorf("a child of what is over runs: %v; the next one: %v", p.runsAt(1, second), p.runsAt(0, next))
	}
	p.counts("0 free, 1 sent, 0 others")
	p.result(next, nil, "done")
	p.counts("1 free, 0 sent, 0 others")
}

// Kin that waits passes on what was lent to it and no more, and still does when who lent it is over.
func TestKinThatWaits(t *testing.T) {
	p := newLease(t, 2)
	parent := p.free()
	p.waits(parent)
	kid := p.child(parent, 1)
	p.waits(kid)
	first, second := p.child(kid, 1), p.child(kid, 1)
	if !p.runsAt(1, first) || p.runsAt(1, second) {
		t.Errorf("of two that one CPU was lent for run: %v, %v", p.runsAt(1, first), p.runsAt(1, second))
	}
	p.counts("1 free, 1 sent, 2 others")
	p.result(parent, nil, "done before its children")
	p.result(first, nil, "done")
	if !p.runsAt(1, second) {
		t.Error("what waits has nothing to lend when its parent is over")
	}
	p.result(second, nil, "done")
	p.wakes(kid)
	p.result(kid, nil, "done")
	p.counts("2 free, 0 sent, 0 others")
}

// What waits for something else than its children lends its CPU to its owner, which sends what it waits for.
func TestCPUOfTaskThatWaitsElsewhere(t *testing.T) {
	p := newLease(t, 1)
	parent, other := p.free(), p.free()
	if p.runsAt(0, other) {
		t.Fatal("both are sent")
	}
	p.waits(parent)
	if p.now += lendAfter - 1; p.runsAt(0, other) {
		t.Fatal("one is sent as soon as another waits")
	}
	p.wakes(parent)
	p.waits(parent)
	p.now += lendAfter - 1
	p.step(1, Tick{})
	if p.runsAt(0, other) {
		t.Fatal("one is sent when another has waited twice")
	}
	p.now++
	p.step(1, Tick{})
	if !p.runsAt(0, other) {
		t.Fatal("what it waits for is not sent")
	}
	p.counts("0 free, 2 sent, 0 others")
	p.wakes(parent)
	p.counts("-1 free, 2 sent, 0 others")
	p.result(parent, nil, "done")
	p.result(other, nil, "done")
	p.counts("1 free, 0 sent, 0 others")
}

// To any depth, with the leaf's ancestors all waiting; also below one that did not wait for its child.
func TestDepthElsewhere(t *testing.T) {
	p := newLease(t, 1)
	chain := []id.Task{p.free()}
	for range 20 {
		last := chain[len(chain)-1]
		kid := p.child(last, 1)
		p.waits(last)
		if !p.runsAt(1, kid) {
			t.Fatalf("at depth %d a child does not start: %s", len(chain), p.cores[1].explainTask(p.cores[1].entries[kid].task))
		}
		chain = append(chain, kid)
	}
	p.counts("0 free, 1 sent, 20 others")
	p.wakes(chain[0])
	p.result(chain[0], nil, "it waits no longer")
	p.result(chain[20], nil, "done")
	late := p.child(chain[18], 1)
	p.wakes(chain[19])
	p.result(chain[19], nil, "done")
	if !p.runsAt(1, late) {
		t.Error("below a child that its parent left alone nothing starts")
	}
	p.counts("0 free, 0 sent, 19 others")
	if big := p.child(chain[18], 2); p.runsAt(1, big) {
		t.Error("one starts that needs more than there is")
	}
}

// One whose ancestors do not wait is passed by.
func TestOnlyDescendantsUseWhatIsLent(t *testing.T) {
	p := newLease(t, 2)
	busy, parent := p.free(), p.free()
	other, kid := p.child(busy, 1), p.child(parent, 1)
	p.waits(parent)
	if p.runsAt(1, other) || !p.runsAt(1, kid) {
		t.Errorf("a child of one that runs has started: %v; of one that waits: %v", p.runsAt(1, other), p.runsAt(1, kid))
	}
	p.result(kid, nil, "done")
	p.counts("0 free, 2 sent, 0 others")
	third := p.free()
	p.now += lendAfter
	p.step(1, Tick{})
	if !p.runsAt(0, third) {
		t.Error("what waits there does not lend its CPU")
	}
}

// While the CPU on which it waits is recalled, what a task has asked for starts, or what that waits for in turn, before others of the queue.
func TestWhatIsAskedForOnWhatWasRecalled(t *testing.T) {
	for _, deep := range []bool{false, true} {
		p := newLease(t, 1)
		p.step(0, Place{Group: leaseOfPair, Gone: true})
		p.say(0, 1, &fb.ShapeT{Number: 4, Bundle: -1}, nil)
		p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
		gate := p.here(1, 4, id.Task{}, nil, nil)
		gates := p.last[0]
		wanted := p.here(1, 3, id.Task{}, []id.Object{of(gate)}, nil)
		asks := wanted
		if deep {
			asks = p.here(1, 3, id.Task{}, []id.Object{of(wanted)}, nil)
		}
		p.here(1, 3, id.Task{}, nil, []id.Object{of(asks)})
		reader, w := id.Task{Agent: 1, Process: 1, Counter: p.next}, p.last[0]
		other := p.free()
		p.step(0, Grant{Resources: []Amount{{"CPU", 0}}, Kept: []Amount{{"CPU", one}}})
		p.say(0, w, &fb.GetT{Object: objectT(of(asks)), Want: fb.WantValue}, nil)
		p.say(0, w, &fb.BlockedT{Task: taskT(reader)}, nil)
		p.say(0, gates, &fb.ResultT{Task: taskT(gate), Flags: uint32(fb.ResultFlagLast)}, nil)
		if !p.runsAt(0, wanted) || p.runsAt(0, other) {
			t.Errorf("%v: what it waits for runs: %v, another one: %v", deep, p.runsAt(0, wanted), p.runsAt(0, other))
		}
	}
}

// What was sent while another one waited starts, though that goes on before it is there: it might have to wait for ever.
func TestTaskThatComesTooLateForWhatWasLent(t *testing.T) {
	p := newLease(t, 1)
	p.free()
	for _, k := range p.cores[0].places {
		if k.open {
			k.note(hostUse{p.cores[0].hosts[0], one, 0}) // as if it had waited a moment ago
		}
	}
	second := p.free()
	if !p.runsAt(0, second) || !p.runsAt(1, second) || p.runsAt(0, p.free()) {
		t.Errorf("of the two that are there the second one has started: %v", p.runsAt(1, second))
	}
}

// Only another agent's word makes a group a lease.
func TestShapeThatPretendsALease(t *testing.T) {
	p := newLease(t, 1)
	p.step(0, Place{Group: leaseOfPair, Gone: true})
	p.step(0, Grant{Group: groupOfPair, Bundle: 1, Resources: []Amount{{"CPU", one}}})
	p.say(0, 1, &fb.ShapeT{Number: 4, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Bundle: 1, Group: taskT(groupOfPair), Lent: true}, nil)
	parent := p.here(1, 4, id.Task{}, nil, nil)
	w := p.last[0]
	kid := p.here(w, 3, parent, nil, nil)
	p.say(0, w, &fb.BlockedT{Task: taskT(parent)}, nil)
	if !p.runsAt(0, parent) || p.runsAt(0, kid) {
		t.Error("what belongs to no group runs on a placement group's bundle")
	}
}

// When the lease is taken from its agent, or the way to it is lost, what runs there ends, and the count with it.
func TestLeaseThatIsLost(t *testing.T) {
	p := newLease(t, 1)
	parent := p.free()
	kid := p.child(parent, 1)
	p.waits(parent)
	w := p.worker(kid)
	p.step(1, Grant{Group: leaseOfPair, Lost: true})
	if p.cores[1].byProcess[w] != nil {
		t.Error("a child goes on when the lease is lost")
	}
	p.step(1, Grant{Group: leaseOfPair, Resources: []Amount{{"CPU", one}}})
	p.counts("0 free, 1 sent, 0 others") // it is tried again there

	p = newLease(t, 1)
	parent = p.free()
	p.child(parent, 1)
	p.waits(parent)
	p.cutOff("it died")
	p.counts("0 free, 1 sent, 0 others") // by the next errand
}

// On what was recalled nothing starts, but for children of those that wait there.
func TestChildrenOnWhatWasRecalled(t *testing.T) {
	p := newLease(t, 1)
	p.step(0, Place{Group: leaseOfPair, Gone: true})
	p.step(0, Grant{Resources: []Amount{{"CPU", one}, {"lic", one}}})
	parent, other := p.free(), p.free()
	home := p.last[0]
	p.say(0, home, &fb.ShapeT{Number: 1, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}}, Retries: 1, Bundle: -1}, nil)
	p.say(0, home, &fb.ShapeT{Number: 2, Resources: []*fb.ResourceT{{Name: "CPU", Amount: one}, {Name: "lic", Amount: one}}, Retries: 1, Bundle: -1}, nil)
	child := func(shape uint32) id.Task {
		kid := p.mint(0, home)
		p.say(0, home, &fb.SubmitT{Task: taskT(kid), Parent: taskT(parent), Function: numberOf("f"), Job: 1, Shape: shape, Returns: 1}, nil)
		return kid
	}
	p.step(0, Grant{Resources: []Amount{{"CPU", 0}, {"lic", one}}, Kept: []Amount{{"CPU", one}}})
	kid := child(1)
	p.say(0, home, &fb.BlockedT{Task: taskT(parent)}, nil)
	licensed := child(2)
	if !p.runsAt(0, kid) || p.runsAt(0, other) || p.runsAt(0, licensed) {
		t.Fatalf("when the CPU was recalled there run: a child %v, another one %v, and another task %v", p.runsAt(0, kid), p.runsAt(0, licensed), p.runsAt(0, other))
	}
	p.say(0, p.last[0], &fb.ResultT{Task: taskT(kid), Flags: uint32(fb.ResultFlagLast)}, nil)
	if !p.runsAt(0, licensed) || p.runsAt(0, other) {
		t.Fatalf("then there run: the other child %v, another task %v", p.runsAt(0, licensed), p.runsAt(0, other))
	}
	p.say(0, home, &fb.UnblockedT{Task: taskT(parent)}, nil)
	p.say(0, home, &fb.ResultT{Task: taskT(parent), Flags: uint32(fb.ResultFlagLast)}, nil)
	if p.runsAt(0, other) {
		t.Error("another task starts on what was recalled")
	}
	p.step(0, Grant{Resources: []Amount{{"CPU", one}, {"lic", one}}})
	p.say(0, p.last[0], &fb.ResultT{Task: taskT(licensed), Flags: uint32(fb.ResultFlagLast)}, nil)
	if !p.runsAt(0, other) {
		t.Error("it does not start when there is room again")
	}
}

// waits has a task wait, or go on.
func (p *peer) waits(j *job1) {
	if j.blocked = !j.blocked; j.blocked {
		p.send(&fb.BlockedT{Task: taskT(j.id)}, nil)
	} else {
		p.send(&fb.UnblockedT{Task: taskT(j.id)}, nil)
	}
}
