package agent

import "github.com/maniple-hpc/maniple/transport/wire/fb"

// Effect is what a Core wants done: one of the types below, done by the shell in order.
type Effect interface{ effect() }

// ToHead sends on the head's link, from the first HeadUp on. While the link is down it keeps the message
// or loses it with its session; after HeadUp{Resumed: false} the core tells everything again.
type ToHead struct {
	M       Message
	Corr    uint64
	Payload []byte
}

// ToPeer sends on the link to another agent, which PeerDial opened or the peer did.
type ToPeer struct {
	Peer    uint32
	M       Message
	Corr    uint64
	Payload []byte
}

// PeerDial asks for a link to a peer; answered by PeerUp or PeerDead, at once if there is one. Messages
// for the peer may follow at once.
type PeerDial struct {
	Peer      uint32
	Name      string
	Addresses []string
}

// PeerDrop closes the link to a peer that is dead or of no use any more.
type PeerDrop struct{ Peer uint32 }

// ToClient sends to a client.
type ToClient struct {
	Process uint32
	M       Message
	Corr    uint64
	Payload []byte
}

// CloseClient ends a client's connection after what was sent to it.
type CloseClient struct {
	Process uint32
	Reason  string
}

// ToKeeper sends on the keeper's socket.
type ToKeeper struct{ M Message }

// ReadMore permits one read of at most Max bytes, of which the first will have Offset in the stream;
// answered by Output or OutputEOF. Window is how much of the stream may ever be unacknowledged.
type ReadMore struct {
	Key    Key
	Stream uint8
	Offset uint64
	Max    int
	Window int
}

// StopRead closes the stream: whatever may still come is not wanted. Not answered, but for an Output
// that was under way.
type StopRead struct {
	Key    Key
	Stream uint8
}

// Acked: bytes before Offset are with the sink and need not survive this agent.
type Acked struct {
	Key    Key
	Stream uint8
	Offset uint64
}

// Remember: the sink of a rank's gang, for the agent after this one.
type Remember struct {
	Key            Key
	Agent, Process uint32
	World          int
}

// WriteInput writes to the program's standard input; answered by InputWritten. One at a time per key.
type WriteInput struct {
	Key  Key
	Data []byte
}

// CloseInput closes the program's standard input (a terminal gets its end-of-file character).
type CloseInput struct{ Key Key }

// Forget: nothing about this rank is needed any more.
type Forget struct{ Key Key }

// Leave says Goodbye to the head once everything before is sent.
type Leave struct{ Reason string }

// Adopt has an actor made here whose agent is dead.
type Adopt struct{ M *fb.NameAdoptT }

// NodeDrain tells of a node that is being drained, by this node's clock, or not any more.
type NodeDrain struct{ M *fb.NodeDrainT }

// Sweep ends every process of this node's programs, now that no keeper does it.
type Sweep struct{}

// Exit ends the agent.
type Exit struct {
	Code   int
	Reason string
}

func (ToHead) effect()      {}
func (ToPeer) effect()      {}
func (PeerDial) effect()    {}
func (PeerDrop) effect()    {}
func (ToClient) effect()    {}
func (CloseClient) effect() {}
func (ToKeeper) effect()    {}
func (ReadMore) effect()    {}
func (StopRead) effect()    {}
func (Acked) effect()       {}
func (Remember) effect()    {}
func (WriteInput) effect()  {}
func (CloseInput) effect()  {}
func (Forget) effect()      {}
func (Leave) effect()       {}
func (Adopt) effect()       {}
func (NodeDrain) effect()   {}
func (Sweep) effect()       {}
func (Exit) effect()        {}
