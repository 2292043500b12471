package agent

import (
	"net"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	carrier "github.com/maniple-hpc/maniple/transport/work"
)

// staked is a desk that has so many CPUs for tasks, in parts of two, and a process that makes groups.
func staked(t *testing.T, now *int64, parts int) (*desk, *workConn) {
	t.Helper()
	d := alone(now)
	for range parts {
		p := &part{group: d.mint()}
		d.stake.parts = append(d.stake.parts, p)
		d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated}, []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 2)}}})
	}
	here, there := net.Pipe()
	c := &workConn{process: 9, client: true, conn: carrier.New(here, carrier.Config{OnBatch: func(b carrier.Batch) { b.Release() }})}
	t.Cleanup(func() {
		c.conn.Cut()
		_ = there.Close()
		<-c.conn.Done()
	})
	d.conns[c.process] = c
	return d, c
}

func (d *desk) cpus(t *testing.T) int64 {
	t.Helper()
	return amountIn(d.stake.grant().Resources, "CPU")
}

func groupOf(counter uint64, resources ...*fb.ResourceT) *fb.GroupCreateT {
	return &fb.GroupCreateT{Group: taskT(id.Task{Agent: 1, Process: 9, Counter: counter}), Bundles: []*fb.BundleT{{Resources: resources}}}
}

// A group that fits into what this agent has for tasks is there at once; the head hears of it when it lives on, with the part
// that it is of, and tasks have so much less.
func TestPieces(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 2)
	m := groupOf(1, res("CPU", 1))
	if !d.create(c, m) {
		t.Fatal("it is left to the head")
	}
	if d.groups[taskOf(m.Group)] == nil || !d.stake.changed || d.cpus(t) != 3*whole {
		t.Errorf("tasks still have %d", d.cpus(t))
	}
	if ev, ok := d.events[len(d.events)-1].(work.Grant); !ok || ev.Group != taskOf(m.Group) || amountIn(ev.Resources, "CPU") != whole {
		t.Errorf("the core hears %+v", d.events)
	}
	if next := d.settlePieces(t.Context()); next != now+pieceTold || len(d.asked()) > 0 {
		t.Errorf("the head hears of it at once, or the next look is in %v", time.Duration(next-now))
	}
	now += pieceTold
	if next := d.settlePieces(t.Context()); next != never {
		t.Errorf("the next look is due at %d", next)
	}
	asked := d.asked()
	if len(asked) != 1 || taskOf(asked[0].(*fb.GroupCreateT).Part) != d.stake.parts[0].group {
		t.Fatalf("the head hears %v", asked)
	}
	if d.endPiece(taskOf(m.Group), "") {
		t.Error("a group that the head knows ended without it")
	}
	if d.cpus(t) != 3*whole {
		t.Errorf("tasks have %d again before the head says so", d.cpus(t))
	}
}

// AGENT-14: one that is removed before anybody heard of it leaves no trace.
func TestPiecesThatNobodyHeardOf(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 1)
	for i := range uint64(100) {
		m := groupOf(i+1, &fb.ResourceT{Name: "CPU", Amount: whole / 2})
		if !d.create(c, m) || d.cpus(t) != 3*whole/2 {
			t.Fatalf("group %d: tasks have %d", i, d.cpus(t))
		}
		if !d.endPiece(taskOf(m.Group), "removed") || d.cpus(t) != 2*whole || d.groups[taskOf(m.Group)] != nil {
			t.Fatalf("after group %d tasks have %d", i, d.cpus(t))
		}
		now += int64(time.Second)
		if d.settleStake(t.Context()); len(d.asked()) > 0 {
			t.Fatal("what groups are made of goes back, or the head hears of them")
		}
	}
	now += stakeIdle
	d.settleStake(t.Context())
	now += stakeIdle
	if d.settleStake(t.Context()); len(d.asked()) != 1 {
		t.Error("what nobody uses does not go back")
	}
}

// AGENT-14: what a process says of a group it may say to anybody: the head hears of them first, in order.
func TestPiecesAreToldBeforeTheyAreNamed(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 1)
	d.create(c, groupOf(1, res("CPU", 1)))
	now++
	d.create(c, groupOf(2, res("CPU", 1)))
	e := &errand{peer: 2, number: 1, out: []byte{}}
	d.flushErrand(t.Context(), e)
	asked := d.asked()
	if len(asked) != 2 || asked[0].(*fb.GroupCreateT).Group.Counter != 1 || asked[1].(*fb.GroupCreateT).Group.Counter != 2 || len(d.pieces) > 0 {
		t.Errorf("the head hears %v", asked)
	}
}

// The part that a piece is of goes back after the head heard of the piece; and a part that the head took makes it hear, too.
func TestPiecesOfPartsThatGo(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 1)
	d.create(c, groupOf(1, res("CPU", 2)))
	d.stake.wanted = true
	if d.settleStake(t.Context()); len(d.asked()) > 0 {
		t.Error("a part goes back a moment after a piece was made of it")
	}
	now += stakeIdle
	d.settleStake(t.Context())
	asked := d.asked()
	if len(asked) != 2 {
		t.Fatalf("the head hears %v", asked)
	}
	if _, first := asked[0].(*fb.GroupCreateT); !first {
		t.Errorf("the head hears %T first", asked[0])
	}
	d, c = staked(t, &now, 1)
	p, m := d.stake.parts[0], groupOf(1, res("CPU", 1))
	d.create(c, m)
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "cancelled"}}, nil)
	if len(d.asked())+len(d.pieces)+len(d.groups) > 0 {
		t.Error("a piece of what is gone lives on")
	}
}

// What the head refuses is the part's again; what it took in is not, whatever becomes of it.
func TestPiecesThatTheHeadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		says []*fb.GroupUpdateT
		want int64
	}{
		"refused":             {[]*fb.GroupUpdateT{{Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "start"}}}, 2 * whole},
		"waits, then refused": {[]*fb.GroupUpdateT{{}, {Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "lost"}}}, 2 * whole},
		"taken in, then lost": {[]*fb.GroupUpdateT{{Phase: fb.GroupPhaseCreated}, {Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "lost"}}}, whole},
		"cancelled":           {[]*fb.GroupUpdateT{{Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "cancelled"}}}, whole},
	} {
		now := int64(time.Second)
		d, conn := staked(t, &now, 1)
		m := groupOf(1, res("CPU", 1))
		d.create(conn, m)
		d.tellPieces(t.Context(), now)
		for _, u := range c.says {
			u.Group = m.Group
			d.toldPiece(u)
		}
		if got := d.cpus(t); got != c.want {
			t.Errorf("%s: tasks have %d", name, got)
		}
	}
}

// The head's own update of a part that comes again does not give back what was cut off.
func TestAPartThatIsSaidAgain(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 1)
	d.create(c, groupOf(1, res("CPU", 1)))
	bundle := []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 2)}}}
	d.toldStake(&fb.GroupUpdateT{Group: taskT(d.stake.parts[0].group), Phase: fb.GroupPhaseCreated}, bundle)
	if d.cpus(t) != whole || bundle[0].Resources[0].Amount != 2*whole {
		t.Errorf("tasks have %d", d.cpus(t))
	}
}

// Pieces of a process that is gone are gone.
func TestPiecesOfAProcessThatIsGone(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 1)
	d.create(c, groupOf(1, res("CPU", 1)))
	c.client = false
	d.abandon(t.Context(), c)
	if len(d.pieces)+len(d.groups) > 0 || d.cpus(t) != 2*whole || len(d.asked()) > 0 {
		t.Errorf("%d pieces and %d groups are left, tasks have %d", len(d.pieces), len(d.groups), d.cpus(t))
	}
}

// All else is the head's to place.
func TestWhatIsNoPiece(t *testing.T) {
	now := int64(time.Second)
	edit := func(f func(m *fb.GroupCreateT)) *fb.GroupCreateT {
		m := groupOf(1, res("CPU", 1))
		f(m)
		return m
	}
	for name, m := range map[string]*fb.GroupCreateT{
		"detached":    edit(func(m *fb.GroupCreateT) { m.Detached = true }),
		"named":       edit(func(m *fb.GroupCreateT) { m.Name = "g" }),
		"two bundles": edit(func(m *fb.GroupCreateT) { m.Bundles = append(m.Bundles, m.Bundles[0]) }),
		"labels":      edit(func(m *fb.GroupCreateT) { m.Bundles[0].Labels = []*fb.LabelT{{Key: "a", Value: "b"}} }),
		"a program":   edit(func(m *fb.GroupCreateT) { m.Program = &fb.ProgramT{} }),
		"too much":    groupOf(1, res("CPU", 3)),
		"used":        groupOf(1, res("CPU", 2), res("memory", 1)),
		"a device":    groupOf(1, res("GPU", 1)),
		"nothing":     groupOf(1),
		"negative":    groupOf(1, &fb.ResourceT{Name: "CPU", Amount: -1}),
		"twice":       groupOf(1, res("CPU", 1), res("CPU", 1)),
	} {
		d, c := staked(t, &now, 1)
		gpu := &part{group: d.mint(), bundle: &fb.BundlePlaceT{Resources: []*fb.ResourceT{res("GPU", 1)}, Devices: []string{"a"}}}
		d.stake.parts = append(d.stake.parts, gpu)
		if d.create(c, m) {
			t.Errorf("%s: it was made here", name)
		}
	}
	d, c := staked(t, &now, 1)
	if !d.create(c, groupOf(1, res("CPU", 1))) || d.create(c, groupOf(1, res("CPU", 1))) || d.create(c, groupOf(2, res("CPU", 2))) {
		t.Error("the same one twice, or more than is left")
	}
	d.over = "drained"
	if d.create(c, groupOf(3, res("CPU", 1))) {
		t.Error("a node that ends makes groups")
	}
}

// One that comes before the stake waits for it; if that takes long, or brings too little, the head places it.
func TestPiecesThatComeBeforeTheStake(t *testing.T) {
	bundle := []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 2)}}}
	for name, c := range map[string]struct {
		cpus int64
		come bool
		want int // messages to the head
	}{"in time": {1, true, 0}, "too little": {3, true, 1}, "too late": {1, false, 1}} {
		now := int64(time.Second)
		d, conn := staked(t, &now, 0)
		p := &part{group: d.mint(), said: now, create: &fb.GroupCreateT{}}
		d.stake.parts = append(d.stake.parts, p)
		m := groupOf(1, res("CPU", c.cpus))
		if !d.create(conn, m) || len(d.asked()) > 0 {
			t.Errorf("%s: the head is asked at once", name)
		}
		if next := d.settlePieces(t.Context()); next != now+pieceTold {
			t.Errorf("%s: the next look is in %v", name, time.Duration(next-now))
		}
		if c.come {
			d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated}, bundle)
		} else {
			now += pieceTold
		}
		d.settlePieces(t.Context())
		if asked := d.asked(); len(asked) != c.want || len(d.creates) > 0 || len(d.pieces) != 1-c.want || d.groups[taskOf(m.Group)] == nil {
			t.Errorf("%s: the head hears %v; %d pieces", name, asked, len(d.pieces))
		}
	}
}

// Where nothing is this agent's, the head places the first one, and then the agent asks for something that the next can be made of.
func TestTheFirstPiece(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 0)
	if d.create(c, groupOf(1, &fb.ResourceT{Name: "CPU", Amount: whole / 2})) || len(d.asked()) > 0 {
		t.Error("it was made of nothing, or comes behind what is asked for the next")
	}
	if !d.create(c, groupOf(2, res("CPU", 1))) {
		t.Error("the next does not wait for what is coming")
	}
	d.settlePieces(t.Context())
	asked := d.asked()
	if len(asked) != 1 || asked[0].(*fb.GroupCreateT).Bundles[0].Resources[0].Amount != whole || asked[0].(*fb.GroupCreateT).Wait != int64(pieceWait) {
		t.Fatalf("the head is asked for %v", asked)
	}
	p := d.stake.parts[0]
	d.toldStake(&fb.GroupUpdateT{Group: taskT(p.group), Phase: fb.GroupPhaseCreated}, []*fb.BundlePlaceT{{Resources: []*fb.ResourceT{res("CPU", 1)}}})
	d.settleStake(t.Context())
	if d.settlePieces(t.Context()); len(d.asked()) > 0 || len(d.pieces) != 1 {
		t.Error("it went back, or the next was not made of it")
	}
}

// Who waits for the stake goes with its process.
func TestPiecesThatWaitForTheStake(t *testing.T) {
	now := int64(time.Second)
	d, c := staked(t, &now, 0)
	d.stake.eager, c.client = true, false
	d.create(c, groupOf(1, res("CPU", 1)))
	if d.create(c, groupOf(1, res("CPU", 1))) {
		t.Error("one ID twice")
	}
	if d.abandon(t.Context(), &workConn{process: 9}); len(d.creates) != 1 {
		t.Error("the end of another connection ends it")
	}
	if d.abandon(t.Context(), c); len(d.creates) > 0 {
		t.Error("it outlives its maker")
	}
}
