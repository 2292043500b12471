package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestReserveStartRunEnd(t *testing.T) {
	w := joined(t, config())
	w.head(reserve(2, false)).want("head BundleReserved 1 port=0 ")
	m := start(2, 7, 1)
	m.Program.BindCpus = true
	w.head(m).want(
		"remember 0 7/1", "keeper ProgramLaunch 0 cpus=[0 1] stdin=true",
		"remember 1 7/1", "keeper ProgramLaunch 1 cpus=[2 3] stdin=false")
	w.keeper(program(0, fb.RankPhaseRunning)).want("read 0.1 32768", "read 0.2 32768", "head RankState 0 Running")
	w.keeper(program(1, fb.RankPhaseRunning))
	w.keeper(end(1, 3)).lacks("head RankState 1 Ended")
	w.do(Output{Key: key(1), Stream: Stderr, Data: []byte("boom\n")})
	w.do(eofs(1)...).has(`head RankState 1 Ended code=3 signal=0 by_us=false tail="boom"`)
}

func TestBindOnlyWhenAsked(t *testing.T) {
	for _, bind := range []bool{true, false} {
		w := joined(t, config())
		m := start(2, 7, 1)
		m.Program.BindCpus = bind
		w.head(reserve(2, false), m)
		got := strings.Contains(strings.Join(w.said, "\n"), "cpus=[0 1]")
		if got != bind {
			t.Errorf("bind_cpus=%v: %v", bind, w.said)
		}
	}
}

// AGENT-1
func TestStartAgainStartsNothing(t *testing.T) {
	w := running(t)
	w.head(start(1, 7, 1)).want("head RankState 0 Running")
	w.keeper(end(0, 0))
	w.do(eofs(0)...)
	w.head(start(1, 7, 1)).want("head RankState 0 Ended code=0 signal=0 by_us=false")
}

// AGENT-2
func TestEndIsToldUntilAcknowledged(t *testing.T) {
	w := running(t)
	w.keeper(end(0, 3))
	w.do(eofs(0)...).has("head RankState 0 Ended code=3 signal=0 by_us=false")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2}).has("head Register previous=0 bundles=1 ranks=1")
	reg := w.effs[0].(ToHead).M.(*fb.RegisterT)
	if r := reg.Ranks[0]; r.Phase != fb.RankPhaseEnded || r.Code != 3 {
		t.Fatalf("registered as %+v", r)
	}
	w.head(stateAck(0))
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 3}).has("head Register previous=0 bundles=1 ranks=0")
}

// AGENT-5
func TestEndWaitsForOutputButNotForEver(t *testing.T) {
	w := running(t)
	w.keeper(end(0, 1)).lacks("head RankState")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2})
	if r := w.effs[0].(ToHead).M.(*fb.RegisterT).Ranks[0]; r.Phase != fb.RankPhaseRunning {
		t.Fatalf("an end that is not due was registered: %+v", r)
	}
	w.pass(199 * msec).lacks("head RankState")
	w.pass(2 * msec).has("head RankState 0 Ended code=1 signal=0 by_us=false")
	// A grandchild holds the pipe and speaks on: it is still heard.
	w.do(out("late")).has(`client 1 RankOutput 0.1 @0 "late"`)
}

func TestStopSignalsAndKillsAfterGrace(t *testing.T) {
	for _, tc := range []struct {
		name   string
		signal int32
		grace  int64
		first  string
		kill   int64 // 0: none
		byUs   bool
	}{
		{"grace of the stop", 15, 2 * sec, "keeper ProgramSignal 0 signal=15 tree=false", 2 * sec, true},
		{"grace of the program", 15, 0, "keeper ProgramSignal 0 signal=15 tree=false", 3 * sec, true},
		{"kill", 9, 0, "keeper ProgramSignal 0 signal=9 tree=true", 0, true},
		{"only a signal", 10, -1, "keeper ProgramSignal 0 signal=10 tree=false", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := running(t)
			w.head(&fb.RankStopT{Group: taskT(group), Incarnation: 1, Signal: tc.signal, Grace: tc.grace}).want(tc.first)
			if tc.kill > 0 {
				w.pass(tc.kill - msec).want()
				w.pass(msec).want("keeper ProgramSignal 0 signal=9 tree=true")
			} else {
				w.pass(60 * sec).lacks("keeper")
			}
			w.keeper(end(0, 0))
			w.do(eofs(0)...)
			if got := slices.Contains(w.said, "head RankState 0 Ended code=0 signal=0 by_us=true"); got != tc.byUs {
				t.Errorf("by us: %v\n%v", got, w.said)
			}
		})
	}
}

func TestStopOfAnotherIncarnationIsNothing(t *testing.T) {
	w := running(t)
	w.head(&fb.RankStopT{Group: taskT(group), Incarnation: 2, Signal: 9}).want()
}

func TestCouldNotBeStarted(t *testing.T) {
	for text, code := range map[string]string{
		"exec p: no such file or directory": "127", "p: executable file not found in $PATH": "127",
		"exec p: permission denied": "126", "exec format error": "126",
	} {
		w := running(t)
		p := program(1, fb.RankPhaseEnded)
		p.Error = text
		w.keeper(p).has("head RankState 1 Ended code=" + code + " signal=0 by_us=false error=" + text)
	}
}

func TestStartWithoutBundleFails(t *testing.T) {
	w := joined(t, config())
	w.head(start(1, 7, 1)).has("head RankState 0 Ended code=70 signal=0 by_us=false error=no bundle is reserved for it on node n1").
		lacks("keeper ProgramLaunch")
}

func TestPortIsHeldAndReleased(t *testing.T) {
	w := joined(t, config())
	w.head(reserve(1, true)).want("keeper PortHold free=false")
	w.head(reserve(1, true)).want() // asked already
	w.keeper(&fb.PortHeldT{Group: taskT(group), Incarnation: 1, Port: 20001}).want("head BundleReserved 1 port=20001 ")
	w.head(reserve(1, true)).want("head BundleReserved 1 port=20001 ")
	w.head(&fb.BundleReleaseT{Group: taskT(group), Incarnation: 1}).want("keeper PortRelease")
	if len(w.c.gangs.order) != 0 {
		t.Error("a gang is left")
	}
}

func TestPortRefusedIsABundleRefused(t *testing.T) {
	w := joined(t, config())
	w.head(reserve(1, true))
	w.keeper(&fb.PortHeldT{Group: taskT(group), Incarnation: 1, Error: "none is free"}).want("head BundleReserved 1 port=0 none is free")
	if len(w.c.gangs.order) != 0 {
		t.Error("a gang is left")
	}
	// One that comes after the bundle was given back is given back too.
	w.head(reserve(1, true), &fb.BundleReleaseT{Group: taskT(group), Incarnation: 1})
	w.keeper(&fb.PortHeldT{Group: taskT(group), Incarnation: 1, Port: 20001}).want("keeper PortRelease")
}

func TestReserveRefusesWhatTheNodeDoesNotHave(t *testing.T) {
	w := joined(t, config())
	m := reserve(1, false)
	m.Bundles[0].Devices = []string{"GPU-z"}
	w.head(m).want("head BundleReserved 1 port=0 node n1 has no device GPU-z")
	m = reserve(1, false)
	m.Bundles[0].Cpus = []uint32{9}
	w.head(m).want("head BundleReserved 1 port=0 node n1 may not use CPU 9")
}

// What the head counts on already is not answered, and of what never had a port the keeper hears nothing.
func TestQuietReserve(t *testing.T) {
	w := joined(t, config())
	m := reserve(0, false)
	m.Quiet = true
	w.head(m).want()
	if len(w.c.bundlesOf(group, 1)) != 1 {
		t.Error("it was not reserved")
	}
	w.head(&fb.BundleReleaseT{Group: taskT(group), Incarnation: 1}).want()
	if len(w.c.gangs.order) != 0 {
		t.Error("a gang is left")
	}
	m.Bundles[0].Devices = []string{"GPU-z"}
	w.head(m).want("head BundleReserved 1 port=0 node n1 has no device GPU-z")
}

// What is released has nothing left: process, descriptor, memory.
func TestReleaseEndsAndForgets(t *testing.T) {
	w := running(t)
	w.do(out("x"))
	w.head(&fb.BundleReleaseT{Group: taskT(group), Incarnation: 1}).
		want("keeper PortRelease", "keeper ProgramSignal 0 signal=9 tree=true")
	w.keeper(&fb.ProgramStateT{Group: taskT(group), Incarnation: 1, Phase: fb.RankPhaseEnded, Signal: 9, Pid: 100})
	w.pass(150*msec).has("stop 0.1", "client 1 RankOutput 0.1 @1 eof", "stop 0.2")
	w.has("head RankState 0 Ended code=0 signal=9 by_us=true tail=\"x\"")
	w.do(FromClient{Process: 1, M: outAck(0, 1, 2)}).lacks("forget")
	w.do(FromClient{Process: 1, M: outAck(0, 2, 1)}).has("keeper ProgramForget 0", "forget 0")
	if len(w.c.gangs.order)+len(w.c.gangs.ranks) != 0 {
		t.Error("something is left")
	}
}

func TestReleasedOutputThatNobodyTakesIsGivenUp(t *testing.T) {
	w := running(t)
	w.do(out("x"))
	w.keeper(end(0, 0))
	w.do(eofs(0)...)
	w.head(stateAck(0)).lacks("forget")
	w.head(&fb.BundleReleaseT{Group: taskT(group), Incarnation: 1}).lacks("forget")
	w.pass(11 * sec).has("forget 0")
}

func TestTail(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, strings.Repeat("l", i+1))
	}
	for _, tc := range []struct {
		name, out, err, want string
	}{
		{"stderr first", "o\n", "a\nb\n", "a\nb"},
		{"stdout if stderr is silent", "o\n", "\n", "o"},
		{"twenty lines", "", strings.Join(many, "\n") + "\n", strings.Join(many[10:], "\n")},
		{"four KiB", "", strings.Repeat("x", 10000), strings.Repeat("x", 4096)},
		{"no text", "", "\xff\xfe\n", "?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := running(t)
			for _, o := range []Output{{key(0), Stdout, []byte(tc.out)}, {key(0), Stderr, []byte(tc.err)}} {
				for len(o.Data) > 0 { // in small reads
					n := min(700, len(o.Data))
					w.do(Output{o.Key, o.Stream, o.Data[:n]})
					o.Data = o.Data[n:]
				}
			}
			w.keeper(end(0, 1))
			w.do(eofs(0)...)
			for _, e := range w.effs {
				if h, ok := e.(ToHead); ok {
					if got := h.M.(*fb.RankStateT).Tail; got != tc.want {
						t.Errorf("tail %q, want %q", got, tc.want)
					}
					return
				}
			}
			t.Error("no end was told")
		})
	}
}

func TestAdoption(t *testing.T) {
	cfg := config()
	cfg.Previous = 6
	ended := end(1, 4)
	cfg.Programs = []*fb.ProgramStateT{program(0, fb.RankPhaseRunning), ended}
	w := newWorld(t, cfg)
	w.do(Restored{Key: key(0), Stream: Stdout, Offset: OffsetBase(1) + 10, Data: []byte("kept"), Tail: []byte("before"), Known: true,
		Sink: Remember{Agent: 9, Process: 4, World: 2}})
	w.do(Restored{Key: key(0), Stream: Stderr, Offset: OffsetBase(1)})
	w.keeper(program(0, fb.RankPhaseRunning), ended).want("read 0.1 32768", "read 0.2 32768", "read 1.1 32768", "read 1.2 32768")
	w.do(HeadUp{Agent: 7, Term: 1}).has("head Register previous=6 bundles=0 ranks=2")
	for _, r := range w.effs[0].(ToHead).M.(*fb.RegisterT).Ranks {
		if r.Phase != fb.RankPhaseRunning || r.Pid != 100+r.Rank {
			t.Errorf("registered %+v", r)
		}
	}
	w.head(&fb.RegisteredT{}).has("head PeerQuery 9")
	w.do(eofs(1)...).has("head RankState 1 Ended code=4 signal=0 by_us=false")
	w.do(FromHead{M: &fb.PeerInfoT{Agent: 9, Name: "n9", Addresses: []string{"a"}}}).
		want("dial 9 [a]", `peer 9 RankOutput 0.1 @10 "kept"`, "peer 9 RankOutput 1.1 @0 eof", "peer 9 RankOutput 1.2 @0 eof")
	// The bundles come again from the head; nothing is launched.
	w.head(reserve(2, false), start(2, 9, 4)).lacks("keeper ProgramLaunch")
}

// A client of the agent before this one has another number now: until it claims its gang, output waits.
func TestAdoptedOutputOfALocalClientWaitsForItsClaim(t *testing.T) {
	cfg := config()
	cfg.Previous = 6
	cfg.Programs = []*fb.ProgramStateT{program(0, fb.RankPhaseRunning)}
	w := newWorld(t, cfg)
	w.do(Restored{Key: key(0), Stream: Stdout, Offset: OffsetBase(1) + 4, Data: []byte("kept"), Known: true, Sink: Remember{Agent: 6, Process: 1, World: 1}})
	w.keeper(program(0, fb.RankPhaseRunning))
	w.do(HeadUp{Agent: 7})
	w.head(&fb.RegisteredT{})
	w.do(out("more")).lacks("client").lacks("peer")
	w.do(FromClient{Process: 1, M: &fb.AttachT{}})
	w.do(FromClient{Process: 1, M: &fb.GroupWatchT{Group: taskT(group), Owner: true}}).want("head GroupWatch owner=true 7/1")
	w.head(&fb.RankSinkT{Group: taskT(group), SinkAgent: 7, SinkProcess: 1, Received: []*fb.OutputMarkT{{Rank: 0, Stream: 1, Offset: OffsetBase(1) + 6}}}).
		want("acked 0.1 6", "remember 0 7/1", `client 1 RankOutput 0.1 @6 "pt"`, `client 1 RankOutput 0.1 @8 "more"`)
}

// Without a spool the place in the stream is lost with the agent: what follows is new to the sink all
// the same, and not taken for a repetition.
func TestAdoptionWithoutASpool(t *testing.T) {
	cfg := config()
	cfg.Previous, cfg.Restarts = 6, 2
	cfg.Programs = []*fb.ProgramStateT{program(0, fb.RankPhaseRunning)}
	w := newWorld(t, cfg)
	w.keeper(program(0, fb.RankPhaseRunning))
	w.do(HeadUp{Agent: 7})
	w.head(&fb.RegisteredT{}, &fb.RankSinkT{Group: taskT(group), SinkAgent: 7, SinkProcess: 1, Received: []*fb.OutputMarkT{{Stream: Stdout, Offset: OffsetBase(1) + 1000}}})
	w.do(out("new")).has(fmt.Sprintf("client 1 RankOutput 0.1 @%d \"new\"", 2<<gapBits))
}
