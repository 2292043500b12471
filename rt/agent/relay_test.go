package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func update(phase fb.GroupPhase) *fb.GroupUpdateT {
	return &fb.GroupUpdateT{Group: taskT(group), Phase: phase, Incarnation: 1}
}

func create() FromClient {
	return FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}}
}

func attach(process uint32) FromClient {
	return FromClient{Process: process, M: &fb.AttachT{Name: "x"}}
}

func TestAttachWaitsForTheNumber(t *testing.T) {
	w := newWorld(t, config())
	w.do(attach(1)).want()
	// What was written meanwhile, and input, are told to the agent before this one too: the client is no stranger for that.
	w.do(FromClient{Process: 1, M: &fb.RankOutputAckT{Group: taskT(group)}}, FromClient{Process: 1, M: &fb.RankInputT{Group: taskT(group)}}).want()
	if len(w.effs) > 0 {
		t.Errorf("%+v", w.effs)
	}
	w.do(HeadUp{Agent: 7}).lacks("client")
	w.head(&fb.RegisteredT{}).has("keeper KeeperReady", "client 1 Attached 7/1")
	w.do(attach(2)).want("client 2 Attached 7/2")
	w.do(attach(2)).want()
}

func TestAttachComesFirst(t *testing.T) {
	w := joined(t, config())
	w.do(create())
	if len(w.effs) != 1 {
		t.Fatal(w.said)
	}
	if c, ok := w.effs[0].(CloseClient); !ok || c.Process != 1 {
		t.Errorf("%+v", w.effs)
	}
}

// AGENT-6
func TestCreateIsRepeatedUntilAnswered(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1))
	w.do(create()).want("head GroupCreate owner=7/1")
	restart := func(term uint64) {
		w.do(HeadDown{}, HeadUp{Agent: 7, Term: term})
		w.lacks("head GroupCreate")
		w.head(&fb.RegisteredT{Term: term})
	}
	restart(2)
	w.has("head GroupCreate owner=7/1")
	w.head(update(fb.GroupPhasePending)).want("client 1 GroupUpdate Pending")
	restart(3)
	w.has("head GroupWatch owner=false 7/1").lacks("head GroupCreate")
	w.head(update(fb.GroupPhaseEnded)).want("client 1 GroupUpdate Ended")
	restart(4)
	w.lacks("head GroupWatch").lacks("head GroupCreate")
}

func TestResumedSessionRepeatsNothing(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), create())
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 1, Resumed: true}).want()
}

func TestQueriesAreRepeatedAndAnsweredOnce(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), attach(2))
	w.do(FromClient{Process: 1, M: &fb.StateQueryT{What: "nodes"}, Corr: 77}).want("head StateQuery nodes #1")
	w.do(FromClient{Process: 2, M: &fb.StateQueryT{What: "groups"}, Corr: 77}).want("head StateQuery groups #2")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2})
	w.head(&fb.RegisteredT{}).has("head StateQuery nodes #1", "head StateQuery groups #2")
	w.do(FromHead{M: &fb.StateReplyT{}, Corr: 2, Payload: []byte("{}")}).want(`client 2 StateReply #77 "{}"`)
	w.do(FromHead{M: &fb.StateReplyT{}, Corr: 2}).want()
	w.do(ClientGone{Process: 1})
	w.do(FromHead{M: &fb.StateReplyT{}, Corr: 1}).want()
	if len(w.c.relay.queries) != 0 {
		t.Error("a query is left")
	}
}

func TestTooManyQueries(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1))
	for range maxQueries {
		w.do(FromClient{Process: 1, M: &fb.StateQueryT{What: "nodes"}, Corr: 1})
	}
	w.do(FromClient{Process: 1, M: &fb.StateQueryT{What: "nodes"}, Corr: 5}).want("client 1 StateReply #5")
}

func TestClientGoneCancelsItsGroups(t *testing.T) {
	for _, tc := range []struct {
		name     string
		detached bool
		ended    bool
		cancels  bool
	}{{"owned", false, false, true}, {"detached", true, false, false}, {"ended", false, true, false}} {
		t.Run(tc.name, func(t *testing.T) {
			w := joined(t, config())
			w.do(attach(1), FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group), Detached: tc.detached}})
			w.head(update(fb.GroupPhaseRunning))
			if tc.ended {
				w.head(update(fb.GroupPhaseEnded))
			}
			w.do(ClientGone{Process: 1})
			if tc.cancels {
				w.want("head GroupCancel Stop its client ended without a word")
				// Not lost with the head.
				w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2})
				w.head(&fb.RegisteredT{}).has("head GroupCancel Stop its client ended without a word")
			} else {
				w.want()
			}
			if len(w.c.relay.claims) != 0 {
				t.Error("a claim is left")
			}
		})
	}
}

func TestCancelIsRepeatedUntilItWorked(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), create())
	w.head(update(fb.GroupPhaseRunning))
	w.do(FromClient{Process: 1, M: &fb.GroupCancelT{Group: taskT(group), Mode: fb.CancelModeDrain, Reason: "r"}}).want("head GroupCancel Drain r")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 2})
	w.head(&fb.RegisteredT{}).has("head GroupCancel Drain r")
	w.head(update(fb.GroupPhaseStopping))
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 3})
	w.head(&fb.RegisteredT{}).lacks("head GroupCancel")
	// A signal is not repeated: it would come twice.
	w.do(FromClient{Process: 1, M: &fb.GroupCancelT{Group: taskT(group), Mode: fb.CancelModeSignal, Signal: 10}})
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 4})
	w.head(&fb.RegisteredT{}).lacks("head GroupCancel")
	// One that could not be sent is not lost.
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 5})
	w.do(FromClient{Process: 1, M: &fb.GroupCancelT{Group: taskT(group), Mode: fb.CancelModeSignal, Signal: 10}}).want()
	w.head(&fb.RegisteredT{}).has("head GroupCancel Signal ")
	w.do(HeadDown{}, HeadUp{Agent: 7, Term: 6})
	w.head(&fb.RegisteredT{}).lacks("head GroupCancel")
}

func TestWatchers(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), attach(2), create())
	w.do(FromClient{Process: 2, M: &fb.GroupWatchT{Group: taskT(group)}}).want("head GroupWatch owner=false 7/2")
	w.head(update(fb.GroupPhaseRunning)).want("client 1 GroupUpdate Running", "client 2 GroupUpdate Running")
	w.do(ClientGone{Process: 2})
	w.head(update(fb.GroupPhaseStopping)).want("client 1 GroupUpdate Stopping")
}

func TestNotices(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), attach(2), create())
	w.head(&fb.NoticeT{Text: "all"}).want("client 1 Notice", "client 2 Notice")
	w.head(&fb.NoticeT{Text: "one", Group: taskT(group)}).want("client 1 Notice")
	w.head(&fb.NoticeT{Text: "none", Group: taskT(id.Task{Agent: 1, Counter: 9})}).want()
}

func TestEndedGroupsAreForgotten(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1))
	for i := range uint64(3 * endedKept) {
		g := &fb.TaskIDT{Agent: 7, Process: 1, Counter: i + 1}
		w.do(FromClient{Process: 1, M: &fb.GroupCreateT{Group: g}})
		w.head(&fb.GroupUpdateT{Group: g, Phase: fb.GroupPhaseEnded})
	}
	if n := len(w.c.relay.claims); n != endedKept {
		t.Errorf("%d ended groups are kept", n)
	}
}

func TestOutputOfOtherNodesReachesTheClientAndAcksGoBack(t *testing.T) {
	w := joined(t, config())
	w.do(attach(1), create())
	w.head(&fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseRunning, Ranks: []*fb.RankPlaceT{{Agent: 9}},
		Nodes: []*fb.PeerInfoT{{Agent: 9, Name: "n9", Addresses: []string{"a"}}}})
	w.do(PeerUp{Peer: 9})
	o := &fb.RankOutputT{Group: taskT(group), Incarnation: 1, Stream: 1, Offset: OffsetBase(1), Process: 1}
	w.do(FromPeer{Peer: 9, M: o, Payload: []byte("abc")}).want(`client 1 RankOutput 0.1 @0 "abc"`)
	w.do(FromClient{Process: 1, M: outAck(0, 1, 3)}).want("peer 9 RankOutputAck 0.1 @3")
	// To a client that is not here nothing goes, and nothing is acknowledged.
	o.Process = 5
	w.do(FromPeer{Peer: 9, M: o, Payload: []byte("abc")}).want()
	// Another client has no say in it.
	w.do(attach(2))
	w.do(FromClient{Process: 2, M: outAck(0, 1, 3)}).want()
}

// The programs of an agent that died live on under the next one, which may not know where their output
// goes: the head told the one before it.
func TestSuccessorsAreToldTheSink(t *testing.T) {
	place := func(agent uint32) *fb.GroupUpdateT {
		u := update(fb.GroupPhaseRunning)
		u.Ranks = []*fb.RankPlaceT{{Agent: agent}}
		u.Nodes = []*fb.PeerInfoT{{Agent: agent, Name: "n9", Addresses: []string{"a"}}}
		return u
	}
	w := joined(t, config())
	w.do(attach(1), create())
	w.head(place(9)).lacks("peer")
	w.head(&fb.AgentDeadT{Agent: 9, ReplacedBy: 11}).has("head PeerQuery 11", "client 1 GroupUpdate Running")
	w.head(&fb.PeerInfoT{Agent: 11, Name: "n9", Addresses: []string{"b"}}).want("dial 11 [b]", "peer 11 RankSink")
	if m := w.effs[1].(ToPeer).M.(*fb.RankSinkT); m.SinkAgent != 7 || m.SinkProcess != 1 || m.Sink.Addresses[0] != "10.0.0.1:1" {
		t.Errorf("%+v", m)
	}
	// Or it is learned from the group's state, when the head did not know us at the time.
	w.head(place(12)).has("dial 12 [a]", "peer 12 RankSink")

	// The other side of it: only the sink itself may say so.
	w = remote(t)
	w.do(out("abc"))
	sink := &fb.RankSinkT{Group: taskT(group), SinkAgent: 10, SinkProcess: 2}
	w.do(FromPeer{Peer: 8, M: sink}).want()
	w.do(PeerUp{Peer: 10})
	w.do(FromPeer{Peer: 10, M: sink}).want("remember 0 10/2", `peer 10 RankOutput 0.1 @0 "abc"`)
}
