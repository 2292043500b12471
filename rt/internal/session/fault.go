package session

import (
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Codes of faults that this side finds, beside those of the agent (docs/spec/errors.md).
const (
	CodeAgentDied = "AGENT_DIED"
	CodeClosed    = "CLOSED"
	CodeLost      = "OBJECT_LOST"
	CodeOwner     = "OWNER_DIED"     // it was lost with the node that had put it, or submitted its task
	CodeRemake    = "RECONSTRUCTION" // it was lost, and can't be made again
	CodeValue     = "VALUE"
	CodeOption    = "OPTION"
	User          = "USER" // what user code gave
	CodeFull      = "STORE_FULL"
	CodeDiskFull  = "DISK_FULL"
	CodeNotMade   = "CACHE_NOT_MADE" // who was to make a cached value did not
	CodeDeadlock  = "DEADLOCK"
	CodeUnknown   = "UNKNOWN" // the agent knows nothing of that name
)

// Fault is an error as a value: what a task, an actor or the runtime gave in place of a result.
type Fault struct {
	Code      string
	Type      string
	Message   string
	Traceback string
	Node      string
	PID       int
	Task      id.Task
	Cause     string
	Pickled   bool  // another language's own error came along
	Err       error // of this side
}

func (f *Fault) Error() string { return f.Message }

func (f *Fault) Unwrap() error { return f.Err }

// FaultOf reads a Failure.
func FaultOf(b []byte) *Fault {
	m, err := wire.Unmarshal(fb.FrameTypeFailure, b)
	if err != nil {
		return &Fault{Code: "SYSTEM", Message: "an error that can't be read: " + err.Error()}
	}
	e := m.(*fb.FailureT)
	return &Fault{Code: e.Code, Type: e.Type, Message: e.Message, Traceback: e.Traceback, Node: e.Node, PID: int(e.Pid), Task: TaskOf(e.Task), Cause: e.Cause, Pickled: len(e.Pickle) > 0}
}

// TaskOf reads an ID in a table; absent ones are zero.
func TaskOf(t *fb.TaskIDT) id.Task {
	if t == nil {
		return id.Task{}
	}
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

// TaskT writes an ID for a table.
func TaskT(t id.Task) *fb.TaskIDT {
	return &fb.TaskIDT{Agent: uint32(t.Agent), Process: uint32(t.Process), Counter: t.Counter}
}

// Name is how messages and `maniple explain` call an object.
func Name(o id.Object) string {
	if o.Index == 0 {
		return o.Task.String()
	}
	return fmt.Sprintf("%s[%d]", o.Task, o.Index)
}
