//go:build e2e && soak

package yarn

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
	"github.com/maniple-hpc/maniple/yarn"
)

// dag is what Airflow runs: a task for each end that it tells apart.
const dag = `
import datetime, os, sys
from airflow import DAG
from maniple.airflow import ManipleSubmitOperator

def submits(task_id, text, flags=(), **more):
    return ManipleSubmitOperator(
        task_id=task_id, on="yarn", binary=os.environ["BINARY"], flags=["-N", "1", "-n", "1", "--mem", "128M", "--am-memory", "512M", "--tags", "airflow-" + task_id, *flags],
        command=["bash", "-c", text], cwd=os.environ["FOLDER"], skip_on_exit_code=99, fail_on_exit_code=[4], **more,
    )

with DAG("training", start_date=datetime.datetime(2026, 1, 1), schedule=None, default_args={"retries": 1, "retry_delay": datetime.timedelta(0)}) as dag:
    submits("trains", "echo trained on {{ ds }}")
    submits("tries_again", "exit 3")
    submits("gives_up", "exit 4")
    submits("skips", "exit 99")
    submits("is_refused", "true", ["--queue", "nosuch"])
    submits("takes_long", "exec sleep 300", execution_timeout=datetime.timedelta(seconds=30), retries=0)
    submits("is_killed", "exec sleep 300")

if __name__ == "__main__":
    run = dag.test(execution_date=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), mark_success_pattern="is_killed|takes_long")
    for ti in run.get_task_instances():
        print("STATE", ti.task_id, ti.state, ti.xcom_pull(ti.task_id, key="job_id"), flush=True)
`

// A real Airflow runs the operator: a task ends as its program does, and is tried again where that may help; one that takes too long, or is killed, leaves no application.
func TestAirflow(t *testing.T) {
	g := gatewayOf(t)
	python, top := pythonFor(t, "airflow")
	dags := filepath.Join(g.home, "dags")
	if err := os.Mkdir(dags, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dags, "training.py"), []byte(dag), 0o644); err != nil {
		t.Fatal(err)
	}
	airflow := func(args ...string) *exec.Cmd {
		cmd := g.command(t.Context())
		cmd.Path, cmd.Args = python, append([]string{python}, args...)
		cmd.Env = append(cmd.Env, "AIRFLOW_HOME="+g.home, "AIRFLOW__CORE__LOAD_EXAMPLES=False", "AIRFLOW__CORE__DAGS_FOLDER="+dags,
			"PYTHONPATH="+filepath.Join(top, "libs", "python"), "BINARY="+g.binary, "FOLDER="+g.dir)
		return cmd
	}
	if r := e2e.Do(t, airflow("-m", "airflow", "db", "migrate")); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	r := e2e.Do(t, airflow(filepath.Join(dags, "training.py")))
	states, applications := map[string]string{}, map[string]string{}
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "STATE" {
			states[f[1]], applications[f[1]] = f[2], f[3]
		}
	}
	c := g.b.client(t, "alice")
	for task, want := range map[string]struct {
		state string
		tries int // each of which YARN has heard of
	}{
		"trains": {"success", 1}, "tries_again": {"failed", 2}, "gives_up": {"failed", 1}, "skips": {"skipped", 1}, "is_refused": {"failed", 1},
	} {
		list, err := c.Applications(within(t), yarn.Filter{Tags: []string{"airflow-" + task}})
		if err != nil || states[task] != want.state || len(list) != want.tries {
			t.Errorf("%s is %q with %d applications, want %v (%v)", task, states[task], len(list), want, err)
		}
	}
	if !strings.Contains(r.Stdout+r.Stderr, "trained on 2026-01-02") || !strings.Contains(r.Stdout+r.Stderr, "no queue \"nosuch\"") {
		t.Errorf("the output is not in the log: %+v", r)
	}
	if t.Failed() {
		t.Logf("%s\n%s", r.Stdout, r.Stderr)
	}
	g.ended(t, applications["trains"], yarn.Succeeded)
	for _, task := range []string{"takes_long", "is_killed"} {
		run := airflow("-m", "airflow", "tasks", "test", "training", task, "2026-01-03") // on a day on which nothing is well already
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		application := ""
		e2e.Until(t, limit, task+" runs", func() bool {
			list, err := c.Applications(within(t), yarn.Filter{Tags: []string{"airflow-" + task}, States: []yarn.ApplicationState{yarn.StateRunning}})
			if err != nil || len(list) == 0 {
				return false
			}
			application = list[0].ID.String()
			return strings.Contains(g.run("status", "--cluster", application).Stdout, "running")
		})
		if task == "is_killed" {
			if err := run.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if err := run.Wait(); err == nil {
			t.Error(task, "is well")
		}
		g.ended(t, application, yarn.Failed) // its program had TERM, and ended by it
	}
}

// ended sees that an application is over, and how.
func (g *gateway) ended(t *testing.T, application string, want yarn.FinalStatus) {
	t.Helper()
	id, err := yarn.ParseApplicationID(application)
	if err != nil {
		t.Error(err)
		return
	}
	r, err := g.b.client(t, "alice").Report(within(t), id)
	if err != nil || !r.State.Over() || r.Final != want {
		t.Errorf("%+v %v", r, err)
	}
}
