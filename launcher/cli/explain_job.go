package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

// maxTasks is how many tasks of an array are told one by one.
const maxTasks = 20

var jobPattern = regexp.MustCompile(`^[0-9]+([_+][0-9]+)?$`)

// isJob tells whether s is written as a Slurm job is: 12, 12_3, 12+1.
func isJob(s string) bool { return jobPattern.MatchString(s) }

// jobView is a job in the answer of explain --json.
type jobView struct {
	ID        string   `json:"id"`
	Name      string   `json:"name,omitempty"`
	State     string   `json:"state"`
	Over      bool     `json:"over"`
	Reason    string   `json:"reason,omitempty"` // Slurm's word
	Why       string   `json:"why"`
	Do        string   `json:"do,omitempty"`
	Nodes     string   `json:"nodes,omitempty"`
	ExitCode  int      `json:"exit_code"`
	Submitted string   `json:"submitted,omitempty"`
	Started   string   `json:"started,omitempty"`
	Ended     string   `json:"ended,omitempty"`
	Output    string   `json:"output,omitempty"`
	Command   []string `json:"command,omitempty"`
}

// explainJob says why a job of Slurm waits or how it ended, from one question to Slurm and what `submit`
// noted. otherwise is the error where neither knows anything.
func (c *call) explainJob(id string, otherwise error) error {
	record := c.readRecord(id)
	client := &exec.Client{Environ: c.environ}
	jobs, err := client.Jobs(c.ctx, id)
	tasks := 0
	if record != nil && record.JobID == id {
		tasks = record.Tasks
	}
	running, known := false, 0
	for _, j := range jobs {
		running, known = running || !j.Over(), known+arrayTasks(j.ArrayTask)
	}
	if errors.Is(err, slurm.ErrNoJob) || err == nil && !running && known < tasks { // it, or some of it, ended a while ago: the accounts may know
		if ended, aerr := client.Ended(c.ctx, id); aerr == nil && len(ended) > 0 {
			ended = slices.DeleteFunc(ended, func(e *slurm.Job) bool {
				return slices.ContainsFunc(jobs, func(j *slurm.Job) bool { return fullID(j) == fullID(e) })
			})
			jobs, err = append(jobs, ended...), nil
		}
	}
	switch {
	case errors.Is(err, slurm.ErrMissing) && record == nil:
		return otherwise // no Slurm here, and no job of one
	case errors.Is(err, slurm.ErrNoJob) && record == nil:
		return &Fault{Name: "USAGE", What: "explain", Why: "no job " + id + " is known to Slurm any more, and it was not submitted by `maniple submit` from here",
			Do: "`squeue --me` and `sacct` list yours", Err: err}
	case errors.Is(err, slurm.ErrNoJob):
		return c.tellJob(id, []jobView{forgotten(id, record)}, tasks)
	case err != nil:
		fault := slurmFault("explain", err)
		if record != nil {
			c.say("explain: the output of job %s goes to %s", id, record.Output)
		}
		return fault
	}
	views := make([]jobView, len(jobs))
	for i, j := range jobs {
		views[i] = viewOf(j, record, time.Now())
		if j.State == slurm.Running && !slices.Contains(j.Flags, slurm.Completing) {
			if name := strconv.FormatInt(cmp.Or(j.HetID, j.ID), 10); c.isUp(name) {
				views[i].Do = "`maniple explain --cluster " + name + "` says what its gangs do"
			}
		}
	}
	return c.tellJob(id, views, tasks)
}

// isUp tells whether a cluster of that name is found from here.
func (c *call) isUp(name string) bool {
	_, err := boot.Find(c.getenv, name)
	return err == nil
}

// forgotten is a job of which Slurm keeps nothing.
func forgotten(id string, r *jobRecord) jobView {
	return jobView{ID: id, Name: r.Name, State: "UNKNOWN", Over: true, Why: "it is over, and Slurm no longer says how",
		Do: "its output tells", Submitted: r.Submitted.Format(time.RFC3339), Output: r.Output, Command: r.Command}
}

func viewOf(j *slurm.Job, r *jobRecord, now time.Time) jobView {
	v := jobView{ID: fullID(j), Name: j.Name, State: string(j.State), Over: j.Over(), Reason: j.Reason, Nodes: j.Nodes, ExitCode: j.Result(), Output: j.StdOut}
	for _, at := range []struct {
		to *string
		t  time.Time
	}{{&v.Submitted, j.Submitted}, {&v.Started, j.Started}, {&v.Ended, j.End}} {
		if !at.t.IsZero() && (at.to != &v.Ended || j.State.Final()) {
			*at.to = at.t.Format(time.RFC3339)
		}
	}
	if r != nil {
		v.Output, v.Command = cmp.Or(v.Output, r.Output), r.Command
	}
	switch {
	case j.State == slurm.Pending:
		v.Why, v.Do = whyPending(j.Reason)
		if !j.Started.IsZero() && j.Started.After(now) {
			v.Why += "; Slurm expects to start it at " + j.Started.Format("2006-01-02 15:04")
		}
	case j.State.Final():
		v.Why, v.Do = howEnded(j, r != nil)
	case slices.Contains(j.Flags, slurm.Completing):
		v.Why, v.Do = "it is ending: Slurm cleans up on "+j.Nodes, "wait a moment"
	case j.State == slurm.Running:
		v.Why = "it runs on " + j.Nodes
		if j.Limit > 0 && j.Limit != slurm.Infinite && j.End.After(now) {
			v.Why += fmt.Sprintf(", for %s more at most", slurm.FormatDuration(j.End.Sub(now).Truncate(time.Second)))
		}
	default:
		v.Why, v.Do = "Slurm says "+string(j.State), "`scontrol show job "+v.ID+"` says more"
	}
	return v
}

// fullID is a job's ID as users write it.
func fullID(j *slurm.Job) string {
	switch {
	case j.ArrayTask != "" && j.ArrayID != 0:
		return fmt.Sprintf("%d_%s", j.ArrayID, j.ArrayTask)
	case j.HetID != 0:
		return fmt.Sprintf("%d+%d", j.HetID, j.HetOffset)
	}
	return strconv.FormatInt(j.ID, 10)
}

// tellJob prints it in the form of the cluster's own explanations. tasks: how many an array was submitted with; 0: it is none, or nobody knows.
func (c *call) tellJob(id string, jobs []jobView, tasks int) error {
	var lines []string
	for i, v := range jobs {
		if i == maxTasks {
			lines = append(lines, fmt.Sprintf("and %d more: `squeue -r -j %s`", len(jobs)-i, id))
			break
		}
		lines = append(lines, v.lines()...)
	}
	over, known := true, 0
	for _, v := range jobs {
		_, task, _ := strings.Cut(v.ID, "_")
		over, known = over && v.Over, known+arrayTasks(task)
	}
	if over && known < tasks {
		lines = append(lines, fmt.Sprintf("%d of %d tasks are told of here: Slurm no longer says how the others ended", known, tasks))
	}
	text := strings.Join(lines, "\n") + "\n"
	if !c.on("json") {
		fmt.Fprint(c.stdout, text)
		return nil
	}
	reply := struct {
		Version int `json:"version"`
		stateExplain
		Jobs  []jobView `json:"jobs"`
		Tasks int       `json:"tasks,omitempty"`
	}{Version: 1, Jobs: jobs, Tasks: tasks}
	reply.Explain.Kind, reply.Explain.ID, reply.Explain.Text = "job", id, text
	return c.json(reply)
}

func (v *jobView) lines() []string {
	name := v.ID
	if v.Name != "" {
		name += " (" + v.Name + ")"
	}
	state := v.State
	if v.Reason != "" {
		state += " (" + v.Reason + ")"
	}
	list := []string{fmt.Sprintf("job %s: %s", name, state), "  " + v.Why}
	if v.Do != "" {
		list = append(list, "  -> "+v.Do)
	}
	if v.Output == "" {
		return list
	}
	there := ""
	if _, err := os.Stat(v.Output); err != nil {
		there = " (not there yet)"
		if slurm.State(v.State).Final() {
			there = " (it is not there, seen from this machine)"
		}
	}
	return append(list, "  output: "+v.Output+there)
}
