package head

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/placement"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func task(n uint64) id.Task { return id.Task{Agent: 99, Process: 1, Counter: n} }

// ask creates a gang of bundles with CPUs each, and one rank per bundle.
func (w *world) ask(a *fakeAgent, n uint64, bundles int, each string, change func(*fb.GroupCreateT)) *group {
	res, err := placement.ParseResources(each)
	if err != nil {
		w.t.Fatal(err)
	}
	q := &fb.GroupCreateT{Group: wireTask(task(n)), OwnerAgent: a.number, OwnerProcess: 1, Program: &fb.ProgramT{Argv: []string{"x"}, MasterPort: true}}
	for range bundles {
		q.Bundles = append(q.Bundles, &fb.BundleT{Resources: wireResources(res), Ranks: 1})
	}
	if change != nil {
		change(q)
	}
	a.outbox = append(a.outbox, q)
	w.settle()
	return w.core.state.byID[task(n)]
}

// GANG-4: the exit code and the cause, for all ways in which the first rank can end a gang of two.
func TestFirstFailure(t *testing.T) {
	for _, c := range []struct {
		name   string
		rank   int
		end    fb.RankStateT
		code   int32
		cause  string
		says   string
		driver bool
	}{
		{"exit code", 1, fb.RankStateT{Code: 3}, 3, "rank", "rank 1 on n2 exited with code 3", false},
		{"255", 0, fb.RankStateT{Code: 255}, 255, "rank", "rank 0 on n1 exited with code 255", false},
		{"signal", 1, fb.RankStateT{Signal: 9}, 137, "rank", "rank 1 on n2 was killed by signal 9 (KILL)", false},
		{"core", 1, fb.RankStateT{Signal: 11, Core: true}, 139, "rank", "rank 1 on n2 was killed by signal 11 (SEGV), core dumped", false},
		{"real-time signal", 1, fb.RankStateT{Signal: 40}, 168, "rank", "signal 40 (40)", false},
		{"not found", 1, fb.RankStateT{Error: "exec: no such file or directory"}, 127, "start", "rank 1 on n2 could not be started: exec: no such file or directory", false},
		{"not executable", 1, fb.RankStateT{Error: "Permission denied"}, 126, "start", "could not be started", false},
		{"wrong format", 1, fb.RankStateT{Error: "exec format error"}, 126, "start", "could not be started", false},
		{"the keeper's code", 1, fb.RankStateT{Error: "is a directory", Code: 126}, 126, "start", "could not be started", false},
		{"ended by its agent", 1, fb.RankStateT{Signal: 9, ByUs: true}, 137, "node", "n2 was cut off or is leaving", false},
		{"port in use, restart used up", 0, fb.RankStateT{Code: 1, Tail: "Address already in use"}, 1, "rank", "rank 0 on n1 exited with code 1", false},
		{"driver", 0, fb.RankStateT{Code: 2}, 2, "rank", "the program on n1 exited with code 2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, Config{})
			a := w.join("n1", "CPU=1", 0)
			w.join("n2", "CPU=1", 0)
			w.settle()
			bundles := 2
			if c.driver {
				bundles = 1
			}
			g := w.ask(a, 1, bundles, "CPU=1", func(q *fb.GroupCreateT) { q.Program.Driver = c.driver })
			if strings.Contains(c.name, "used up") { // the one restart for it was had
				g.portFree = true
				w.shadow.byID[g.id].portFree = true
			}
			end := c.end
			end.Group, end.Incarnation, end.Rank, end.Phase = wireTask(g.id), 1, uint32(c.rank), fb.RankPhaseEnded
			w.step(FromAgent{Agent: id.Agent(w.agents[c.rank].number), Msg: &end})
			w.settle()
			for _, a := range w.agents {
				for _, k := range slices.Clone(a.stopping) {
					w.endRank(a, k, 99, 0, false, "whatever comes later")
				}
			}
			w.settle()
			got := a.ends[g.id]
			if got == nil {
				t.Fatalf("no end; %s", w.core.explainGroup(g))
			}
			if got.Code != c.code || got.Cause != c.cause || !strings.Contains(got.Reason, c.says) {
				t.Errorf("code %d, cause %s, %q; want %d, %s, %q", got.Code, got.Cause, got.Reason, c.code, c.cause, c.says)
			}
			if a.reported[g.id] != 1 {
				t.Errorf("HEAD-2: the owner was told the end %d times", a.reported[g.id])
			}
		})
	}
}

// Only a line that says it of MASTER_PORT, or of no port, means that MASTER_PORT is in use. Here it is 29500.
func TestPortInUse(t *testing.T) {
	for _, c := range []struct {
		tail string
		want bool
	}{
		{"OSError: [Errno 98] Address already in use", true},
		{"Error: listen EADDRINUSE", true},
		{"The server socket has failed to listen on any local network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use", true},
		{"[W socket.cpp:1436] [c10d] The server socket has failed to bind to [::]:29500 (errno: 98 - Address already in use).", true},
		{"[W socket.cpp:1436] [c10d] The server socket has failed to bind to ?UNKNOWN? (errno: 98 - Address already in use).", true},
		{"2026-11-21T19:08:19.1234 train.py:1042: OSError: [Errno 98] Address already in use", true},
		{"listen tcp 10.0.0.1:29500: bind: address already in use", true},
		{"MASTER_PORT=29500: address already in use", true},
		{"tensorboard port 6006: address already in use\nOSError: [Errno 98] Address already in use", true},
		{"ports 6006 and 29500, then port 6006, 127.0.0.1:29500: address already in use", true},
		{"", false},
		{"port 29500 is open", false},
		{"tensorboard port 6006: address already in use", false},
		{"tensorboard: port=80: address already in use", false},
		{"The server socket has failed to listen on any local network address. port: 29501, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use", false},
		{"Error: listen EADDRINUSE: address already in use :::6006", false},
		{"2026/11/21 19:08:19 main.go:1234: listen tcp :6006: bind: address already in use", false},
		{"listen tcp [::1]:6006: bind: address already in use", false},
		{"dashboard at http://localhost:6006/: Address already in use", false},
		{"OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use", false},
		{"listens on port 29500\nprometheus 0.0.0.0:9090: address already in use", false},
		{"port 2950: address already in use", false},
	} {
		if got := portInUse(c.tail, 29500); got != c.want {
			t.Errorf("%v: %s", got, c.tail)
		}
	}
}

// A hundred nodes may be lost for free; the next loss ends the gang. Restarts that count are not among them.
func TestLossesAreBounded(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.join("n1", "CPU=1", 0), w.join("n2", "CPU=1", 0)
	w.settle()
	g := w.ask(a, 1, 2, "CPU=1", func(q *fb.GroupCreateT) { q.MaxRestarts = 2 })
	lose := func() {
		w.step(Silent{id.Agent(b.number), "it was silent"})
		w.settle()
		for _, k := range slices.Clone(a.stopping) {
			w.endRank(a, k, 0, 15, true, "")
		}
		w.settle()
		b = w.join("n2", "CPU=1", 0)
		w.settle()
	}
	for range 2 { // these count
		w.endRank(a, a.rank(g.id, g.incarnation, 0), 1, 0, false, "")
		w.settle()
		for _, k := range slices.Clone(b.stopping) {
			w.endRank(b, k, 0, 15, true, "")
		}
		w.settle()
	}
	for n := range 100 {
		if lose(); g.phase != fb.GroupPhaseRunning || g.incarnation != uint32(n+4) || g.restarts != 2 {
			t.Fatalf("after %d losses: %v, incarnation %d, %d restarts that count", n+1, g.phase, g.incarnation, g.restarts)
		}
	}
	if lose(); g.phase != fb.GroupPhaseEnded || a.ends[g.id] == nil || a.ends[g.id].Cause != causeNode {
		t.Errorf("after 101 losses: %v, incarnation %d", g.phase, g.incarnation)
	}
}

// A head that was killed between the drain's record and that of the gang's new end starts no gang again.
func TestNoRestartInADrain(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.join("n1", "CPU=1", 0), w.join("n2", "CPU=1", 0)
	w.settle()
	g := w.ask(a, 1, 2, "CPU=1", func(q *fb.GroupCreateT) { q.MaxRestarts = 9 }).id
	w.endRank(a, a.rank(g, 1, 0), 7, 0, false, "")
	w.settle()
	rec := &fb.RecDrainT{Deadline: w.now + 60*second, Reason: "preempted", Wall: w.now}
	if err := w.shadow.apply(rec); err != nil {
		t.Fatal(err)
	}
	w.recs = append(w.recs, rec)
	w.restartHead(a, b)
	w.settle()
	for _, k := range slices.Clone(b.stopping) {
		w.endRank(b, k, 0, 15, true, "")
	}
	w.settle()
	if end := a.ends[g]; end == nil || end.Code != 7 || end.Cause != causeRank || w.core.state.byID[g].incarnation != 1 {
		t.Errorf("it ended with %+v in incarnation %d", end, w.core.state.byID[g].incarnation)
	}
}

var heldBy = regexp.MustCompile(`held by (?:gang )?([^|\n]*)`)
var taskID = regexp.MustCompile(`\d+\.\d+\.\d+`)

// What explain says a gang waits for is what it waits for: holders that it names end, nodes that it
// names come, and the gang starts.
func TestExplainIsTrue(t *testing.T) {
	t.Run("holders", func(t *testing.T) {
		w := newWorld(t, Config{})
		a := w.join("n1", "CPU=4", 2)
		w.join("n2", "CPU=4,lic=1", 0)
		w.join("n3", "CPU=4", 0)
		w.settle()
		w.ask(a, 1, 1, "GPU=1.0,CPU=1", nil)
		w.ask(a, 2, 3, "CPU=2", func(q *fb.GroupCreateT) { q.Strategy = fb.StrategySpread })
		w.ask(a, 3, 1, "lic=1", nil)
		w.ask(a, 4, 1, "GPU=0.5", nil)
		n := uint64(10)
		for _, c := range []struct {
			bundles  int
			each     string
			strategy fb.Strategy
		}{
			{3, "CPU=4", fb.StrategyStrictSpread},
			{1, "GPU=2", fb.StrategyPack},
			{1, "lic=1", fb.StrategyPack},
			{1, "CPU=4,lic=1", fb.StrategyPack},
			{4, "CPU=3", fb.StrategyPack},
			{3, "CPU=3", fb.StrategySpread},
		} {
			n++
			g := w.ask(a, n, c.bundles, c.each, func(q *fb.GroupCreateT) { q.Strategy = c.strategy })
			if g.phase == fb.GroupPhaseEnded {
				if c.bundles != 4 {
					t.Errorf("%d x %s: %s", c.bundles, c.each, g.end.Reason)
				}
				continue // 4 x 3 of 12 in 3 nodes of 4: rightly infeasible
			}
			for round := 0; g.phase == fb.GroupPhasePending; round++ {
				text := w.core.explainGroup(g)
				named := taskID.FindAllString(strings.Join(heldBy.FindAllString(text, -1), " "), -1)
				if len(named) == 0 || round > 5 {
					t.Fatalf("%d x %s waits, and nobody is said to hold anything:\n%s", c.bundles, c.each, text)
				}
				for _, who := range named {
					h, err := id.ParseTask(who)
					if err != nil {
						t.Fatal(err)
					}
					w.step(FromAgent{Agent: id.Agent(a.number), Msg: &fb.GroupCancelT{Group: wireTask(h), Mode: fb.CancelModeStop}})
				}
				w.settle()
			}
			if g.phase != fb.GroupPhaseRunning {
				t.Errorf("%d x %s: the holders are gone, and it is %v", c.bundles, c.each, g.phase)
			}
		}
	})
	t.Run("missing nodes", func(t *testing.T) {
		w := newWorld(t, Config{Expect: []string{"n1", "n2", "n3"}})
		a := w.join("n2", "CPU=4", 0)
		w.settle()
		g := w.ask(a, 1, 3, "CPU=4", nil)
		if text := w.core.explainGroup(g); !strings.Contains(text, "1 of 3 nodes joined, missing n[1,3]") {
			t.Fatalf("it says: %s", text)
		}
		w.join("n1", "CPU=4", 0)
		w.settle()
		if text := w.core.explainGroup(g); g.phase != fb.GroupPhasePending || !strings.Contains(text, "2 of 3 nodes joined, missing n3") {
			t.Fatalf("it says: %s", text)
		}
		w.join("n3", "CPU=4", 0)
		w.settle()
		if g.phase != fb.GroupPhaseRunning {
			t.Errorf("all joined: %s", w.core.explainGroup(g))
		}
	})
	t.Run("paused node", func(t *testing.T) {
		w := newWorld(t, Config{})
		a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
		w.settle()
		w.step(LinkDown{id.Agent(b.number), "EOF"})
		g := w.ask(a, 1, 2, "CPU=4", nil)
		if text := w.core.explainGroup(g); !strings.Contains(text, "n2: paused: its connection to the head broke") {
			t.Fatalf("it says: %s", text)
		}
		w.dial(b, true)
		w.settle()
		if g.phase != fb.GroupPhaseRunning {
			t.Errorf("n2 is back: %s", w.core.explainGroup(g))
		}
	})
	t.Run("ranks that don't start or end", func(t *testing.T) {
		w := newWorld(t, Config{})
		a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
		w.settle()
		b.manual = true
		g := w.ask(a, 1, 2, "CPU=4", nil)
		if text := w.core.explainGroup(g); !strings.Contains(text, "waiting for n2 to set its share aside") {
			t.Errorf("reserving: %s", text)
		}
		held := &fb.BundleReservedT{Group: wireTask(g.id), Incarnation: 1}
		b.outbox = append(b.outbox, held)
		w.settle()
		if text := w.core.explainGroup(g); !strings.Contains(text, "1 of 2 ranks run, waiting for rank 1 on n2") {
			t.Errorf("starting: %s", text)
		}
		w.step(FromAgent{Agent: id.Agent(a.number), Msg: &fb.GroupCancelT{Group: wireTask(g.id), Reason: "enough"}})
		w.endRank(a, a.ranks[0], 0, 15, true, "")
		w.settle()
		if text := w.core.explainGroup(g); !strings.Contains(text, "ending since 0s (enough), waiting for rank 1 on n2; KILL in 30s") {
			t.Errorf("stopping: %s", text)
		}
	})
}

// Of ended groups the last 1000 are remembered, in the journal too.
func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.join("n1", "CPU=4", 0)
	w.settle()
	last := uint64(maxEnded + 20)
	q := func(n uint64) *fb.GroupCreateT {
		return &fb.GroupCreateT{Group: wireTask(task(n)), OwnerAgent: a.number, Program: &fb.ProgramT{Argv: []string{"x"}, Env: []string{strings.Repeat("x", 1000)}},
			Bundles: []*fb.BundleT{{Resources: []*fb.ResourceT{{Name: "CPU", Amount: 990_000}}, Ranks: 1}}}
	}
	for n := uint64(1); n <= last; n++ { // infeasible: over at once
		out := w.core.Step(w.now, FromAgent{Agent: id.Agent(a.number), Msg: q(n)}, nil)
		for _, e := range out {
			if rec, ok := e.(Append); ok {
				if err := w.shadow.apply(rec.Rec); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if n := len(w.core.state.ended); n != maxEnded {
		t.Errorf("%d ended groups are kept", n)
	}
	if n := len(w.core.state.byID); n != maxEnded {
		t.Errorf("%d groups are known", n)
	}
	if live, replayed := dump(&w.core.state), dump(&w.shadow); live != replayed {
		t.Errorf("HEAD-6: %s", diff(live, replayed))
	}
	if g := w.core.findGroup(task(last).String()); g == nil || len(g.create.Program.Env) != 0 {
		t.Error("the last one is gone, or keeps its environment")
	}
	if g := w.core.findGroup(task(20).String()); g != nil {
		t.Error("the 20th is still there")
	}
}

func TestFoldRanks(t *testing.T) {
	for _, c := range []struct {
		in   []uint32
		want string
	}{
		{[]uint32{3}, "rank 3"}, {[]uint32{0, 1}, "ranks 0-1"}, {[]uint32{0, 2}, "ranks 0,2"}, {[]uint32{0, 1, 2, 7, 9, 10}, "ranks 0-2,7,9-10"},
	} {
		if got := foldRanks(c.in); got != c.want {
			t.Errorf("%v: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestTimersFireInOrder(t *testing.T) {
	var h timers
	for i, at := range []int64{5, 3, 9, 3, 1, 5} {
		h.add(at, timerIdle, uint64(i))
	}
	var got []string
	for h.next() != 0 {
		e := h.pop()
		got = append(got, fmt.Sprintf("%d:%d", e.at, e.key))
	}
	if want := "1:4 3:1 3:3 5:0 5:5 9:2"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// A number that has not registered, or speaks nonsense, changes nothing and breaks nothing.
func TestUnregisteredAndNonsense(t *testing.T) {
	w := newWorld(t, Config{})
	a := w.join("n1", "CPU=4", 0)
	w.settle()
	g := w.ask(a, 1, 1, "CPU=1", nil)
	w.step(Admit{0, &fb.HelloT{WireVersion: 1, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: "late"}})
	w.step(LinkUp{2, false})
	before := dump(&w.core.state)
	group := wireTask(g.id)
	for _, from := range []id.Agent{2, 77} {
		for _, m := range []Message{
			&fb.GroupWatchT{Group: group, Owner: true}, &fb.GroupCreateT{Group: wireTask(task(9))}, &fb.BundleReservedT{Group: group, Incarnation: 1, Error: "x"},
			&fb.RankStateT{Group: group, Incarnation: 1, Phase: fb.RankPhaseEnded, Code: 1}, &fb.StateQueryT{What: "nodes"}, &fb.PeerQueryT{Agent: 1}, &fb.GroupCancelT{Group: group},
		} {
			w.step(FromAgent{Agent: from, Msg: m})
		}
	}
	for _, m := range []Message{ // from a member: absent and foreign fields
		&fb.GroupWatchT{}, &fb.GroupCreateT{}, &fb.BundleReservedT{}, &fb.RankStateT{}, &fb.RankStateT{Group: group, Incarnation: 1, Rank: 1 << 31},
		&fb.RankStateT{Group: group, Incarnation: 7, Rank: 0, Phase: fb.RankPhaseEnded}, &fb.StateQueryT{}, &fb.PeerQueryT{}, &fb.GroupCancelT{}, &fb.NoticeT{}, &fb.RankOutputT{},
		&fb.GroupCancelT{Group: group, Mode: fb.CancelModeSignal, Signal: -3}, &fb.RankStopT{},
	} {
		w.step(FromAgent{Agent: id.Agent(a.number), Msg: m})
	}
	if after := dump(&w.core.state); after != before {
		t.Errorf("it changed something: %s", diff(before, after))
	}
	// A registration that makes no sense is a death, not a crash.
	for _, r := range []*fb.RegisterT{
		{}, {Name: "n9", NodeKey: "other"}, {Name: "n9", NodeKey: "late", Resources: []*fb.ResourceT{{Name: "CPU", Amount: -1}}},
		{Name: "n9", NodeKey: "late", Devices: []*fb.DeviceT{{Id: "a"}, {Id: "a"}}},
	} {
		number := id.Agent(w.core.state.nextAgent)
		w.step(Admit{0, &fb.HelloT{WireVersion: 1, Cluster: testCluster, Role: fb.RoleAgent, NodeKey: "late"}})
		w.step(LinkUp{number, false})
		w.step(FromAgent{Agent: number, Msg: r})
		if w.core.state.byAgent[number] != nil {
			t.Errorf("%+v was taken in", r)
		}
	}
}

// A group without programs is there with one message each way; an agent that can't hold its share after all ends it.
func TestABareGroupIsThereAtOnce(t *testing.T) {
	w := newWorld(t, Config{})
	a, b := w.join("n1", "CPU=4", 0), w.join("n2", "CPU=4", 0)
	w.settle()
	b.manual = true
	g := w.ask(a, 1, 2, "CPU=4", func(q *fb.GroupCreateT) {
		q.Program = nil
		for _, bundle := range q.Bundles {
			bundle.Ranks = 0
		}
	})
	if g.phase != fb.GroupPhaseCreated {
		t.Fatalf("it is %s before all agents have heard of it", g.phase)
	}
	b.outbox = append(b.outbox, &fb.BundleReservedT{Group: wireTask(g.id), Incarnation: 1})
	w.settle()
	if g.phase != fb.GroupPhaseCreated {
		t.Errorf("it is %s after they have", g.phase)
	}
	b.outbox = append(b.outbox, &fb.BundleReservedT{Group: wireTask(g.id), Incarnation: 1, Error: "node n2 has no device 3"})
	w.settle()
	if g.phase != fb.GroupPhaseEnded || g.end.Code != codeCannotCreate || !strings.Contains(g.end.Reason, "n2 could not set its share aside: node n2 has no device 3") {
		t.Errorf("it is %s, and says %q", g.phase, g.end.Reason)
	}
}

// One that is placed anew is there when all have answered, which they do after they have let go of what they had before.
func TestABareGroupThatIsPlacedAnew(t *testing.T) {
	w := newWorld(t, Config{})
	a, b, c := w.join("n1", "CPU=1", 0), w.join("n2", "CPU=4", 0), w.join("n3", "CPU=4", 0)
	w.join("n4", "CPU=4", 0)
	w.settle()
	g := w.ask(a, 1, 2, "CPU=4", func(q *fb.GroupCreateT) {
		q.Program, q.MaxRestarts = nil, -1
		for _, bundle := range q.Bundles {
			bundle.Ranks = 0
		}
	})
	if g.phase != fb.GroupPhaseCreated || g.placeAt(id.Agent(b.number)) == nil || g.placeAt(id.Agent(c.number)) == nil {
		t.Fatalf("it is %s", g.phase)
	}
	b.manual = true
	w.step(LinkDown{id.Agent(c.number), "EOF"})
	w.advance(10 * second)
	w.settle()
	if g.incarnation != 2 || g.phase != fb.GroupPhaseReserving {
		t.Fatalf("incarnation %d is %s while n2 has not answered", g.incarnation, g.phase)
	}
	b.outbox = append(b.outbox, &fb.BundleReservedT{Group: wireTask(g.id), Incarnation: 2})
	w.settle()
	if g.phase != fb.GroupPhaseCreated {
		t.Errorf("it is %s when all have answered", g.phase)
	}
}
