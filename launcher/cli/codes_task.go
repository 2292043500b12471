package cli

// TaskCodes are the errors that the runtime itself gives to tasks and calls; Exit is the class of Python's
// exception, or says that only the SDK of Go gives it.
var TaskCodes = []Code{
	{"CANCELLED", "TaskCancelledError", "it was cancelled, or its driver ended", ""},
	{"TIMEOUT", "GetTimeoutError", "its deadline passed before it started", "`maniple explain TASK` says what it waits for"},
	{"WORKER_DIED", "WorkerCrashedError", "the process that ran it died, and how; its retries are used up", "the text has the signal; 9 is often the kernel, for want of memory"},
	{"ENVIRONMENT", "RuntimeEnvSetupError", "no process could be started for it, and why", "what the message names: Python without maniple, a runtime_env that can't be made"},
	{"DEADLOCK", "DeadlockError", "its ancestors wait for it and keep from it what it needs; the text has the chain", "ask for less, or wait for it elsewhere"},
	{"NODE_DIED", "NodeDiedError", "the node that ran it died or was cut off, and its retries are used up", "the text names the node"},
	{"OBJECT_LOST", "ObjectLostError", "the value is gone, or its reference was released; or the node that had it died, or could not send it, and it was put, or is of a task with max_retries=0, or of an actor without max_task_retries; then the text names the node", "make it again; when memory is full the text says who holds what"},
	{"RECONSTRUCTION", "ObjectReconstructionFailedError", "the value was lost, and the task that makes it can't run again; the text names the node and says why", "submit it again; if it is forgotten how it was made: hold fewer large results at a time"},
	{"TASK_UNSCHEDULABLE", "TaskUnschedulableError", "it may run on no node", "the text says which one was asked for"},
	{"TASK_GROUP_REMOVED", "TaskPlacementGroupRemoved", "the placement group that it was to run in is gone", ""},
	{"SYSTEM", "SystemFault", "a worker broke its word", "report it with the text"},
	{"ACTOR_DIED", "ActorDiedError", "the actor is dead for good, and why", "max_restarts, if it is to come back"},
	{"ACTOR_UNAVAILABLE", "ActorUnavailableError", "the actor's process died and it is being made again; the call may have run", "max_task_retries, if a call may run twice"},
	{"ACTOR_UNSCHEDULABLE", "ActorUnschedulableError", "the actor may live on no node", ""},
	{"ACTOR_GROUP_REMOVED", "ActorPlacementGroupRemoved", "the placement group that the actor lived in is gone", ""},
	{"PENDING_CALLS", "PendingCallsLimitExceeded", "the actor has max_pending_calls waiting", "wait for some of them"},
	{"NAME_TAKEN", "ActorAlreadyExistsError", "an actor of that name lives in the namespace", "get_if_exists=True, or another name"},
	{"AGENT_DIED", "LocalAgentDiedError", "this process's agent does not answer any more, and why", "the node's agent.log; a driver may join again"},
	{"STORE_FULL", "ObjectStoreFullError", "a value found no room in the node's shared memory in time; the text says who holds what", "release references, or give the node more memory"},
	{"DISK_FULL", "OutOfDiskError", "a value found no room in the node's shared memory in time, and what lies there could not be written to disk for want of room; the text says where, and who holds what", "free the disk, or name another: `--object-spilling-directory`"},
	{"CLOSED", "(Go)", "this process is not connected to a cluster", "rt.Init, or no call after Close"},
	{"VALUE", "(Go)", "a value can't be sent, or not be read as what is wanted; the text has the path to it", ""},
	{"OPTION", "(Go)", "an option that does not fit, or has an amount that is none", ""},
	{"UNKNOWN", "(Go)", "the agent knows nothing of that name", ""},
	{"SPILLING", "(notice)", "a node writes values to disk for the first time: its memory for them is full", "`--object-store-memory`, if the program waits for the disk"},
	{"WORKERS_LATE", "(notice)", "the process that a driver's workers are forked from is not there after 10 s; the text says what it waits for", "if it names no other group or node: look at the driver's Python and its file system"},
	{"WORK_REFUSED", "(notice)", "a process sent its agent what none may send, and its connection was ended", "report it with the text"},
}
