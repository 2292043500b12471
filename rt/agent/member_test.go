package agent

import (
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestJoin(t *testing.T) {
	cfg := config()
	cfg.Previous = 3
	w := newWorld(t, cfg)
	w.do(HeadUp{Agent: 7, Term: 1}).want("head Register previous=3 bundles=0 ranks=0")
	// The head may die before it took us in: previous is told again, and never after.
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2}).want("head Register previous=3 bundles=0 ranks=0")
	w.head(&fb.RegisteredT{Term: 2}).has("keeper KeeperReady")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 3}).want("head Register previous=0 bundles=0 ranks=0")
}

func TestRegisterTellsWhatIsHeld(t *testing.T) {
	w := running(t)
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2}).has("head Register previous=0 bundles=1 ranks=1")
	r := w.effs[0].(ToHead).M.(*fb.RegisterT)
	if b := r.Bundles[0]; taskOf(b.Group) != group || len(b.Bundles) != 1 || b.Bundles[0].Devices[0] != "GPU-a" {
		t.Errorf("registered %+v", b)
	}
	if k := r.Ranks[0]; k.Phase != fb.RankPhaseRunning || k.Pid != 100 {
		t.Errorf("registered %+v", k)
	}
}

func TestWhatIsSaidBeforeTheFirstSessionIsInTheRegistration(t *testing.T) {
	cfg := config()
	cfg.Programs = []*fb.ProgramStateT{program(0, fb.RankPhaseRunning)}
	w := newWorld(t, cfg)
	w.keeper(program(0, fb.RankPhaseRunning)).lacks("head")
	w.do(HeadUp{Agent: 7}).want("head Register previous=0 bundles=0 ranks=1")
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, config())
	w.do(HeadRefused{Code: fb.RefuseCodeDead, Text: "t"}).want("exit 3")
	w = newWorld(t, config())
	w.do(HeadRefused{Code: fb.RefuseCodeCluster, Text: "t"}).want("keeper KeeperStop 77 the head refused node n1 (Cluster): t", "exit 0")
}

// AGENT-8
func TestKeeperGone(t *testing.T) {
	w := running(t)
	w.do(KeeperGone{}).want("client 1 NodeLeaving", "agent.CloseClient{Process:1 Reason:its keeper was killed}", "head NodeLeaving", "agent.Leave{Reason:its keeper was killed}", "agent.Sweep{}", "exit 4")
	w.do(KeeperGone{}).want()
	w = newWorld(t, config())
	w.do(KeeperGone{}).want("agent.Sweep{}", "exit 4")
}

func TestDrainNow(t *testing.T) {
	w := running(t)
	w.head(&fb.DrainT{Reason: "down", Now: true, ExitCode: 5}).
		want("keeper ProgramSignal 0 signal=9 tree=true", "client 1 Drain", "client 1 Shutdown")
	w.keeper(&fb.ProgramStateT{Group: taskT(group), Incarnation: 1, Phase: fb.RankPhaseEnded, Signal: 9}).lacks("exit")
	w.do(ClientGone{Process: 1}).has("agent.Leave{Reason:down}", "keeper KeeperStop 5 down", "exit 0")
	if at := slices.Index(w.said, "keeper KeeperStop 5 down"); at < slices.Index(w.said, "agent.Leave{Reason:down}") {
		t.Error("the keeper was stopped before the head was told")
	}
	w.pass(5 * sec).want()
}

func TestDrainNowWaitsASecondAtMost(t *testing.T) {
	w := running(t)
	w.head(&fb.DrainT{Reason: "down", Now: true})
	w.pass(999 * msec).lacks("exit")
	w.pass(msec).has("exit 0")
}

func TestDrainToComeIsPassedOn(t *testing.T) {
	w := running(t)
	w.head(&fb.DrainT{Reason: "walltime", Deadline: w.now + 60*sec}).want("client 1 Drain")
	w.do(FromClient{Process: 1, M: &fb.DrainT{Reason: "mine"}}).want("head Drain")
	w.head(&fb.DrainT{Reason: "x", Now: true})
	w.do(attach(9)).has("client 9 Shutdown")
}

func TestKeepersDrain(t *testing.T) {
	w := joined(t, config())
	w.keeper(&fb.DrainT{Reason: "TERM", Now: true}).want("head Drain")
	w.head(&fb.DrainT{Reason: "TERM", Now: true}).has("exit 0")
	// Without a head nobody answers; with one that takes it up later, it is told.
	w = newWorld(t, config())
	w.keeper(&fb.DrainT{Reason: "TERM", Deadline: w.now + 5*sec}).want()
	w.do(HeadUp{Agent: 7})
	w.head(&fb.RegisteredT{}).has("head Drain")
	w.pass(6 * sec).lacks("exit")
	w.pass(2*sec).has("keeper KeeperStop 0 TERM", "exit 0")
	w = newWorld(t, config())
	w.keeper(&fb.DrainT{Reason: "TERM", Now: true})
	w.pass(2 * sec).has("exit 0")
}

func TestNothingStartsOnALeavingNode(t *testing.T) {
	w := running(t)
	w.head(&fb.DrainT{Reason: "x", Now: true})
	m := start(2, 7, 1)
	m.Ranks = m.Ranks[1:]
	w.head(m).has("head RankState 1 Ended code=75 signal=0 by_us=false error=node n1 is being shut down").lacks("keeper ProgramLaunch")
}

// AGENT-7
func TestFencing(t *testing.T) {
	const stop = "keeper KeeperStop 137 node n1 reached no head for 20s"
	killed := &fb.ProgramStateT{Group: taskT(group), Incarnation: 1, Phase: fb.RankPhaseEnded, Signal: 9}
	w := running(t)
	w.do(HeadDown{})
	w.pass(20*sec - msec).lacks("keeper ProgramSignal")
	w.pass(msec).has("keeper ProgramSignal 0 signal=9 tree=true", "client 1 Shutdown").lacks("exit")
	w.keeper(killed)
	w.do(ClientGone{Process: 1}).has(stop, "exit 0")

	// A head that was down for a moment takes nothing with it.
	w = running(t)
	w.do(HeadDown{}, HeadUp{Agent: 7, Resumed: true})
	w.pass(60 * sec).lacks("keeper").lacks("exit")

	// Other agents in reach are no head: with its keeper gone, the cluster would stay for ever.
	w = remote(t)
	w.do(HeadDown{}, PeerUp{Peer: 9})
	w.pass(20 * sec).has("keeper ProgramSignal 0 signal=9 tree=true")
	w.pass(sec).has(stop, "exit 0")

	// Nothing runs: the node ends all the same.
	w = joined(t, config())
	w.do(HeadDown{})
	w.pass(20*sec).has(stop, "exit 0")

	// Nor does an agent stay that was started again meanwhile. One that never had a head waits for it.
	cfg := config()
	cfg.Previous = 3
	w = newWorld(t, cfg)
	w.do(Tick{})
	w.pass(20*sec).has(stop, "exit 0")
	w = newWorld(t, config())
	w.do(Tick{})
	w.pass(60 * sec).lacks("exit")

	cfg = config()
	cfg.HeadLocal = true
	w = joined(t, cfg)
	w.head(reserve(1, false), start(1, 0, 0))
	w.keeper(program(0, fb.RankPhaseRunning))
	w.do(HeadDown{})
	w.pass(60 * sec).lacks("keeper").lacks("exit")
}

func TestDeadAgentsAreRefused(t *testing.T) {
	w := joined(t, config())
	w.head(&fb.AgentDeadT{Agent: 9})
	if !w.c.Dead(9) || w.c.Dead(8) {
		t.Error("who is dead?")
	}
	w.do(PeerUp{Peer: 9})
	if len(w.effs) != 1 || w.effs[0] != (PeerDrop{Peer: 9}) {
		t.Error(w.said)
	}
	w.do(FromPeer{Peer: 9, M: &fb.RankOutputT{Group: taskT(group), Process: 1}}).want()
}

// Nothing that others send may bring the agent down.
func TestNonsense(t *testing.T) {
	w := running(t)
	for _, m := range []Message{
		&fb.RankStartT{}, &fb.RankStartT{Group: taskT(group), Incarnation: 1, Ranks: []*fb.RankPlaceT{{Rank: 9, Bundle: 3}}},
		&fb.RankStopT{}, &fb.RankStateAckT{Ranks: []uint32{1}}, &fb.RankSinkT{}, &fb.GroupUpdateT{}, &fb.StateReplyT{}, &fb.NoticeT{},
		&fb.PeerInfoT{}, &fb.AgentDeadT{}, &fb.BundleReserveT{}, &fb.BundleReleaseT{}, &fb.DrainT{}, &fb.RegisteredT{},
		&fb.RankOutputT{Stream: 9}, &fb.RankOutputAckT{Stream: 0}, &fb.RankOutputAckT{Group: taskT(group), Incarnation: 1, Stream: 3},
		&fb.RankInputT{}, &fb.RankInputAckT{}, &fb.ProgramStateT{}, &fb.PortHeldT{}, &fb.GroupCreateT{}, &fb.GroupWatchT{}, &fb.GroupCancelT{},
		&fb.AgentDeadT{Agent: 7}, &fb.GroupUpdateT{Group: taskT(group), Ranks: []*fb.RankPlaceT{{Rank: 1 << 31}}},
		&fb.AttachT{}, &fb.StateQueryT{}, &fb.HelloT{},
	} {
		w.do(FromHead{M: m}, FromPeer{Peer: 9, M: m}, FromPeer{Peer: 0, M: m}, FromClient{Process: 1, M: m}, FromClient{Process: 3, M: m}, FromKeeper{M: m})
	}
	w.do(Output{Key: key(0), Stream: 7}, Output{Key: key(77), Stream: 1}, OutputEOF{Stream: 9}, InputWritten{}, Restored{Key: key(0), Stream: 1},
		ClientGone{Process: 99}, PeerDead{Peer: 1}, PeerUp{}, HeadDown{}, HeadDown{})
	w.pass(30 * sec)
}

// Each side acts on a deadline by its own clock: the head's is an hour behind here.
func TestDeadlinesAreSaidInTheClockOfWhoeverActs(t *testing.T) {
	w := joined(t, config())
	const hour = 3600 * sec
	w.head(&fb.RegisteredT{Term: 1, Clock: w.now - hour})
	c := w.c
	for _, e := range c.Step(w.now, FromKeeper{M: &fb.DrainT{Reason: "TERM", Deadline: w.now + 5*sec}}, nil) {
		if d, ok := e.(ToHead); ok && d.M.(*fb.DrainT).Deadline != w.now-hour+5*sec {
			t.Errorf("the head is told to drain in %d s by its clock, want 5", (d.M.(*fb.DrainT).Deadline-w.now+hour)/sec)
		}
	}
	w.do(FromClient{Process: 1, M: &fb.AttachT{}})
	told := false
	for _, e := range c.Step(w.now, FromHead{M: &fb.DrainT{Reason: "walltime", Deadline: w.now - hour + 60*sec}}, nil) {
		if d, ok := e.(ToClient); ok {
			told = true
			if got := d.M.(*fb.DrainT).Deadline; got != w.now+60*sec {
				t.Errorf("a client is told a deadline in %d s, want 60", (got-w.now)/sec)
			}
		}
	}
	if !told {
		t.Error("the client was not told of the drain")
	}
}

// A peer may have died while nobody could tell us: it is asked for in each new session.
func TestPeersAreAskedForInANewSession(t *testing.T) {
	w := remote(t)
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2})
	w.head(&fb.RegisteredT{Term: 2}).has("head PeerQuery 9")
	w.head(&fb.PeerInfoT{Agent: 9, Dead: true}).has("agent.PeerDrop{Peer:9}")
}
