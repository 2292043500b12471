package agent

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// AGENT-3
func TestWindowStopsReading(t *testing.T) {
	w := running(t)
	sent := 0
	for {
		max := 0
		w.do(Output{Key: key(0), Stream: Stdout, Data: make([]byte, ReadSize)})
		sent += ReadSize
		for _, e := range w.effs {
			if r, ok := e.(ReadMore); ok {
				max = r.Max
			}
		}
		if max == 0 {
			break
		}
	}
	if sent != Window {
		t.Fatalf("stopped reading after %d bytes", sent)
	}
	w.do(FromClient{Process: 1, M: outAck(0, 1, 1000)}).want("acked 0.1 1000", "read 0.1 1000")
	w.do(FromClient{Process: 1, M: outAck(0, 1, 1000)}).want()        // a read is out already
	w.do(FromClient{Process: 1, M: outAck(0, 1, Window+1000)}).want() // never sent: nonsense
}

// AGENT-4
func TestOutputResumesFromTheMark(t *testing.T) {
	w := running(t)
	w.do(out("abc")).has(`client 1 RankOutput 0.1 @0 "abc"`)
	w.do(out("def"))
	w.do(FromClient{Process: 1, M: outAck(0, 1, 2)}).has("acked 0.1 2")
	w.do(FromClient{Process: 2, M: &fb.AttachT{}})
	w.head(&fb.RankSinkT{Group: taskT(group), SinkAgent: 7, SinkProcess: 2, Received: []*fb.OutputMarkT{
		{Rank: 0, Stream: Stdout, Offset: OffsetBase(1) + 4},
		{Rank: 0, Stream: Stderr, Offset: OffsetBase(9) + 4}, // of another incarnation
		{Rank: 5, Stream: Stdout, Offset: 1}, {Rank: 0, Stream: 7, Offset: 1},
	}}).want("acked 0.1 4", "remember 0 7/2", `client 2 RankOutput 0.1 @4 "ef"`)
	w.do(out("ghi")).has(`client 2 RankOutput 0.1 @6 "ghi"`)
}

func TestEndOfOutputIsSentUntilItIsAcknowledged(t *testing.T) {
	w := running(t)
	w.do(out("abc"))
	w.do(eofs(0)...).has("client 1 RankOutput 0.1 @3 eof", "client 1 RankOutput 0.2 @0 eof")
	w.keeper(end(0, 0)).has("head RankState 0 Ended code=0 signal=0 by_us=false tail=\"abc\"")
	w.head(stateAck(0)).lacks("forget")
	w.do(FromClient{Process: 1, M: outAck(0, 1, 3)}).lacks("forget")
	w.do(FromClient{Process: 1, M: outAck(0, 2, 1)}).lacks("forget")
	// The sink moves: the end of stdout was not confirmed, that of stderr was.
	w.head(&fb.RankSinkT{Group: taskT(group), SinkAgent: 7, SinkProcess: 1, Received: []*fb.OutputMarkT{
		{Rank: 0, Stream: Stdout, Offset: OffsetBase(1) + 3}, {Rank: 0, Stream: Stderr, Offset: OffsetBase(1) + 1},
	}}).has("client 1 RankOutput 0.1 @3 eof").lacks("client 1 RankOutput 0.2")
	w.do(FromClient{Process: 1, M: outAck(0, 1, 4)}).want("keeper ProgramForget 0", "forget 0")
}

func TestOutputOfNobodyIsDropped(t *testing.T) {
	w := joined(t, config())
	w.head(reserve(1, false), start(1, 0, 0))
	w.keeper(program(0, fb.RankPhaseRunning))
	for range 20 {
		w.do(Output{Key: key(0), Stream: Stdout, Data: make([]byte, ReadSize)}).has("read 0.1 32768").lacks("client").lacks("peer")
	}
}

func TestOutputToARemoteSink(t *testing.T) {
	w := remote(t)
	w.do(out("abc")).has(`peer 9 RankOutput 0.1 @0 "abc"`)
	w.do(FromPeer{Peer: 8, M: outAck(0, 1, 3)}).lacks("acked") // not its business
	w.do(FromPeer{Peer: 9, M: outAck(0, 1, 3)}).has("acked 0.1 3")
	w.do(out("def"))
	// A connection that breaks and comes back loses nothing; a session that is over loses all that was not acknowledged.
	w.do(PeerUp{Peer: 9}).want()
	w.do(PeerDead{Peer: 9}).lacks("peer 9")
	w.do(out("ghi")).lacks("peer 9")
	w.pass(sec).has("dial 9 [10.0.0.9:1]", `peer 9 RankOutput 0.1 @3 "def"`, `peer 9 RankOutput 0.1 @6 "ghi"`)
}

func TestOutputToADeadAgentWaitsForAnotherSink(t *testing.T) {
	w := remote(t)
	w.head(&fb.AgentDeadT{Agent: 9, Name: "n9"})
	w.do(PeerDead{Peer: 9})
	w.do(out("abc")).lacks("peer")
	w.pass(5 * sec).lacks("dial 9")
	w.head(&fb.RankSinkT{Group: taskT(group), SinkAgent: 10, SinkProcess: 1, Sink: &fb.PeerInfoT{Agent: 10, Addresses: []string{"b"}}}).
		want("remember 0 10/1", "dial 10 [b]", `peer 10 RankOutput 0.1 @0 "abc"`)
}

// All streams of this agent to one other together never have more than sinkWindow on their way.
func TestManyStreamsToOneSink(t *testing.T) {
	const ranks = 100
	w := joined(t, config())
	m := start(ranks, 9, 4)
	m.World = 1 // so that windows are full ones
	w.head(reserve(ranks, false), m)
	for r := range uint32(ranks) {
		w.keeper(program(r, fb.RankPhaseRunning))
	}
	w.do(PeerUp{Peer: 9})
	sent, data := 0, make([]byte, ReadSize)
	count := func() {
		for _, e := range w.effs {
			if p, ok := e.(ToPeer); ok {
				sent += len(p.Payload)
			}
		}
	}
	for range Window / ReadSize {
		for r := range uint32(ranks) {
			w.do(Output{Key: key(r), Stream: Stdout, Data: data})
			count()
		}
	}
	if sent > sinkWindow+ReadSize || sent < sinkWindow {
		t.Fatalf("%d bytes are on their way", sent)
	}
	acked := map[uint32]uint64{}
	for sent < ranks*Window { // acknowledge what was sent until all is there
		before := sent
		for r := range uint32(ranks) {
			k := w.c.gangs.ranks[key(r)]
			if s := k.streams[0].sent - OffsetBase(1); s > acked[r] {
				acked[r] = s
				w.do(FromPeer{Peer: 9, M: outAck(r, 1, s)})
				count()
			}
		}
		if sent == before {
			t.Fatalf("stuck after %d bytes", sent)
		}
	}
}

func TestNotesComeFirst(t *testing.T) {
	cfg := config()
	cfg.Home, cfg.HomeRO = "/home/u", true
	w := joined(t, cfg)
	m := start(1, 7, 1)
	m.Program.Env, m.Program.Cwd = []string{"HOME=/home/u"}, "/work"
	w.head(reserve(1, false), m)
	w.keeper(program(0, fb.RankPhaseRunning))
	w.do(FromClient{Process: 1, M: &fb.AttachT{}})
	w.do(Output{Key: key(0), Stream: Stderr, Data: []byte("x")})
	at := uint64(0)
	for _, e := range w.effs {
		if c, ok := e.(ToClient); ok {
			at = c.M.(*fb.RankOutputT).Offset - OffsetBase(1)
		}
	}
	if at < 20 {
		t.Errorf("the program's first byte is at %d: where is the note?", at)
	}
}

func TestDropKeepsTheRest(t *testing.T) {
	var s stream
	s.start(100)
	want := []byte("abcdefghij")
	for _, b := range []string{"abc", "d", "efg", "hij"} {
		s.append([]byte(b))
	}
	for _, at := range []uint64{100, 101, 103, 105, 108, 110} {
		s.drop(at)
		if got := bytes.Join(s.segs, nil); !bytes.Equal(got, want[at-100:]) || s.base != at || s.sent < s.base {
			t.Errorf("after %d: %q, base %d, sent %d", at, got, s.base, s.sent)
		}
	}
}

// The output path: read, sent, acknowledged.
func BenchmarkOutput(b *testing.B) {
	for _, size := range []int{100, ReadSize} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c := NewCore(config())
			var out []Effect
			step := func(ev Event) { out = c.Step(1, ev, out[:0]) }
			step(HeadUp{Agent: 7})
			step(FromHead{M: &fb.RegisteredT{}})
			step(FromClient{Process: 1, M: &fb.AttachT{}})
			step(FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}})
			step(FromHead{M: reserve(1, false)})
			step(FromHead{M: start(1, 7, 1)})
			step(FromHead{M: &fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseStarting, Ranks: []*fb.RankPlaceT{{Agent: 7}}}})
			step(FromKeeper{M: program(0, fb.RankPhaseRunning)})
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			ack := outAck(0, 1, 0)
			for b.Loop() {
				step(Output{Key: key(0), Stream: Stdout, Data: data})
				ack.Offset += uint64(size)
				step(FromClient{Process: 1, M: ack})
			}
		})
	}
}
