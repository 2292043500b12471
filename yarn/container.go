package yarn

// Container is one that was granted: a part of a node, for some minutes without use.
type Container struct {
	ID       ContainerID `pb:"1"`
	Node     NodeID      `pb:"2"`
	HTTP     string      `pb:"3"` // host:port of the NodeManager's pages
	Resource Resource    `pb:"4"` // what was granted: what was asked for, rounded up. A scheduler that counts memory alone, as Hadoop's default does, says one core
	Priority Priority    `pb:"5"`
	Token    Token       `pb:"6"` // what the NodeManager wants to see to start it
	Ask      int64       `pb:"8"` // the allocation request that it answers
}

// Priority of a request within its application; a lower number comes first.
type Priority struct {
	Value int32 `pb:"1"`
}

// ContainerState is where a container stands.
type ContainerState int32

// The states.
const (
	ContainerNew      ContainerState = 1
	ContainerRunning  ContainerState = 2 // to the NodeManager from the moment in which it took it
	ContainerComplete ContainerState = 3
)

func (s ContainerState) String() string { return word(int32(s), 1, "NEW", "RUNNING", "COMPLETE") }

// ContainerStatus tells how a container is, or how it ended.
type ContainerStatus struct {
	ID          ContainerID    `pb:"1"`
	State       ContainerState `pb:"2"`
	Diagnostics string         `pb:"3"`
	ExitCode    ExitCode       `pb:"4,default=-1000"`
}

// ExitCode is a process's own (128 + signal if it was killed), or one of YARN's below zero.
type ExitCode int32

// YARN's own exit codes.
const (
	ExitInvalid        ExitCode = -1000 // not ended, or a file could not be brought to the node
	ExitAborted        ExitCode = -100  // released, or its node was lost
	ExitDisksFailed    ExitCode = -101
	ExitPreempted      ExitCode = -102
	ExitVirtualMemory  ExitCode = -103
	ExitPhysicalMemory ExitCode = -104
	ExitByMaster       ExitCode = -105 // stopped by its ApplicationMaster
	ExitByResource     ExitCode = -106 // stopped by the ResourceManager
	ExitByApplication  ExitCode = -107 // stopped because the application ended
)

// Free tells whether the end was the cluster's doing and not the program's: lost, failed disks or preempted.
// Memory limits are the program's own.
func (e ExitCode) Free() bool { return e <= ExitAborted && e >= ExitPreempted }

func (e ExitCode) String() string {
	names := map[ExitCode]string{
		ExitInvalid: "not started", ExitAborted: "lost or released", ExitDisksFailed: "the node's disks failed", ExitPreempted: "preempted",
		ExitVirtualMemory: "over its virtual memory", ExitPhysicalMemory: "over its memory", ExitByMaster: "stopped by its ApplicationMaster",
		ExitByResource: "stopped by the ResourceManager", ExitByApplication: "stopped with its application",
	}
	if n, ok := names[e]; ok {
		return n
	}
	return "exit code " + itoa(int64(e))
}
