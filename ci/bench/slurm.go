package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// testbed is the Slurm of ci/e2e/testbed, one for all experiments of a run.
type testbed struct {
	dir, user, home, conf string
	shared                string // a folder that all nodes and the user see, with the binary in it
	before                []int  // its processes
	nodes                 int
	down                  func()
}

// testbedNodes is how many nodes the testbed has where nobody asks for another number.
const testbedNodes = 4

// slurm brings the testbed up for the first experiment that asks for it.
func (l *lab) slurm() (*testbed, error) { return l.slurmOf(testbedNodes) }

// slurmOf brings up one with so many nodes, in place of what is there with another number.
func (l *lab) slurmOf(nodes int) (*testbed, error) {
	if l.bed != nil && l.bed.nodes == nodes {
		return l.bed, nil
	}
	if l.bed != nil {
		l.bed.down()
		l.bed = nil
	}
	b := &testbed{nodes: nodes, dir: filepath.Join("/var/tmp/maniple-e2e", fmt.Sprintf("slurm-bench-%d", os.Getpid()))}
	script := func(name string) *exec.Cmd {
		cmd := exec.Command("bash", filepath.Join(l.top, "ci/e2e/testbed", name))
		cmd.Env = append(os.Environ(), "DIR="+b.dir, "OWNER="+strconv.Itoa(os.Getpid()), "NODES="+strconv.Itoa(nodes))
		return cmd
	}
	out, err := script("up.sh").CombinedOutput()
	if err != nil {
		script("down.sh").Run()
		return nil, fmt.Errorf("testbed: %w: %s", err, lastLines(string(out), 4))
	}
	b.down = func() { script("down.sh").Run() }
	l.bed, b.before = b, descendants()
	data, err := os.ReadFile(filepath.Join(b.dir, "env"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch name {
		case "SLURM_CONF":
			b.conf = value
		case "MANIPLE_TESTBED_USER":
			b.user = value
		case "MANIPLE_TESTBED_HOME":
			b.home = value
		case "MANIPLE_TESTBED_SHARED":
			b.shared = value
		}
	}
	if b.conf == "" || b.user == "" || b.home == "" || b.shared == "" {
		return nil, fmt.Errorf("testbed: its env file lacks something: %s", data)
	}
	binary, err := os.ReadFile(l.binary)
	if err != nil {
		return nil, err
	}
	return b, os.WriteFile(filepath.Join(b.shared, "maniple"), binary, 0o755)
}

// interfaces is what the interfaces by which nodes are reached begin with; their numbers follow.
func (b *testbed) interfaces() string {
	slot, _ := os.ReadFile(filepath.Join(b.dir, "slot"))
	return "mp" + strings.TrimSpace(string(slot)) + "v"
}

// run runs a script as the testbed's user on the login node, in a new folder that is removed again.
func (b *testbed) run(script string) (string, error) {
	dir, err := os.MkdirTemp(b.shared, "bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o777)
	_, out, err := timed(nil, "runuser", "-u", b.user, "--", "env", "-i", "-C", dir, "PATH=/usr/local/bin:/usr/bin:/bin", "HOME="+b.home, "USER="+b.user,
		"LANG=C.UTF-8", "SLURM_CONF="+b.conf, "m="+filepath.Join(b.shared, "maniple"), "dir="+dir, "bash", "-ec", script)
	return out, err
}

// runTrue: `maniple run -n 2 -- true` on a running cluster beside `srun -n 2 true`, inside one allocation.
// The whole comparison is one batch job: both commands on the same node, in an order by lot.
const runTrueJob = `cat > job.sh <<'J'
#!/bin/bash
$m up || exit
now() { date +%s%N; }
ours() { t=$(now); $m run -n 2 -- true >/dev/null 2>>ours.err || echo FAILED; echo ours $(( $(now) - t )); }
theirs() { t=$(now); srun --overlap --mem=0 -n 2 true || echo FAILED; echo theirs $(( $(now) - t )); }
ours >/dev/null; theirs >/dev/null
for i in 1 2 3 4 5 6 7; do if [ $((RANDOM % 2)) = 0 ]; then ours; theirs; else theirs; ours; fi; done
$m down
J
sbatch -Q -W -N 1 -n 4 -t 5 -o job.out job.sh || true
cat job.out ours.err`

func runTrue(l *lab) error {
	b, err := l.slurm()
	if err != nil {
		return err
	}
	out, err := b.run(runTrueJob)
	if err != nil {
		return err
	}
	got := map[string][]float64{}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) == 2 {
			if ns, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				got[fields[0]] = append(got[fields[0]], float64(ns)/1e6)
			}
		}
	}
	if len(got["ours"]) != pairs || len(got["theirs"]) != pairs || strings.Contains(out, "FAILED") {
		return fmt.Errorf("the job printed: %s", lastLines(out, 6))
	}
	l.add(paired("run -n 2 true", "ms", "srun -n 2 true", got["ours"], got["theirs"]).most(2))
	return nil
}

// submitTook submits four ranks and waits for the end of the job. Each rank leaves the moment in which it
// ran in a file of its own, and ends with 0: a rank that fails would end its gang, and with it a rank that
// has not written yet.
const submitTook = `cat > rank.sh <<'R'
#!/bin/sh
at=$(date +%s%N)
f=$(mktemp "$dir/part.XXXXXX") && echo "$at" > "$f" && mv "$f" "$dir/at.${f##*.}"
R
chmod 755 rank.sh
start=$(date +%s%N)
id=$(START)
for i in $(seq 600); do set -- at.*; [ $# = 4 ] && break; sleep 0.1; done
for i in $(seq 600); do [ -z "$(squeue -h -j "$id" 2>/dev/null)" ] && break; sleep 0.1; done
echo "start $start"; for f in at.*; do echo "at $(cat "$f")"; done
echo "state $(scontrol show job "$id" | grep -o 'JobState=[A-Z]*')"; cat job.out`

// firstRank reads what submitTook printed: the seconds from the start to the first of all four ranks.
func firstRank(out string) (float64, error) {
	var start, ranks int64
	first := int64(math.MaxInt64)
	completed := false
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		ns, err := strconv.ParseInt(value, 10, 64)
		switch {
		case name == "state":
			completed = value == "JobState=COMPLETED"
		case err != nil:
		case name == "start":
			start = ns
		case name == "at":
			ranks++
			first = min(first, ns)
		}
	}
	if ranks != 4 || start == 0 || first <= start || !completed {
		return 0, fmt.Errorf("%d of 4 ranks left their time: %s", ranks, lastLines(out, 9))
	}
	return float64(first-start) / 1e9, nil
}

// submit: from `maniple submit` to the first rank running, beside sbatch with srun of the same program.
func submit(l *lab) error {
	b, err := l.slurm()
	if err != nil {
		return err
	}
	side := func(start string) func() (float64, error) {
		return func() (float64, error) {
			out, err := b.run(strings.Replace(submitTook, "START", start, 1))
			if err != nil {
				return 0, err
			}
			return firstRank(out)
		}
	}
	ours := side(`$m submit --parsable -N 2 --ntasks-per-node 2 -t 5 -o "$dir/job.out" -- ./rank.sh`)
	theirs := side(`sbatch --parsable -N 2 --ntasks-per-node 2 -t 5 -o "$dir/job.out" --wrap "srun ./rank.sh"`)
	for _, warm := range []func() (float64, error){ours, theirs} { // fills the caches
		if _, err := warm(); err != nil {
			return err
		}
	}
	a, p, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	l.add(more("submit to first rank, more than", "s", "sbatch + srun", a, p).most(0.5))
	return nil
}

// forms: the same program in the three forms, on the testbed that is up.
func forms(l *lab) error {
	b, err := l.slurm()
	if err != nil {
		return err
	}
	return l.tests("Slurm forms", []string{"TestPlainProgramInEveryForm", "TestDriverInEveryForm", "TestTrainingInEveryForm"}, []string{"MANIPLE_E2E_SLURM=" + b.dir}, "./ci/e2e/slurm")
}
