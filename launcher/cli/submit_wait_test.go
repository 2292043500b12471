package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// --wait gives the job's exit code and Slurm's word for its end.
func TestSubmitWaits(t *testing.T) {
	line := func(state, exit, reason string) string {
		return "JobId=12 JobName=x UserId=u(1) JobState=" + state + " Reason=" + reason + " Restarts=0 ExitCode=" + exit + " NodeList=n1 NumNodes=1\n"
	}
	for _, tt := range []struct {
		state, exit, reason string
		code                int
		says                string
	}{
		{"COMPLETED", "0:0", "None", 0, ""},
		{"FAILED", "3:0", "NonZeroExitCode", 3, "FAILED, exit code 3"},
		{"FAILED", "0:9", "None", 137, "FAILED, signal 9"},
		{"CANCELLED", "0:15", "None", 143, "CANCELLED"},
		{"TIMEOUT", "0:0", "TimeLimit", 143, "TIMEOUT (TimeLimit)"},
		{"PREEMPTED", "0:15", "None", 75, "PREEMPTED"},
		{"NODE_FAIL", "0:0", "NodeDown", 137, "NODE_FAIL"},
		{"OUT_OF_MEMORY", "0:125", "OutOfMemory", 137, "OUT_OF_MEMORY"},
	} {
		q := newQueue(t, "22.05")
		q.On("scontrol", slurmtest.Answer{Stdout: line(tt.state, tt.exit, tt.reason)})
		_, errs, code := q.submit("--wait", "-n2", "--", "./solver")
		if code != tt.code || !strings.Contains(errs, tt.says) {
			t.Errorf("%s: exit %d, %q", tt.state, code, errs)
		}
	}
}

// A signal ends the watching, with its own exit code, and the job goes on. One that the shell had us ignore ends nothing.
func TestSubmitWaitsUntilASignal(t *testing.T) {
	state := func(s string) string {
		return "echo JobId=12 JobName=x JobState=" + s + " Reason=None ExitCode=0:0 NodeList=n1 NumNodes=1\n"
	}
	heard := make(chan os.Signal, 1) // nohup, or a shell's &, may have this test ignore some: no more after this
	signal.Notify(heard, syscall.SIGINT, syscall.SIGHUP)
	signal.Stop(heard)
	for name, code := range map[string]int{"INT": 130, "TERM": 143, "HUP": 129} {
		q := newQueue(t, "22.05")
		q.On("scontrol", slurmtest.Answer{Script: state("RUNNING") + fmt.Sprintf("kill -%s %d", name, os.Getpid())})
		if _, errs, got := q.submit("--wait", "-n2", "--", "./solver"); got != code || !strings.Contains(errs, "job 12 goes on; `scancel 12` ends it") {
			t.Errorf("%s: exit %d, %q", name, got, errs)
		}
	}
	signal.Ignore(syscall.SIGINT)
	defer signal.Reset(syscall.SIGINT, syscall.SIGQUIT)
	q := newQueue(t, "22.05")
	q.On("scontrol", slurmtest.Answer{Script: fmt.Sprintf("kill -INT %d\nsleep 0.1\n", os.Getpid()) + state("COMPLETED")})
	if _, errs, got := q.submit("--wait", "-n2", "--", "./solver"); got != 0 || strings.Contains(errs, "goes on") {
		t.Errorf("ignored: exit %d, %q", got, errs)
	}
}

func TestSubmitFollowsTheOutput(t *testing.T) {
	q := newQueue(t, "22.05")
	q.On("scontrol", slurmtest.Answer{Script: `echo "line $(wc -l < slurm-12.out 2>/dev/null || echo 0)" >> slurm-12.out
[ $(wc -l < slurm-12.out) -ge 2 ] && state=COMPLETED || state=RUNNING
echo "JobId=12 JobName=x UserId=u(1) JobState=$state Reason=None ExitCode=0:0 NodeList=n1 NumNodes=1"`})
	out, errs, code := q.submit("--follow", "-n2", "--", "./solver")
	if code != 0 || out != "Submitted batch job 12\nline 0\nline 1\n" || !strings.Contains(errs, "RUNNING on n1") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
}

func TestWaitOfAnArrayIsItsFirstFailure(t *testing.T) {
	q := newQueue(t, "22.05")
	q.On("scontrol", slurmtest.Answer{Stdout: "JobId=13 ArrayJobId=12 ArrayTaskId=0 JobName=x UserId=u(1) JobState=COMPLETED ExitCode=0:0\n\n" +
		"JobId=14 ArrayJobId=12 ArrayTaskId=1 JobName=x UserId=u(1) JobState=FAILED ExitCode=5:0\n\nJobId=12 ArrayJobId=12 ArrayTaskId=2 JobName=x UserId=u(1) JobState=FAILED ExitCode=6:0\n"})
	if _, errs, code := q.submit("--wait", "-a", "0-2", "-n2", "--", "./solver"); code != 5 || !strings.Contains(errs, "job 12_1: FAILED") {
		t.Error(code, errs)
	}
}

// The output of each task of an array is followed in its own file, by whole lines that bear its ID, also of a task that
// the controller has forgotten before the others end; the end is that of the lowest task that failed.
func TestSubmitFollowsAnArray(t *testing.T) {
	for _, v := range []string{"22.05", "24.11"} {
		q := newQueue(t, v)
		q.On("scontrol", slurmtest.Answer{Script: `
job() { echo "JobId=$1 ArrayJobId=12 ArrayTaskId=$2 JobName=x UserId=u(1) JobState=$3 Reason=None ExitCode=$4 NodeList=n1 NumNodes=1 StdOut=$5"; }
if ! [ -e slurm-12_2.out ]; then
	printf 'a\nb' >slurm-12_2.out
	job 12 0-1 PENDING 0:0 "$PWD/slurm-12_4294967294.out"; job 13 2 FAILED 6:0 "$PWD/slurm-12_2.out"
elif ! [ -e slurm-12_0.out ]; then
	echo c >slurm-12_0.out
	job 12 1 PENDING 0:0; job 14 0 RUNNING 0:0
else
	printf 'd\n' >slurm-12_1.out
	job 14 0 COMPLETED 0:0; job 12 1 FAILED 5:0
fi`})
		out, errs, code := q.submit("--follow", "-a", "0-2", "-n2", "--", "./solver")
		if want := "Submitted batch job 12\n[12_2] a\n[12_2] b\n[12_0] c\n[12_1] d\n"; code != 5 || out != want || !strings.Contains(errs, "job 12_1: FAILED, exit code 5 on n1; output in ") || !strings.Contains(errs, "slurm-12_1.out") {
			t.Errorf("%s: exit %d\n%s\n%s", v, code, out, errs)
		}
		for _, name := range []string{"slurm-12_0.out", "slurm-12_1.out", "slurm-12_2.out"} {
			os.Remove(name)
		}
		out, _, code = q.submit("--follow", "--json", "-a", "0-2", "-n2", "--", "./solver")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var end struct {
			Version, Code      int
			Event, Task, State string
			JobID              string `json:"job_id"`
			Tasks              []taskEnd
			Seconds            float64
			Name, Reason, Node string
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || code != 5 {
			t.Fatal(err, code, out)
		}
		if lines[1] != `{"version":1,"event":"output","task":"2","stream":"stdout","text":"a"}` ||
			end.Event != "end" || end.JobID != "12" || end.Task != "1" || end.State != "FAILED" || end.Code != 5 || end.Node != "n1" ||
			len(end.Tasks) != 3 || end.Tasks[2] != (taskEnd{Task: "2", State: "FAILED", Code: 6, Node: "n1"}) {
			t.Errorf("%s: %+v\n%s", v, end, out)
		}
	}
}

// A file that all tasks write to is followed as it is.
func TestSubmitFollowsTheOneFileOfAnArray(t *testing.T) {
	q := newQueue(t, "22.05")
	q.On("scontrol", slurmtest.Answer{Script: `echo x >all.txt
for task in 0 1; do echo "JobId=1$task ArrayJobId=12 ArrayTaskId=$task JobName=x UserId=u(1) JobState=COMPLETED ExitCode=0:0"; done`})
	if out, _, code := q.submit("--follow", "-a", "0-1", "-o", "all.txt", "-n2", "--", "./solver"); code != 0 || out != "Submitted batch job 12\nx\n" {
		t.Error(code, out)
	}
}

// The last line of --json is the job's end, as that of `run`.
func TestSubmitEndsWithARecord(t *testing.T) {
	for state, want := range map[string]string{
		"COMPLETED Reason=None ExitCode=0:0":         `"state":"COMPLETED","code":0,"node":"n1",`,
		"FAILED Reason=NonZeroExitCode ExitCode=3:0": `"state":"FAILED","code":3,"reason":"NonZeroExitCode","node":"n1",`,
		"FAILED Reason=None ExitCode=0:9":            `"state":"FAILED","code":137,"node":"n1","signal":9,`,
		"TIMEOUT Reason=TimeLimit ExitCode=0:0":      `"state":"TIMEOUT","code":143,"reason":"TimeLimit","node":"n1",`,
	} {
		q := newQueue(t, "22.05")
		q.On("scontrol", slurmtest.Answer{Stdout: "JobId=12 JobName=x UserId=u(1) JobState=" + state + " NodeList=n1 NumNodes=1\n"})
		out, _, _ := q.submit("--wait", "--json", "-n2", "--", "./solver", "x")
		lines := strings.Split(strings.TrimSpace(out), "\n")
		end := lines[len(lines)-1]
		if len(lines) != 2 || !strings.HasPrefix(end, `{"version":1,"event":"end","name":"solver","job_id":"12",`+want+`"seconds":`) || !strings.HasSuffix(end, `,"command":["./solver","x"]}`) {
			t.Errorf("%s:\n%s", state, out)
		}
	}
}
