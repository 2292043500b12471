package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// world is a Core under test and what it said.
type world struct {
	t    *testing.T
	c    *Core
	now  int64
	said []string
	effs []Effect
}

const (
	msec = int64(1e6)
	sec  = int64(1e9)
)

var group = id.Task{Agent: 7, Process: 1, Counter: 1}

func config() Config {
	return Config{
		Name: "n1", NodeKey: "key", Cluster: "c", Socket: "/s", Addresses: []string{"10.0.0.1:1"},
		Devices: []*fb.DeviceT{{Id: "GPU-a", Kind: "nvidia"}, {Id: "GPU-b", Kind: "nvidia"}}, CPUs: []uint32{0, 1, 2, 3}, Bind: true,
	}
}

func newWorld(t *testing.T, cfg Config) *world {
	return &world{t: t, c: NewCore(cfg), now: 1000 * sec}
}

// joined is an agent with number 7 that the head knows.
func joined(t *testing.T, cfg Config) *world {
	w := newWorld(t, cfg)
	w.do(HeadUp{Agent: 7, Term: 1})
	w.head(&fb.RegisteredT{Term: 1})
	return w
}

// do gives the core events and keeps what it says.
func (w *world) do(evs ...Event) *world {
	w.t.Helper()
	w.said, w.effs = nil, nil
	for _, ev := range evs {
		for _, e := range w.c.Step(w.now, ev, nil) {
			w.effs = append(w.effs, e)
			w.said = append(w.said, show(e))
		}
	}
	return w
}

func (w *world) head(ms ...Message) *world {
	w.t.Helper()
	var evs []Event
	for _, m := range ms {
		evs = append(evs, FromHead{M: m})
	}
	return w.do(evs...)
}

func (w *world) keeper(ms ...Message) *world {
	w.t.Helper()
	var evs []Event
	for _, m := range ms {
		evs = append(evs, FromKeeper{M: m})
	}
	return w.do(evs...)
}

// pass lets time go by and ticks at every deadline on the way.
func (w *world) pass(d int64) *world {
	w.t.Helper()
	end := w.now + d
	var said []string
	var effs []Effect
	for {
		due := w.c.NextDeadline()
		if due > end {
			break
		}
		w.now = max(w.now, due)
		before := w.c.NextDeadline()
		w.do(Tick{})
		said, effs = append(said, w.said...), append(effs, w.effs...)
		if w.c.NextDeadline() == before {
			w.t.Fatalf("a Tick at its deadline changes nothing: %d", before)
		}
	}
	w.now = end
	w.said, w.effs = said, effs
	return w
}

// want checks everything that was said.
func (w *world) want(lines ...string) *world {
	w.t.Helper()
	if !slices.Equal(w.said, lines) {
		w.t.Fatalf("said\n  %s\nwant\n  %s", strings.Join(w.said, "\n  "), strings.Join(lines, "\n  "))
	}
	return w
}

// has checks that lines were said among others, in this order; lacks that none begins so.
func (w *world) has(lines ...string) *world {
	w.t.Helper()
	at := 0
	for _, s := range w.said {
		if at < len(lines) && s == lines[at] {
			at++
		}
	}
	if at < len(lines) {
		w.t.Fatalf("did not say %q in\n  %s", lines[at], strings.Join(w.said, "\n  "))
	}
	return w
}

func (w *world) lacks(prefix string) *world {
	w.t.Helper()
	for _, s := range w.said {
		if strings.HasPrefix(s, prefix) {
			w.t.Fatalf("said %q", s)
		}
	}
	return w
}

func key(rank uint32) Key { return Key{group, 1, rank} }

func show(e Effect) string {
	switch e := e.(type) {
	case ToHead:
		return "head " + showM(e.M) + corr(e.Corr)
	case ToPeer:
		return fmt.Sprintf("peer %d %s", e.Peer, showM(e.M)) + bytesOf(e.Payload)
	case ToClient:
		return fmt.Sprintf("client %d %s", e.Process, showM(e.M)) + corr(e.Corr) + bytesOf(e.Payload)
	case ToKeeper:
		return "keeper " + showM(e.M)
	case ReadMore:
		return fmt.Sprintf("read %d.%d %d", e.Key.Rank, e.Stream, e.Max)
	case StopRead:
		return fmt.Sprintf("stop %d.%d", e.Key.Rank, e.Stream)
	case Acked:
		return fmt.Sprintf("acked %d.%d %d", e.Key.Rank, e.Stream, e.Offset-OffsetBase(e.Key.Incarnation))
	case Remember:
		return fmt.Sprintf("remember %d %d/%d", e.Key.Rank, e.Agent, e.Process)
	case WriteInput:
		return fmt.Sprintf("write %d %q", e.Key.Rank, e.Data)
	case CloseInput:
		return fmt.Sprintf("close input %d", e.Key.Rank)
	case Forget:
		return fmt.Sprintf("forget %d", e.Key.Rank)
	case PeerDial:
		return fmt.Sprintf("dial %d %v", e.Peer, e.Addresses)
	case Exit:
		return fmt.Sprintf("exit %d", e.Code)
	}
	return fmt.Sprintf("%T%+v", e, e)
}

func corr(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" #%d", n)
}

func bytesOf(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > 40 {
		return fmt.Sprintf(" %d bytes", len(b))
	}
	return fmt.Sprintf(" %q", b)
}

func showM(m Message) string {
	switch m := m.(type) {
	case *fb.RankStateT:
		s := fmt.Sprintf("RankState %d %s", m.Rank, m.Phase)
		if m.Phase == fb.RankPhaseEnded {
			s += fmt.Sprintf(" code=%d signal=%d by_us=%v", m.Code, m.Signal, m.ByUs)
			if m.Error != "" {
				s += " error=" + m.Error
			}
			if m.Tail != "" {
				s += fmt.Sprintf(" tail=%q", m.Tail)
			}
		}
		return s
	case *fb.RankOutputT:
		s := fmt.Sprintf("RankOutput %d.%d @%d", m.Rank, m.Stream, m.Offset-OffsetBase(m.Incarnation))
		if m.Eof {
			s += " eof"
		}
		return s
	case *fb.RankInputT:
		return fmt.Sprintf("RankInput @%d eof=%v", m.Offset, m.Eof)
	case *fb.RankInputAckT:
		return fmt.Sprintf("RankInputAck @%d", m.Offset)
	case *fb.RankOutputAckT:
		return fmt.Sprintf("RankOutputAck %d.%d @%d", m.Rank, m.Stream, m.Offset-OffsetBase(m.Incarnation))
	case *fb.RegisterT:
		return fmt.Sprintf("Register previous=%d bundles=%d ranks=%d", m.Previous, len(m.Bundles), len(m.Ranks))
	case *fb.BundleReservedT:
		return fmt.Sprintf("BundleReserved %d port=%d %s", len(m.Bundles), m.MasterPort, m.Error)
	case *fb.ProgramLaunchT:
		return fmt.Sprintf("ProgramLaunch %d cpus=%v stdin=%v", m.Rank, m.Cpus, m.Stdin)
	case *fb.ProgramSignalT:
		return fmt.Sprintf("ProgramSignal %d signal=%d tree=%v", m.Rank, m.Signal, m.Tree)
	case *fb.ProgramForgetT:
		return fmt.Sprintf("ProgramForget %d", m.Rank)
	case *fb.GroupUpdateT:
		return fmt.Sprintf("GroupUpdate %s", m.Phase)
	case *fb.GroupCancelT:
		return fmt.Sprintf("GroupCancel %s %s", m.Mode, m.Reason)
	case *fb.GroupCreateT:
		return fmt.Sprintf("GroupCreate owner=%d/%d", m.OwnerAgent, m.OwnerProcess)
	case *fb.GroupWatchT:
		return fmt.Sprintf("GroupWatch owner=%v %d/%d", m.Owner, m.OwnerAgent, m.OwnerProcess)
	case *fb.PortHoldT:
		return fmt.Sprintf("PortHold free=%v", m.Free)
	case *fb.PeerQueryT:
		return fmt.Sprintf("PeerQuery %d", m.Agent)
	case *fb.KeeperStopT:
		return fmt.Sprintf("KeeperStop %d %s", m.Code, m.Reason)
	case *fb.StateQueryT:
		return "StateQuery " + m.What
	case *fb.NameClaimT:
		return fmt.Sprintf("NameClaim %s of %v", m.Name, taskOf(m.Actor))
	case *fb.NameFreeT:
		return fmt.Sprintf("NameFree of %v", taskOf(m.Actor))
	case *fb.NameClaimedT:
		return fmt.Sprintf("NameClaimed of %v by %v", taskOf(m.Actor), taskOf(m.Holder))
	case *fb.AttachedT:
		return fmt.Sprintf("Attached %d/%d", m.Agent, m.Process)
	}
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", m), "*fb."), "T")
}

// The messages that most scripts begin with.

func reserve(ranks uint32, port bool) *fb.BundleReserveT {
	return &fb.BundleReserveT{Group: taskT(group), Incarnation: 1, HoldPort: port, Bundles: []*fb.BundlePlaceT{{
		Ranks: ranks, Cpus: []uint32{0, 1, 2, 3}, Devices: []string{"GPU-a"},
		Resources: []*fb.ResourceT{{Name: "CPU", Amount: 40000}},
	}}}
}

func start(ranks uint32, sinkAgent, sinkProcess uint32) *fb.RankStartT {
	m := &fb.RankStartT{
		Group: taskT(group), Incarnation: 1, World: ranks, LocalWorld: ranks, Nodes: 1, SinkAgent: sinkAgent, SinkProcess: sinkProcess,
		Program: &fb.ProgramT{Argv: []string{"p"}, Stdin: fb.StdinToRankZero, Grace: 3 * sec},
		Sink:    &fb.PeerInfoT{Agent: sinkAgent, Name: "n9", Addresses: []string{"10.0.0.9:1"}},
	}
	for r := range ranks {
		m.Ranks = append(m.Ranks, &fb.RankPlaceT{Rank: r, Agent: 7, LocalRank: r})
	}
	return m
}

func program(rank uint32, phase fb.RankPhase) *fb.ProgramStateT {
	return &fb.ProgramStateT{Group: taskT(group), Incarnation: 1, Rank: rank, Phase: phase, Pid: 100 + rank, Started: 5, Stdin: rank == 0}
}

func stateAck(ranks ...uint32) *fb.RankStateAckT {
	return &fb.RankStateAckT{Group: taskT(group), Incarnation: 1, Ranks: ranks}
}

func outAck(rank uint32, stream uint8, offset uint64) *fb.RankOutputAckT {
	return &fb.RankOutputAckT{Group: taskT(group), Incarnation: 1, Rank: rank, Stream: stream, Offset: OffsetBase(1) + offset}
}

// running has one rank that runs, with its output going to client 1 of this agent.
func running(t *testing.T) *world {
	w := joined(t, config())
	w.do(FromClient{Process: 1, M: &fb.AttachT{Name: "run"}})
	w.do(FromClient{Process: 1, M: &fb.GroupCreateT{Group: taskT(group)}})
	w.head(reserve(1, false), start(1, 7, 1))
	w.head(&fb.GroupUpdateT{Group: taskT(group), Incarnation: 1, Phase: fb.GroupPhaseStarting, Ranks: []*fb.RankPlaceT{{Rank: 0, Agent: 7}}})
	w.keeper(program(0, fb.RankPhaseRunning))
	w.has("read 0.1 32768", "read 0.2 32768", "head RankState 0 Running")
	return w
}

// remote has one rank that runs, with its output going to client 4 of agent 9.
func remote(t *testing.T) *world {
	w := joined(t, config())
	w.head(reserve(1, false), start(1, 9, 4)).has("dial 9 [10.0.0.9:1]")
	w.keeper(program(0, fb.RankPhaseRunning))
	w.do(PeerUp{Peer: 9})
	return w
}

func out(data string) Output { return Output{Key: key(0), Stream: Stdout, Data: []byte(data)} }

func end(rank uint32, code int32) *fb.ProgramStateT {
	p := program(rank, fb.RankPhaseEnded)
	p.Code = code
	return p
}

func eofs(rank uint32) []Event {
	return []Event{OutputEOF{Key: key(rank), Stream: Stdout}, OutputEOF{Key: key(rank), Stream: Stderr}}
}
