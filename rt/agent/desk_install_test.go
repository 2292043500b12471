package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/env"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// employing is a desk with a job of Python and one worker of an environment that has to be installed, whose template is given.
func employing(t *testing.T, now *int64, environment string) (*desk, *template) {
	t.Helper()
	d := alone(now)
	d.l.core.cfg.Socket = "/base/maniple-1/cluster/n1/agent.sock"
	d.jobs = append(d.jobs, &job{number: 3, drivers: 1, language: python, config: jobConfig{Executable: "/bin/python", Cwd: "/"}})
	d.hire(t.Context(), &work.Need{Key: 1, Job: 3, Language: python, Environment: environment})
	if h := d.hired[1]; h == nil || h.template.install == nil {
		t.Fatalf("hired %+v: %v", h, d.events)
	}
	return d, d.hired[1].template
}

const wanted = `{"pip":{"packages":["a"]},"env_vars":{"A":"1"},"config":{"setup_timeout_seconds":30}}`

// Workers that need the same installed share a template, which is a program that installs it first; others have another one.
func TestTemplatesOfInstalledEnvironments(t *testing.T) {
	now := int64(time.Second)
	d, tm := employing(t, &now, wanted)
	p := d.asked()[0].(*fb.GroupCreateT).Program
	if !slices.Equal(p.Argv, []string{"/bin/python", "-m", "maniple._making"}) || !slices.Contains(p.Env, `MANIPLE_INSTALL={"pip":{"packages":["a"]}}`) || !slices.Contains(p.Env, "MANIPLE_ENVIRONMENTS=/base/maniple-1/.environments") {
		t.Errorf("it is started as %q with %q", p.Argv, p.Env)
	}
	for key, environment := range []string{2: `{"pip":{"packages":["a"]},"config":{"setup_timeout_seconds":90}}`, 3: `{"pip":{"packages":["b"]}}`, 4: ""} {
		if key == 0 || key == 1 {
			continue
		}
		d.hire(t.Context(), &work.Need{Key: uint64(key), Job: 3, Language: python, Environment: environment})
		if same := d.hired[uint64(key)].template == tm; same != (key == 2) {
			t.Errorf("%s has the same template: %v", environment, same)
		}
	}
	if limit := time.Duration(tm.install.due - tm.since); limit != 90*time.Second { // whoever waits longest
		t.Errorf("it has %v", limit)
	}
	d.jobs[0].language = golang
	d.hire(t.Context(), &work.Need{Key: 9, Job: 3, Language: golang, Environment: wanted})
	if f := d.events[len(d.events)-1].(work.WorkerFailed); !f.Final || !strings.Contains(f.Why, "Python") {
		t.Errorf("a driver in Go is told %q", f.Why)
	}
}

// What is printed while it is made is not for the driver: its last line says how far it is, and its end why it failed.
func TestAnEnvironmentThatIsMade(t *testing.T) {
	now := int64(time.Second)
	d, tm := employing(t, &now, wanted)
	d.asked()
	d.toldOutput(&fb.RankOutputT{Group: taskT(tm.group), Stream: 2}, []byte("Collecting a\nDownloading a-1.0\n\n"))
	d.settleMaking(t.Context(), tm, now)
	if slow := d.events[0].(work.WorkerSlow); slow.Key != 1 || slow.Why != "its runtime_env is being made at node n1, which said last: Downloading a-1.0" || len(d.acks) != 1 {
		t.Errorf("%+v, %d acknowledgements", slow, len(d.acks))
	}
	if why := tm.absent("n1"); why != d.events[0].(work.WorkerSlow).Why {
		t.Errorf("its driver hears %q", why)
	}
	d.events = nil
	tm.up = true
	if d.heardMaking(&fb.RankOutputT{Group: taskT(tm.group)}, []byte("a worker's")) {
		t.Error("what workers print is kept back")
	}
	tm.up = false
	d.toldTemplate(t.Context(), &fb.GroupUpdateT{Group: taskT(tm.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "rank", Code: 1, Reason: "the program on n1 exited with code 1", Tail: "ERROR: no a\npip failed\n"}})
	if why := d.failed(t); len(why) != 1 || why[0] != "its runtime_env could not be made at node n1: ERROR: no a\npip failed" {
		t.Errorf("%q", why)
	}
	d, tm = employing(t, &now, wanted)
	d.toldTemplate(t.Context(), &fb.GroupUpdateT{Group: taskT(tm.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "rank", Code: 137, Signal: 9, Reason: "it was killed by signal 9"}})
	if f := d.events[0].(work.WorkerFailed); f.Final || f.Why != "its runtime_env could not be made at node n1: it was killed by signal 9" {
		t.Errorf("%+v", f)
	}
}

// It ends when it took too long, when nobody waits for it any more, and when it has had no worker for a minute.
func TestInstalledEnvironmentsEnd(t *testing.T) {
	now := int64(time.Second)
	cancelled := func(d *desk) bool {
		return slices.ContainsFunc(d.asked(), func(m Message) bool { _, ok := m.(*fb.GroupCancelT); return ok })
	}
	d, tm := employing(t, &now, wanted)
	tm.install.said = "Collecting a"
	d.settleMaking(t.Context(), tm, tm.install.due-1)
	if cancelled(d) {
		t.Error("it is ended before its time")
	}
	d.settleMaking(t.Context(), tm, tm.install.due)
	if !cancelled(d) || !tm.over {
		t.Error("it may take for ever")
	}
	d.events = nil
	d.toldTemplate(t.Context(), &fb.GroupUpdateT{Group: taskT(tm.group), Phase: fb.GroupPhaseEnded, End: &fb.GroupEndT{Cause: "cancel"}})
	if why := d.failed(t); len(why) != 1 || why[0] != "its runtime_env could not be made at node n1: it was not made within its setup_timeout_seconds (30s); it said last:\nCollecting a" {
		t.Errorf("%q", why)
	}

	d, _ = employing(t, &now, wanted) // no task of the core's waits for it
	if d.settleInstalls(t.Context(), now); cancelled(d) {
		t.Error("it is ended at once")
	}
	if next := d.settleInstalls(t.Context(), now+installCancel); next != never || !cancelled(d) || len(d.hired) != 0 || d.events[0].(work.WorkerFailed).Final {
		t.Errorf("next %v, %d workers, %+v", next, len(d.hired), d.events)
	}

	d, tm = employing(t, &now, wanted)
	tm.up, tm.hired = true, 1
	d.asked()
	if next := d.settleInstalls(t.Context(), now+installIdle); next != never || cancelled(d) {
		t.Error("one with a worker is ended")
	}
	tm.hired = 0
	if next := d.settleInstalls(t.Context(), now); next != now+installIdle {
		t.Errorf("looked at again after %v", time.Duration(next-now))
	}
	if d.settleInstalls(t.Context(), now+installIdle); !cancelled(d) {
		t.Error("one without a worker stays")
	}
}

func TestDueIn(t *testing.T) {
	e := env.Environment{}
	if e.Config.Timeout = -1; dueIn(5, e.Timeout()) != never {
		t.Error("-1 is not for ever")
	}
}
