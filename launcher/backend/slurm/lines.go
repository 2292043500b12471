package slurm

import (
	"strconv"
	"strings"

	"github.com/maniple-hpc/maniple/slurm"
)

// cutLabel takes srun's "12: " off a line. task is -1 where there is none.
func cutLabel(line string) (task int, rest string) {
	label, rest, ok := strings.Cut(line, ": ")
	if !ok { // an empty line of a task is "12:"
		if label, ok = strings.CutSuffix(line, ":"); !ok {
			return -1, line
		}
		rest = ""
	}
	n, err := strconv.Atoi(strings.TrimLeft(label, " "))
	if err != nil || n < 0 {
		return -1, line
	}
	return n, rest
}

// News kinds: what a line of srun's standard error means for us.
const (
	newsNone     = iota
	newsFailed   // Slurm declared nodes failed
	newsTaskEnd  // a task ended with an error
	newsStopping // Slurm ends the step or the job
	newsNoFile   // the program is not on a node
	newsNoLaunch // a node could not be told to start its task
)

// news is what a line of srun's standard error says.
type news struct {
	kind  int
	nodes []string
	cause slurm.Cause
	text  string
}

// readNews understands what srun and slurmstepd print about a step (22.05 and 24.11).
func readNews(line, binary string) news {
	_, line = cutLabel(line)
	text := line
	for _, prefix := range []string{"srun: ", "slurmstepd: ", "error: ", "launch/slurm: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if i := strings.Index(text, ": error: "); i > 0 && strings.HasPrefix(text, "slurmstepd-") {
		text = text[i+len(": error: "):]
	}
	n := news{text: text}
	switch {
	case strings.HasPrefix(text, "Node failure on "):
		n.kind, n.nodes = newsFailed, hosts(strings.TrimPrefix(text, "Node failure on "))
	case strings.Contains(text, "CANCELLED AT "):
		n.kind, n.cause = newsStopping, slurm.CauseCancelled
		for phrase, cause := range map[string]slurm.Cause{
			"DUE TO TIME LIMIT": slurm.CauseTimeLimit, "DUE TO PREEMPTION": slurm.CausePreempted,
			"DUE TO JOB REQUEUE": slurm.CauseRequeued, "DUE TO NODE FAILURE": slurm.CauseNodeFail,
		} {
			if strings.Contains(text, phrase) {
				n.cause = cause
			}
		}
		n.text = strings.Trim(text, "* ")
	case strings.HasPrefix(text, "execve(): "+binary+": ") || strings.Contains(text, "couldn't find "+binary):
		n.kind = newsNoFile
	case strings.Contains(text, "Task launch for StepId=") && strings.Contains(text, " failed on node "):
		_, after, _ := strings.Cut(text, " failed on node ")
		node, why, _ := strings.Cut(after, ": ")
		n.kind, n.nodes, n.text = newsNoLaunch, hosts(node), why
	default:
		// "n[1-2]: tasks 0-1: Exited with exit code 2", "n3: task 2: Killed"
		list, rest, ok := strings.Cut(text, ": task")
		if !ok {
			break
		}
		_, why, ok := strings.Cut(strings.TrimPrefix(rest, "s"), ": ")
		if nodes := hosts(list); ok && len(nodes) > 0 {
			n.kind, n.nodes, n.text = newsTaskEnd, nodes, why
		}
	}
	return n
}

// hosts reads a host list; what is none is no hosts.
func hosts(s string) []string {
	list, err := slurm.ParseHosts(strings.TrimSpace(s))
	if err != nil {
		return nil
	}
	return list
}
