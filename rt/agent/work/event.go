package work

import (
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Event is what happens to a Core: one of the types below.
type Event interface{ event() }

// Frames are whole frames that came together from one process. It is a pointer, so that the shell can
// use the same one again.
type Frames struct {
	Process id.Process
	Bytes   []byte
}

// Kind is what a process is.
type Kind uint8

// The kinds of processes.
const (
	Driver Kind = iota + 1 // a job of its own, or another one's as a second process (after a fork)
	Worker
	Owner // another agent, of which tasks of a job run here
	Host  // another agent, which runs tasks of a job here
)

// ProcessUp: a process has attached. The shell numbers processes 1, 2, ... and uses no number twice.
type ProcessUp struct {
	Process id.Process
	Kind    Kind
	Job     uint32   // driver: its number, as the head gave it; owner: a new one; host: that of NeedHost
	Key     uint64   // worker: that of NeedWorker
	PID     uint32   // 0: it is born later
	Agent   id.Agent // owner, host
	Node    string   // of it
	Direct  bool     // driver, worker: it can have a Line
	Greeted bool     // worker: it was told what Greeting says before it was there, and says something before it begins with what it is given
}

// Born: a worker that was greeted runs. Until then nobody knew its process.
type Born struct {
	Process id.Process
	PID     uint32
}

// ProcessGone: its connection is closed, and the process over. Why is for messages: "killed by signal 9".
type ProcessGone struct {
	Process id.Process
	Why     string
	Memory  bool // the kernel ended it for want of memory
	Cut     bool // it is another agent, to which the connection was lost, and that may live
}

// WorkerFailed: what NeedWorker asked for can't be had. Final: it would not be had the next time either
// (an environment that can't be made).
type WorkerFailed struct {
	Key   uint64
	Why   string
	Final bool
}

// WorkerSlow: what NeedWorker asked for takes long. Why is for people who ask.
type WorkerSlow struct {
	Key uint64
	Why string
}

// Grant is what may be used from now on, of the node or of a bundle of a group. One without anything
// takes it back, and ends what runs on it.
type Grant struct {
	Group     id.Task // zero: the node
	Bundle    int32
	Resources []Amount
	Devices   []string // as many as Resources has of GPU, or those of which it has parts
	Shares    []int64  // what there is of each, for who needs less than a device; 0: all of it, for who needs whole ones; nil: all of all of them, for both
	Node      []Amount // all that the node has, of which more may come; nil: nothing is to come
	Taken     bool     // what there is less of is not to be used any longer: what runs on it ends
	Gone      bool     // the whole group is over for good: what waits for it fails, and what still comes
	Open      bool     // the bundle is for tasks that belong to no group,
	Where     string   // and are to run there
	Lost      bool     // the group is placed anew: what ran on the bundle may be tried again
	Recalled  bool     // others wait for it: nothing new starts on it
	Kept      []Amount // that was recalled, and is not given back yet, because it is in use
}

// Place is a bundle at another agent that tasks may go to from now on, or, Gone, all of a group's or of an
// agent's no more.
type Place struct {
	Group     id.Task // with Gone, zero: of any
	Bundle    int32
	Agent     id.Agent // with Gone, 0: of any
	Node      string
	Resources []Amount
	Open      bool   // it is for tasks that belong to no group,
	Where     string // and are to run there
	Gone      bool
	More      bool // others of its group come next: nothing goes anywhere before they are known
	Recalled  bool // others wait for all of the group: nothing new goes there
}

// Fetched answers Fetch: the object lies in the Store, held by nobody, or, Why, could not be had. Here: for a reason of this node's, so that the value
// is where it was; else it is not there any more. Anew: it was made anew while it came, so that it is to be fetched once more.
type Fetched struct {
	Process id.Process
	Object  id.Object
	Arena   uint64
	Offset  int64
	Why     string
	Here    bool
	Anew    bool
	Size    uint64 // of what was sliced
}

// Measured answers Slice: what is to be sliced, which lies where ranges of it can be had.
type Measured struct {
	Object  id.Object
	Size    uint64
	Format  fb.Format
	Version uint32
}

// Damaged: an object of the Store, which nobody looks at, lies in a file that can't be read. What is found when a process wants it Brought tells.
type Damaged struct {
	Object id.Object
	Why    string
}

// Named answers Claim: Holder, an actor of Agent's, has the name, or the head gives none, and Why.
type Named struct {
	Actor, Holder id.Task
	Agent         id.Agent
	Node          string
	Why           string
}

// Found answers Find: the name is that of Actor, of Agent's; zero: nobody's. Or, Why, the question was not asked.
type Found struct {
	Key   uint64
	Actor id.Task
	Agent id.Agent
	Node  string
	Why   string
}

// Surveyed answers Survey: Agents are those of the nodes that have so much in all; Issued is how many agents there ever were. More: others may come.
type Surveyed struct {
	Key    uint64
	Agents []id.Agent
	Issued uint64
	More   bool
}

// Adopt has an actor made again whose agent is dead: by the Spec that this one gave to Claim, in a Job of which nothing is here yet.
type Adopt struct {
	Actor    id.Task
	Job      uint32
	Spec     []byte
	Restarts int32
}

// Brought answers Bring: the object is in memory until Done, or, Why, can't be. Full: for want of memory, so that it
// may be another time; else it is lost.
type Brought struct {
	Object id.Object
	Why    string
	Full   bool
}

// Evicted: the Store has dropped an object that rested, or a copy.
type Evicted struct{ Object id.Object }

// Drain: the node of an agent is being drained, or, Undo, not any more. Nothing new goes there, and what may be tried again is tried elsewhere: actors between
// two of their calls, all that runs when Until has come.
type Drain struct {
	Agent  id.Agent
	Node   string
	Reason string
	Until  int64 // by this node's clock; 0: nothing is moved while it runs
	Undo   bool
}

// Amount of a resource, in 1/10,000.
type Amount struct {
	Name   string
	Amount int64
}

// Tick: the time of NextDeadline has come (one that comes early does nothing).
type Tick struct{}

func (*Frames) event()      {}
func (ProcessUp) event()    {}
func (Born) event()         {}
func (ProcessGone) event()  {}
func (WorkerFailed) event() {}
func (WorkerSlow) event()   {}
func (Grant) event()        {}
func (Place) event()        {}
func (Fetched) event()      {}
func (Measured) event()     {}
func (Named) event()        {}
func (Found) event()        {}
func (Surveyed) event()     {}
func (Adopt) event()        {}
func (Brought) event()      {}
func (Damaged) event()      {}
func (Evicted) event()      {}
func (Drain) event()        {}
func (Tick) event()         {}
