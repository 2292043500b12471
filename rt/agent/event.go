package agent

import (
	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Message is any table or struct of the schema (fb.RankStartT and so on), the same as wire.Message.
type Message = interface {
	Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
}

// Key names one run of one rank.
type Key struct {
	Group       id.Task
	Incarnation uint32
	Rank        uint32
}

// The streams of a program.
const (
	Stdout uint8 = 1
	Stderr uint8 = 2
)

// Event is what happens to a Core: one of the types below.
type Event interface{ event() }

// HeadUp: the session with the head stands. Agent is the number in the Welcome: the one assigned at the
// first join, and the same ever after. Resumed: nothing was lost since the last HeadDown.
type HeadUp struct {
	Agent   uint32
	Term    uint64
	Resumed bool
}

// HeadDown: the connection to the head broke; the shell is dialling again.
type HeadDown struct{}

// HeadRefused: the head will not have this agent; dialling again is of no use.
type HeadRefused struct {
	Code fb.RefuseCode
	Text string
}

// FromHead is a message of the head.
type FromHead struct {
	M       Message
	Corr    uint64
	Payload []byte
}

// PeerUp and PeerDead tell about the session with another agent. Dead: it is over or never was; what was
// sent on it may be lost. A connection that breaks is resumed, or the session dies.
type (
	PeerUp   struct{ Peer uint32 }
	PeerDead struct{ Peer uint32 }
)

// FromPeer is a message of another agent.
type FromPeer struct {
	Peer    uint32
	M       Message
	Corr    uint64
	Payload []byte
}

// ToAgent is a message of this agent's desk to another agent's.
type ToAgent struct {
	Peer    uint32
	M       Message
	Payload []byte
}

// FromClient is a message of a client; the shell numbers clients 1, 2, ... and uses no number twice.
// The first one is Attach.
type FromClient struct {
	Process uint32
	M       Message
	Corr    uint64
	Payload []byte
}

// ClientGone: the client's connection is closed.
type ClientGone struct{ Process uint32 }

// FromKeeper is a message of the keeper. When ProgramState says running, the shell has put the
// descriptors aside before, so that ReadMore and WriteInput of that key work.
type FromKeeper struct{ M Message }

// KeeperGone: the keeper's socket is closed.
type KeeperGone struct{}

// Restored is output that the agent before this one had read and that was not acknowledged. The shell
// gives it before the first HeadUp. Offset is that of the first byte, Tail what was read last before it.
type Restored struct {
	Key    Key
	Stream uint8
	Offset uint64
	Data   []byte
	Tail   []byte
	Input  uint64 // bytes of input written to the program so far
	Sink   Remember
	Known  bool // Sink is one
}

// Output is what one ReadMore brought.
type Output struct {
	Key    Key
	Stream uint8
	Data   []byte
}

// OutputEOF: all writers of the stream are gone, or it can't be read (any more).
type OutputEOF struct {
	Key    Key
	Stream uint8
}

// InputWritten answers WriteInput: N bytes were written; Gone: nobody reads it any more.
type InputWritten struct {
	Key  Key
	N    int
	Gone bool
}

// Tick: the time of NextDeadline has come (one that comes early does nothing).
type Tick struct{}

func (HeadUp) event()       {}
func (HeadDown) event()     {}
func (HeadRefused) event()  {}
func (FromHead) event()     {}
func (PeerUp) event()       {}
func (PeerDead) event()     {}
func (FromPeer) event()     {}
func (ToAgent) event()      {}
func (FromClient) event()   {}
func (ClientGone) event()   {}
func (FromKeeper) event()   {}
func (KeeperGone) event()   {}
func (Restored) event()     {}
func (Output) event()       {}
func (OutputEOF) event()    {}
func (InputWritten) event() {}
func (Tick) event()         {}
