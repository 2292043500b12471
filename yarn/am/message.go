package am

import "github.com/maniple-hpc/maniple/yarn"

type registerRequest struct {
	Host string `pb:"1"`
	Port int32  `pb:"2"`
	URL  string `pb:"3"`
}

// Registered is what the ResourceManager tells a new attempt.
type Registered struct {
	Max        yarn.Resource       `pb:"1"` // the largest container
	ClientKey  []byte              `pb:"2"` // with which clients' tokens are checked, on a cluster with Kerberos
	Containers []yarn.Container    `pb:"4"` // that live on from the attempt before
	Queue      string              `pb:"5"`
	NMTokens   []nmToken           `pb:"6"` // the Master has them
	Types      []yarn.ResourceType `pb:"9"` // what the cluster counts
}

type nmToken struct {
	Node  yarn.NodeID `pb:"1"`
	Token yarn.Token  `pb:"2"`
}

type allocateRequest struct {
	Asks      []resourceRequest  `pb:"1"`
	Release   []yarn.ContainerID `pb:"2"`
	Blacklist *blacklist         `pb:"3"`
	Response  int32              `pb:"4"`
	Progress  float32            `pb:"5"`
	URL       string             `pb:"11"`
}

type blacklist struct {
	Add    []string `pb:"1"`
	Remove []string `pb:"2"`
}

// Commands of the ResourceManager.
const (
	commandResync   = 1
	commandShutdown = 2
)

type allocateResponse struct {
	Command   int32                  `pb:"1"`
	Response  int32                  `pb:"2"`
	Granted   []yarn.Container       `pb:"3"`
	Ended     []yarn.ContainerStatus `pb:"4"`
	Headroom  yarn.Resource          `pb:"5"`
	Nodes     []yarn.Node            `pb:"6"`
	NodeCount int32                  `pb:"7"`
	Preempt   *preemption            `pb:"8"`
	NMTokens  []nmToken              `pb:"9"`
	Token     *yarn.Token            `pb:"12"`
	Previous  []yarn.Container       `pb:"17"` // of attempts before, found again after a restart
}

type preemption struct {
	Strict *struct {
		Containers []preempted `pb:"1"`
	} `pb:"1"`
	Contract *struct {
		Wanted []struct {
			Request resourceRequest `pb:"1"`
		} `pb:"1"`
		Containers []preempted `pb:"2"`
	} `pb:"2"`
}

type preempted struct {
	ID yarn.ContainerID `pb:"1"`
}

type finishRequest struct {
	Diagnostics string           `pb:"1"`
	URL         string           `pb:"2"`
	Final       yarn.FinalStatus `pb:"3"`
}

type finishResponse struct {
	Done bool `pb:"1"`
}
