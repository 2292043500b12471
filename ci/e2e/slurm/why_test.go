//go:build e2e

package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/slurm"
)

// resumes puts resumes.py into the queue, four ranks that take two seconds to save, and waits until they run.
func resumes(t *testing.T, c *e2e.Cluster, dir string, flags ...string) (id string) {
	t.Helper()
	where := programs(t, c)
	argv := append(append([]string{c.Binary, "submit", "--parsable", "--open-mode=append"}, twoByTwo...), flags...)
	id = e2e.JobID(t, c.Run(t, short, dir, append(argv, "--", "/usr/bin/python3", filepath.Join(where, "resumes.py"), dir)...))
	t.Cleanup(func() {
		if !c.Job(t, id).Over() {
			c.Root(t, "scancel", id)
		}
	})
	ready(t, c, dir, id, 4)
	for _, path := range readies(dir) { // a second run leaves its own
		os.Remove(path)
	}
	return id
}

func readies(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "ready.*")) // the pattern is valid
	return files
}

// saved reads how far each of the ranks had got when it saved; 0: it did not.
func saved(dir string) (steps [4]int) {
	for rank := range steps {
		steps[rank], _ = strconv.Atoi(strings.TrimSpace(e2e.Read(filepath.Join(dir, fmt.Sprintf("checkpoint.%d", rank)))))
	}
	return steps
}

func allSaved(t *testing.T, dir, id string) {
	t.Helper()
	for rank, step := range saved(dir) {
		if step == 0 {
			t.Errorf("rank %d could not save:\n%s", rank, output(dir, id))
		}
	}
}

// lastLine is the last line of the job's output that is maniple's.
func lastLine(out string) (last string) {
	for line := range strings.Lines(out) {
		if text, ours := strings.CutPrefix(line, "maniple: "); ours {
			last = strings.TrimSpace(text)
		}
	}
	return last
}

// scancel: the ranks can save, the state is Slurm's, and the last line says who ended it and what that means.
func TestScancelIsNamed(t *testing.T) {
	c := e2e.Slurm(t)
	for _, f := range []struct{ name, script string }{{"submit", ""}, {"batch script", "run"}} {
		t.Run(f.name, func(t *testing.T) {
			dir := c.Folder(t)
			var id string
			if f.script == "" {
				id = resumes(t, c, dir)
			} else { // an ordinary script, whose shell Slurm signals as well
				script := c.Write(t, filepath.Join(dir, "job.sh"), "#!/bin/bash\n#SBATCH -N2 --ntasks-per-node=2\ntrap : TERM\n\"$MANIPLE\" run -- /usr/bin/python3 "+filepath.Join(programs(t, c), "resumes.py")+" "+dir+"\necho \"code $?\"; exit 5\n", 0o755)
				id = e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", script))
				ready(t, c, dir, id, 4)
			}
			c.ResetRequests(t)
			if r := c.Run(t, short, dir, "scancel", id); r.Code != 0 {
				t.Fatal(r)
			}
			e2e.Until(t, short, "the job is over", func() bool { return len(c.Processes()) == 0 })
			if n := c.Requests(t)["REQUEST_JOB_INFO_SINGLE"]; n != 1 {
				t.Errorf("asked %d times why", n)
			}
			j := over(t, c, id, short)
			out := output(dir, id)
			if want := "job " + id + " was cancelled (scancel); it is not put back into the queue"; j.State != slurm.Cancelled || !strings.HasPrefix(lastLine(out), want) {
				t.Errorf("%s, no %q at the end of\n%s", j.State, want, out)
			}
			if f.script == "" && j.Result() != 143 || f.script != "" && (!strings.Contains(out, "code 143") || j.Result() != 5) {
				t.Errorf("result %d\n%s", j.Result(), out)
			}
			allSaved(t, dir, id)
			c.Clean(t)
		})
	}
}

// The time limit: Slurm's word is TIMEOUT, every rank gets its TERM and the time to save before KILL, the
// last line names the limit, nothing is left.
func TestTimeLimit(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := resumes(t, c, dir, "-t", "1")
	j := over(t, c, id, 3*time.Minute)
	if j.State != slurm.Timeout || j.Result() != 143 {
		t.Errorf("%s, result %d\n%s", j.State, j.Result(), output(dir, id))
	}
	if out := output(dir, id); !strings.HasPrefix(lastLine(out), "job "+id+" reached its time limit of ") {
		t.Errorf("the last line does not say why:\n%s", out)
	}
	allSaved(t, dir, id)
	c.Clean(t)
}

// again waits until a job runs for the second time with all its ranks.
func again(t *testing.T, c *e2e.Cluster, dir, id string) {
	t.Helper()
	e2e.Until(t, 2*time.Minute, "job "+id+" runs again", func() bool { return len(readies(dir)) == 4 })
}

// resumed checks the second run: it began where the first had saved, in one output file, as the same job.
func resumed(t *testing.T, c *e2e.Cluster, dir, id string, before [4]int, why string) {
	t.Helper()
	for _, p := range c.Processes() { // of the first run, which has another epoch
		if pid, _, _ := strings.Cut(p, " "); strings.Contains(p, "resumes.py") {
			env := e2e.Read("/proc/" + pid + "/environ")
			if !strings.Contains(env, "\x00SLURM_RESTART_COUNT=1\x00") {
				t.Errorf("left of the first run: %s", p)
			}
		}
	}
	c.Write(t, filepath.Join(dir, "go"), "", 0o644)
	j := over(t, c, id, short)
	out := output(dir, id)
	if j.State != slurm.Completed || j.Result() != 0 || j.Restarts != 1 {
		t.Errorf("%s, result %d, %d restarts\n%s", j.State, j.Result(), j.Restarts, out)
	}
	one, two, ok := strings.Cut(out, "put back into the queue (scontrol requeue); Slurm runs it again")
	if why == "preempted" {
		one, two, ok = strings.Cut(out, "was preempted: a job of higher priority needs the nodes; Slurm runs it again")
	}
	if !ok || !regexp.MustCompile(`from step 0, start 0`).MatchString(one) {
		t.Errorf("the first run and its reason are not in the output:\n%s", out)
	}
	for rank, step := range before {
		if step == 0 || !strings.Contains(two, fmt.Sprintf("from step %d, start 1", step)) {
			t.Errorf("rank %d saved step %d and did not go on from there:\n%s", rank, step, out)
		}
	}
	c.Clean(t)
}

// scontrol requeue under a running gang.
func TestRequeue(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := resumes(t, c, dir, "--requeue")
	c.Root(t, "scontrol", "requeue", id)
	e2e.Until(t, short, "nothing of the first run is left", func() bool { return len(c.Processes())+len(c.Leftovers(t)) == 0 })
	if !strings.Contains(output(dir, id), "job "+id+" was put back into the queue") {
		t.Errorf("the last lines do not say why:\n%s", output(dir, id))
	}
	before := saved(dir)
	allSaved(t, dir, id)
	again(t, c, dir, id)
	resumed(t, c, dir, id, before, "requeued")
}

// Preemption. Slurm tells the step first, and takes the nodes when the partition's grace time is over: the
// job is put back into the queue, though its gang ended long before.
func TestPreemption(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	id := resumes(t, c, dir, "--requeue", "--exclusive", "-w", "n[3-4]")
	high := e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", "-p", "high", "-N2", "-w", "n[3-4]", "--exclusive", "-o", "/dev/null", "--wrap", "true"))
	over(t, c, high, 3*time.Minute) // it had the nodes
	before := saved(dir)
	allSaved(t, dir, id)
	if out := output(dir, id); !strings.Contains(out, "job "+id+" was preempted") {
		t.Errorf("the output does not say why:\n%s", out)
	}
	again(t, c, dir, id)
	resumed(t, c, dir, id, before, "preempted")
}
