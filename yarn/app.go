package yarn

import (
	"fmt"
	"time"
)

// Submission is an application to be.
type Submission struct {
	ID       ApplicationID // zero: Submit asks for one
	Name     string        // "": N/A
	Queue    string        // "": default
	Priority int32         // higher comes first, within the queue's limit
	Type     string        // "": YARN; also what `yarn application -list -appTypes` selects by
	Tags     []string      // lower case, 100 characters each at most

	Resource  Resource // of the ApplicationMaster's container; MemoryMB is needed
	NodeLabel string   // where its containers go when they do not say; "": the queue's default
	Launch    LaunchContext

	// Unmanaged says that the ApplicationMaster runs outside of the cluster: no container is started, and once the
	// application is Accepted its Report has the token to register with. On a cluster with Kerberos Hadoop withholds that token.
	Unmanaged bool

	MaxAttempts     int32         // 0: the cluster's (2 by default); never more than that
	AttemptValidity time.Duration // failures older than this do not count; 0: all count
	KeepContainers  bool          // those of an attempt that failed go on, and the next attempt gets them
	Lifetime        time.Duration // since submission, to the second; then YARN kills the application; 0: the queue's
	KeepTokens      bool          // the ResourceManager does not cancel the delegation tokens at the end
}

type submissionMessage struct {
	ID             ApplicationID `pb:"1"`
	Name           string        `pb:"2"`
	Queue          string        `pb:"3"`
	Priority       *priority     `pb:"4"`
	Launch         LaunchContext `pb:"5,required"`
	CancelTokens   bool          `pb:"6,default=1"`
	Unmanaged      bool          `pb:"7"`
	MaxAttempts    int32         `pb:"8"`
	Resource       Resource      `pb:"9"`
	Type           string        `pb:"10"`
	KeepContainers bool          `pb:"11"`
	Tags           []string      `pb:"12"`
	Validity       int64         `pb:"13,default=-1"` // ms
	NodeLabel      string        `pb:"16"`
	Timeouts       []timeout     `pb:"18"`
}

type priority struct {
	Value int32 `pb:"1"`
}

type timeout struct {
	Type    int32 `pb:"1,required"` // 1: lifetime
	Seconds int64 `pb:"2,required"`
}

func (s Submission) message() submissionMessage {
	m := submissionMessage{
		ID: s.ID, Name: s.Name, Queue: s.Queue, Priority: &priority{s.Priority}, Launch: s.Launch, CancelTokens: !s.KeepTokens,
		Unmanaged: s.Unmanaged, MaxAttempts: s.MaxAttempts, Resource: s.Resource, Type: s.Type, KeepContainers: s.KeepContainers,
		Tags: s.Tags, Validity: -1, NodeLabel: s.NodeLabel,
	}
	if s.AttemptValidity > 0 {
		m.Validity = s.AttemptValidity.Milliseconds()
	}
	if s.Lifetime > 0 {
		m.Timeouts = []timeout{{1, int64((s.Lifetime + time.Second - 1) / time.Second)}}
	}
	return m
}

// ApplicationState is where an application stands.
type ApplicationState int32

// The states, in the order in which they are passed.
const (
	StateNew       ApplicationState = 1
	StateNewSaving ApplicationState = 2 // being written to the ResourceManager's store
	StateSubmitted ApplicationState = 3
	StateAccepted  ApplicationState = 4 // waits for its ApplicationMaster
	StateRunning   ApplicationState = 5 // the ApplicationMaster has registered
	StateFinished  ApplicationState = 6 // ended by itself: Final says how
	StateFailed    ApplicationState = 7
	StateKilled    ApplicationState = 8
)

// Over tells whether it is one of the last states.
func (s ApplicationState) Over() bool { return s >= StateFinished && s <= StateKilled }

func (s ApplicationState) String() string {
	return word(int32(s), 1, "NEW", "NEW_SAVING", "SUBMITTED", "ACCEPTED", "RUNNING", "FINISHED", "FAILED", "KILLED")
}

// FinalStatus is what an ApplicationMaster said at its end, or YARN about one that said nothing.
type FinalStatus int32

// The final states.
const (
	Undefined FinalStatus = 0 // it is not over
	Succeeded FinalStatus = 1
	Failed    FinalStatus = 2
	Killed    FinalStatus = 3
	Ended     FinalStatus = 4
)

func (s FinalStatus) String() string {
	return word(int32(s), 0, "UNDEFINED", "SUCCEEDED", "FAILED", "KILLED", "ENDED")
}

// word is the n-th of words, which begin with number first; a number beyond them speaks for itself.
func word(n, first int32, words ...string) string {
	if i := int(n - first); i >= 0 && i < len(words) {
		return words[i]
	}
	return fmt.Sprintf("UNKNOWN(%d)", n)
}

// Report is what the ResourceManager tells of an application.
type Report struct {
	ID          ApplicationID    `pb:"1"`
	User        string           `pb:"2"`
	Queue       string           `pb:"3"` // its path; before Hadoop 3.4 its last part
	Name        string           `pb:"4"`
	Host        string           `pb:"5"` // of the ApplicationMaster, as it registered; N/A before
	Port        int32            `pb:"6"` // -1 before
	ClientToken *Token           `pb:"7"` // to speak to the ApplicationMaster with, on a cluster with Kerberos
	State       ApplicationState `pb:"8"`
	TrackingURL string           `pb:"9"`  // through YARN's proxy
	Diagnostics string           `pb:"10"` // why it waits or failed
	Started     time.Time        `pb:"11"` // submitted, in fact
	Finished    time.Time        `pb:"12"`
	Final       FinalStatus      `pb:"13"`
	Usage       Usage            `pb:"14"`
	OriginalURL string           `pb:"15"` // as the ApplicationMaster said
	Attempt     AttemptID        `pb:"16"` // number -1 before the first
	Progress    float32          `pb:"17"` // 0 to 1, as the ApplicationMaster says
	Type        string           `pb:"18"`
	AMToken     *Token           `pb:"19"` // of an unmanaged application, for its owner
	Tags        []string         `pb:"20"`
	Unmanaged   bool             `pb:"22"`
	NodeLabel   string           `pb:"24"`
	Launched    time.Time        `pb:"27"` // zero before, and with Hadoop older than 3.1
}

// AttemptReport is what the ResourceManager tells of one run of an application's master.
type AttemptReport struct {
	ID          AttemptID `pb:"1"`
	Host        string    `pb:"2"` // as Report's
	Port        int32     `pb:"3"`
	TrackingURL string    `pb:"4"`
	Diagnostics string    `pb:"5"` // how it ended
	Started     time.Time `pb:"9"`
	Finished    time.Time `pb:"10"` // zero before
}

// Usage is what an application has now, and what it has had.
type Usage struct {
	Containers    int32    `pb:"1"`
	Reserved      int32    `pb:"2"`
	Used          Resource `pb:"3"`
	ReservedSize  Resource `pb:"4"`
	Needed        Resource `pb:"5"`
	MemorySeconds int64    `pb:"6"` // MiB x s
	VCoreSeconds  int64    `pb:"7"`
	QueueShare    float32  `pb:"8"` // in percent
	ClusterShare  float32  `pb:"9"` // in percent
}

// Filter selects applications; an empty field selects all.
type Filter struct {
	Types  []string           `pb:"1"`
	States []ApplicationState `pb:"2"`
	Users  []string           `pb:"3"`
	Queues []string           `pb:"4"`
	Limit  int64              `pb:"5,default=9223372036854775807"` // at most so many; 0: all
	Tags   []string           `pb:"10"`                            // any of them
}
