package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A value that many nodes want at once.

const (
	broadcastNodes = 9    // one has it
	broadcastStore = 2000 // MB
)

var broadcast = race{program: "broadcast.py", args: []string{"256", "3"}, quick: []string{"32", "1"}, limit: 3 * time.Minute, on: inJob, bars: []bar{
	everyAtMost("broadcast of 256 MiB to 8 nodes: copies that leave its node", "broadcast", figure("copies"), 3).
		noted("bytes that the interface of its network namespace has sent, TLS and all; the most of three"),
	share("broadcast of 256 MiB to 8 nodes", "broadcast", "s", figure("seconds"), 0.5).noted("until the last has it, when all had one before; nodes of the Slurm testbed, each in a network namespace"),
}}

// inJob has a program run as the batch script of a job that has nine nodes of the testbed, on the first of them, where its side's cluster is up.
func inJob(l *lab, s side, program string, limit time.Duration, args ...string) (map[string]part, error) {
	b, err := l.slurmOf(broadcastNodes)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.dir, "job-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args = append([]string{s.python, filepath.Join(l.top, "ci/bench/programs", program), s.name}, append(args, strconv.Itoa(broadcastNodes), b.interfaces())...)
	script := filepath.Join(dir, "job.sh")
	text := "#!/bin/bash\n" + map[string]string{"maniple": broadcastOurs, "ray": broadcastRay}[s.name]
	for name, value := range map[string]string{
		"PROGRAM": "timeout " + strconv.Itoa(int(limit.Seconds())) + " '" + strings.Join(args, "' '") + "'", "NODES": strconv.Itoa(broadcastNodes), "STORE": strconv.Itoa(broadcastStore),
		"RAY": filepath.Join(filepath.Dir(s.python), "ray"), "DIR": dir,
	} {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return nil, err
	}
	said := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name))
		return string(data)
	}
	env := append(s.env, "SLURM_CONF="+b.conf, "TMPDIR=/tmp")
	minutes := strconv.Itoa(int(limit.Minutes()) + 3)
	_, _, err = timed(env, "sbatch", "-Q", "-W", "-N", strconv.Itoa(broadcastNodes), "--ntasks-per-node=1", "-c", "2", "--mem", strconv.Itoa(2*broadcastStore), "-t", minutes, "-o", filepath.Join(dir, "log"), script)
	st := &stage{parts: map[string]part{}, spare: l.spared(), found: map[string]float64{}}
	if e := st.follow(strings.NewReader(said("said")), nil); err == nil {
		err = e
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", program, s.name, err, lastLines(said("log"), 6))
	}
	fmt.Fprintln(os.Stderr, lastLines(said("log"), 6))
	return st.parts, err
}

const broadcastOurs = `maniple up --object-store-memory {STORE}M --no-same-host-handover || exit
{PROGRAM} > {DIR}/said; code=$?
maniple down --now; exit $code
`

// Ray as its documentation starts it in a job; each node has a /tmp of its own.
const broadcastRay = `cat > {DIR}/node.sh <<'R'
#!/bin/bash
export RAY_TMPDIR=/tmp
ip=$(sed -n "s/ $(hostname)\$//p" /etc/hosts)
exec {RAY} start "$@" --node-ip-address="$ip" --num-cpus=2 --object-store-memory={STORE}000000 --disable-usage-stats --block
R
chmod 755 {DIR}/node.sh
export RAY_TMPDIR=/tmp
export RAY_ADDRESS=$(sed -n "s/ $(hostname)\$//p" /etc/hosts):6399
started() { local try; for try in $(seq 1800); do grep -q 'runtime started' {DIR}/$1 && return; sleep 0.1; done; tail -n 5 {DIR}/$1; }
{DIR}/node.sh --head --port=6399 --include-dashboard=false > {DIR}/n1 2>&1 &
all=$!
started n1 # nodes that come earlier give up, and so do many that start at once
for i in $(seq 2 {NODES}); do
  srun -Q --overlap --mem=0 -N1 -n1 -w n$i {DIR}/node.sh --address=$RAY_ADDRESS > {DIR}/n$i 2>&1 &
  all="$all $!"
  [ $((i % 2)) = 0 ] || { started n$((i - 1)); started n$i; }
done
{PROGRAM} > {DIR}/said; code=$?
kill $all; wait; exit $code
`
