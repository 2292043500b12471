package work

// Codes of the errors that the runtime itself gives to tasks and calls, in Failure.code. SDKs make their
// exceptions of them.
const (
	codeCancelled     = "CANCELLED"           // it was cancelled, or its driver ended
	codeTimeout       = "TIMEOUT"             // its deadline passed before it started
	codeWorkerDied    = "WORKER_DIED"         // the process that ran it died, and its retries are used up
	codeMemory        = "OUT_OF_MEMORY"       // its process was ended because the node ran out of memory
	codeNodeDied      = "NODE_DIED"           // the node that ran it died, and its retries are used up
	codeLost          = "OBJECT_LOST"         // the node that had it died, or could not send it
	codeOwner         = "OWNER_DIED"          // the node that had put it, or submitted its task, died: it has no heirs
	codeRemake        = "RECONSTRUCTION"      // the value was lost, and can't be made again
	codeFull          = "STORE_FULL"          // there is no memory for it
	codeNotMade       = "CACHE_NOT_MADE"      // who was to make the cached value did not
	codeEnvironment   = "ENVIRONMENT"         // no process could be started for it
	codeDeadlock      = "DEADLOCK"            // what keeps it from starting waits for it (WORK-9, WORK-13)
	codeUnschedulable = "TASK_UNSCHEDULABLE"  // it may run on no node
	codeGroupRemoved  = "TASK_GROUP_REMOVED"  // the group that it was to run in is gone
	codeSystem        = "SYSTEM"              // the worker broke its word
	codeActorDied     = "ACTOR_DIED"          // the actor is dead for good
	codeActorAway     = "ACTOR_UNAVAILABLE"   // its worker died and it is being made again; the call may have run
	codeActorNowhere  = "ACTOR_UNSCHEDULABLE" // it may live on no node
	codeActorGroup    = "ACTOR_GROUP_REMOVED" // the group that it lived in is gone
	codePending       = "PENDING_CALLS"       // max_pending_calls
	codeNameTaken     = "NAME_TAKEN"          // an actor of that name lives
)

// codeMemoryShort is that of Say, when a node has nearly used up its memory.
const codeMemoryShort = "MEMORY_SHORT"

// codeKept is that of Say, when only actors that do nothing keep what a task needs.
const codeKept = "KEPT_BY_ACTORS"

// codeRefused is that of Say, for a process that sent what none may send (WORK-8).
const codeRefused = "WORK_REFUSED"
