package head

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var lenderSeeds = flag.Int("lenders", 60, "how many random histories of leases")

const ms = int64(time.Millisecond)

// lender is an agent with tasks: it asks for leases of a CPU as long as tasks wait, runs one task after another on each, and
// gives a lease back when a task ends and there is no other, or others wait.
type lender struct {
	w      *lenders
	a      *fakeAgent
	tasks  int   // that wait
	length int64 // of each
	have   []*lease
	asked  int   // not placed yet
	hungry int64 // since when tasks wait and it has no lease; 0: it does not
	worst  int64 // so long it did
	done   int
}

type lease struct {
	group  id.Task
	recall fb.LeaseRecall
	ends   int64 // of the task that runs; 0: none does
	actor  bool  // which has no end
}

type lenders struct {
	*world
	list []*lender
	next uint64
}

func newLenders(t *testing.T, cpus ...int) *lenders {
	l := &lenders{world: newWorld(t, Config{}), next: 1000}
	for i, n := range cpus {
		a := l.join(fmt.Sprint("n", i+1), fmt.Sprint("memory=1000,CPU=", n), 0)
		l.list = append(l.list, &lender{w: l, a: a, length: 50 * ms})
	}
	l.settle()
	l.light = true
	l.onUpdate = func(a *fakeAgent, u *fb.GroupUpdateT) {
		for _, x := range l.list {
			if x.a == a {
				x.update(u)
			}
		}
	}
	return l
}

func (x *lender) update(u *fb.GroupUpdateT) {
	group := taskOf(u.Group)
	if group.Counter < 1000 {
		return // no lease
	}
	for i, k := range x.have {
		if k.group != group {
			continue
		}
		if u.Phase == fb.GroupPhaseEnded {
			x.have = append(x.have[:i], x.have[i+1:]...)
			return
		}
		k.recall = u.Recall
		if k.recall == fb.LeaseRecallNow && k.ends != 0 {
			x.a.outbox = append(x.a.outbox, &fb.GroupHeldT{Group: u.Group, By: "f (1.1.1)", Since: k.ends - x.length, Stays: k.actor})
		}
		return
	}
	switch u.Phase {
	case fb.GroupPhaseCreated:
		x.have, x.asked = append(x.have, &lease{group: group, recall: u.Recall}), x.asked-1
	case fb.GroupPhaseEnded:
		x.asked--
	}
}

// turn lets an agent do what it would at this time.
func (x *lender) turn() {
	now := x.w.now
	for _, k := range x.have {
		if k.ends != 0 && now >= k.ends && !k.actor {
			k.ends = 0
			x.done++
		}
		if k.ends == 0 && x.tasks > 0 && k.recall != fb.LeaseRecallNow {
			k.ends, x.tasks = now+x.length, x.tasks-1
		}
		if k.ends == 0 && k.recall != fb.LeaseRecallNone {
			x.a.outbox = append(x.a.outbox, &fb.GroupCancelT{Group: wireTask(k.group), Mode: fb.CancelModeStop})
		}
	}
	for ; x.asked < min(4, x.tasks); x.asked++ {
		x.w.next++
		x.a.outbox = append(x.a.outbox, &fb.GroupCreateT{Group: wireTask(id.Task{Agent: id.Agent(x.a.number), Process: 1, Counter: x.w.next}), Lease: true, Wait: 2 * second,
			Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 10_000}}}}, Strategy: fb.StrategyPack})
	}
	switch {
	case x.tasks == 0 || len(x.have) > 0:
		x.hungry = 0
	case x.hungry == 0:
		x.hungry = now
	default:
		x.worst = max(x.worst, now-x.hungry)
	}
}

// pass lets time go by.
func (l *lenders) pass(d int64) {
	for end := l.now + d; l.now < end; {
		for _, x := range l.list {
			x.turn()
		}
		l.settle()
		l.advance(10 * ms)
	}
}

func (l *lenders) has() string {
	var out []string
	for _, x := range l.list {
		out = append(out, fmt.Sprint(len(x.have)))
	}
	return strings.Join(out, " ")
}

// HEAD-9: two agents that want all there is come to have equal shares, whoever came first; what one does not use the other has at once.
func TestLeasesAreShared(t *testing.T) {
	l := newLenders(t, 4, 4, 4)
	first, second := l.list[0], l.list[1]
	first.tasks = 1_000_000
	l.pass(200 * ms)
	if l.has() != "12 0 0" {
		t.Fatalf("alone it has %s", l.has())
	}
	second.tasks = 1_000_000
	l.pass(60*ms + leaseLife)
	if len(second.have) == 0 {
		t.Error("who came later has nothing after 200 ms and a task")
	}
	l.pass(500 * ms)
	if l.has() != "6 6 0" {
		t.Errorf("of equal shares they have %s", l.has())
	}
	was := first.done
	l.pass(1000 * ms)
	if n := first.done - was; n < 90 {
		t.Errorf("on six CPUs %d tasks of 50 ms were done in a second: leases go to and fro", n)
	}
	first.tasks = 0
	l.pass(100 * ms)
	if l.has() != "0 12 0" {
		t.Errorf("when the first needs nothing they have %s", l.has())
	}
}

// Where there are fewer leases than agents they take turns.
func TestOneLeaseGoesAround(t *testing.T) {
	l := newLenders(t, 1, 0, 0)
	for _, x := range l.list {
		x.tasks = 1_000_000
	}
	l.pass(10_000 * ms)
	for i, x := range l.list {
		if x.done < 40 || x.worst > 3*(leaseLife+x.length+50*ms) {
			t.Errorf("agent %d ran %d of some 180 tasks, and had nothing for %v", i+1, x.done, time.Duration(x.worst))
		}
	}
}

// A group that somebody asked for has what leases hold within the time of a task, and what comes back meanwhile is no lease's.
func TestAGroupTakesLeases(t *testing.T) {
	l := newLenders(t, 4, 4)
	l.list[0].tasks, l.list[1].tasks = 1_000_000, 1_000_000
	l.list[1].length = 300 * ms
	l.pass(1000 * ms)
	g := l.ask(l.list[0].a, 1, 7, "CPU=1", plainGroup(nil))
	if why := l.core.explainGroup(g); !strings.Contains(why, "lent to tasks of node n1") || !strings.Contains(why, "back when f (1.1.1) ends, which runs since") {
		t.Errorf("it waits for %s", why)
	}
	l.pass(340 * ms)
	if g.phase != fb.GroupPhaseCreated || l.has() == "0 0" {
		t.Fatalf("it is %s; leases: %s; %s", g.phase, l.has(), l.core.explainGroup(g))
	}
	l.pass(1000 * ms)
	if len(l.list[0].have)+len(l.list[1].have) != 1 {
		t.Errorf("of the CPU that is left they have %s", l.has())
	}
}

// Who waits for CPUs has nobody give back anything else.
func TestLeasesOfSomethingElse(t *testing.T) {
	l := newLenders(t, 2, 2)
	other := l.ask(l.list[1].a, 1, 1, "memory=1", plainGroup(func(q *fb.GroupCreateT) { q.Lease = true }))
	if other.phase == fb.GroupPhaseEnded { // these nodes have none
		t.Fatal(other.end.Reason)
	}
	l.list[0].tasks, l.list[1].tasks = 1_000_000, 1_000_000
	l.pass(1000 * ms)
	l.ask(l.list[0].a, 2, 4, "CPU=1", plainGroup(nil))
	l.pass(200 * ms)
	if other.run.recall != fb.LeaseRecallNone {
		t.Errorf("a lease of memory was recalled: %v", other.run.recall)
	}
}

// A lease on which an actor lives does not come back, so others are recalled in its place, and explain says so.
func TestALeaseThatStays(t *testing.T) {
	l := newLenders(t, 2, 0)
	x := l.list[0]
	x.tasks = 2
	l.pass(20 * ms)
	x.have[0].actor = true
	g := l.ask(l.list[1].a, 1, 1, "CPU=1", plainGroup(nil))
	l.pass(100 * ms)
	if g.phase != fb.GroupPhaseCreated || len(x.have) != 1 {
		t.Fatalf("it is %s, of leases %s are there", g.phase, l.has())
	}
	h := l.ask(l.list[1].a, 2, 1, "CPU=1", plainGroup(nil))
	l.pass(100 * ms)
	if why := l.core.explainNode(l.core.state.nodes[0]); h.phase != fb.GroupPhasePending || !strings.Contains(why, "but f (1.1.1) lives on it") {
		t.Errorf("a second group is %s; %s", h.phase, why)
	}
}

// A head that comes back recalls again what was recalled, or needs not.
func TestRecallAcrossARestart(t *testing.T) {
	l := newLenders(t, 2, 0)
	l.list[0].tasks = 1_000_000
	l.pass(300 * ms)
	g := l.ask(l.list[1].a, 1, 2, "CPU=1", plainGroup(nil))
	l.restartHead(l.list[0].a, l.list[1].a)
	l.settle()
	l.pass(200 * ms)
	if g = l.core.state.byID[g.id]; g.phase != fb.GroupPhaseCreated {
		t.Errorf("it is %s; %s", g.phase, l.core.explainGroup(g))
	}
}

// Random histories: agents with tasks of any length, groups that come and go, actors that stay. Nobody who wants a CPU goes without
// one for longer than all others take turns for, and a group that fits beside what stays is placed.
func TestRandomLenders(t *testing.T) {
	for seed := range uint64(*lenderSeeds) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		cpus := make([]int, 2+rnd.IntN(4))
		total := 0
		for i := range cpus {
			cpus[i] = rnd.IntN(4)
			total += cpus[i]
		}
		if total == 0 {
			cpus[0], total = 1, 1
		}
		l := newLenders(t, cpus...)
		longest := int64(0)
		for _, x := range l.list {
			x.length = (10 + rnd.Int64N(300)) * ms
			longest = max(longest, x.length)
		}
		stay, busy := 0, 0
		var groups []*group
		for round := range 30 {
			x := l.list[rnd.IntN(len(l.list))]
			switch rnd.IntN(5) {
			case 0:
				x.tasks = 1_000_000
			case 1:
				x.tasks = rnd.IntN(20)
			case 2:
				if len(x.have) > 0 && stay+busy+1 < total && x.have[0].ends != 0 && !x.have[0].actor {
					x.have[0].actor = true
					stay++
				}
			case 3:
				if n := 1 + rnd.IntN(total); stay+busy+n < total {
					busy += n
					groups = append(groups, l.ask(x.a, uint64(round+1), n, "CPU=1", plainGroup(nil)))
				}
			case 4:
				if len(groups) > 0 {
					g := groups[0]
					groups = groups[1:]
					busy -= len(g.create.Bundles)
					x.a.outbox = append(x.a.outbox, &fb.GroupCancelT{Group: wireTask(g.id), Mode: fb.CancelModeStop})
				}
			}
			l.pass((10 + rnd.Int64N(600)) * ms)
		}
		l.pass(leaseSlow + int64(len(l.list))*(longest+leaseLife))
		for _, g := range groups {
			if g.phase != fb.GroupPhaseCreated {
				t.Fatalf("seed %d: a group of %d bundles beside %d that stay of %d CPUs: %s", seed, len(g.create.Bundles), stay, total, l.core.explainGroup(g))
			}
		}
		for i, x := range l.list {
			if most := leaseSlow + int64(len(l.list))*2*(longest+leaseLife); x.worst > most {
				t.Fatalf("seed %d: agent %d had nothing for %v, %v is the most", seed, i+1, time.Duration(x.worst), time.Duration(most))
			}
		}
	}
}
