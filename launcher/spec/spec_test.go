package spec

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// parse reads flags as name=value words.
func parse(words ...string) (*Spec, error) {
	return Parse(func(name string) (string, string, bool) {
		for _, w := range words {
			if n, v, _ := strings.Cut(w, "="); n == name {
				return v, "--" + n, true
			}
		}
		return "", "", false
	})
}

func (sh *Shape) String() string {
	var parts []string
	for _, b := range sh.Bundles {
		s := fmt.Sprintf("%dr/%dc", b.Ranks, b.CPUs)
		if b.GPUs > 0 {
			s += fmt.Sprintf("/%dg", b.GPUs)
		}
		if b.Memory > 0 {
			s += fmt.Sprintf("/%dM", b.Memory>>20)
		}
		for _, r := range b.Resources {
			s += fmt.Sprintf("/%s=%v", r.Name, r.Amount)
		}
		parts = append(parts, s)
	}
	if sh.OwnGPUs > 0 {
		parts = append(parts, fmt.Sprintf("own=%d", sh.OwnGPUs))
	}
	return sh.Strategy + " " + strings.Join(parts, " ")
}

// SPEC-2, SPEC-3: what becomes of flags, and the line that says so.
func TestShape(t *testing.T) {
	for _, c := range []struct{ flags, shape, line string }{
		{"", "pack 1r/1c", "1 driver on n1 (ranks? add --ntasks-per-node 2)"},
		{"cpus-per-task=4", "pack 1r/4c", "1 driver on n1 (ranks? add --ntasks-per-node 2)"},
		{"nodes=4 gpus-per-node=8", "strict-spread 1r/1c/8g 0r/1c/8g 0r/1c/8g 0r/1c/8g", "4 nodes x 8 GPUs, 1 driver on n1 (ranks? add --ntasks-per-node 8)"},
		{"ntasks=3", "pack 1r/1c 1r/1c 1r/1c", "3 ranks"},
		{"ntasks=1", "pack 1r/1c", "1 rank"},
		{"ntasks=2 cpus-per-task=4 gpus-per-task=1", "pack 1r/4c/1g 1r/4c/1g own=1", "2 ranks, 4 cores and 1 GPU each"},
		{"ntasks=4 gpus=8", "pack 1r/1c/2g 1r/1c/2g 1r/1c/2g 1r/1c/2g", "4 ranks, 2 GPUs each, seen by all ranks of a node"},
		{"nodes=2 ntasks-per-node=2", "strict-spread 2r/2c 2r/2c", "2 nodes x 2 ranks"},
		{"nodes=2 ntasks=5", "strict-spread 3r/3c 2r/2c", "2 nodes x 2-3 ranks"},
		{"nodes=2 ntasks=4 ntasks-per-node=2", "strict-spread 2r/2c 2r/2c", "2 nodes x 2 ranks"},
		{"nodes=1 ntasks=2", "strict-spread 2r/2c", "1 node x 2 ranks"},
		{"ntasks-per-node=3", "strict-spread 3r/3c", "1 node x 3 ranks"},
		{"ntasks=6 ntasks-per-node=3", "strict-spread 3r/3c 3r/3c", "2 nodes x 3 ranks"},
		{"nodes=2 gpus-per-node=8 gpus-per-task=2", "strict-spread 4r/4c/8g 4r/4c/8g own=2", "2 nodes x 4 ranks, 2 GPUs each"},
		{"nodes=2 ntasks-per-node=4 gpus-per-node=4", "strict-spread 4r/4c/4g 4r/4c/4g", "2 nodes x 4 ranks, 4 GPUs on each node for all its ranks"},
		{"gpus=4 gpus-per-task=2", "pack 1r/1c/2g 1r/1c/2g own=2", "2 ranks, 2 GPUs each"},
		{"nodes=2 ntasks-per-node=4 gpus-per-node=4 gpu-visibility=own", "strict-spread 4r/4c/4g 4r/4c/4g own=1", "2 nodes x 4 ranks, 1 GPU each"},
		{"nodes=2 ntasks-per-node=2 gres=gpu:4 gpu-visibility=own", "strict-spread 2r/2c/4g 2r/2c/4g own=2", "2 nodes x 2 ranks, 2 GPUs each"},
		{"nodes=2 ntasks-per-node=2 gpus-per-task=2 gpu-visibility=node", "strict-spread 2r/2c/4g 2r/2c/4g", "2 nodes x 2 ranks, 4 GPUs on each node for all its ranks"},
		{"ntasks=2 gpus=2 gpu-visibility=own", "pack 1r/1c/1g 1r/1c/1g own=1", "2 ranks, 1 GPU each"},
		{"nodes=2 ntasks-per-node=2 gpu-visibility=own", "strict-spread 2r/2c 2r/2c", "2 nodes x 2 ranks"},
		{"nodes=1-3 ntasks=2 gpus-per-node=1 gpu-visibility=own", "strict-spread 1r/1c/1g 1r/1c/1g 0r/0c/1g own=1", "3 nodes x 0-1 ranks, 1 GPU each"},
		{"gpus-per-node=4 gpu-visibility=own", "pack 1r/1c/4g", "1 node x 4 GPUs, 1 driver on n1 (ranks? add --ntasks-per-node 4)"},
		{"nodes=1 ntasks=2 mem=8G", "strict-spread 2r/2c/8192M", "1 node x 2 ranks"},
		{"ntasks=2 cpus-per-task=2 mem-per-cpu=100", "pack 1r/2c/200M 1r/2c/200M", "2 ranks, 2 cores each"},
		{"nodes=2-4 ntasks-per-node=1", "strict-spread 1r/1c 1r/1c 1r/1c", "3 nodes x 1 rank"},
		{"nodes=1 ntasks=1 gres=gpu:h100:2,nvme", "strict-spread 1r/1c/2g/nvme=1", "1 node x 1 rank, 2 GPUs each"},
		{"ntasks=1 resources=license=0.5,net=2", "pack 1r/1c/license=0.5/net=2", "1 rank"},
		{"ntasks=2 strategy=STRICT_PACK", "strict-pack 1r/1c 1r/1c", "2 ranks"},
	} {
		s, err := parse(strings.Fields(c.flags)...)
		if err != nil {
			t.Errorf("%s: %v", c.flags, err)
			continue
		}
		sh, err := s.Shape(3)
		if err != nil {
			t.Errorf("%s: %v", c.flags, err)
			continue
		}
		if sh.String() != c.shape {
			t.Errorf("%s: %s, want %s", c.flags, sh, c.shape)
		}
		if line := sh.FirstLine("n1"); line != c.line {
			t.Errorf("%s: %q, want %q", c.flags, line, c.line)
		}
		ranks := 0
		for _, b := range sh.Bundles {
			ranks += b.Ranks
		}
		if ranks != sh.Ranks || sh.Driver && ranks != 1 || s.Tasks > 0 && ranks != s.Tasks {
			t.Errorf("%s: %d ranks in bundles, %d said, %d asked for", c.flags, ranks, sh.Ranks, s.Tasks)
		}
	}
}

// SPEC-1: an error names the flag, what is wrong and what to write.
func TestErrorsNameTheFlag(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"nodes=4-2", "--nodes: the least, 4, is more than the most, 2; write 2-4"},
		{"nodes=x", `--nodes: "x" is neither a number nor MIN-MAX; write 4 or 2-4`},
		{"ntasks=0", `--ntasks: "0" is not a number from 1 on; write for instance 4`},
		{"mem=lots", `--mem: "lots" is no size; write megabytes, or a number with K, M, G or T`},
		{"time=soon", `--time: "soon" is no time; write minutes, HH:MM:SS or D-HH:MM:SS`},
		{"grace=-1", `--grace: "-1" is no time; write seconds, or 500ms, 2m`},
		{"strategy=tight", `--strategy: "tight" is no strategy; write pack, spread, strict-pack or strict-spread`},
		{"constraint=a|b", `--constraint: "a|b" has alternatives or counts; name labels that all nodes must have, joined by &`},
		{"resources=gpu=2", "--resources: gpu is not a custom resource; use the flag for it; write for instance bandwidth=2,license=1"},
		{"signal=NOPE@3", `--signal: "NOPE@3" is no signal; write for instance USR1@300`},
		{"nodes=2 ntasks=1", "--ntasks: 1 rank cannot be spread over 2 nodes; use --nodes 1 or more ranks"},
		{"nodes=4 ntasks=2", "--ntasks: 2 ranks cannot be spread over 4 nodes; use --nodes 2 or more ranks"},
		{"ntasks=5 ntasks-per-node=2", "--ntasks-per-node: 5 ranks do not fill nodes of 2; leave one of the two away"},
		{"nodes=2 ntasks=5 ntasks-per-node=2", "--ntasks: 5 ranks are more than 2 nodes of 2; leave --ntasks away"},
		{"gpus-per-task=3 gpus-per-node=8", "--gpus-per-task: 3 does not divide --gpus-per-node 8; leave one of the two away"},
		{"mem=1G mem-per-cpu=1G", "--mem-per-cpu: --mem is given too; leave one of the two away"},
		{"ntasks=2 mem=1G", "--mem: it is memory per node, and --ntasks alone does not say how many nodes; add --nodes N, or use --mem-per-cpu"},
		{"ntasks=2 gpus-per-node=1", "--gpus-per-node: --ntasks alone does not say how many nodes; add --nodes N, or use --gpus-per-task"},
		{"gpus-per-task=1", "--gpus-per-task: it does not say how many ranks; add --ntasks N, --ntasks-per-node N or --gpus-per-node N"},
		{"ntasks=3 gpus=4", "--gpus: 4 GPUs cannot be divided among 3 ranks; use --gpus-per-task"},
		{"gpu-visibility=all", `--gpu-visibility: "all" is neither own nor node; write own for each rank's own GPUs, node for all that the node's ranks have`},
		{"nodes=1 ntasks=3 gpus-per-node=4 gpu-visibility=own", "--gpu-visibility: 4 GPUs cannot be divided among the 3 ranks of a node; use --gpu-visibility=node, or another number"},
		{"nodes=2 ntasks=5 gpus-per-node=6 gpu-visibility=own", "--gpu-visibility: nodes have 3 and 2 ranks for the same GPUs; use --gpu-visibility=node, or as many ranks on each node"},
		{"bind=maybe", `--bind: "maybe" is neither true nor false; write one of them`},
	} {
		s, err := parse(strings.Fields(c.flags)...)
		if err == nil {
			_, err = s.Shape(4)
		}
		var flag *FlagError
		if !errors.As(err, &flag) || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.flags, err, c.want)
		}
	}
}

func TestValues(t *testing.T) {
	s, err := parse("time=1-02:03:04", "grace=500ms", "immediate=5", "signal=B:USR1@300", "max-restarts=-1", "bind=true", "constraint=a&class=fast")
	if err != nil {
		t.Fatal(err)
	}
	if want := 26*time.Hour + 3*time.Minute + 4*time.Second; s.Time != want {
		t.Errorf("time %v, want %v", s.Time, want)
	}
	if s.Grace != 500*time.Millisecond || s.Wait != 5*time.Second || s.MaxRestarts != -1 || !s.Bind {
		t.Errorf("%+v", s)
	}
	if want := []Label{{"a", "true"}, {"class", "fast"}}; !slices.Equal(s.Labels, want) {
		t.Errorf("labels %v, want %v", s.Labels, want)
	}
	if sig, before, ok := ParseSignal(s.Signal); !ok || sig != 10 || before != 5*time.Minute {
		t.Errorf("signal %v %v %v", sig, before, ok)
	}
	if sig, before, ok := ParseSignal("15"); !ok || sig != 15 || before != time.Minute {
		t.Errorf("signal 15: %v %v %v", sig, before, ok)
	}
}

// Inside a job, a request that says nothing is the job's; one that does is its own. Versions of Slurm name
// GPUs in different ways.
func TestInSlurm(t *testing.T) {
	for _, c := range []struct{ flags, job, shape string }{
		{"", "", "strict-spread 2r/6c 2r/6c"},
		{"cpus-per-task=1", "", "strict-spread 2r/2c 2r/2c"},
		{"ntasks=3", "", "pack 1r/1c 1r/1c 1r/1c"},
		{"", "SLURM_GPUS_PER_TASK=1", "strict-spread 2r/6c/2g 2r/6c/2g own=1"},
		{"", "SLURM_GPUS_PER_TASK=a100:2", "strict-spread 2r/6c/4g 2r/6c/4g own=2"},
		{"", "SLURM_TRES_PER_TASK=cpu=3,gres/gpu=1", "strict-spread 2r/6c/2g 2r/6c/2g own=1"},
		{"", "SLURM_TRES_PER_TASK=cpu=3,gres/gpu:a100=2", "strict-spread 2r/6c/4g 2r/6c/4g own=2"},
		{"", "SLURM_TRES_PER_TASK=cpu=3", "strict-spread 2r/6c 2r/6c"},
		{"", "SLURM_GPUS_PER_NODE=h100:4", "strict-spread 2r/6c/4g 2r/6c/4g"},
		{"", "SLURM_GPUS_PER_NODE=a100:1,h100:3", "strict-spread 2r/6c/4g 2r/6c/4g"},
		{"gpu-visibility=own", "SLURM_GPUS_PER_NODE=4", "strict-spread 2r/6c/4g 2r/6c/4g own=2"},
		{"gpu-visibility=node", "SLURM_TRES_PER_TASK=cpu=3,gres/gpu=1", "strict-spread 2r/6c/2g 2r/6c/2g"},
		{"ntasks=3", "SLURM_TRES_PER_TASK=cpu=3,gres/gpu=1", "pack 1r/1c 1r/1c 1r/1c"},
	} {
		words := strings.Fields(c.flags)
		job := map[string]string{"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "3"}
		if k, v, ok := strings.Cut(c.job, "="); ok {
			job[k] = v
		}
		s, err := Parse(InSlurm(func(k string) string { return job[k] }, func(name string) (string, string, bool) {
			for _, w := range words {
				if n, v, _ := strings.Cut(w, "="); n == name {
					return v, "--" + n, true
				}
			}
			return "", "", false
		}))
		if err != nil {
			t.Fatal(err)
		}
		sh, err := s.Shape(2)
		if err != nil || sh.String() != c.shape {
			t.Errorf("%q in a job with %s: %v %v, want %s", c.flags, c.job, sh, err, c.shape)
		}
		if len(s.Labels) > 0 {
			t.Errorf("a job with %s: asks for labels %v, which its nodes need not have", c.job, s.Labels)
		}
	}
}

// A count that nobody can read is refused by the name of its variable.
func TestInSlurmRefusesNonsense(t *testing.T) {
	job := map[string]string{"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_TRES_PER_TASK": "gres/gpu=lots"}
	_, err := Parse(InSlurm(func(k string) string { return job[k] }, func(string) (string, string, bool) { return "", "", false }))
	if err == nil || !strings.Contains(err.Error(), "SLURM_TRES_PER_TASK") {
		t.Errorf("%v", err)
	}
}

// The environments that real Slurms of two versions gave to one sbatch script with --gpus-per-task=1 say the same.
func TestInSlurmByVersion(t *testing.T) {
	for _, version := range []string{"22.05", "24.11"} {
		data, err := os.ReadFile("../../slurm/testdata/" + version + "/env.awkward")
		if err != nil {
			t.Fatal(err)
		}
		getenv := func(name string) string {
			for line := range strings.Lines(string(data)) {
				if k, v, _ := strings.Cut(strings.TrimSpace(line), "="); k == name {
					return v
				}
			}
			return ""
		}
		none := func(string) (string, string, bool) { return "", "", false }
		s, err := Parse(InSlurm(getenv, none))
		if err != nil {
			t.Fatal(err)
		}
		if sh, err := s.Shape(1); err != nil || sh.String() != "strict-spread 1r/8c/1g own=1" {
			t.Errorf("%s: %v %v", version, sh, err)
		}
	}
}

// --gres is in no variable of salloc's shell: what the nodes have counts, unless GPUs were named.
func TestFillGPUs(t *testing.T) {
	for _, c := range []struct{ flags, shape string }{
		{"nodes=2 ntasks-per-node=2", "strict-spread 2r/2c/4g 2r/2c/4g"},
		{"nodes=2", "strict-spread 1r/1c 0r/1c"},
		{"nodes=2 gpus-per-node=4", "strict-spread 1r/1c 0r/1c"},
		{"nodes=2 ntasks-per-node=2 gpus-per-task=1", "strict-spread 2r/2c/2g 2r/2c/2g own=1"},
		{"nodes=2 ntasks-per-node=2 gpus-per-node=2", "strict-spread 2r/2c/2g 2r/2c/2g"},
		{"nodes=2 ntasks-per-node=2 gpus=2", "strict-spread 2r/2c/1g 2r/2c/1g"},
		{"ntasks=2", "pack 1r/1c 1r/1c"},
	} {
		s, err := parse(strings.Fields(c.flags)...)
		if err != nil {
			t.Fatal(err)
		}
		s.FillGPUs(4)
		if sh, err := s.Shape(2); err != nil || sh.String() != c.shape {
			t.Errorf("%s: %v %v, want %s", c.flags, sh, err, c.shape)
		}
	}
}

func TestEnviron(t *testing.T) {
	env := []string{"A=1", "B=2", "PATH=/bin"}
	for _, c := range []struct{ export, want string }{
		{"", "A=1 B=2 PATH=/bin"},
		{"ALL", "A=1 B=2 PATH=/bin"},
		{"NONE", ""},
		{"A,PATH", "A=1 PATH=/bin"},
		{"ALL,A=9,C=3", "B=2 PATH=/bin A=9 C=3"},
		{"X=1", "X=1"},
	} {
		s := &Spec{Export: c.export}
		if got := strings.Join(s.Environ(env), " "); got != c.want {
			t.Errorf("--export %s: %q, want %q", c.export, got, c.want)
		}
	}
}

// The flags that sbatch has too bear its short names; no name is there twice.
func TestFlagTable(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Flags {
		for _, n := range []string{f.Name, f.Short} {
			if n != "" && seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
		}
		if f.Help == "" || strings.HasSuffix(f.Help, ".") {
			t.Errorf("--%s: help %q", f.Name, f.Help)
		}
	}
	for short, long := range map[string]string{"N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "J": "job-name", "o": "output", "e": "error", "i": "input", "D": "chdir", "C": "constraint"} {
		if !slices.ContainsFunc(Flags, func(f Flag) bool { return f.Short == short && f.Name == long }) {
			t.Errorf("-%s is not --%s", short, long)
		}
	}
}
