package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// testbed brings up the Slurm of ci/e2e/testbed for the length of an experiment.
func (l *lab) testbed() (env []string, user string, down func(), err error) {
	dir := filepath.Join("/var/tmp/maniple-e2e", fmt.Sprintf("slurm-bench-%d", os.Getpid()))
	script := func(name string) *exec.Cmd {
		cmd := exec.Command("bash", filepath.Join(l.top, "ci/e2e/testbed", name))
		cmd.Env = append(os.Environ(), "DIR="+dir, "OWNER="+strconv.Itoa(os.Getpid()), "WIPE=1")
		return cmd
	}
	if out, err := script("up.sh").CombinedOutput(); err != nil {
		return nil, "", nil, fmt.Errorf("testbed: %w: %s", err, lastLines(string(out), 4))
	}
	down = func() { script("down.sh").Run() }
	data, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		down()
		return nil, "", nil, err
	}
	for line := range strings.Lines(string(data)) {
		if kv, found := strings.CutPrefix(strings.TrimSpace(line), "export "); found {
			env = append(env, kv)
			if name, found := strings.CutPrefix(kv, "MANIPLE_E2E_USER="); found {
				user = name
			}
		}
	}
	if user == "" {
		user = "root"
	}
	return env, user, down, nil
}

// shared is a folder that all nodes of the testbed see, with the binary in it.
func (l *lab) shared(user string) (string, error) {
	dir := filepath.Join(l.dir, "shared")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	os.Chmod(dir, 0o777)
	data, err := os.ReadFile(l.binary)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "maniple"), data, 0o755)
}

func as(user string, env []string, script string) (time.Duration, string, error) {
	argv := append([]string{"runuser", "-u", user, "--", "env"}, env...)
	return timed(nil, append(argv, "bash", "-ec", script)...)
}

// runTrue: `maniple run -n 2 -- true` on a running cluster beside `srun -n 2 true`, inside one allocation.
func runTrue(l *lab) error {
	env, user, down, err := l.testbed()
	if err != nil {
		return err
	}
	defer down()
	dir, err := l.shared(user)
	if err != nil {
		return err
	}
	// The whole comparison is one batch job: both commands on the same node, in an order by lot.
	script := `cd ` + dir + `; export XDG_STATE_HOME=` + dir + `/state
cat > job.sh <<'J'
#!/bin/bash
#SBATCH -N 1 -n 4 -t 5 -o ` + dir + `/job.out
m=` + dir + `/maniple
$m up
now() { date +%s%N; }
ours() { t=$(now); $m run -n 2 -- true >/dev/null 2>>ours.err || echo FAILED; echo ours $(( $(now) - t )); }
theirs() { t=$(now); srun --overlap --mem=0 -n 2 true || echo FAILED; echo theirs $(( $(now) - t )); }
ours >/dev/null; theirs >/dev/null
for i in 1 2 3 4 5 6 7; do if [ $((RANDOM % 2)) = 0 ]; then ours; theirs; else theirs; ours; fi; done
$m down
J
sbatch -W job.sh; cat job.out`
	_, out, err := as(user, env, script)
	if err != nil {
		return err
	}
	var ours, theirs []float64
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		ns, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch fields[0] {
		case "ours":
			ours = append(ours, float64(ns)/1e6)
		case "theirs":
			theirs = append(theirs, float64(ns)/1e6)
		}
	}
	if len(ours) != pairs || len(theirs) != pairs || strings.Contains(out, "FAILED") {
		return fmt.Errorf("the job printed: %s", lastLines(out, 6))
	}
	l.add(paired("run -n 2 true", "ms", "srun -n 2 true", 2, ours, theirs))
	return nil
}

// submit: from `maniple submit` to the first rank running, beside sbatch with srun of the same program.
func submit(l *lab) error {
	env, user, down, err := l.testbed()
	if err != nil {
		return err
	}
	defer down()
	dir, err := l.shared(user)
	if err != nil {
		return err
	}
	stamp := filepath.Join(dir, "stamp.sh")
	os.WriteFile(stamp, []byte("#!/bin/sh\nmkdir "+dir+"/first 2>/dev/null && date +%s%N > "+dir+"/first/at.part && mv "+dir+"/first/at.part "+dir+"/first/at\n"), 0o755)
	until := func(start string) (float64, error) {
		script := `cd ` + dir + `; export XDG_STATE_HOME=` + dir + `/state; rm -rf first; t=$(date +%s%N); ` + start +
			`; for i in $(seq 3000); do [ -e first/at ] && break; sleep 0.01; done; echo took $(( $(cat first/at) - t )); for i in $(seq 3000); do [ -z "$(squeue -h)" ] && break; sleep 0.1; done`
		_, out, err := as(user, env, script)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(out) {
			if rest, found := strings.CutPrefix(strings.TrimSpace(line), "took "); found {
				ns, err := strconv.ParseInt(rest, 10, 64)
				if err == nil && ns <= 0 {
					err = fmt.Errorf("the first rank left no time: %s", lastLines(out, 5))
				}
				return float64(ns) / 1e9, err
			}
		}
		return 0, fmt.Errorf("no time in: %s", lastLines(out, 5))
	}
	ours := func() (float64, error) {
		return until(`./maniple submit -N 2 --ntasks-per-node 2 -t 5 -o ` + dir + `/ours.out -- ` + stamp + ` >/dev/null`)
	}
	theirs := func() (float64, error) {
		return until(`sbatch -N 2 --ntasks-per-node 2 -t 5 -o ` + dir + `/theirs.out --wrap "srun ` + stamp + `" >/dev/null`)
	}
	if _, err := ours(); err != nil { // fills the caches
		return err
	}
	a, b, err := alternate(ours, theirs)
	if err != nil {
		return err
	}
	more := make([]float64, len(a))
	for i := range a {
		more[i] = a[i] - b[i]
	}
	r := single("submit to first rank, more", "s", 0.5, more)
	r.Peer, r.Theirs, r.Ours = "sbatch + srun", b, a
	r.Of = "median difference"
	l.add(r)
	return nil
}
