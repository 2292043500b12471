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
	ReconfigFail State = "RECONFIG_FAIL"
	PowerUpNode  State = "POWER_UP_NODE"
	UpdateDB     State = "UPDATE_DB"
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

// Active says whether the job holds nodes.
func (s State) Active() bool {
	switch s {
	case Running, Suspended, Completing, Configuring, Resizing, Stopped, Signaling, StageOut:
		return true
	}
	return false
}

// Blame says to whom the end of a job is booked. It decides what may be retried for free.
type Blame string

const (
	BlameNobody Blame = "nobody" // not ended, or ended well
	BlameSite   Blame = "site"   // preempted, a lost node, a boot that failed, put back by an operator: a retry is free
	BlameUser   Blame = "user"   // the program failed, or asked for too little: the same again fails again
	BlameLimit  Blame = "limit"  // the time limit: free only if the program got further than at its start
	BlameCaller Blame = "caller" // somebody cancelled it: never retried
)

// Blame says to whom the state is booked.
func (s State) Blame() Blame {
	switch s {
	case Preempted, NodeFail, BootFail, Requeued, RequeueFed, Revoked, LaunchFailed, ReconfigFail:
		return BlameSite
	case Failed, OutOfMemory, Deadline, SpecialExit, RequeueHold:
		return BlameUser
	case Timeout:
		return BlameLimit
	case Cancelled:
		return BlameCaller
	}
	return BlameNobody
}

// StateOf picks the state out of Slurm's list form (24.11 prints ["RUNNING","CONFIGURING"]): the base
// state, and the flags beside it.
func StateOf(words []string) (base State, flags []State) {
	for i, w := range words {
		if s := ParseState(w); i == 0 {
			base = s
		} else {
			flags = append(flags, s)
		}
	}
	return base, flags
}
