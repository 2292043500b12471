package slurm

import (
	"errors"
	"strings"
)

// What can go wrong with a call, for errors.Is. The typed error is *Error.
var (
	ErrUnreachable = errors.New("the controller does not answer")     // slurmctld or slurmdbd is down, or not to be reached from here
	ErrMissing     = errors.New("the program is not installed")       // no Slurm on this machine
	ErrRefused     = errors.New("refused by Slurm")                   // the request can't be granted as it is
	ErrNotYours    = errors.New("not allowed by Slurm for this user") // authentication or permission
	ErrNoJob       = errors.New("no such job is known to Slurm")      // wrong, or ended and forgotten
	ErrTooSlow     = errors.New("no answer in time")                  // our own limit, not Slurm's: the controller may have acted
	ErrOutput      = errors.New("output that is not understood")      // a version of Slurm that this package does not know
)

// Error is a call that failed: what was asked, what Slurm said, and what to do about it.
type Error struct {
	Op   string // "submit", "cancel", ...
	Text string // Slurm's own words
	Do   string // "" if nothing better is known than the text
	Kind error  // one of the Err values
}

func (e *Error) Error() string {
	s := "slurm: " + e.Op + ": "
	if e.Text != "" {
		s += e.Text
	} else {
		s += e.Kind.Error()
	}
	if e.Do != "" {
		s += "; " + e.Do
	}
	return s
}

func (e *Error) Unwrap() error { return e.Kind }

// known are Slurm's texts (src/common/slurm_errno.c), what they mean and what helps.
var known = []struct {
	text string
	kind error
	do   string
}{
	{"Unable to contact slurm controller", ErrUnreachable, "try again, `scontrol ping` shows the controller's state"},
	{"Unable to contact slurm daemon", ErrUnreachable, "try again"},
	{"Unable to connect to database", ErrUnreachable, "the accounting database is down; try again later"},
	{"Slurm accounting storage is disabled", ErrRefused, "this site keeps no accounts; only jobs that ended minutes ago can be seen"},
	{"Socket timed out", ErrUnreachable, "the controller is busy; look with squeue before you submit again, the job may be in the queue"},
	{"Slurm backup controller in standby mode", ErrUnreachable, "the controllers are changing over; try again"},
	{"Zero Bytes were transmitted or received", ErrUnreachable, "the controller broke off; try again"},
	{"Could not establish a configuration source", ErrUnreachable, "no slurm.conf here: set SLURM_CONF, or log in to a node of the cluster"},
	{"Protocol authentication error", ErrNotYours, "munge does not work between here and the controller: ask the site"},
	{"Invalid authentication credential", ErrNotYours, "munge does not work between here and the controller: ask the site"},
	{"Munge", ErrNotYours, "munge does not work here: ask the site"},
	{"Access/permission denied", ErrNotYours, "it belongs to another user, or the site does not allow it"},
	{"Invalid user id", ErrNotYours, "this user is not known to Slurm: ask the site"},
	{"Invalid account or account/partition combination", ErrRefused, "`sacctmgr show assoc user=$USER` lists your accounts; give one with -A"},
	{"Invalid qos specification", ErrRefused, "`sacctmgr show qos` lists them; give one with -q"},
	{"invalid partition specified", ErrRefused, "`sinfo -s` lists the partitions; give one with -p"},
	{"Invalid partition name specified", ErrRefused, "`sinfo -s` lists the partitions; give one with -p"},
	{"Requested time limit is invalid", ErrRefused, "the partition allows less; `sinfo -o '%R %l'` shows its limit; give less with -t"},
	{"Requested node configuration is not available", ErrRefused, "no set of nodes has that; ask for fewer cores, memory or GPUs per node, or another partition"},
	{"Node count specification invalid", ErrRefused, "the partition has fewer nodes, or a lower limit; give fewer with -N"},
	{"More processors requested than permitted", ErrRefused, "ask for fewer tasks or cores"},
	{"Memory required by task is not available", ErrRefused, "another step holds the job's memory: give srun --overlap --mem=0"},
	{"Job violates accounting/QOS policy", ErrRefused, "a limit of your account is reached; `sacctmgr show assoc user=$USER` shows the limits"},
	{"Invalid generic resource (gres) specification", ErrRefused, "`sinfo -o '%P %G'` shows what the nodes have"},
	{"Invalid feature specification", ErrRefused, "`sinfo -o '%P %f'` shows the nodes' features"},
	{"Required node not available", ErrRefused, "a node that you named is down or reserved"},
	{"Requested partition configuration not available now", ErrRefused, "the partition is down or closed"},
	{"Job dependency problem", ErrRefused, "the job that it depends on does not exist or cannot end so any more"},
	{"Invalid job id specified", ErrNoJob, ""},
	{"Invalid Job Id", ErrNoJob, ""},
	{"Job/step already completing or completed", ErrNoJob, "it has ended"},
	{"unrecognized option", ErrRefused, "this Slurm does not have the option; `sbatch --help` lists what it has"},
	{"invalid option", ErrRefused, "this Slurm does not have the option; `sbatch --help` lists what it has"},
}

// ErrorOf makes an Error of what a Slurm program printed when it failed.
func ErrorOf(op, stderr string) *Error {
	text := message(stderr)
	for _, k := range known {
		if strings.Contains(stderr, k.text) {
			return &Error{Op: op, Text: text, Do: k.do, Kind: k.kind}
		}
	}
	return &Error{Op: op, Text: text, Kind: ErrRefused}
}

// message is the telling line of a program's errors, without the program's name.
func message(stderr string) string {
	var best string
	for _, line := range strings.Split(strings.TrimSpace(stderr), "\n") {
		line = strings.TrimSpace(line)
		if prog, rest, ok := strings.Cut(line, ": "); ok && !strings.Contains(prog, " ") {
			line = rest
		}
		line, fatal := strings.CutPrefix(strings.TrimPrefix(line, "error: "), "fatal: ")
		if line == "" || strings.HasPrefix(line, "Try \"") {
			continue
		}
		// "Batch job submission failed: why" repeats the line before, but with the reason.
		if best == "" || fatal || strings.Contains(line, "failed:") {
			best = line
		}
	}
	return best
}
