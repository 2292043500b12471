package slurm

import "strings"

// State is a job's state in Slurm's own word. A word that this package does not know is kept as it is.
type State string

// The states, in the words of squeue and sacct.
const (
	Pending     State = "PENDING"
	Running     State = "RUNNING"
	Suspended   State = "SUSPENDED"
	Completed   State = "COMPLETED"
	Cancelled   State = "CANCELLED"
	Failed      State = "FAILED"
	Timeout     State = "TIMEOUT"
	NodeFail    State = "NODE_FAIL"
	Preempted   State = "PREEMPTED"
	BootFail    State = "BOOT_FAIL"
	Deadline    State = "DEADLINE"
	OutOfMemory State = "OUT_OF_MEMORY"

	// What Slurm shows beside or instead of one of those above, while something is going on.
	Completing   State = "COMPLETING"
	Configuring  State = "CONFIGURING"
	Resizing     State = "RESIZING"
	Requeued     State = "REQUEUED"
	RequeueFed   State = "REQUEUE_FED"
	RequeueHold  State = "REQUEUE_HOLD"
	SpecialExit  State = "SPECIAL_EXIT"
	Stopped      State = "STOPPED"
	Revoked      State = "REVOKED"
	Signaling    State = "SIGNALING"
	StageOut     State = "STAGE_OUT"
	LaunchFailed State = "LAUNCH_FAILED"
	ResvDelHold  State = "RESV_DEL_HOLD"
)

// compact are the two-letter forms of squeue %t.
var compact = map[string]State{
	"PD": Pending, "R": Running, "S": Suspended, "CD": Completed, "CA": Cancelled, "F": Failed, "TO": Timeout,
	"NF": NodeFail, "PR": Preempted, "BF": BootFail, "DL": Deadline, "OOM": OutOfMemory, "CG": Completing,
	"CF": Configuring, "RS": Resizing, "RQ": Requeued, "RF": RequeueFed, "RH": RequeueHold, "SE": SpecialExit,
	"ST": Stopped, "RV": Revoked, "SI": Signaling, "SO": StageOut, "LF": LaunchFailed, "RD": ResvDelHold,
}

// ParseState reads a state as scontrol, squeue and sacct print it: a word, a two-letter code, with
// sacct's "CANCELLED by 1000" and a trailing + of a narrow column.
func ParseState(s string) State {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	word = strings.ToUpper(strings.TrimSuffix(word, "+"))
	if full, ok := compact[word]; ok {
		return full
	}
	return State(word)
}

// Final says whether the job has ended and will not run again under its ID by itself. (A job that was
// preempted or lost a node and is queued again shows PENDING, not its last end.)
func (s State) Final() bool {
	switch s {
	case Completed, Cancelled, Failed, Timeout, NodeFail, Preempted, BootFail, Deadline, OutOfMemory, Revoked:
		return true
	}
	return false
}
