package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	yarnbackend "github.com/maniple-hpc/maniple/launcher/backend/yarn"
	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/transport/wire/id"
	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/yarntest"
)

// An application of which YARN's answer is lost is known here all the same; one that YARN refuses is not.
func TestSubmitIsNotedFirst(t *testing.T) {
	home := t.TempDir()
	var said bytes.Buffer
	getenv := func(name string) string { return map[string]string{"HOME": home}[name] }
	c := &call{app: &app{stderr: &said, getenv: getenv}, ctx: t.Context(), page: &page{name: "submit"}}
	cluster := yarntest.New(t, yarn.Resource{MemoryMB: 1024, VCores: 4})
	client, err := yarn.New(yarn.Config{ResourceManagers: []string{cluster.ResourceManager()}, User: "alice", RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	application := func(queue string) *yarnbackend.Application {
		a := &yarnbackend.Application{Queue: queue, Master: yarn.Resource{MemoryMB: 128, VCores: 1}}
		a.Job.Cluster, a.Job.Secret, a.Job.MinNodes, a.Job.Size = strings.Repeat("0", 32), bytes.Repeat([]byte{1}, 32), 1, a.Master
		if err := a.Check(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := application("")
	cluster.LoseAnswer("submitApplication")
	if _, err := c.submitNoted(a, client); err == nil {
		t.Fatal("the answer came")
	}
	id := a.ID.String()
	if ep, err := boot.Find(getenv, id); err != nil || ep.Access == nil {
		t.Error(ep, err)
	}
	if r, err := client.Report(t.Context(), a.ID); err != nil || r.State != yarn.StateAccepted {
		t.Errorf("%+v %v", r, err)
	}
	if !strings.Contains(said.String(), id+" may have been submitted") {
		t.Error(said.String())
	}
	a = application("nosuch")
	if _, err := c.submitNoted(a, client); err == nil || !strings.Contains(err.Error(), `no queue "nosuch"`) || !strings.Contains(err.Error(), "there are default") {
		t.Error(err)
	}
	if ep, err := boot.Find(getenv, a.ID.String()); !errors.Is(err, boot.ErrNone) {
		t.Error(ep, err)
	}
	a = application("")
	if r, err := c.submitNoted(a, client); err != nil || r.ID != a.ID {
		t.Errorf("%+v %v", r, err)
	}
}

// Where values may lie is asked for as of `maniple run`, and is the job's.
func TestSubmitSaysWhereValuesLie(t *testing.T) {
	c := &call{app: &app{stderr: new(bytes.Buffer), getenv: func(string) string { return "" }}, ctx: t.Context(), page: &page{name: "submit"}}
	application := func(args ...string) (*yarnbackend.Application, error) {
		r, err := parseSubmit(append(args, "--", "true"), yarnOptions(), c.getenv)
		if err != nil {
			t.Fatal(err)
		}
		return c.yarnApplication(r)
	}
	a, err := application("--object-spilling-directory", "hdfs:///user/me,/scratch", "--object-spilling-limit", "2G", "--object-store-memory=64M")
	if err != nil || strings.Join(a.Job.Spill, " ") != "hdfs:///user/me /scratch" || a.Job.SpillLimit != 2<<30 || a.Job.Store != 64<<20 || len(a.Job.Flags) != 0 {
		t.Errorf("%+v %v", a, err)
	}
	for flag, text := range map[string]string{"--object-spilling-directory": "here", "--object-spilling-limit": "much", "--object-store-memory": "0"} {
		if _, err := application(flag, text); err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), "; write ") {
			t.Error(flag, err)
		}
	}
}

// What an application is made of is what was written, and what is no such thing is refused.
func TestSubmitOnYARNReadsItsFlags(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"maniple", "train.py"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &call{app: &app{stderr: new(bytes.Buffer), environ: []string{"A=b", "ALL_PROXY=p", "_PROXY=q"}, getenv: func(string) string { return "" }}, ctx: t.Context(), page: &page{name: "submit"}}
	application := func(args ...string) (*yarnbackend.Application, error) {
		r, err := parseSubmit(args, yarnOptions(), c.getenv)
		if err != nil {
			t.Fatal(err)
		}
		return c.yarnApplication(r)
	}
	for export, want := range map[string]string{"ALL_PROXY,A": "A=b ALL_PROXY=p", "ALL,ALLOWED=1": "ALLOWED=1", "A,ALL": "A=b", "ALL": "", "NONE": ""} {
		if a, err := application("--export="+export, "--", "true"); err != nil || strings.Join(a.Job.Env, " ") != want {
			t.Errorf("--export=%s: %+v %v", export, a, err)
		}
	}
	if a, err := application("--am-cores=2", "--priority=-3", "--resources=license=2", "--", "python", "train.py"); err != nil || a.Master.VCores != 2 || a.Priority != -3 || a.Job.Size.Of("license") != 2 || a.Files["train.py"] == "" {
		t.Errorf("%+v %v", a, err)
	}
	for _, flag := range []string{"nodelist", "exclude"} { // they would not be heeded
		if slices.ContainsFunc(yarnOptions(), func(o slurm.Option) bool { return o.Name == flag }) {
			t.Error(flag, "is taken")
		}
	}
	for _, no := range [][]string{
		{"--am-cores=2x", "--", "true"}, {"--am-cores=1.9", "--", "true"}, {"--priority=1e3", "--", "true"}, {"--resources=license=1.5", "--", "true"},
		{"--resources=license=0.5", "--", "true"}, {"--", "./maniple"}, {"--", "python", "maniple"},
	} {
		if a, err := application(no...); err == nil {
			t.Errorf("%q: %+v", no, a)
		}
	}
}

// Programs that were told to end have their gang's own grace, however long that is.
func TestCancelWaitsForGangs(t *testing.T) {
	mine, other, asked := id.Task{Counter: 1}, id.Task{Counter: 2}, 0
	groups := func(context.Context) (stateGroups, error) {
		asked++
		phase := "stopping"
		if asked == 3 {
			phase = "ended"
		}
		return stateGroups{Groups: []stateGroup{{ID: other.String(), Phase: "running"}, {ID: mine.String(), Phase: phase}}}, nil
	}
	if err := ended(t.Context(), []id.Task{mine}, groups); err != nil || asked != 3 {
		t.Error(asked, err)
	}
	gone := errors.New("gone")
	if err := ended(t.Context(), []id.Task{mine}, func(context.Context) (stateGroups, error) { return stateGroups{}, gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// What may keep an application waiting for ever is said when it is submitted, and its master knows it.
func TestSubmitSaysWhatIsDoubted(t *testing.T) {
	cluster := yarntest.New(t, yarn.Resource{MemoryMB: 65536, VCores: 4})
	home := t.TempDir()
	site := "<configuration><property><name>yarn.resourcemanager.address</name><value>" + cluster.ResourceManager() + "</value></property></configuration>"
	if err := os.WriteFile(filepath.Join(home, "yarn-site.xml"), []byte(site), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	said := new(bytes.Buffer)
	getenv := func(name string) string {
		return map[string]string{"HOME": home, "HADOOP_CONF_DIR": home}[name]
	}
	c := &call{app: &app{stdout: io.Discard, stderr: said, getenv: getenv}, ctx: t.Context(), page: &page{name: "submit"}}
	if err := c.submitYARN([]string{"-N", "2", "-c", "2", "--mem", "512M", "--", "true"}); err != nil {
		t.Fatal(err)
	}
	if text := said.String(); !strings.Contains(text, "submit: 2 nodes and the master need 5 of vcores") {
		t.Error(text)
	}
}
