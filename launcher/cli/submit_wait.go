package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

// The controller is asked a tenth of the time waited so far later, at most once a minute: a job of
// ten seconds is noticed within a second, a day costs 1,500 small questions.
var pollLeast = time.Second // tests ask sooner

const (
	pollMost = time.Minute
	// readEvery is how often the output file is looked at.
	readEvery = 250 * time.Millisecond
)

// waitJob waits for the job's end and gives its exit code. With --follow it prints the output meanwhile.
func (c *call) waitJob(j *job, client *exec.Client) error {
	ctx, sigs := watchSignals(c.ctx)
	defer sigs.stop()
	w := &jobWatch{call: c, job: j, client: client, began: time.Now()}
	out := newOutputs(j, c.stdout)
	defer out.close()
	asked, over := w.began, false
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if over {
				return w.end() // what was to be read still is not there
			}
			c.say("submit: job %d goes on; `scancel %d` ends it", j.id, j.id)
			return exitOf(ctx)
		case <-tick.C:
		}
		if left := out.copy(); over && !left {
			return w.end()
		}
		if over || time.Since(asked) < min(max(pollLeast, time.Since(w.began)/10), pollMost) {
			continue
		}
		var err error
		if over, err = w.ask(ctx); err != nil && ctx.Err() == nil {
			return slurmFault("submit", err)
		}
		asked = time.Now()
		out.see(w.seen)
	}
}

// jobWatch follows a job's state.
type jobWatch struct {
	*call
	job    *job
	client *exec.Client
	began  time.Time
	said   string
	seen   []*slurm.Job // by task; those that the controller has forgotten are among them
	silent time.Time    // since when the controller gives no answer
}

// ask looks at the job (all tasks of an array), tells what changed, and says whether it is over.
func (w *jobWatch) ask(ctx context.Context) (over bool, err error) {
	id := fmt.Sprint(w.job.id)
	jobs, err := w.client.Jobs(ctx, id)
	if errors.Is(err, slurm.ErrNoJob) {
		jobs, err = w.client.Ended(ctx, id) // the controller has forgotten it
		if err == nil && len(jobs) == 0 {
			err = &slurm.Error{Op: "wait", Kind: slurm.ErrNoJob, Text: "job " + id + " is no longer known", Do: "its output is in " + w.job.outputPath()}
		}
	}
	if errors.Is(err, slurm.ErrUnreachable) || errors.Is(err, slurm.ErrTooSlow) {
		if w.silent.IsZero() {
			w.silent = time.Now()
			w.say("submit: the controller does not answer; still waiting")
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w.silent = time.Time{}
	w.seen = joined(w.seen, jobs)
	over = true
	for _, j := range w.seen {
		over = over && j.Over()
	}
	if line := describeJobs(w.seen); line != w.said && !over {
		w.said = line
		w.say("submit: job %s: %s", id, line)
	}
	return over, nil
}

// describeJobs is the state in one line.
func describeJobs(jobs []*slurm.Job) string {
	var parts []string
	for _, j := range jobs {
		s := string(j.State)
		switch {
		case j.State == slurm.Pending && j.Reason != "":
			s += " (" + j.Reason + ")"
		case len(j.Flags) > 0:
			s = string(j.Flags[0])
		case j.State == slurm.Running:
			s += " on " + j.Nodes
		}
		if len(jobs) > 1 && j.ArrayTask != "" {
			s = j.ArrayTask + " " + s
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

// joined is what is known of a job's tasks: what the controller says now, and the ends of those that it has forgotten
// since. In the order of the tasks, so that which one failed first is the same each time.
func joined(before, now []*slurm.Job) []*slurm.Job {
	same := func(a, b *slurm.Job) bool {
		return a.ArrayTask == b.ArrayTask && (a.ArrayTask != "" || a.ID == b.ID)
	}
	all := slices.Clone(now)
	for _, j := range before {
		if j.Over() && !slices.ContainsFunc(now, func(k *slurm.Job) bool { return same(j, k) }) {
			all = append(all, j)
		}
	}
	slices.SortStableFunc(all, func(a, b *slurm.Job) int {
		n, _ := strconv.Atoi(a.ArrayTask) // "4-9" of those that wait: they come first, and have not failed
		m, _ := strconv.Atoi(b.ArrayTask)
		return n - m
	})
	return all
}

// end gives the job's exit code; of an array that of the first task that failed.
func (w *jobWatch) end() error {
	last := w.seen[0]
	for _, j := range slices.Backward(w.seen) {
		if j.Result() != 0 {
			last = j
		}
	}
	code := last.Result()
	if w.job.own["json"] != "" {
		if err := w.endRecord(last); err != nil {
			return err
		}
	}
	if code == 0 {
		return nil
	}
	why := string(last.State)
	switch {
	case last.State == slurm.Failed && last.Signal != 0:
		why += fmt.Sprintf(", signal %d", last.Signal)
	case last.State == slurm.Failed:
		why += fmt.Sprintf(", exit code %d", last.ExitCode)
	case last.Reason != "":
		why += " (" + last.Reason + ")"
	}
	if last.Nodes != "" {
		why += " on " + last.Nodes
	}
	name, path := fmt.Sprint(last.ID), w.job.outputPath()
	if w.job.array() && last.ArrayTask != "" {
		name, path = fmt.Sprintf("%d_%s", w.job.id, last.ArrayTask), w.job.pathOf(last)
	}
	w.say("submit: job %s: %s; output in %s", name, why, path)
	return exitOnly(code)
}

// taskEnd is how a task of an array ended.
type taskEnd struct {
	Task   string `json:"task"`
	State  string `json:"state"`
	Code   int    `json:"code"`
	Reason string `json:"reason,omitempty"` // Slurm's word
	Node   string `json:"node,omitempty"`
	Signal int    `json:"signal,omitempty"`
}

func endOfTask(j *slurm.Job) taskEnd {
	return taskEnd{j.ArrayTask, string(j.State), j.Result(), j.Reason, j.Nodes, j.Signal}
}

// endRecord is the last line of stdout with --json, as that of `run`: how the job ended, of an array the first task
// that failed, and each of them.
func (w *jobWatch) endRecord(last *slurm.Job) error {
	record := struct {
		Version int    `json:"version"`
		Event   string `json:"event"`
		Name    string `json:"name"`
		JobID   string `json:"job_id"`
		Cluster string `json:"cluster,omitempty"`
		taskEnd
		Task    string    `json:"task,omitempty"`
		Seconds float64   `json:"seconds"`
		Command []string  `json:"command"`
		Tasks   []taskEnd `json:"tasks,omitempty"`
	}{1, "end", w.job.name, fmt.Sprint(w.job.id), w.job.cluster, endOfTask(last), "", float64(time.Since(w.began).Milliseconds()) / 1000, w.job.command, nil}
	if w.job.array() {
		for _, j := range w.seen {
			record.Tasks = append(record.Tasks, endOfTask(j))
		}
		if record.Code != 0 {
			record.Task = last.ArrayTask
		}
	}
	return w.json(record)
}
