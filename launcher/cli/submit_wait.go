package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/exec"
)

const (
	// The controller is asked a tenth of the time waited so far later, at most once a minute: a job of
	// ten seconds is noticed within a second, a day costs 1,500 small questions.
	pollLeast, pollMost = time.Second, time.Minute
	// readEvery is how often the output file is looked at.
	readEvery = 250 * time.Millisecond
)

// waitJob waits for the job's end and gives its exit code. With --follow it prints the output meanwhile.
func (c *call) waitJob(j *job, client *exec.Client) error {
	ctx, stop := signal.NotifyContext(c.ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := &jobWatch{call: c, job: j, client: client}
	var out *follower
	if j.own["follow"] != "" {
		out = &follower{path: j.outputPath(), to: c.stdout}
		if j.own["json"] != "" {
			out.to = &records{to: c.stdout, stream: "stdout"}
		}
		defer out.close()
	}
	began, asked := time.Now(), time.Now()
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.say("submit: job %d goes on; `scancel %d` ends it", j.id, j.id)
			return exitOnly(130)
		case <-tick.C:
		}
		if out != nil {
			out.copy()
		}
		if time.Since(asked) < min(max(pollLeast, time.Since(began)/10), pollMost) {
			continue
		}
		over, err := w.ask(ctx)
		if err != nil && ctx.Err() == nil {
			return slurmFault("submit", err)
		}
		asked = time.Now()
		if over {
			break
		}
	}
	if out != nil {
		out.drain(ctx)
	}
	return w.end()
}

// jobWatch follows a job's state.
type jobWatch struct {
	*call
	job    *job
	client *exec.Client
	said   string
	seen   []*slurm.Job
	silent time.Time // since when the controller gives no answer
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
	w.seen = jobs
	over = true
	for _, j := range jobs {
		over = over && j.Over()
	}
	if line := describeJobs(jobs); line != w.said && !over {
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

// end gives the job's exit code; of an array that of the first task that failed.
func (w *jobWatch) end() error {
	code, failed := 0, (*slurm.Job)(nil)
	for _, j := range w.seen {
		if r := j.Result(); r != 0 && failed == nil {
			code, failed = r, j
		}
	}
	if failed == nil {
		return nil
	}
	why := string(failed.State)
	switch {
	case failed.State == slurm.Failed && failed.Signal != 0:
		why += fmt.Sprintf(", signal %d", failed.Signal)
	case failed.State == slurm.Failed:
		why += fmt.Sprintf(", exit code %d", failed.ExitCode)
	case failed.Reason != "":
		why += " (" + failed.Reason + ")"
	}
	if failed.Nodes != "" {
		why += " on " + failed.Nodes
	}
	w.say("submit: job %d: %s; output in %s", failed.ID, why, w.job.outputPath())
	return exitOnly(code)
}

// follower prints a file as it grows.
type follower struct {
	path string
	to   io.Writer
	file *os.File
	read int64
}

func (f *follower) copy() (n int64) {
	if f.file == nil {
		file, err := os.Open(f.path)
		if err != nil {
			return 0 // not there yet
		}
		f.file = file
	}
	if info, err := f.file.Stat(); err == nil && info.Size() < f.read {
		f.file.Seek(0, io.SeekStart) // a requeued job began it anew
		f.read = 0
	}
	n, _ = io.Copy(f.to, f.file) // what cannot be read now is read the next time
	f.read += n
	return n
}

// drain reads on until the file has not grown for a moment: its last lines may come late over a network.
func (f *follower) drain(ctx context.Context) {
	for range 4 {
		if f.copy() == 0 && f.file != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(readEvery):
		}
	}
}

func (f *follower) close() {
	if r, ok := f.to.(*records); ok && len(r.part) > 0 {
		r.Write([]byte("\n")) // a last line without its end
	}
	if f.file != nil {
		f.file.Close()
	}
}
