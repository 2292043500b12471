package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/uds"
)

// agent listens where an agent of a cluster of that name would.
func agent(t *testing.T, base, cluster, node string) string {
	t.Helper()
	dir := filepath.Join(base, fmt.Sprintf("maniple-%d", os.Getuid()), cluster, node)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, socketName)
	l, err := uds.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}

func TestFind(t *testing.T) {
	base := t.TempDir()
	t.Setenv("TMPDIR", base)
	for _, name := range []string{"MANIPLE_ADDRESS", "SLURM_JOB_ID", "SLURM_TMPDIR", "SLURMD_NODENAME", "SLURM_JOB_NODELIST"} {
		t.Setenv(name, "")
	}
	mine := agent(t, base, "mine", "n1")
	other := agent(t, base, "mine", host())
	job := agent(t, base, "4711", "n1")
	dead := filepath.Join(base, fmt.Sprintf("maniple-%d", os.Getuid()), "dead", "n1")
	if err := os.MkdirAll(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead, socketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		address string
		env     []string
		want    string
		fails   string
	}{
		{"/a/path", nil, "/a/path", ""},
		{"unix:///a/path", nil, "/a/path", ""},
		{"mine", nil, other, ""}, // on the node of this name
		{"", []string{"MANIPLE_ADDRESS", mine}, mine, ""},
		{"auto", []string{"MANIPLE_ADDRESS", "mine"}, other, ""},
		{"", []string{"SLURM_JOB_ID", "4711"}, job, ""},
		{"", []string{"SLURM_JOB_ID", "4712"}, "", "is not a node of the Slurm job 4712"},
		{"", []string{"SLURM_JOB_ID", "4712", "SLURM_JOB_NODELIST", host() + ",other"}, "", ""},
		{"dead", nil, "", "maniple up --cluster dead"},
		{"tcp://n1:7", nil, "", "maniple exec"},
	} {
		t.Run(strings.Join(append([]string{c.address}, c.env...), " "), func(t *testing.T) {
			for kv := range slices.Chunk(c.env, 2) {
				t.Setenv(kv[0], kv[1])
			}
			got, err := Find(t.Context(), c.address)
			if got != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%q, %v; want %q, %q", got, err, c.want, c.fails)
			}
		})
	}
}

func TestFlagsOfANode(t *testing.T) {
	n := Node{CPUs: 100_000, GPUs: 2, Resources: map[string]float64{"b": 1.5, "a": 1}, Labels: map[string]string{"k": "v"}}
	want := "--fake-nodes auto --cpus 100000 --node-gpus 2 --node-resources a=1,b=1.5 --node-labels k=v"
	if got := strings.Join(n.flags(false), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := (Node{CPUs: 1}).flags(false); !slices.Equal(got, []string{"--cpus", "1"}) || len(Node{}.flags(false))+len(Node{}.Given()) != 0 {
		t.Errorf("%q", got)
	}
	if got := (Node{CPUs: 1}).flags(true); !slices.Equal(got, []string{"--fake-nodes", "auto", "--cpus", "1"}) {
		t.Errorf("beside the cluster of a Slurm job: %q", got)
	}
	if got := strings.Join(n.Given(), " "); got != "CPUs GPUs Resources Labels" {
		t.Errorf("given: %s", got)
	}
}
