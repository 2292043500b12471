package agent

import (
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func typed(offset uint64, data string, eof bool) FromClient {
	return FromClient{Process: 1, M: &fb.RankInputT{Group: taskT(group), Incarnation: 1, Offset: offset, Eof: eof}, Payload: []byte(data)}
}

func wrote(n int) InputWritten { return InputWritten{Key: key(0), N: n} }

func TestInputInOrderOneAtATime(t *testing.T) {
	w := running(t)
	w.do(typed(0, "abc", false)).want(`write 0 "abc"`)
	w.do(typed(3, "def", false)).want()
	w.do(wrote(3)).want("client 1 RankInputAck @3", `write 0 "def"`)
	w.do(wrote(1)).want("client 1 RankInputAck @4", `write 0 "ef"`)
	w.do(typed(6, "", true)).want()
	w.do(wrote(2)).want("client 1 RankInputAck @6", "close input 0")
	w.do(typed(6, "", true)).want("client 1 RankInputAck @6")
}

func TestInputAgainIsWrittenOnce(t *testing.T) {
	w := running(t)
	w.do(typed(0, "abc", false))
	w.do(wrote(3))
	w.do(typed(0, "abcde", false)).want(`write 0 "de"`)
	w.do(typed(9, "gap", false)).want()
	w.do(wrote(2))
	w.do(typed(0, "ab", false)).want("client 1 RankInputAck @5") // its ack was lost
}

func TestInputThatNobodyReads(t *testing.T) {
	w := running(t)
	w.do(typed(0, "abc", false))
	w.do(InputWritten{Key: key(0), Gone: true}).want("close input 0", "client 1 RankInputAck @3")
	w.do(typed(3, "def", false)).want("client 1 RankInputAck @6")
	w = running(t)
	w.do(typed(0, "abc", false))
	w.keeper(end(0, 0)).has("client 1 RankInputAck @3")
}

func TestInputBeyondTheWindowIsNotTaken(t *testing.T) {
	w := running(t)
	w.do(typed(0, string(make([]byte, inputWindow)), false))
	w.do(typed(inputWindow, "x", false))
	if got := w.c.gangs.ranks[key(0)].input.end; got != inputWindow {
		t.Errorf("took %d bytes", got)
	}
}

func TestInputWaitsForTheProgram(t *testing.T) {
	w := joined(t, config())
	w.do(FromClient{Process: 1, M: &fb.AttachT{}}, FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}})
	w.head(reserve(1, false), start(1, 7, 1))
	w.head(&fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseStarting, Ranks: []*fb.RankPlaceT{{Agent: 7}}})
	w.do(typed(0, "abc", true)).want()
	w.keeper(program(0, fb.RankPhaseRunning)).has(`write 0 "abc"`)
	w.do(wrote(3)).has("close input 0")
}

func TestInputToARemoteProgram(t *testing.T) {
	w := joined(t, config())
	w.do(FromClient{Process: 1, M: &fb.AttachT{}}, FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}})
	w.head(&fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseRunning, Ranks: []*fb.RankPlaceT{{Agent: 9}},
		Nodes: []*fb.PeerInfoT{{Agent: 9, Name: "n9", Addresses: []string{"a"}}}})
	w.do(typed(0, "abc", false)).want("dial 9 [a]", `peer 9 RankInput @0 eof=false "abc"`)
	w.do(FromPeer{Peer: 9, M: &fb.RankInputAckT{Group: taskT(group), Incarnation: 1, Offset: 3}}).want("client 1 RankInputAck @3")
	// Whatever was on the way may be lost: the client is told, and sends it again.
	w.do(PeerDead{Peer: 9}).has("client 1 GroupUpdate Running")
	// The program lives on under another agent.
	w.head(&fb.AgentDeadT{Agent: 9, ReplacedBy: 11}).has("client 1 GroupUpdate Running")
	w.head(&fb.PeerInfoT{Agent: 11, Name: "n9", Addresses: []string{"b"}}).has("dial 11 [b]")
	w.do(typed(3, "def", false)).has(`peer 11 RankInput @3 eof=false "def"`)
}

func TestInputToAllReportsTheSlowest(t *testing.T) {
	w := joined(t, config())
	w.do(FromClient{Process: 1, M: &fb.AttachT{}})
	w.do(FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group), Program: &fb.ProgramT{Stdin: fb.StdinToAll}}})
	w.head(&fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseRunning,
		Ranks: []*fb.RankPlaceT{{Rank: 0, Agent: 8}, {Rank: 1, Agent: 9}, {Rank: 2, Agent: 9}},
		Nodes: []*fb.PeerInfoT{{Agent: 8, Name: "a", Addresses: []string{"a"}}, {Agent: 9, Name: "b", Addresses: []string{"b"}}}})
	w.do(typed(0, "abc", false)).has(`peer 8 RankInput @0 eof=false "abc"`, `peer 9 RankInput @0 eof=false "abc"`)
	ack := func(peer uint32, offset uint64) FromPeer {
		return FromPeer{Peer: peer, M: &fb.RankInputAckT{Group: taskT(group), Incarnation: 1, Offset: offset}}
	}
	w.do(ack(9, 3)).want("client 1 RankInputAck @0")
	w.do(ack(8, 2)).want("client 1 RankInputAck @2")
	w.do(ack(8, 3)).want("client 1 RankInputAck @3")
}

func TestResize(t *testing.T) {
	w := joined(t, config())
	w.do(FromClient{Process: 1, M: &fb.AttachT{}}, FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}})
	m := start(1, 7, 1)
	m.Program.Pty = true
	w.head(reserve(1, false), m, &fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseRunning, Ranks: []*fb.RankPlaceT{{Agent: 7}}})
	p := program(0, fb.RankPhaseRunning)
	p.Pty = true
	w.keeper(p).has("read 0.1 32768", "client 1 RankOutput 0.2 @0 eof").lacks("read 0.2")
	w.do(FromClient{Process: 1, M: &fb.RankInputT{Group: taskT(group), Incarnation: 1, Rows: 40, Cols: 100}}).want("keeper ProgramResize")
}
