package slurm

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Job is what squeue, scontrol or sacct says about a job. What the one at hand does not say is zero.
type Job struct {
	ID        int64
	ArrayID   int64  // of the whole array, 0 outside of one
	ArrayTask string // "3", or "[1-9]" while pending
	HetID     int64
	HetOffset int
	Name      string
	User      string
	Partition string
	State     State
	Flags     []State // beside it: COMPLETING, REQUEUED, ...
	Reason    string  // why it waits, or why it ended: Slurm's word
	Nodes     string  // folded
	NumNodes  int
	Restarts  int
	Requeue   bool

	Submitted, Started, End time.Time // End: when it ended, or when its time will be over
	Limit                   time.Duration
	PreemptTime             time.Time // set while it is being preempted

	ExitCode int // of the batch script
	Signal   int // that ended it

	WorkDir, StdOut, StdErr string
	Command, Comment        string
	TRES                    TRES
}

// Over says whether the job has ended for good: its state is final and nothing of it is being cleaned up.
func (j *Job) Over() bool {
	for _, f := range j.Flags {
		if f == Completing || f == Requeued || f == RequeueHold || f == RequeueFed || f == SpecialExit {
			return false
		}
	}
	return j.State.Final()
}

// Result is the exit code that a command waiting for the job gives: the job's own, 128+N for a signal,
// and for an end that says neither what Slurm's word for it means.
func (j *Job) Result() int {
	switch {
	case j.State == Preempted || j.State == BootFail:
		return 75 // the site's doing: try again
	case j.ExitCode != 0:
		return j.ExitCode
	case j.State == Completed:
		return 0
	case j.State == NodeFail || j.State == OutOfMemory:
		return 137
	case j.State == Timeout || j.State == Deadline || j.State == Cancelled:
		return 143 // began with SIGTERM, whichever signal was the last
	case j.Signal != 0:
		return 128 + j.Signal
	case j.State.Final():
		return 1
	}
	return 0
}

// ParseJob reads one line of `scontrol -o show job`.
func ParseJob(line string, zone *time.Location) (*Job, error) {
	f := parseFields(line)
	id, err := strconv.ParseInt(f["JobId"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("slurm: job: no JobId in %q", clip(line))
	}
	j := &Job{
		ID: id, ArrayTask: f["ArrayTaskId"], Name: f["JobName"], Partition: f["Partition"], State: ParseState(f["JobState"]),
		Reason: word(f["Reason"]), Nodes: word(f["NodeList"]), Requeue: f["Requeue"] == "1", WorkDir: f["WorkDir"],
		StdOut: f["StdOut"], StdErr: f["StdErr"], Command: word(f["Command"]), Comment: word(f["Comment"]),
	}
	j.User, _, _ = strings.Cut(f["UserId"], "(")
	j.ArrayID = atoi(f["ArrayJobId"])
	j.HetID, j.HetOffset = atoi(f["HetJobId"]), int(atoi(f["HetJobOffset"]))
	count, _, _ := strings.Cut(f["NumNodes"], "-") // a pending job shows a range
	j.NumNodes, j.Restarts = int(atoi(count)), int(atoi(f["Restarts"]))
	code, signal, _ := strings.Cut(f["ExitCode"], ":")
	j.ExitCode, j.Signal = int(atoi(code)), int(atoi(signal))
	for _, at := range []struct {
		to   *time.Time
		name string
	}{{&j.Submitted, "SubmitTime"}, {&j.Started, "StartTime"}, {&j.End, "EndTime"}, {&j.PreemptTime, "PreemptTime"}} {
		if *at.to, err = ParseTime(f[at.name], zone); err != nil {
			return nil, err
		}
	}
	// "Partition_Limit" and the like are no times, and no errors.
	if d, err := ParseDuration(f["TimeLimit"]); err == nil {
		j.Limit = d
	}
	tres := f["AllocTRES"] // 24.11 has ReqTRES and AllocTRES, 22.05 one field
	if none(tres) {
		tres = f["TRES"]
	}
	if none(tres) {
		tres = f["ReqTRES"]
	}
	if t, err := ParseTRES(tres); err == nil {
		j.TRES = t
	}
	if j.State == Completing {
		// scontrol shows COMPLETING instead of the state that the job comes to; the exit code tells.
		j.State, j.Flags = Running, []State{Completing}
	}
	return j, nil
}

// ParseJobs reads the whole output of `scontrol -o show job`.
func ParseJobs(out string, zone *time.Location) ([]*Job, error) {
	var jobs []*Job
	for _, line := range strings.Split(out, "\n") {
		if !strings.HasPrefix(line, "JobId=") {
			continue
		}
		j, err := ParseJob(line, zone)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// ParseNodeGPUs reads from `scontrol -o -d show job` how many GPUs a job has on each of its nodes. With
// --gpus alone nodes may differ.
func ParseNodeGPUs(out string) (map[string]int, error) {
	gpus := map[string]int{}
	for _, line := range strings.Split(out, "\n") {
		for _, part := range strings.Split(line, " Nodes=")[1:] {
			list, rest, _ := strings.Cut(part, " ")
			nodes, err := ParseHosts(list)
			if err != nil {
				return nil, err
			}
			_, text, _ := strings.Cut(rest, "GRES=")
			text, _, _ = strings.Cut(text, " ")
			gres, err := ParseGRES(text)
			if err != nil {
				return nil, err
			}
			for _, n := range nodes {
				gpus[n] += 0
				for _, g := range gres {
					if g.Name == "gpu" {
						gpus[n] += int(g.Count)
					}
				}
			}
		}
	}
	return gpus, nil
}

// parseFields cuts "Key=value Key=value ..." where values may have spaces: a field begins at a space
// followed by a capital letter and letters up to "=". Of a repeated key the first counts, so that a
// comment at the end of the line changes nothing before it.
func parseFields(line string) map[string]string {
	fields := map[string]string{}
	start, key := 0, ""
	flush := func(end int) {
		if key != "" {
			if _, have := fields[key]; !have {
				fields[key] = strings.TrimSpace(line[start:end])
			}
		}
	}
	for i := 0; i < len(line); i++ {
		if i > 0 && line[i-1] != ' ' || line[i] < 'A' || line[i] > 'Z' {
			continue
		}
		n := strings.IndexByte(line[i:], '=')
		if n < 0 {
			break
		}
		if name := line[i : i+n]; !strings.ContainsAny(name, " ,\"'") {
			flush(i)
			key, start = name, i+n+1
			i += n
			if key == "JobName" { // free text: UserId= comes next, or HetJobIdSet= and UserId=
				if n := strings.Index(line[i:], " UserId="); n > 0 {
					if m := strings.LastIndex(line[i:i+n], " HetJobIdSet="); m > 0 {
						n = m
					}
					i += n - 1
				}
			}
		}
	}
	flush(len(line))
	return fields
}

// word is s, or "" where Slurm means nothing by it.
func word(s string) string {
	if none(s) || s == "None" || s == "Unknown" {
		return ""
	}
	return s
}

func atoi(s string) int64 {
	n, err := parseNumber(s)
	if err != nil {
		return 0
	}
	return n
}
