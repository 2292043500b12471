package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// submitted is a Slurm in which job 12 was submitted and is now as line says.
func submitted(t *testing.T, line string) *queue {
	q := newQueue(t, "22.05")
	q.env = append(q.env, "TMPDIR="+t.TempDir())
	if _, errs, code := q.submit("-n2", "-J", "night", "--", "./solver"); code != 0 {
		t.Fatal(errs)
	}
	q.On("scontrol", slurmtest.Answer{Stdout: "JobId=12 JobName=night UserId=u(1) " + line + "\n"})
	return q
}

func TestExplainSaysWhyAJobWaits(t *testing.T) {
	for _, tt := range []struct{ reason, why, do string }{
		{"Resources", "waits until enough nodes are free", "wait; with fewer nodes"},
		{"Priority", "jobs of higher priority are before it", "sprio -j"},
		{"QOSMaxCpuPerUserLimit", "a limit of its QOS is reached", "wait for jobs of yours"},
		{"AssocGrpCpuLimit", "a limit of your account is reached", "sacctmgr show assoc"},
		{"PartitionTimeLimit", "it will never start", "shorter -t or another -p"},
		{"DependencyNeverSatisfied", "it will never start", "`scancel` it"},
		{"JobHeldUser", "held by its user", "`scontrol release` it"},
		{"job_requeued_in_held_state", "put back into the queue and is held", "scontrol release"},
		{"ReqNodeNotAvail,_UnavailableNodes:n[3-4]", "for maintenance as a rule (n[3-4])", "`sinfo -R` says why"},
		{"Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions", "nodes that it needs are down", "sinfo -R"},
		{"None", "Slurm has not looked at it yet", "wait a moment"},
		{"Something_New", "Slurm's reason is Something New", "man squeue"},
	} {
		q := submitted(t, "JobState=PENDING Reason="+tt.reason+" NodeList=(null) NumNodes=1")
		before := len(q.Calls())
		out, errs, code := q.maniple("explain", "12")
		where, _ := os.Getwd()
		if code != 0 || errs != "" || !strings.HasPrefix(out, "job 12 (night): PENDING") || !strings.Contains(out, tt.why) || !strings.Contains(out, "\n  -> ") ||
			!strings.Contains(out, tt.do) || !strings.Contains(out, "\n  output: "+where+"/slurm-12.out (not there yet)\n") {
			t.Errorf("%s: exit %d, %q\n%s", tt.reason, code, errs, out)
		}
		if n := len(q.Calls()) - before; n != 1 {
			t.Errorf("%s: %d questions to Slurm", tt.reason, n)
		}
	}
}

// Every reason has words and advice, and none hides behind a shorter one before it.
func TestReasonsAreAllReached(t *testing.T) {
	for i, r := range pendingReasons {
		if r.why == "" || r.do == "" {
			t.Errorf("%s: %q, %q", r.word, r.why, r.do)
		}
		if why, _ := whyPending(strings.ReplaceAll(r.word, " ", "_")); why != r.why {
			t.Errorf("row %d, %s, gives %q", i, r.word, why)
		}
	}
}

func TestExplainSaysHowAJobEnded(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"JobState=RUNNING Reason=None NodeList=n[1-2]", "it runs on n[1-2]\n  output: "},
		{"JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=n1", "it ended well on n1\n  output: "},
		{"JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n1", "exit code 3 on n1\n  -> the last lines of its output say why"},
		{"JobState=FAILED Reason=NonZeroExitCode ExitCode=127:0 NodeList=n1", "exit code 127 on n1: the program was not found"},
		{"JobState=FAILED Reason=RaisedSignal:9 ExitCode=0:9 NodeList=n1", "signal 9 on n1"},
		{"JobState=TIMEOUT Reason=TimeLimit ExitCode=0:0 TimeLimit=00:10:00 NodeList=n1", "time limit of 00:10:00 was over\n  -> submit it with a larger -t"},
		{"JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125 NodeList=n1", "more memory than it asked for\n  -> submit it with more --mem"},
		{"JobState=CANCELLED Reason=None ExitCode=0:15 NodeList=n1", "scancel"},
		{"JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0 NodeList=n1", "a node of it failed on n1"},
		{"JobState=PREEMPTED Reason=None ExitCode=0:15 NodeList=n1", "took its nodes"},
	} {
		q := submitted(t, tt.line)
		if out, errs, code := q.maniple("explain", "12"); code != 0 || errs != "" || !strings.Contains(out, tt.want) || !strings.Contains(out, "slurm-12.out") {
			t.Errorf("%s: exit %d, %q\n%s", tt.line, code, errs, out)
		}
	}
}

func TestExplainOfAJobAsJSON(t *testing.T) {
	q := submitted(t, "JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 NodeList=n1 StdOut=/far/away.out")
	out, errs, code := q.maniple("explain", "--json", "12")
	var reply struct {
		Version int
		Explain struct{ Kind, ID, Text string }
		Jobs    []struct {
			ID, Name, State, Reason, Why, Do, Output string
			Over                                     bool
			ExitCode                                 int `json:"exit_code"`
			Command                                  []string
		}
	}
	if err := json.Unmarshal([]byte(out), &reply); err != nil || code != 0 || errs != "" {
		t.Fatal(err, code, errs)
	}
	if j := reply.Jobs; reply.Version != 1 || reply.Explain.Kind != "job" || reply.Explain.ID != "12" || !strings.Contains(reply.Explain.Text, "exit code 3") ||
		len(j) != 1 || j[0].State != "FAILED" || j[0].Reason != "NonZeroExitCode" || j[0].ExitCode != 3 || j[0].Output != "/far/away.out" || len(j[0].Command) != 1 || !j[0].Over {
		t.Errorf("%s", out)
	}
	for _, line := range []string{"JobState=RUNNING Reason=None NodeList=n1", "JobState=PENDING Reason=Resources NodeList=(null)", "JobState=COMPLETING Reason=None NodeList=n1"} {
		if out, _, _ := submitted(t, line).maniple("explain", "--json", "12"); !strings.Contains(out, `"over":false`) {
			t.Errorf("%s: %s", line, out)
		}
	}
}

func TestExplainOfJobsThatSlurmForgot(t *testing.T) {
	q := submitted(t, "")
	gone := slurmtest.Answer{Stderr: slurmtest.Recorded(t, "22.05", "error.nojob"), Code: 1}
	q.On("scontrol", gone)
	// The accounts know it.
	q.On("sacct", slurmtest.Answer{Stdout: "12|12|FAILED|3:0|2026-11-21T09:45:03|2026-11-21T09:45:03|2026-11-21T09:45:04|01:00:00|low|user|n1|1|cpu=1|/w|night\n"})
	if out, _, code := q.maniple("explain", "12"); code != 0 || !strings.Contains(out, "exit code 3 on n1") || !strings.Contains(out, "slurm-12.out") {
		t.Errorf("exit %d\n%s", code, out)
	}
	// They do not: what submit noted is left.
	q.On("sacct", slurmtest.Answer{})
	if out, _, code := q.maniple("explain", "12"); code != 0 || !strings.Contains(out, "job 12 (night): UNKNOWN\n") || !strings.Contains(out, "slurm-12.out") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out, _, _ := q.maniple("explain", "--json", "12"); !strings.Contains(out, `"state":"UNKNOWN","over":true`) {
		t.Error(out)
	}
	// A job that nobody knows.
	if _, errs, code := q.maniple("explain", "99"); code != 64 || !strings.Contains(errs, "maniple: explain: no job 99 is known to Slurm") || !strings.Contains(errs, "; `squeue --me`") {
		t.Errorf("exit %d %q", code, errs)
	}
	// The controller is away: the output is told all the same.
	q.On("scontrol", slurmtest.Answer{Stderr: slurmtest.Recorded(t, "22.05", "error.unreachable"), Code: 1})
	if _, errs, code := q.maniple("explain", "12"); code != 69 || !strings.Contains(errs, "slurm-12.out\n") || !strings.Contains(errs, "scontrol ping") {
		t.Errorf("exit %d %q", code, errs)
	}
	// Without a Slurm a number is as good as any other name.
	for _, p := range slurmtest.Programs {
		q.Remove(p)
	}
	q.env = append(q.env, "PATH="+q.home)
	if _, errs, code := q.maniple("explain", "99"); code != 69 || !strings.Contains(errs, "no cluster is up") {
		t.Errorf("exit %d %q", code, errs)
	}
}

// Of an array the tasks that the controller has forgotten are told of by the accounts; what these don't know either is counted.
func TestExplainOfAnArrayThatSlurmForgotInPart(t *testing.T) {
	q := newQueue(t, "22.05")
	q.env = append(q.env, "TMPDIR="+t.TempDir())
	if _, errs, code := q.submit("-a", "0-4:2,7%2", "-n2", "--", "./solver"); code != 0 {
		t.Fatal(code, errs)
	}
	q.On("scontrol", slurmtest.Answer{Stdout: "JobId=13 ArrayJobId=12 ArrayTaskId=4 JobName=x UserId=u(1) JobState=COMPLETED Reason=None ExitCode=0:0 NodeList=n1\n"})
	line := func(task, state string) string {
		return "1" + task + "|12_" + task + "|" + state + "|0:0|2026-11-21T09:45:03|2026-11-21T09:45:03|2026-11-21T09:45:04|01:00:00|low|user|n1|1|cpu=1|/w|night\n"
	}
	for accounts, want := range map[string]int{"": 1, line("0", "COMPLETED") + line("4", "COMPLETED"): 2, line("0", "COMPLETED") + line("2", "COMPLETED") + line("4", "COMPLETED") + line("7", "COMPLETED"): 4} {
		q.On("sacct", slurmtest.Answer{Stdout: accounts})
		out, errs, code := q.maniple("explain", "--json", "12")
		var reply struct {
			Explain struct{ Text string }
			Jobs    []struct{ ID string }
			Tasks   int
		}
		if err := json.Unmarshal([]byte(out), &reply); err != nil || code != 0 || reply.Tasks != 4 || len(reply.Jobs) != want {
			t.Errorf("%v, exit %d, %q\n%s", err, code, errs, out)
		}
		if said := strings.Contains(reply.Explain.Text, fmt.Sprintf("%d of 4 tasks are told of here", want)); said != (want < 4) {
			t.Errorf("%s", reply.Explain.Text)
		}
	}
}

func TestTasksOfAnArray(t *testing.T) {
	for spec, want := range map[string]int{"": 0, "3": 1, "0-4": 5, "0-4:2,7%2": 4, "1,1-3": 3, "[0-3]": 4, "4-2": 0, "0-4:0": 0, "x": 0} {
		if got := arrayTasks(spec); got != want {
			t.Errorf("%q: %d", spec, got)
		}
	}
}

func TestExplainOfAnArray(t *testing.T) {
	q := newQueue(t, "22.05")
	q.env = append(q.env, "TMPDIR="+t.TempDir())
	q.On("scontrol", slurmtest.Answer{Stdout: slurmtest.Recorded(t, "22.05", "scontrol.array")})
	out, errs, code := q.maniple("explain", "14")
	if code != 0 || errs != "" || strings.Count(out, "\njob ") < 1 || !strings.Contains(out, "_") {
		t.Errorf("exit %d %q\n%s", code, errs, out)
	}
}
