//go:build e2e

package slurm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/slurm"
)

// Slurm gets the script that --dry-run shows, and understands its flags as they were given.
func TestDryRunIsWhatSlurmGets(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	const comment = `a "b" 'c' $d #e \f`
	args := []string{"submit", "-H", "-N", "2", "-J", "two words", "--comment", comment, "-t", "7", "--", "/bin/echo", "x y"}
	shown := c.Run(t, short, dir, append([]string{c.Binary, args[0], "--dry-run"}, args[1:]...)...)
	id := e2e.JobID(t, c.Run(t, short, dir, append([]string{c.Binary, args[0], "--parsable"}, args[1:]...)...))
	defer c.Root(t, "scancel", id)
	if j := c.Job(t, id); j.Name != "two words" || j.Comment != comment || j.Limit.Minutes() != 7 || j.State != slurm.Pending || j.WorkDir != dir {
		t.Errorf("%+v", j)
	}
	if got := c.Root(t, "scontrol", "write", "batch_script", id, "-"); strings.TrimSpace(got) != strings.TrimSpace(shown.Stdout) {
		t.Errorf("Slurm got\n%s\nand not\n%s", got, shown.Stdout)
	}
	if r := c.Run(t, short, dir, "bash", "-n", c.Write(t, filepath.Join(dir, "shown.sh"), shown.Stdout, 0o755)); r.Code != 0 {
		t.Error(r.Stderr)
	}
}

// --follow prints the output while the job runs, and nothing stays on the login node without it.
func TestFollow(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "talk.sh"), "#!/bin/sh\nfor i in 1 2 3; do echo line $i; sleep 0.5; done\nexit 6\n", 0o755)
	r := c.Run(t, short, dir, c.Binary, "submit", "--follow", "--", script)
	id := e2e.JobID(t, r)
	if _, out, _ := strings.Cut(r.Stdout, "\n"); out != output(dir, id) || !strings.Contains(out, "line 3") || r.Code != 6 {
		t.Errorf("exit %d, printed\n%s\nthe file has\n%s", r.Code, r.Stdout, output(dir, id))
	}
	id = submit(t, c, dir, twoByTwo, 4)
	for _, p := range c.Processes() {
		if strings.Contains(p, "submit") {
			t.Errorf("on the login node: %s", p)
		}
	}
	c.Root(t, "scancel", id)
	over(t, c, id, short)
	c.Clean(t)
}

// Checks before the queue, on the partitions of a real Slurm, and its own refusals in our words.
func TestRefusals(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"-p lwo -- /bin/true", 64, "did you mean low?"},
		{"-p short -t 60 -- /bin/true", 78, "more than partition short allows"},
		{"-N 9 -- /bin/true", 78, "partition low has 4"},
		{"-n 2 -- ./nothere", 127, "does not exist"},
		{"-A nobody's -q nothing --gres=fpga:1 -- /bin/true", 78, "Slurm: "},
		{"--unknown-to-slurm=1 -- /bin/true", 78, "unrecognized option"},
	} {
		r := c.Run(t, short, dir, append([]string{c.Binary, "submit"}, strings.Fields(tt.args)...)...)
		if r.Code != tt.code || !strings.Contains(r.Stderr, tt.says) || r.Stdout != "" {
			t.Errorf("%s: exit %d, %q, %q", tt.args, r.Code, r.Stdout, r.Stderr)
		}
	}
	away := c.Command(t.Context(), dir, c.Binary, "submit", "--", "/bin/true")
	conf := strings.Replace(e2e.Read(c.Conf), "SlurmctldPort=", "SlurmctldPort=1", 1)
	away.Env = append(away.Env, "SLURM_CONF="+c.Write(t, filepath.Join(dir, "away.conf"), conf, 0o644))
	if r := e2e.Do(t, away); r.Code != 69 || !strings.Contains(r.Stderr, "scontrol ping") {
		t.Errorf("exit %d, %q", r.Code, r.Stderr)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%v", left)
	}
}

// With --json standard output is two records: what was submitted, and how it ended, as Slurm says.
func TestSubmitJSON(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	r := c.Run(t, short, dir, append(append([]string{c.Binary, "submit", "--wait", "--json", "-t", "5"}, twoByTwo...), "--", "sh", "-c", "exit 3")...)
	type record struct {
		Event, State, Reason, Output string
		JobID                        string `json:"job_id"`
		Code                         int
		Command                      []string
	}
	var told []record
	for line := range strings.Lines(r.Stdout) {
		var one record
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		told = append(told, one)
	}
	if r.Code != 3 || len(told) != 2 || told[0].Event != "submitted" || told[1].Event != "end" {
		t.Fatalf("exit %d\n%s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	if end := told[1]; end.JobID != told[0].JobID || end.State != "FAILED" || end.Code != 3 || end.Reason != "NonZeroExitCode" || len(end.Command) != 3 {
		t.Errorf("%+v", told)
	}
	if _, err := os.Stat(told[0].Output); err != nil {
		t.Errorf("where its output is said to be: %v", err)
	}
	c.Clean(t)
}

// A heterogeneous job is one cluster over its components.
func TestHetJob(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	r := c.Run(t, short, dir, c.Binary, "submit", "--wait", "-N1", ":", "-N2", "--", filepath.Join(where, "plain.sh"), dir)
	if r.Code != 0 || !strings.Contains(output(dir, e2e.JobID(t, r)), "plain driver on n") {
		t.Errorf("exit %d\n%s\n%s", r.Code, r.Stderr, output(dir, e2e.JobID(t, r)))
	}
	c.Clean(t)
}

// Every task of an array is a job of its own, with its own cluster.
func TestArray(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "task.sh"), "#!/bin/sh\necho task $SLURM_ARRAY_TASK_ID rank $RANK\n[ $SLURM_ARRAY_TASK_ID != 2 ] || exit 9\n", 0o755)
	r := c.Run(t, short, dir, c.Binary, "submit", "--wait", "-a", "1-3", "-n", "2", "--", script)
	if r.Code != 9 {
		t.Errorf("exit %d\n%s", r.Code, r.Stderr)
	}
	id := e2e.JobID(t, r)
	for _, task := range []string{"1", "3"} {
		if out := output(dir, id+"_"+task); !strings.Contains(out, "task "+task+" rank 0") || !strings.Contains(out, "task "+task+" rank 1") {
			t.Errorf("task %s:\n%s", task, out)
		}
	}
	c.Clean(t)
}

// What an operator changed at run time is in no file: before submit refuses a job it asks.
func TestPartitionChangedAtRunTime(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	c.Root(t, "scontrol", "update", "PartitionName=short", "MaxTime=120")
	t.Cleanup(func() { c.Root(t, "scontrol", "update", "PartitionName=short", "MaxTime=10") })
	os.Remove(filepath.Join(c.Home, ".cache/maniple/slurm.json"))
	defer os.Remove(filepath.Join(c.Home, ".cache/maniple/slurm.json"))
	r := c.Run(t, short, dir, c.Binary, "submit", "--parsable", "-H", "-p", "short", "-t", "60", "--", "/bin/true")
	if r.Code != 0 {
		t.Fatalf("exit %d: %s", r.Code, r.Stderr)
	}
	c.Root(t, "scancel", e2e.JobID(t, r))
}
