package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// The test binary is also the stand-in for Slurm's programs. TestMain is another file's.
func init() { slurmtest.Main() }

// queue is a Slurm of recorded answers, and a user's directory with a program.
type queue struct {
	*slurmtest.Fake
	t    *testing.T
	home string
	env  []string
}

func newQueue(t *testing.T, version string) *queue {
	t.Helper()
	q := &queue{t: t, Fake: slurmtest.New(t), home: t.TempDir()}
	q.On("sinfo", slurmtest.Answer{Stdout: slurmtest.Recorded(t, version, "sinfo.partitions")})
	q.On("sbatch", slurmtest.Answer{Stdout: "12\n"})
	q.On("sbatch", slurmtest.Answer{Args: []string{"--help"}, Stdout: slurmtest.Recorded(t, version, "sbatch.help")})
	pollLeast = readEvery
	work := t.TempDir()
	t.Chdir(work)
	for name, text := range map[string]string{
		"train.py": "print(1)\n", "solver": "#!/bin/sh\n",
		"job.sh": "#!/bin/bash\n#SBATCH -p short\n#SBATCH --time=5 # five minutes\n#SBATCH -J 'my job'\ntrue\n#SBATCH -p nosuch\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	q.env = q.Environ("HOME=" + q.home)
	return q
}

// submit runs the command and returns what it wrote and its exit code.
func (q *queue) submit(args ...string) (stdout, stderr string, code int) {
	q.t.Helper()
	return q.maniple(append([]string{"submit"}, args...)...)
}

// maniple is any command.
func (q *queue) maniple(args ...string) (stdout, stderr string, code int) {
	q.t.Helper()
	var out, errs bytes.Buffer
	a := &app{stdin: os.Stdin, stdout: &out, stderr: &errs, environ: q.env, getenv: func(name string) string {
		value := ""
		for _, kv := range q.env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				value = v
			}
		}
		return value
	}}
	code = a.main(append([]string{"maniple"}, args...))
	return out.String(), errs.String(), code
}

// sent is the script that sbatch got.
func (q *queue) sent() string {
	q.t.Helper()
	for _, c := range slices.Backward(q.Calls()) {
		if c.Program == "sbatch" && slices.Contains(c.Args, "--parsable") {
			return c.Stdin
		}
	}
	q.t.Fatal("nothing was submitted")
	return ""
}

func TestSubmitSendsWhatDryRunShows(t *testing.T) {
	for _, v := range []string{"22.05", "24.11"} {
		q := newQueue(t, v)
		args := []string{"-N2", "--ntasks-per-node", "2", "-t", "5", "--comment=a \"b\" #c", "--", "python3", "train.py", "two words", "$HOME", "it's"}
		shown, _, code := q.submit(append([]string{"--dry-run"}, args...)...)
		if code != 0 {
			t.Fatal(code)
		}
		for _, c := range q.Calls() {
			if c.Program == "sbatch" && slices.Contains(c.Args, "--parsable") {
				t.Fatal("--dry-run submitted")
			}
		}
		out, errs, code := q.submit(args...)
		if code != 0 || out != "Submitted batch job 12\n" || !strings.Contains(errs, "2 nodes x 2 ranks") || !strings.Contains(errs, "slurm-12.out") {
			t.Errorf("%s: %d %q %q", v, code, out, errs)
		}
		if q.sent() != shown {
			t.Errorf("sent:\n%s\nshown:\n%s", q.sent(), shown)
		}
		for _, want := range []string{
			"#!/bin/bash\n", "#SBATCH --job-name=train.py\n", "#SBATCH --nodes=2\n", "#SBATCH --ntasks-per-node=2\n", "#SBATCH --time=5\n",
			`#SBATCH --comment="a \"b\" #c"` + "\n", ` run -- python3 train.py 'two words' '$HOME' 'it'\''s'` + "\n",
		} {
			if !strings.Contains(shown, want) {
				t.Errorf("%s: no %q in\n%s", v, want, shown)
			}
		}
	}
}

func TestSubmitRefusesBeforeTheQueue(t *testing.T) {
	q := newQueue(t, "22.05")
	for _, tt := range []struct {
		args string
		code int
		says string
	}{
		{"-p lwo -- ./solver", 64, "did you mean low?"},
		{"-p short -t 60 -- ./solver", 78, "more than partition short allows"},
		{"-p short -t 1-0 -- ./solver", 78, "give at most -t 00:10:00"},
		{"-p short -t 0 -- ./solver", 78, "UNLIMITED"},
		{"-p short,low -t 60 -- ./solver", 0, ""}, // one that fits is enough
		{"-N 9 -- ./solver", 78, "partition low has 4"},
		{"-N 2-9 -- ./solver", 0, ""},
		{"--gpus-per-node h100:9 -- ./solver", 78, "9 GPUs (the most is 4)"},
		{"-c 9 -- ./solver", 78, "9 cores"},
		{"-n 33 -- ./solver", 78, "--ntasks: 33 tasks, and partition low has 32 cores for a job at most (4 x 8)"},
		{"-n 32 -- ./solver", 0, ""},
		{"-n 17 -p short -- ./solver", 78, "partition short has 16 cores"},
		{"-n 17 -p short,low -- ./solver", 0, ""},
		{"-n 17 -N 2 -- ./solver", 78, "2 of the nodes of partition low have 16 cores for a job at most (2 x 8)"},
		{"-n 17 -N 1-3 -- ./solver", 0, ""},
		{"-n 17 -c 2 -- ./solver", 78, "17 tasks of 2 cores, and partition low has 32 cores"},
		{"-n 11 -c 3 -- ./solver", 78, "11 tasks of 3 cores"},
		{"-n 33 -O -- ./solver", 0, ""},
		{"--ntasks-per-node 9 -- ./solver", 78, "--ntasks-per-node: 9 tasks, and no node of partition low has more than 8 cores; ask for fewer on each of more nodes"},
		{"--ntasks-per-node 8 -- ./solver", 0, ""},
		{"--ntasks-per-node 3 -c 3 -- ./solver", 78, "3 tasks of 3 cores"},
		{"--ntasks-per-node 9 -n 2 -- ./solver", 0, ""}, // an upper limit then
		{"--ntasks-per-node 9 --overcommit -- ./solver", 0, ""},
		{"--mem 1T -- ./solver", 78, "the most is 16000M"},
		{"--mem lots -- ./solver", 64, "not a size"},
		{"-t 1h -- ./solver", 64, "HH:MM:SS"},
		{"--tmie=5 -- ./solver", 64, "did you mean --time?"},
		{"--nods 2 -- ./solver", 64, "did you mean --nodes?"},
		{"--dryrun -- ./solver", 64, "did you mean --dry-run?"},
		{"--site-thing -- ./solver", 64, "--site-thing=VALUE"},
		{"--site-thing=1 -- ./solver", 0, ""},
		{"--wrap=true", 64, "the program stands after --"},
		{"--exclusive --export NONE -H -- ./solver", 0, ""},
		{"-o nodir/x.out -- ./solver", 64, "nodir does not exist"},
		{"-D nodir -- ./solver", 64, "nodir"},
		{"-n 2 -- ./nosuch", 127, "nosuch does not exist"},
		{"-n 2 -- nosuch", 127, "not in PATH"},
		{"-n 2 -- python3 nosuch.py", 127, "nosuch.py does not exist"},
		{"-n 2 -- python3 -c pass", 0, ""},
		{"-n 2 --no-check -- /on/the/nodes/only", 0, ""},
		{"-n 2", 64, "no program"},
		{"-n", 64, "its value is missing"},
		{"-Z 2 -- ./solver", 64, "no flag -Z"},
		{"--parsable=7 -- ./solver", 64, "takes no value"},
		{"-p short ./job.sh", 0, ""}, // a script's own lines count
		{"-t 60 ./job.sh", 78, "partition short"},
		{"-p low -t 60 ./job.sh", 0, ""}, // the command line wins
	} {
		before := len(q.Calls())
		out, errs, code := q.submit(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(errs, tt.says) || code != 0 && (out != "" || strings.Count(errs, "\n") != 1 || strings.Count(errs, "write ") > 1) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q", tt.args, code, out, errs)
		}
		submitted := slices.ContainsFunc(q.Calls()[before:], func(c slurmtest.Call) bool { return slices.Contains(c.Args, "--parsable") })
		if submitted != (tt.code == 0) {
			t.Errorf("%s: submitted: %v", tt.args, submitted)
		}
	}
}

// A warm cache costs no question: sbatch is the only program that runs.
func TestSubmitAsksNothingTwice(t *testing.T) {
	q := newQueue(t, "22.05")
	for i, want := range []int{3, 1, 1} { // sbatch --help, sinfo, sbatch; then sbatch alone
		before := len(q.Calls())
		if _, errs, code := q.submit("-n2", "-p", "low", "--", "./solver"); code != 0 {
			t.Fatal(errs)
		}
		if n := len(q.Calls()) - before; n != want {
			t.Errorf("submit %d: %d programs, want %d", i, n, want)
		}
	}
	// Before it refuses, it makes sure.
	before := len(q.Calls())
	q.submit("-n2", "-p", "new", "--", "./solver")
	if n := len(q.Calls()) - before; n != 1 || q.Calls()[before].Program != "sinfo" {
		t.Errorf("%d programs", n)
	}
}

// What a warm cache refuses and the controller has meanwhile is submitted: nothing is refused from memory. Where
// the controller does not answer, sbatch would not either, and the cache's word stands.
func TestSubmitRefusesNothingFromMemory(t *testing.T) {
	for _, args := range []string{"-p new", "-N 9", "-c 9", "-n 99", "--ntasks-per-node 99", "-t 60 -p short"} {
		q := newQueue(t, "22.05")
		if _, errs, code := q.submit("-n2", "--", "./solver"); code != 0 {
			t.Fatal(errs)
		}
		argv := append(strings.Fields(args), "--", "./solver")
		q.On("sinfo", slurmtest.Answer{Code: 1, Stderr: slurmtest.Recorded(t, "22.05", "error.unreachable")})
		if _, errs, code := q.submit(argv...); code != 64 && code != 78 {
			t.Errorf("%s, nobody answers: exit %d\n%s", args, code, errs)
		}
		q.On("sinfo", slurmtest.Answer{Stdout: "low*|up|infinite|1:00:00|99|128|16000|(null)|1-infinite|n[1-99]\n" +
			"new|up|infinite|1:00:00|2|8|16000|(null)|1-infinite|n[1-2]\nshort|up|1:00:00|1:00|2|8|16000|(null)|1-infinite|n[1-2]\n"})
		if _, errs, code := q.submit(argv...); code != 0 {
			t.Errorf("%s, which there is now: exit %d\n%s", args, code, errs)
		}
	}
}

func TestSubmitHonoursTheScriptsLines(t *testing.T) {
	q := newQueue(t, "22.05")
	if _, errs, code := q.submit("-n", "2", "./job.sh"); code != 0 {
		t.Fatal(errs)
	}
	script := q.sent()
	if !strings.HasPrefix(script, "#!/bin/bash\n#SBATCH -p short\n#SBATCH --time=5 # five minutes\n#SBATCH -J 'my job'\n#SBATCH --ntasks=2\n\nexec ") || strings.Contains(script, "nosuch") {
		t.Error(script)
	}
}

func TestSubmitOfComponents(t *testing.T) {
	q := newQueue(t, "22.05")
	if _, errs, code := q.submit("-N1", "-p", "low", ":", "-N2", "--gpus-per-node=4", "-p", "low", "--", "./solver"); code != 0 {
		t.Fatal(errs)
	}
	if s := q.sent(); !strings.Contains(s, "#SBATCH --partition=low\n#SBATCH hetjob\n#SBATCH --nodes=2\n#SBATCH --gpus-per-node=4\n") {
		t.Error(s)
	}
	if _, errs, code := q.submit("-N1", ":", "-N9", "--", "./solver"); code != 78 || !strings.Contains(errs, "9 nodes") {
		t.Error(code, errs)
	}
}

func TestSubmitHandsOurFlagsToRun(t *testing.T) {
	q := newQueue(t, "22.05")
	if _, errs, code := q.submit("-n", "2", "--max-restarts", "3", "--grace=10", "--bind", "--gpus-per-task=1", "--gpu-visibility=node", "-o", "out-%t.txt", "--sbatch=--foo --bar", "--", "./solver"); code != 0 {
		t.Fatal(errs)
	}
	s := q.sent()
	if !strings.Contains(s, " run --max-restarts=3 --grace=10 --gpu-visibility=node --bind --output=out-%t.txt -- ./solver\n") || !strings.Contains(s, "#SBATCH --foo --bar\n") || strings.Contains(s, "#SBATCH --output") {
		t.Error(s)
	}
}

// What run would refuse in the job is refused before the queue, and the first line is that of run.
func TestSubmitJudgesOurFlags(t *testing.T) {
	q := newQueue(t, "22.05")
	for flag, want := range map[string]string{
		"--gpu-visibility=all": "neither own nor node", "--slurm-env=lose": "is no mode", "--grace=soon": "is no time", "--max-restarts=many": "is not a number",
	} {
		if _, errs, code := q.submit("-n2", flag, "--", "./solver"); code != 64 || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d\n%s", flag, code, errs)
		}
	}
	for _, call := range q.Calls() {
		if call.Program == "sbatch" && slices.Contains(call.Args, "--parsable") {
			t.Errorf("submitted:\n%s", call.Stdin)
		}
	}
	if _, errs, code := q.submit("-N2", "--ntasks-per-node=2", "--gpus-per-node=2", "--gpu-visibility=own", "--", "./solver"); code != 0 || !strings.Contains(errs, "2 nodes x 2 ranks, 1 GPU each") {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

// The first line says ranks or driver, whatever else is asked for.
func TestSubmitSaysWhatItBecomes(t *testing.T) {
	q := newQueue(t, "22.05")
	for args, want := range map[string]string{
		"-n4 --mem=4G":                   "4 ranks; ",
		"-n4 --gres=gpu:2":               "4 ranks; ",
		"-n4 --gpus-per-node=2":          "4 ranks; ",
		"-n4 --gpus-per-task=1 --mem=4G": "4 ranks, 1 GPU each; ",
		"-N2 --gpus-per-task=1":          "ranks, as many as Slurm gives it; ",
		"-N2 --gres=gpu:h100:4 --mem=4G": "2 nodes x 4 GPUs, 1 driver on node 0",
		"--mem=4G --constraint=a|b":      "1 driver on node 0",
		"-N1 : -N2":                      "2 components; ",
	} {
		if _, errs, code := q.submit(append(strings.Fields(args), "--", "./solver")...); code != 0 || !strings.HasPrefix(errs, "maniple: submit: "+want) {
			t.Errorf("%s: exit %d, %s", args, code, errs)
		}
	}
}

func TestSubmitTakesFlagsFromTheEnvironment(t *testing.T) {
	q := newQueue(t, "22.05")
	q.env = append(q.env, "MANIPLE_PARTITION=short", "MANIPLE_TIME=7")
	if _, errs, code := q.submit("-t", "5", "-n2", "--", "./solver"); code != 0 {
		t.Fatal(errs)
	}
	if s := q.sent(); !strings.Contains(s, "--partition=short\n") || strings.LastIndex(s, "--time=5") < strings.LastIndex(s, "--time=7") {
		t.Error(s)
	}
}

func TestSubmitRecordsAndPrints(t *testing.T) {
	q := newQueue(t, "22.05")
	out, _, code := q.submit("--json", "-n2", "-J", "night", "--", "./solver", "x")
	var told struct {
		Version                     int
		JobID                       string `json:"job_id"`
		Name, Output, Record, Event string
		Command                     []string
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 {
		t.Fatal(err, out)
	}
	wd, _ := os.Getwd()
	if told.Version != 1 || told.JobID != "12" || told.Name != "night" || told.Event != "submitted" || told.Output != filepath.Join(wd, "slurm-12.out") || !slices.Equal(told.Command, []string{"./solver", "x"}) {
		t.Errorf("%+v", told)
	}
	var record jobRecord
	data, err := os.ReadFile(filepath.Join(q.home, ".local/state/maniple/jobs/slurm/12/job.json"))
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err != nil || record.JobID != "12" || record.Script != q.sent() || record.Dir != wd || told.Record == "" {
		t.Errorf("%+v %v", record, err)
	}
	if info, err := os.Stat(told.Record); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if out, errs, _ := q.submit("--parsable", "-n2", "--", "./solver"); out != "12\n" || errs != "" {
		t.Errorf("%q %q", out, errs)
	}
}

func TestSubmitWithoutSlurm(t *testing.T) {
	q := newQueue(t, "22.05")
	for _, p := range slurmtest.Programs {
		q.Remove(p)
	}
	q.env = append(q.env, "PATH="+q.home) // this machine may have a Slurm of its own
	if _, errs, code := q.submit("-n2", "--", "./solver"); code != 69 || !strings.Contains(errs, "sbatch is not on the PATH") {
		t.Error(code, errs)
	}
	if out, errs, code := q.submit("--dry-run", "-n2", "-p", "any", "--", "./solver"); code != 0 || !strings.Contains(out, "#SBATCH --ntasks=2") {
		t.Error(code, out, errs)
	}
}

func TestSubmitWhenTheControllerIsAway(t *testing.T) {
	q := newQueue(t, "22.05")
	q.On("sinfo", slurmtest.Answer{Stderr: slurmtest.Recorded(t, "22.05", "error.unreachable"), Code: 1})
	if _, errs, code := q.submit("-n2", "--", "./solver"); code != 69 || !strings.Contains(errs, "scontrol ping") {
		t.Error(code, errs)
	}
}

func TestSubmitHelpFitsAScreen(t *testing.T) {
	q := newQueue(t, "22.05")
	out, _, code := q.submit("--help")
	if n := strings.Count(out, "\n"); code != 0 || n > 24 || !strings.Contains(out, "maniple submit -N 2") {
		t.Errorf("exit %d, %d lines", code, n)
	}
}

func TestOldRecordsAreDropped(t *testing.T) {
	jobs := t.TempDir()
	for id, age := range map[string]time.Duration{"1": 40 * 24 * time.Hour, "2": time.Hour} {
		path := filepath.Join(jobs, id, "job.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	prune(jobs, time.Now())
	left, _ := filepath.Glob(filepath.Join(jobs, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "2" {
		t.Error(left)
	}
}

func TestWordsOfADirective(t *testing.T) {
	for line, want := range map[string][]string{
		`-J 'my job' -N 2`: {"-J", "my job", "-N", "2"}, `--comment="a \"b\" #c" # d`: {`--comment=a "b" #c`}, ``: nil, `  -p  x#y `: {"-p", "x#y"}, `a\ b`: {"a b"},
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// What is written as a directive reads back as it was.
func FuzzDirective(f *testing.F) {
	for _, s := range []string{"", "a b", `a"b\c`, "x#y", "'", "$(x)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		line, err := directiveLine(flagValue{name: "comment", value: value, set: true})
		if err != nil {
			return
		}
		got := words(strings.TrimSuffix(strings.TrimPrefix(line, "#SBATCH "), "\n"))
		if len(got) != 1 || got[0] != "--comment="+value {
			t.Errorf("%q -> %q -> %q", value, line, got)
		}
	})
}
