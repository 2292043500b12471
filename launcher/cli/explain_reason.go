package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/slurm"
)

// pendingReasons are Slurm's words for why a job waits (src/common/job_state_reason.c), by their
// beginning: of limits there are dozens. The first that fits counts.
var pendingReasons = []struct{ word, why, do string }{
	{"Resources", "it is next, and waits until enough nodes are free", "wait; with fewer nodes or a shorter -t it may fit into a gap earlier"},
	{"Priority", "jobs of higher priority are before it", "wait; a shorter -t lets it fit into gaps between them (`sprio -j` shows the priorities)"},
	{"DependencyNeverSatisfied", "the job that it depends on ended in a way that can't satisfy it: it will never start", "`scancel` it, and submit it without that dependency"},
	{"Dependency", "it waits for the jobs that it depends on", "`scontrol show job` lists them under Dependency"},
	{"JobHeldUser", "it is held by its user", "`scontrol release` it"},
	{"JobHeldAdmin", "it is held by an administrator", "ask the site why"},
	{"job requeue", "it was put back into the queue and is held", "look at its output for why, then `scontrol release` it"},
	{"launch failed requeued held", "a node could not start it; it was put back into the queue and is held", "`scontrol release` it; if it comes again, tell the site"},
	{"BeginTime", "the time at which it may begin has not come (--begin, or the delay after a requeue)", "wait; `scontrol update job=ID StartTime=now` begins it"},
	{"PartitionTimeLimit", "its time is more than the partition allows: it will never start", "`scancel` it, and submit it with a shorter -t or another -p"},
	{"PartitionNodeLimit", "it wants more nodes than the partition allows: it will never start", "`scancel` it, and submit it with fewer -N or another -p"},
	{"PartitionDown", "its partition is down", "wait, or submit it to another with -p (`sinfo -s` lists them)"},
	{"PartitionInactive", "its partition is closed", "submit it to another with -p (`sinfo -s` lists them)"},
	{"PartitionConfig", "it wants what its partition does not have", "submit it to another with -p (`sinfo` lists them)"},
	{"ReqNodeNotAvail", "nodes that it needs are down, drained or reserved, for maintenance as a rule", "`sinfo -R` says why; a -t that ends before the reservation may start earlier"},
	{"Nodes required for job are DOWN", "nodes that it needs are down, drained or reserved for jobs of higher priority", "`sinfo -R` says why; leave -w away if it names nodes"},
	{"NodeDown", "a node that it needs is down", "wait, or leave -w away"},
	{"Reservation", "it waits for its reservation to begin", "wait; `scontrol show reservation` says when"},
	{"Licenses", "it waits for licences", "wait; `scontrol show licenses` says who has them"},
	{"JobArrayTaskLimit", "as many tasks of the array run as it allows itself (%N)", "wait, or `scontrol update job=ID ArrayTaskThrottle=N`"},
	{"BadConstraints", "no node can fulfil what it asks for: it will never start", "`scancel` it, and ask for less, or for other features (`sinfo -o '%P %f %G'`)"},
	{"InvalidAccount", "its account may not be used", "submit it with another -A (`sacctmgr show assoc user=$USER`)"},
	{"InvalidQOS", "its QOS may not be used", "submit it with another -q (`sacctmgr show qos`)"},
	{"MaxMemPerLimit", "it wants more memory on a node than the site allows", "`scancel` it, and submit it with less --mem"},
	{"QOS", "a limit of its QOS is reached", "wait for jobs of yours or your group to end; `sacctmgr show qos` lists the limits"},
	{"Assoc", "a limit of your account is reached", "wait for jobs of yours or your group to end; `sacctmgr show assoc user=$USER` lists the limits"},
	{"MaxJobsPer", "you have as many jobs as you may", "wait for one of them to end"},
	{"BurstBuffer", "its data are being staged", "wait"},
	{"Cleaning", "its last run is still being cleaned up", "wait a moment"},
	{"Prolog", "its nodes are being prepared", "wait a moment"},
	{"None", "Slurm has not looked at it yet", "wait a moment"},
}

// whyPending is Slurm's reason in plain words, and what its user can do.
func whyPending(reason string) (why, do string) {
	if reason == "" {
		reason = "None"
	}
	plain := strings.ReplaceAll(reason, "_", " ") // long reasons are texts with underscores
	for _, r := range pendingReasons {
		if !strings.HasPrefix(plain, r.word) {
			continue
		}
		why = r.why
		if _, nodes, ok := strings.Cut(reason, "UnavailableNodes:"); ok && nodes != "" {
			why += " (" + strings.TrimSuffix(nodes, ")") + ")"
		}
		return why, r.do
	}
	return "Slurm's reason is " + plain, "`man squeue` lists the reasons; ask the site what it means here"
}

// howEnded says how a job ended and what its user can do. ours: its exit code is that of `maniple run`.
func howEnded(j *slurm.Job, ours bool) (why, do string) {
	where := ""
	if j.Nodes != "" {
		where = " on " + j.Nodes
	}
	switch j.State {
	case slurm.Completed:
		return "it ended well" + where, ""
	case slurm.Timeout:
		limit := ""
		if j.Limit > 0 && j.Limit != slurm.Infinite {
			limit = " of " + slurm.FormatDuration(j.Limit)
		}
		return "its time limit" + limit + " was over", "submit it with a larger -t, or let the program go on from its checkpoint"
	case slurm.OutOfMemory:
		return "the kernel ended it" + where + ": it used more memory than it asked for", "submit it with more --mem or --mem-per-cpu"
	case slurm.Cancelled:
		return "it was cancelled (scancel)", "submit it again if that was not meant"
	case slurm.Preempted:
		return "a job of higher priority took its nodes", "submit it again, with --requeue to have Slurm do it"
	case slurm.NodeFail:
		return "a node of it failed" + where, "submit it again; `sinfo -R` says what is wrong with nodes"
	case slurm.BootFail:
		return "its nodes could not be started", "submit it again, and tell the site"
	case slurm.Deadline:
		return "it could not end before its --deadline", "submit it with a later one"
	case slurm.Failed:
	default:
		return "Slurm says " + string(j.State) + where, "`scontrol show job` says more"
	}
	do = "the last lines of its output say why"
	switch {
	case j.Signal != 0:
		return fmt.Sprintf("its script was ended by signal %d%s", j.Signal, where), do
	case j.Reason == "JobLaunchFailure":
		return "a node could not start it" + where, "look whether the directory of its output exists there; else tell the site"
	case j.Reason == "Prolog":
		return "the site's preparation of a node failed" + where, "submit it again, and tell the site"
	}
	why = fmt.Sprintf("it ended with exit code %d%s", j.ExitCode, where)
	for _, row := range ExitCodes {
		if ours && row.Code == strconv.Itoa(j.ExitCode) {
			why += ": " + row.Meaning
		}
	}
	return why, do
}
