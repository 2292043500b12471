//go:build e2e && soak

package yarn

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
    submits("defers", "echo deferred on {{ ds }}", deferrable=True, poll_interval=1)
    submits("defers_and_tries_again", "exit 3", deferrable=True, poll_interval=1)
    submits("defers_and_gives_up", "exit 4", deferrable=True, poll_interval=1)
    submits("defers_and_is_refused", "true", ["--queue", "nosuch"], deferrable=True)
    submits("defers_and_waits", "true", ["--client"], deferrable=True, retries=0)

if __name__ == "__main__":
    run = dag.test(execution_date=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), mark_success_pattern="is_killed|takes_long")
    for ti in run.get_task_instances():
        print("STATE", ti.task_id, ti.state, ti.xcom_pull(ti.task_id, key="job_id"), flush=True)
`

// A real Airflow runs the operator: a task ends as its program does, and is tried again where that may help; one that takes too long, or is killed, leaves no application.
func TestAirflow(t *testing.T) {
	g := gatewayOf(t)
	airflow, file := g.airflow("training", dag)
	r := e2e.Do(t, airflow(file))
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
		"defers": {"success", 1}, "defers_and_tries_again": {"failed", 2}, "defers_and_gives_up": {"failed", 1}, "defers_and_is_refused": {"failed", 1}, "defers_and_waits": {"failed", 0},
	} {
		list, err := c.Applications(within(t), yarn.Filter{Tags: []string{"airflow-" + task}})
		if err != nil || states[task] != want.state || len(list) != want.tries {
			t.Errorf("%s is %q with %d applications, want %v (%v)", task, states[task], len(list), want, err)
		}
	}
	if !strings.Contains(r.Stdout+r.Stderr, "trained on 2026-01-02") || !strings.Contains(r.Stdout+r.Stderr, "deferred on 2026-01-02") || !strings.Contains(r.Stdout+r.Stderr, "no queue \"nosuch\"") {
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

// airflow gives a command of a real Airflow, whose one file of DAGs has a text, and that file.
func (g *gateway) airflow(name, text string) (command func(args ...string) *exec.Cmd, file string) {
	t := g.t
	t.Helper()
	python, top := pythonFor(t, "airflow")
	dags := filepath.Join(g.home, "dags")
	if err := os.Mkdir(dags, 0o755); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dags, name+".py")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	command = func(args ...string) *exec.Cmd {
		cmd := g.command(t.Context())
		cmd.Path, cmd.Args = python, append([]string{python}, args...)
		cmd.Env = append(cmd.Env, "AIRFLOW_HOME="+g.home, "AIRFLOW__CORE__LOAD_EXAMPLES=False", "AIRFLOW__CORE__DAGS_FOLDER="+dags,
			"PYTHONPATH="+filepath.Join(top, "libs", "python"), "BINARY="+g.binary, "FOLDER="+g.dir, "PATH="+filepath.Dir(python)+":"+os.Getenv("PATH"))
		return cmd
	}
	if r := e2e.Do(t, command("-m", "airflow", "db", "migrate")); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	return command, file
}

// deferring is a DAG whose tasks wait in the triggerer, more of them than there are workers: SQLite's executor has one.
const deferring = `
import datetime, os
from airflow import DAG
from maniple.airflow import ManipleSubmitOperator

with DAG("deferring", start_date=datetime.datetime(2026, 1, 1), schedule=None, default_args={"retries": 0}) as dag:
    for task_id, text in (("waits", "until [ -e $0 ]; do sleep 0.5; done"), ("is_given_up", "exec sleep 3600")):
        ManipleSubmitOperator(
            task_id=task_id, on="yarn", binary=os.environ["BINARY"], flags=["-N", "1", "-n", "1", "--mem", "128M", "--am-memory", "512M", "--tags", "airflow-deferred-" + task_id],
            command=["bash", "-c", text, os.environ["FOLDER"] + "/go"], cwd=os.environ["FOLDER"], deferrable=True, poll_interval=2,
        )
`

// givesUp is what Airflow's pages do when somebody marks a task as failed.
const givesUp = `
from airflow.models import TaskInstance
from airflow.utils.session import create_session

with create_session() as session:
    session.query(TaskInstance).filter_by(dag_id="deferring", task_id="is_given_up").one().set_state("failed", session=session)
`

// Under Airflow's own scheduler and triggerer two tasks wait at the same time, though there is one worker. A triggerer that ends cancels nothing: the next one goes on. Of a task that
// somebody gives up meanwhile the application is cancelled.
func TestAirflowDefers(t *testing.T) {
	g := gatewayOf(t)
	airflow, _ := g.airflow("deferring", deferring)
	serve := func(args ...string) *exec.Cmd {
		cmd := airflow(append([]string{"-m", "airflow"}, args...)...)
		log, err := os.Create(filepath.Join(g.home, args[0]+".log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		cmd.Env = append(cmd.Env, "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL=5")
		cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, limit // it has processes of its own
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if cmd.ProcessState == nil {
				_ = cmd.Wait()
			}
			if text, _ := os.ReadFile(log.Name()); t.Failed() {
				t.Logf("%s:\n%s", args[0], text)
			}
		})
		return cmd
	}
	must := func(args ...string) string {
		t.Helper()
		r := e2e.Do(t, airflow(append([]string{"-m", "airflow"}, args...)...))
		if r.Code != 0 {
			t.Fatalf("%+v", r)
		}
		return r.Stdout
	}
	must("dags", "reserialize")
	must("dags", "unpause", "deferring")
	must("dags", "trigger", "deferring", "--run-id", "once")
	serve("scheduler")
	triggerer := serve("triggerer", "--skip-serve-logs")
	states := func() (waits, givenUp string) { // Airflow's own command for it takes seconds
		const ask = `import sqlite3, sys; print(*(state for _, state in sorted(sqlite3.connect(sys.argv[1]).execute("select task_id, state from task_instance where dag_id = 'deferring'"))))`
		r := e2e.Do(t, airflow("-c", ask, filepath.Join(g.home, "airflow.db")))
		if f := strings.Fields(r.Stdout); len(f) == 2 {
			return f[1], f[0]
		}
		return "", ""
	}
	const starting = 10 * limit // a process of Airflow's takes its time
	c := g.b.client(t, "alice")
	application := func(task string, states ...yarn.ApplicationState) string {
		list, err := c.Applications(within(t), yarn.Filter{Tags: []string{"airflow-deferred-" + task}, States: states})
		if err != nil || len(list) != 1 {
			return ""
		}
		return list[0].ID.String()
	}
	e2e.Until(t, starting, "both tasks are deferred", func() bool {
		waits, givenUp := states()
		return waits == "deferred" && givenUp == "deferred"
	})
	e2e.Until(t, starting, "both applications run", func() bool {
		return application("waits", yarn.StateRunning) != "" && application("is_given_up", yarn.StateRunning) != ""
	})
	if err := triggerer.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = triggerer.Wait()
	if application("waits", yarn.StateRunning) == "" || application("is_given_up", yarn.StateRunning) == "" {
		t.Error("the end of the triggerer ended applications")
	}
	serve("triggerer", "--skip-serve-logs")
	e2e.Until(t, starting, "the next triggerer has the task", func() bool {
		text, err := os.ReadFile(filepath.Join(g.home, "triggerer.log"))
		return err == nil && regexp.MustCompile(`trigger deferring/once/is_given_up\S* \(ID \d+\) starting`).Match(text)
	})
	if r := e2e.Do(t, airflow("-c", givesUp)); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	e2e.Until(t, starting, "the application of the task that was given up is over", func() bool { return application("is_given_up", yarn.StateRunning) == "" })
	g.write("go", "")
	e2e.Until(t, starting, "the other task is well", func() bool {
		waits, givenUp := states()
		return waits == "success" && givenUp == "failed"
	})
	g.ended(t, application("waits"), yarn.Succeeded)
	g.ended(t, application("is_given_up"), yarn.Failed)
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
