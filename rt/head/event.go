package head

import (
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Message is any message of the wire.
type Message = wire.Message

// Conn names a connection that asks to be admitted; the shell picks the number.
type Conn uint64

// Event is one of Admit, FromAgent, LinkUp, LinkDown, Silent, Left, Short, Full and Tick.
type Event interface{ event() }

// Admit asks whether the other side of a new connection belongs here. The answer is Admitted or
// Refused in the same step. Hello.Purpose tells control from liveness.
type Admit struct {
	Conn  Conn
	Hello *fb.HelloT
}

// FromAgent is a message that a link delivered, in order and once. Agent 0 is the head's own keeper,
// which may say Drain.
type FromAgent struct {
	Agent   id.Agent
	Msg     Message
	Corr    uint64
	Payload []byte
	Body    []byte // Msg as it came, if that is known; for the ring
}

// LinkUp says that the agent's control link has a connection. Resumed is false when the session is
// new: the agent then registers with all that it holds.
type LinkUp struct {
	Agent   id.Agent
	Resumed bool
}

// LinkDown says that the connection under the agent's control link broke. Its session may be resumed.
type LinkDown struct {
	Agent  id.Agent
	Reason string
}

// Silent says that the agent's liveness connection brought nothing for too long, or that its session
// can't go on (budget spent, malformed frames).
type Silent struct {
	Agent  id.Agent
	Reason string
}

// Left says that the other side of a link said Goodbye: nothing to resume.
type Left struct {
	Agent  id.Agent
	Reason string
}

// Short says that the journal's disk is running out: what is there goes on and ends in order, but
// nothing new begins. An empty reason: there is room again.
type Short struct{ Reason string }

// Full says that the journal can't take records any more. Nothing durable may change: the head ends,
// with this reason, after it has told everybody. The effects of earlier steps whose records are not
// in the journal must not have left.
type Full struct{ Reason string }

// Tick says that a deadline passed: see NextDeadline.
type Tick struct{}

func (Admit) event()     {}
func (FromAgent) event() {}
func (LinkUp) event()    {}
func (LinkDown) event()  {}
func (Silent) event()    {}
func (Left) event()      {}
func (Short) event()     {}
func (Full) event()      {}
func (Tick) event()      {}

// Effect is one of Admitted, Refused, Send, Append, Bury and Exit. They are carried out in order.
type Effect interface{ effect() }

// Admitted lets a connection in. The core fills in the numbers and the term; whoever owns the links
// fills in Session, Received and Resumed.
type Admitted struct {
	Conn    Conn
	Agent   id.Agent // whose connection it is; for a new member the number in Welcome.Assigned
	Welcome *fb.WelcomeT
}

// Refused turns a connection away.
type Refused struct {
	Conn   Conn
	Refuse *fb.RefuseT
}

// Send puts a message on the link of an agent. Calm: nobody waits for it, so it may leave a moment later; what is sent to that agent comes in order all the same.
type Send struct {
	Agent   id.Agent
	Msg     Message
	Corr    uint64
	Payload []byte
	Calm    bool
}

// Append adds a record to the journal. It must be there before any later effect of this or a later
// step leaves the process.
type Append struct{ Rec Message }

// Bury says that the number is dead for ever: its link and connections are to be dropped. Messages
// sent to it before (a Drain) may be flushed first.
type Bury struct {
	Agent  id.Agent
	Reason string
}

// Exit ends the head: all is said and done. Code is for the keeper's exit.
type Exit struct {
	Code   int32
	Reason string
}

func (Admitted) effect() {}
func (Refused) effect()  {}
func (Send) effect()     {}
func (Append) effect()   {}
func (Bury) effect()     {}
func (Exit) effect()     {}
