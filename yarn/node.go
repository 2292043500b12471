package yarn

import (
	"net"
	"strconv"
	"time"
)

// NodeID names a NodeManager.
type NodeID struct {
	Host string `pb:"1"`
	Port int32  `pb:"2"`
}

// String is host:port, which is also where it is called.
func (n NodeID) String() string { return net.JoinHostPort(n.Host, itoa(int64(n.Port))) }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// NodeState is how a node is.
type NodeState int32

// The states.
const (
	NodeNew             NodeState = 1
	NodeRunning         NodeState = 2
	NodeUnhealthy       NodeState = 3 // its disks are full, or its health script says so
	NodeDecommissioned  NodeState = 4
	NodeLost            NodeState = 5
	NodeRebooted        NodeState = 6
	NodeDecommissioning NodeState = 7 // takes nothing new, and ends when its containers have or at a deadline
	NodeShutdown        NodeState = 8
)

func (s NodeState) String() string {
	return word(int32(s), 1, "NEW", "RUNNING", "UNHEALTHY", "DECOMMISSIONED", "LOST", "REBOOTED", "DECOMMISSIONING", "SHUTDOWN")
}

// Node is what the ResourceManager tells of a node.
type Node struct {
	ID         NodeID    `pb:"1"`
	HTTP       string    `pb:"2"`
	Rack       string    `pb:"3"`
	Used       Resource  `pb:"4"`
	Capability Resource  `pb:"5"`
	Containers int32     `pb:"6"`
	State      NodeState `pb:"7"`
	Health     string    `pb:"8"` // why it is not healthy
	HealthAt   time.Time `pb:"9"`
	Labels     []string  `pb:"10"`
	Leaves     int32     `pb:"13"` // seconds until it is decommissioned, 0 if it is not to be
}

// Metrics counts a cluster's nodes.
type Metrics struct {
	NodeManagers    int32 `pb:"1"`
	Decommissioned  int32 `pb:"2"`
	Active          int32 `pb:"3"`
	Lost            int32 `pb:"4"`
	Unhealthy       int32 `pb:"5"`
	Rebooted        int32 `pb:"6"`
	Decommissioning int32 `pb:"7"`
	Shutdown        int32 `pb:"8"`
}

// QueueState tells whether a queue takes applications.
type QueueState int32

// The states.
const (
	QueueStopped  QueueState = 1
	QueueRunning  QueueState = 2
	QueueDraining QueueState = 3 // ends what it has
)

func (s QueueState) String() string { return word(int32(s), 1, "STOPPED", "RUNNING", "DRAINING") }

// Queue is what the ResourceManager tells of a queue. Shares are between 0 and 1.
type Queue struct {
	Name         string     `pb:"1"` // its last part only; of a FairScheduler's the whole path
	Capacity     float32    `pb:"2"` // of its parent, guaranteed; a FairScheduler's: of the cluster, at this moment
	MaxCapacity  float32    `pb:"3"` // likewise, if others leave it
	Current      float32    `pb:"4"` // used of its own capacity: over 1 when it has more than that
	State        QueueState `pb:"5"`
	Children     []Queue    `pb:"6"`
	Labels       []string   `pb:"8"` // node labels that it may use; "*" for all
	DefaultLabel string     `pb:"9"`
	NoPreemption bool       `pb:"11"`
	Scheduler    string     `pb:"17"` // whose queue it is: CapacityScheduler, FairScheduler; "" before Hadoop 3.4
}
