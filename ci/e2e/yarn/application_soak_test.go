//go:build e2e && soak

package yarn

import (
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// Hadoop's own `yarn application` lists ours by type and tag, with its name, and ends it.
func TestApplicationCommandOfHadoop(t *testing.T) {
	g := gatewayOf(t)
	id := g.submit(append(small, "-N", "1", "-n", "1", "-J", "nightly", "--tags", "team-a,listed", "--", "sleep", "300")...)
	e2e.Until(t, limit, "it runs", func() bool { return strings.Contains(g.run("status", "--cluster", id).Stdout, "running") })
	command := func(line string) string {
		t.Helper()
		out, err := g.b.script("application.sh "+line, "HADOOP_USER_NAME=alice")
		if err != nil {
			t.Fatal(err, out)
		}
		return out
	}
	listed := false
	for line := range strings.Lines(command("-list -appTypes maniple -appTags listed")) {
		f := strings.Fields(line)
		listed = listed || len(f) > 5 && slices.Equal(f[:6], []string{id, "nightly", "maniple", "alice", "root.default", "RUNNING"})
	}
	if !listed {
		t.Error(command("-list -appTypes maniple -appTags listed"))
	}
	if out := command("-list -appTypes maniple -appTags other"); strings.Contains(out, id) {
		t.Error(out)
	}
	command("-kill " + id)
	if r := g.run("explain", id); r.Code != 0 || !strings.Contains(r.Stdout, "is KILLED") || !strings.Contains(r.Stdout, "exit code 143") {
		t.Errorf("%+v", r)
	}
	e2e.Until(t, limit, "nothing of it runs", func() bool { return len(processes(id)) == 0 })
}
