package work

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// lined is an agent with an actor, whose worker w1 and the driver d have a direct line.
type lined struct {
	*world
	actor id.Task
}

func newLined(t *testing.T, options ...func(*fb.CreateT)) *lined {
	w := newWorld(t, Config{Direct: 1, Store: newLedger(t)})
	w.step(Grant{Resources: []Amount{{"CPU", 20_000}}})
	w.attach("other", Driver, 1, 0) // so that the job goes on when d is gone
	w.attach("d", Driver, 1, 0)
	w.send("d", &fb.FunctionT{Hash: hashOf("f"), Name: "f", Language: "python"}, nil)
	w.send("d", &fb.MethodsT{Function: numberOf("f"), Names: []string{"m"}}, nil)
	w.send("d", &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	w.send("d", &fb.ShapeT{Number: 8, Bundle: -1, Resources: amounts(t, "CPU:2")}, nil) // all that there is
	x := &lined{w, w.mint("d", "a")}
	m := &fb.CreateT{Actor: taskT(x.actor), Parent: &fb.TaskIDT{}, Function: numberOf("f"), Job: 1, Shape: 1, MaxPending: -1, Detached: true, Name: "it"}
	for _, option := range options {
		option(m)
	}
	w.send("d", m, nil)
	w.up(w.needs[0])
	w.needs = nil
	for _, name := range []string{"d", "w1"} {
		w.core.byProcess[w.procs[name]].direct = true
	}
	w.send("w1", &fb.ResultT{Task: taskT(x.actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	w.send("d", x.call("first"), nil)
	w.send("w1", x.result("first"), nil)
	w.log = nil
	return x
}

func (x *lined) call(name string) *fb.CallT {
	x.mint("d", name)
	return x.again(name)
}

// again is a call of a name that there is.
func (x *lined) again(name string) *fb.CallT {
	return &fb.CallT{Task: taskT(x.task(name)), Parent: &fb.TaskIDT{}, Actor: taskT(x.actor), Job: 1, Shape: 1, Returns: 1}
}

// told is what tells of a new call.
func (x *lined) told(name string) *fb.ToldT {
	m := x.call(name)
	return &fb.ToldT{Task: m.Task, Parent: m.Parent, Actor: m.Actor, Job: 1, Shape: 1, Returns: 1, Incarnation: x.core.entries[x.actor].actor.incarnation}
}

func (x *lined) result(name string) *fb.ResultT {
	return &fb.ResultT{Task: taskT(x.task(name)), Flags: uint32(fb.ResultFlagLast)}
}

func (x *lined) wants(what ...string) {
	x.t.Helper()
	got := strings.Join(x.log, "\n")
	for _, s := range what {
		if !strings.Contains(got, s) {
			x.t.Errorf("there is no %q in\n%s", s, got)
		}
	}
	if x.core.refused > 0 {
		x.t.Errorf("%d were refused:\n%s", x.core.refused, got)
	}
	x.log = nil
}

// A call that an actor has goes on when its driver is gone, whoever told of it and whenever, as one by the agent does, and nobody has its result. What was
// kept of the driver goes when its worker has ended the line.
func TestLineOfADriverThatIsGone(t *testing.T) {
	for _, last := range []bool{false, true} {
		for _, tells := range []string{"worker, then it goes", "it goes, then worker", "by the agent"} {
			x := newLined(t)
			if last {
				x.step(ProcessGone{Process: x.procs["other"], Why: "done"})
			}
			w, told := x.core.entries[x.actor].actor.worker, x.told("c")
			if tells == "by the agent" {
				x.send("d", x.again("c"), nil)
			} else if tells[0] == 'w' {
				x.send("w1", told, []byte("args"))
			}
			x.step(ProcessGone{Process: x.procs["d"], Why: "killed"})
			if tells[0] == 'i' {
				x.send("w1", told, []byte("args"))
			}
			if k := x.core.entries[x.task("c")]; w.flight.n != 1 || k == nil || k.task == nil || strings.Contains(strings.Join(x.log, "\n"), "Cancel") {
				t.Errorf("%s, of the last one %v: %d are in flight\n%s", tells, last, w.flight.n, strings.Join(x.log, "\n"))
			}
			x.send("w1", &fb.LineT{}, nil)
			if len(w.direct.callers) > 0 || w.direct.caller != nil {
				t.Errorf("%s, of the last one %v: of %d drivers something is kept", tells, last, len(w.direct.callers))
			}
			x.send("w1", &fb.SealT{Object: objectT(x.object("c")), Size: 1 << 20}, nil)
			x.send("w1", &fb.ResultT{Task: told.Task, Flags: uint32(fb.ResultFlagLast | fb.ResultFlagLocated)}, nil)
			x.wants("w1 <- Line")
			if _, left := x.core.entries[x.task("c")]; w.flight.n != 0 || left {
				t.Errorf("%s, of the last one %v: %d are in flight, and it is known: %v", tells, last, w.flight.n, left)
			}
		}
	}
}

// A worker has no more from the line of a driver that is gone than there can be.
func TestMoreThanALineHas(t *testing.T) {
	x := newLined(t)
	told := []*fb.ToldT{x.told("a"), x.told("b"), x.told("c")}
	x.step(ProcessGone{Process: x.procs["d"], Why: "killed"})
	for i, m := range told {
		x.send("w1", m, nil)
		if refused := x.core.refused > 0; refused != (i == 2) {
			t.Errorf("the call of number %d is refused: %v", i, refused)
		}
	}
}

// Who comes second says nothing new, unless that the call runs.
func TestBothTellOfACall(t *testing.T) {
	for _, order := range []string{"driver first", "worker first"} {
		x := newLined(t)
		told := x.told("c")
		x.send("d", x.call("before"), nil)
		if order == "driver first" {
			x.send("d", told, nil)
			x.send("w1", told, nil)
		} else {
			waits := *told
			waits.Attempt = 1
			x.send("w1", &waits, nil)
			x.send("d", told, nil)
			if x.core.entries[x.task("c")].task == x.core.byProcess[x.procs["w1"]].worker.flight.head {
				t.Error("a call that waits is taken for the one that runs")
			}
			x.send("w1", told, nil)
		}
		if x.core.entries[x.task("c")].task != x.core.byProcess[x.procs["w1"]].worker.flight.head {
			t.Errorf("%s: it does not run", order)
		}
		x.send("w1", x.result("c"), []byte("value"))
		x.wants("d <- Result c[0] last")
	}
}

// A worker that dies with a call of its line takes nothing else along, and the driver hears what became of the call.
func TestLineOfAWorkerThatDies(t *testing.T) {
	x := newLined(t)
	told := x.told("c")
	x.step(ProcessGone{Process: x.procs["w1"], Why: "killed by signal 9"})
	x.send("d", told, nil)
	x.wants("ACTOR_DIED")

	y := newLined(t, func(m *fb.CreateT) { m.MaxRestarts = 1 })
	told = y.told("c")
	y.step(ProcessGone{Process: y.procs["w1"], Why: "killed by signal 9"})
	y.send("d", told, nil)
	y.wants("ACTOR_UNAVAILABLE")

	z := newLined(t, func(m *fb.CreateT) { m.MaxRestarts = 1 })
	z.send("d", &fb.ShapeT{Number: 2, Bundle: -1, Retries: 1}, nil)
	told = z.told("c")
	told.Shape = 2
	z.step(ProcessGone{Process: z.procs["w1"], Why: "killed by signal 9"})
	z.send("d", told, nil)
	z.up(z.needs[len(z.needs)-1])
	z.send("w2", &fb.ResultT{Task: taskT(z.actor), Flags: uint32(fb.ResultFlagLast)}, nil)
	z.wants("w2 <- Call c of a#2 attempt=1")
}

// until has a driver make short calls, one by one, until it gets a line; gives how many that were. Its worker ends the line before it if it is told to.
func (x *lined) until(p string, sequence *uint64) int {
	for n := 1; n < 1000; n++ {
		*sequence++
		name := fmt.Sprint(p, "'s ", *sequence)
		m := x.call(name)
		m.Task, m.Sequence = taskT(x.mint(p, name)), *sequence
		x.send(p, m, nil)
		x.send("w1", x.result(name), nil)
		got := strings.Join(x.log, "\n")
		x.log = nil
		if strings.Contains(got, "w1 <- Line") {
			x.send("w1", &fb.LineT{}, nil)
		}
		if strings.Contains(got, "join "+p) {
			return n
		}
	}
	x.t.Fatal("there is no line")
	return 0
}

// The next line is given after twice as many calls, unless the one before took more than that; and one, while the line before is ended.
func TestLinesThatAreOfUse(t *testing.T) {
	x := newLined(t)
	made, after := uint64(0), []int{}
	for _, went := range []uint64{0, 3, 8, 9, 0, 70, 0} { // by the line
		made += went
		after = append(after, x.until("d", &made))
	}
	if want := []int{3, 5, 9, 17, 33, 65, 2}; !slices.Equal(after, want) {
		t.Errorf("there are lines after %v calls, want %v", after, want)
	}
}

// A driver that calls gets the line that another one has, and does not wait for more calls because others had lines.
func TestLineGoesToWhoCalls(t *testing.T) {
	x := newLined(t)
	x.core.byProcess[x.procs["other"]].direct = true
	x.core.hold(x.core.byProcess[x.procs["other"]], x.core.entries[x.actor].first).deliveries++ // as by its name
	x.send("other", &fb.ShapeT{Number: 1, Bundle: -1}, nil)
	var made, others uint64
	for range 3 {
		x.until("d", &made)
	}
	if n := x.until("other", &others); n > 2 {
		t.Errorf("it gets a line after %d calls", n)
	}
	x.until("d", &made)
	x.wants()
}

// A driver that tells of calls which it never made blocks nobody.
func TestToldAndNeverMade(t *testing.T) {
	x := newLined(t)
	told := x.told("c")
	x.send("d", told, nil)
	x.send("w1", told, nil) // it knows that one
	x.send("d", x.told("c2"), nil)
	x.wants()
	x.send("d", x.told("c3"), nil)
	if got := strings.Join(x.log, "\n"); !strings.Contains(got, "close d: told of two calls past its agent that their worker does not know") {
		t.Error(got)
	}
}

// An actor that is to move to another node does so when it does nothing: its worker says first what it has from its line.
func TestLineOfAnActorThatIsToMove(t *testing.T) {
	for _, busy := range []bool{false, true} {
		x := newLined(t, func(m *fb.CreateT) { m.MaxRestarts = 1 })
		x.step(Nodes{N: 2, Others: [][]Amount{{{"CPU", 20_000}}}})
		x.step(Drain{Agent: agentNumber, Node: "n1", Reason: "it is old"})
		if got := strings.Join(x.log, "\n"); strings.Contains(got, "kill") {
			t.Fatalf("nobody knows what it does:\n%s", got)
		}
		x.wants("w1 <- Line")
		if busy {
			x.send("w1", x.told("c"), nil)
		}
		x.send("w1", &fb.LineT{}, nil)
		if busy {
			if got := strings.Join(x.log, "\n"); strings.Contains(got, "kill") {
				t.Fatalf("a call runs:\n%s", got)
			}
			x.send("w1", x.result("c"), []byte("value"))
			x.wants("d <- Result c[0] last", "kill w1: node n1 is being drained: it is old")
			continue
		}
		x.wants("kill w1: node n1 is being drained: it is old")
	}
}

// None that may not have a line tells of a call, and nobody tells of one in the name of another.
func TestHostileTellers(t *testing.T) {
	for name, change := range map[string]func(x *lined, m *fb.ToldT) string{
		"another driver's": func(*lined, *fb.ToldT) string { return "other" },
		"a job's":          func(_ *lined, m *fb.ToldT) string { m.Job = 9; return "d" },
		"two results":      func(_ *lined, m *fb.ToldT) string { m.Returns = 2; return "d" },
		"arguments":        func(_ *lined, m *fb.ToldT) string { m.Deps = 1; return "d" },
		"no shape":         func(_ *lined, m *fb.ToldT) string { m.Shape = 9; return "d" },
		"no actor":         func(x *lined, m *fb.ToldT) string { m.Actor = taskT(x.mint("d", "none")); return "d" },
		"of who has no line": func(x *lined, _ *fb.ToldT) string {
			x.core.entries[x.actor].actor.worker.direct.callers = nil
			return "d"
		},
		"in the name of who has none": func(x *lined, m *fb.ToldT) string { m.Task = taskT(x.mint("other", "its")); return "w1" },
		"of another life, in that name": func(x *lined, m *fb.ToldT) string {
			m.Task, m.Incarnation = taskT(x.mint("other", "its")), m.Incarnation+1
			return "w1"
		},
		"longer than any": func(*lined, *fb.ToldT) string { return "d long" },
	} {
		x := newLined(t)
		m := x.told("c")
		who, long, _ := strings.Cut(change(x, m), " ")
		x.core.Step(x.now, &Frames{Process: x.procs[who], Bytes: frameOf(t, m, make([]byte, len(long)<<10))}, nil)
		if p := x.core.byProcess[x.procs["d"]]; x.core.refused != 1 || who != "d" && p.closing || x.core.entries[taskOf(m.Task)] != nil {
			t.Errorf("%s: %d were refused, and the driver is closed: %v", name, x.core.refused, p.closing)
		}
	}
}

// A worker can't know what its caller may still say: nobody is cut off for that, and the call is not made.
func TestTellerOfACallerWithoutCredit(t *testing.T) {
	x := newLined(t)
	m := x.told("c")
	x.core.byProcess[x.procs["d"]].owed.records = x.core.cfg.Records
	x.send("w1", m, nil)
	if x.core.refused != 0 || x.core.entries[taskOf(m.Task)] != nil {
		t.Errorf("%d were refused, and the call is there: %v", x.core.refused, x.core.entries[taskOf(m.Task)] != nil)
	}
}

// A call that only its driver told of is over once the worker has said all that it has.
func TestCallThatWasNeverMade(t *testing.T) {
	x := newLined(t)
	m := x.told("c")
	x.send("d", m, nil)
	w := x.core.entries[x.actor].actor.worker
	if !w.hearsay() || w.flight.n != 1 || x.core.linesOver(w) {
		t.Fatalf("%d are in flight", w.flight.n)
	}
	x.send("w1", &fb.LineT{}, nil)
	if e := x.core.entries[taskOf(m.Task)]; w.flight.n != 0 || e == nil || e.task != nil || !x.core.linesOver(w) || x.core.refused != 0 {
		t.Errorf("%d are in flight, %d were refused", w.flight.n, x.core.refused)
	}
}

// An actor that lives at a node for another agent's driver may go on elsewhere: what a driver of that node had on its line is lost like any call
// of a life that is over, and what comes next is brought.
func TestLineToAnActorThatMovesAway(t *testing.T) {
	for _, retries := range []int32{0, 1} {
		p := newPair(t)
		p.cores[1].cfg.Direct = 1
		p.step(0, Grant{Resources: []Amount{{"CPU", one}}})
		actor := p.create(1)
		lives := p.worker(actor)
		p.submit(nil, []id.Object{of(actor)})
		p.last[1]++
		d := p.last[1]
		p.step(1, ProcessUp{Process: d, Kind: Driver, Job: 77, Direct: true})
		p.say(1, d, &fb.ShapeT{Number: 1, Bundle: -1, Retries: retries}, nil)
		c := p.cores[1]
		c.byProcess[lives].direct = true
		c.hold(c.byProcess[d], c.entries[actor].first).deliveries++ // as by its name
		first := p.mint(1, d)
		p.say(1, d, &fb.CallT{Task: taskT(first), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 77, Shape: 1, Returns: 1}, nil)
		p.say(1, lives, &fb.ResultT{Task: taskT(first), Flags: uint32(fb.ResultFlagLast)}, nil)
		if w := c.entries[actor].actor.worker; w.direct.of(d) == nil {
			t.Fatal("there is no line")
		}
		p.step(0, Place{Group: groupOfPair, Gone: true}) // it can't be made again there
		p.gone(1, lives, "killed by signal 9")
		call := p.mint(1, d)
		p.say(1, d, &fb.ToldT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 77, Shape: 1, Returns: 1, Incarnation: 1}, nil)
		if c.refused > 0 {
			t.Fatalf("the driver was refused: %v", p.said)
		}
		v := p.told(fmt.Sprintf("b %d", d), of(call))
		if retries == 0 && !strings.HasPrefix(v, "ACTOR_UNAVAILABLE") || retries > 0 && v != "" {
			t.Errorf("with %d retries the driver is told %q", retries, v)
		}
		p.step(0, Grant{Group: groupOfPair, Resources: []Amount{{"CPU", one}}})
		home := p.last[0]
		p.say(0, home, &fb.ResultT{Task: taskT(actor), Flags: uint32(fb.ResultFlagLast)}, nil)
		if retries == 0 {
			call = p.mint(1, d)
			p.say(1, d, &fb.CallT{Task: taskT(call), Parent: &fb.TaskIDT{}, Actor: taskT(actor), Job: 77, Shape: 1, Returns: 1}, nil)
		}
		p.say(0, home, &fb.ResultT{Task: taskT(call), Flags: uint32(fb.ResultFlagLast)}, []byte("called"))
		if v := p.told(fmt.Sprintf("b %d", d), of(call)); v != "called" {
			t.Errorf("with %d retries, when it lives elsewhere the driver is told %q; %v", retries, v, p.said)
		}
	}
}
