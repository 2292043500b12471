package pull

import "github.com/maniple-hpc/maniple/transport/wire/id"

// Event is what happens to a Core: one of the types below.
type Event interface{ event() }

// Want begins to fetch a value of Size bytes, of which Owner told. Numbers are used once. Of what is asked of one agent comes first what has
// the lowest Urgency. Part: only Size bytes from Offset on, of
// Version, of Owner and nobody else, and for nobody but who wants them.
type Want struct {
	Fetch   uint64
	Object  id.Object
	Size    int64
	Owner   uint32
	Urgency int
	Part    bool
	Offset  int64
	Version uint32 // 0: any
}

// Hasten says that a fetch is more urgent than was said.
type Hasten struct {
	Fetch   uint64
	Urgency int
}

// Drop ends a fetch: nobody wants the value. It is answered by Got when nothing of it is under way any more.
type Drop struct{ Fetch uint64 }

// Opened: a stream to an agent stands. Failed: one of those that were to be opened does not.
type (
	Opened struct {
		Agent  uint32
		Stream uint64
	}
	Failed struct {
		Agent uint32
		Why   string
	}
)

// Came: the oldest range of a stream is over. Version: which value of the object's name its bytes are of; 0: nobody tells. Why: it was refused.
type Came struct {
	Stream  uint64
	Version uint32
	Why     string
}

// Broke: a stream is over; Size bytes of its oldest range, of Version, are in place.
type Broke struct {
	Stream  uint64
	Size    int64
	Version uint32
	Why     string
}

// SourceIs answers AskSource.
type SourceIs struct {
	Owner, Agent uint32
	Object       id.Object
}

// Lost: the session with an agent is over.
type Lost struct {
	Agent uint32
	Why   string
}

// Asked: an agent asks whom it gets a value from that lies here. Again: its source failed.
type Asked struct {
	Agent  uint32
	Object id.Object
	Again  bool
}

// Freed: a value lies here no more.
type Freed struct{ Object id.Object }

// Wanted: another agent wants a range of a value that does not lie here yet; Wait is its number, used once. Line is its connection.
type Wanted struct {
	Line, Wait   uint64
	Object       id.Object
	Offset, Size int64
}

// LineOver: the connection of waits is.
type LineOver struct{ Line uint64 }

// Tick: the time of NextDeadline has come.
type Tick struct{}

func (Want) event()     {}
func (Hasten) event()   {}
func (Drop) event()     {}
func (Opened) event()   {}
func (Failed) event()   {}
func (Came) event()     {}
func (Broke) event()    {}
func (SourceIs) event() {}
func (Lost) event()     {}
func (Asked) event()    {}
func (Freed) event()    {}
func (Wanted) event()   {}
func (LineOver) event() {}
func (Tick) event()     {}

// Effect is what a Core wants done: one of the types below, done in order.
type Effect interface{ effect() }

// Open opens so many streams to an agent; each is answered by Opened or Failed.
type Open struct {
	Agent uint32
	Count int
}

// Cut breaks a stream; answered by Broke, as any other end of it.
type Cut struct{ Stream uint64 }

// Ask asks for a range of a fetch's value over a stream. At is where it lies among what the fetch brings: Offset, unless that is a part.
type Ask struct {
	Stream, Fetch    uint64
	Object           id.Object
	Offset, Size, At int64
}

// AskSource asks the agent that has a value whom to get it from; answered by SourceIs.
type AskSource struct {
	Owner  uint32
	Object id.Object
	Again  bool
}

// TellSource answers Asked.
type TellSource struct {
	Agent, Source uint32
	Object        id.Object
}

// Got: a fetch is over, with a value of Version. Why: the value is not whole; Here: for want of a way to it, so that it is where it was; Anew: because
// another value of its name came meanwhile, so that it is to be fetched from the beginning.
type Got struct {
	Fetch   uint64
	Version uint32
	Why     string
	Here    bool
	Anew    bool
}

// Give answers Wanted: the range has come, in the memory of a fetch, and is of Version.
type Give struct {
	Wait, Fetch  uint64
	Offset, Size int64
	Version      uint32
}

// Refuse answers Wanted: it does not come.
type Refuse struct {
	Wait uint64
	Why  string
}

func (Open) effect()       {}
func (Cut) effect()        {}
func (Ask) effect()        {}
func (AskSource) effect()  {}
func (TellSource) effect() {}
func (Got) effect()        {}
func (Give) effect()       {}
func (Refuse) effect()     {}
