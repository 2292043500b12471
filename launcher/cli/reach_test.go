package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	urfave "github.com/urfave/cli/v2"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// note leaves the endpoint of a job's cluster, at an address where nothing listens.
func (q *queue) note(job string) (path string) {
	q.t.Helper()
	path = filepath.Join(q.home, ".local/state/maniple/jobs/slurm", job, "endpoint.json")
	text := `{"version":1,"kind":"slurm","name":"` + job + `","cluster":"c","addresses":["127.0.0.1:1"],"nodes":["n1","n2"],"host":"n1","pid":1,"site":"here"}`
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		q.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		q.t.Fatal(err)
	}
	return path
}

// A running job's advice names a command that works, or is not given.
func TestExplainSendsToAClusterThatIsUp(t *testing.T) {
	q := submitted(t, "JobState=RUNNING Reason=None NodeList=n[1-2]")
	if out, _, _ := q.maniple("explain", "12"); strings.Contains(out, "--cluster") {
		t.Errorf("there is no cluster\n%s", out)
	}
	q.note("12")
	if out, _, _ := q.maniple("explain", "12"); !strings.Contains(out, "it runs on n[1-2]\n  -> `maniple explain --cluster 12` says what its gangs do\n") {
		t.Errorf("its cluster is up\n%s", out)
	}
}

// What a killed `maniple run` left is forgotten once its own Slurm says that the job is over; another Slurm
// with the same home does not know the job.
func TestStatusForgetsAJobThatIsOver(t *testing.T) {
	for _, tt := range []struct {
		site, says string
		forgets    bool
	}{
		{"here", "srun: error: Unable to confirm allocation for job 13: Invalid job id specified", true},
		{"here", "srun: error: Unable to confirm allocation for job 13: Job is pending execution", true},
		{"here", "srun: error: Slurm job 13 has expired", true},
		{"here", "srun: error: Unable to contact slurm controller (connect failure)", false},
		{"other", "srun: error: Unable to confirm allocation for job 13: Invalid job id specified", false},
	} {
		q := newQueue(t, "22.05")
		conf := filepath.Join(t.TempDir(), "slurm.conf")
		if err := os.WriteFile(conf, []byte("# a site\nClusterName="+tt.site+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		q.env = append(q.env, "SLURM_CONF="+conf, "TMPDIR="+t.TempDir())
		q.On("srun", slurmtest.Answer{Stderr: tt.says + "\nsrun: Check SLURM_JOB_ID environment variable. Expired or invalid job 13\n", Code: 1})
		path := q.note("13")
		out, errs, code := q.maniple("status")
		_, err := os.Stat(path)
		if forgot := errors.Is(err, os.ErrNotExist); code != 0 || forgot != tt.forgets || strings.Contains(errs, "no cluster is up") != tt.forgets || strings.Contains(out, "does not answer") == tt.forgets {
			t.Errorf("%s: %s: exit %d\n%s%s", tt.site, tt.says, code, out, errs)
		}
	}
}

// Commands that look need no --cluster where only one is up; those that start or end something do, and a
// command of a job means that job's.
func TestTheOnlyClusterThatIsUp(t *testing.T) {
	for _, tt := range []struct {
		jobs []string
		env  string
		want string
	}{
		{[]string{"13"}, "", "13"},
		{[]string{"13", "14"}, "", ""},
		{[]string{"13"}, "SLURM_JOB_ID=15", ""},
		{[]string{"13"}, "MANIPLE_CLUSTER=15", ""},
	} {
		q := newQueue(t, "22.05")
		for _, job := range tt.jobs {
			q.note(job)
		}
		env := map[string]string{"HOME": q.home, "TMPDIR": t.TempDir()}
		if k, v, ok := strings.Cut(tt.env, "="); ok {
			env[k] = v
		}
		a, _, _ := newApp(env)
		got := ""
		cmd := a.newCommand(&page{name: "nodes", summary: "x", flags: []urfave.Flag{clusterFlag()}, alone: true, action: func(c *call) error {
			if _, err := c.find(); !errors.Is(err, boot.ErrNone) {
				t.Errorf("%v %s: find: %v", tt.jobs, tt.env, err)
			}
			ep, err := c.findAny()
			if err == nil {
				got = ep.Name
			} else if !errors.Is(err, boot.ErrNone) {
				t.Error(err)
			}
			return nil
		}})
		if err := a.urfave([]*urfave.Command{cmd}).Run([]string{"maniple", "nodes"}); err != nil || got != tt.want {
			t.Errorf("%v %s: %q, %v; want %q", tt.jobs, tt.env, got, err, tt.want)
		}
	}
}
