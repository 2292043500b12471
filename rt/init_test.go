package rt_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/internal/nodetest"
)

// Who joins the cluster of another program of the job is counted once it has attached: the cluster may end before that, and is looked for
// again then, by who has not brought it up.
func TestInitAgain(t *testing.T) {
	node := nodetest.Start(t, 1, work.Config{})
	for _, c := range []struct {
		name, more string
		gone       int // so many times the cluster has ended when it is attached to
		calls      int
		fails      bool
	}{
		{"at once", `,"joined":true`, 0, 1, false},
		{"twice gone", `,"joined":true`, 2, 3, false},
		{"always gone", `,"joined":true`, 100, 4, true},
		{"its own", ``, 100, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, value := range map[string]string{"SLURM_JOB_ID": "4700117", "SLURMD_NODENAME": "n1", "SLURM_TMPDIR": "", "TMPDIR": dir, "PATH": dir + ":" + os.Getenv("PATH")} {
				t.Setenv(name, value)
			}
			script := `#!/bin/sh
echo call >> DIR/calls
socket=PATH
[ $(wc -l < DIR/calls) -gt GONE ] || socket=DIR/none
echo '{"cluster":"x","kind":"slurm","socket":"'$socket'"MORE}'
`
			script = strings.NewReplacer("DIR", dir, "PATH", node.Path, "GONE", strconv.Itoa(c.gone), "MORE", c.more).Replace(script)
			if err := os.WriteFile(filepath.Join(dir, "maniple"), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			client, err := rt.Init(t.Context(), rt.Config{})
			if client != nil {
				client.Close()
			}
			calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
			if n := strings.Count(string(calls), "call"); n != c.calls || (err != nil) != c.fails {
				t.Errorf("%d calls, want %d: %v", n, c.calls, err)
			}
			if c.fails {
				contains(t, err, "no agent at")
			}
		})
	}
}
