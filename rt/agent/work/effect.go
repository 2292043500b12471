package work

import (
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Do says what an Effect wants.
type Do uint8

// What there is to do.
const (
	// Append sends Bytes to Process, after all that was appended before.
	Append Do = iota + 1
	// NeedWorker starts a process for Need; answered by ProcessUp with its key, or WorkerFailed.
	NeedWorker
	// KillWorker ends the worker of Key at once; answered by ProcessGone, or by WorkerFailed if it had not attached.
	KillWorker
	// CloseProcess closes the connection to Process once what was appended is sent. A worker ends by that.
	CloseProcess
	// Say tells users Text, under the stable name Code. Process: whom it concerns, 0: everybody.
	Say
	// Pass hands on Bytes, a frame of Process that is not about work (groups, the cluster's state).
	Pass
	// Meet has Process reach the Store's arena of number Key, after all that was appended before, and before what comes.
	Meet
	// NeedHost opens an errand of Need.Job to the agent of number Key; answered by ProcessUp, in the end by ProcessGone.
	NeedHost
	// Watch has the places of Group told, by Place and Grant.
	Watch
	// Fetch brings the bytes of Object, Key of them, which another agent, Process, has in its node's memory, into the Store; answered by
	// Fetched, unless Process is gone before. Urgency says how soon.
	Fetch
	// Slice brings Key bytes of Part into the Store, to be Object; answered as Fetch is. If Key is 0 it asks what Part is; answered by Measured, or by
	// Fetched with why not.
	Slice
	// Unslice ends a Slice for Object, which nobody wants any more. What it has brought all the same is freed.
	Unslice
	// Hasten says that a Fetch that is under way has got another Urgency.
	Hasten
	// Claim asks the head for a Name for the actor Group, or tells it how often that was made again; answered by Named.
	Claim
	// Free gives the name of the actor Group back, or no longer asks for it.
	Free
	// Join has Process, a driver, and the worker Worker get one end each of a Line between them.
	Join
	// Find asks the head who is called Text, NAMESPACE/NAME; answered by Found with its Key.
	Find
	// Survey asks the head at which nodes there could ever be the room that Text is; answered by Surveyed with its Key.
	Survey
)

// Urgency is how soon a value is wanted that another agent has: the lowest first.
type Urgency uint8

// What a value is wanted for.
const (
	Awaited  Urgency = iota // a process waits for it, here or on another node
	Argument                // a task does, to start
	Unasked                 // nobody does yet
)

// Effect is what a Core wants done, in order. It is one struct and no interface: a turn has thousands.
type Effect struct {
	Do      Do
	Urgency Urgency
	Process id.Process
	Key     uint64
	Bytes   []byte // good until the next Step
	Code    string
	Text    string // Say; why, of KillWorker and CloseProcess
	Need    *Need
	Group   id.Task // or an actor
	Object  id.Object
	Name    *Name
	Part    *Part
	Worker  id.Process
	Line    *fb.LineT
}

// Part is what is wanted of an object, from Offset on.
type Part struct {
	Of      id.Object
	Offset  int64
	Version uint32 // of which value of that name; 0: of any
}

// Name is what the head is to know of an actor that has a name.
type Name struct {
	Namespace, Name string
	Detached        bool
	Restarts        int32
	MaxRestarts     int32
	Job             uint32
	Spec            []byte // how another agent makes it again; none: it does not; good until the next Step
}

// Need describes a worker.
type Need struct {
	Key         uint64
	Job         uint32
	Environment string
	Language    string
	Devices     []string // the only ones that it may see
	Actor       bool     // it is for an actor
	Threads     int64    // that libraries are to use, unless the user says otherwise
}
