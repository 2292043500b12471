//go:build e2e

package slurm

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// form is a way to start a program in Slurm. It returns what the program printed, and the exit code.
type form struct {
	name string
	run  func(t *testing.T, c *e2e.Cluster, dir string, flags []string, program ...string) (output string, code int)
}

var forms = []form{
	{"submit", bySubmit},
	{"batch script", byScript},
	{"salloc", bySalloc},
}

// bySubmit: `maniple submit ... -- program`.
func bySubmit(t *testing.T, c *e2e.Cluster, dir string, flags []string, program ...string) (string, int) {
	t.Helper()
	argv := append([]string{c.Binary, "submit", "--wait", "-t", "10"}, flags...)
	r := c.Run(t, long, dir, append(append(argv, "--"), program...)...)
	out := e2e.Read(filepath.Join(dir, "slurm-"+e2e.JobID(t, r)+".out"))
	t.Logf("submit: exit %d after %v: %s", r.Code, r.Took, strings.TrimSpace(r.Stderr))
	return out, r.Code
}

// byScript: an ordinary batch script that calls `maniple run -- program`.
func byScript(t *testing.T, c *e2e.Cluster, dir string, flags []string, program ...string) (string, int) {
	t.Helper()
	text := "#!/bin/bash\n#SBATCH -t 10\n#SBATCH " + strings.Join(flags, " ") + "\n" + `"$MANIPLE" run --`
	for _, arg := range program {
		text += " '" + arg + "'"
	}
	script := c.Write(t, filepath.Join(dir, "job.sh"), text+"\n", 0o755)
	r := c.Run(t, long, dir, "sbatch", "--parsable", script)
	id := e2e.JobID(t, r)
	e2e.Until(t, long, "job "+id+" is over", func() bool { return c.Job(t, id).Over() })
	return e2e.Read(filepath.Join(dir, "slurm-"+id+".out")), c.Job(t, id).Result()
}

// bySalloc: in the shell that salloc opens on the login node, through a terminal.
func bySalloc(t *testing.T, c *e2e.Cluster, dir string, flags []string, program ...string) (string, int) {
	t.Helper()
	line := c.Binary + " up && " + c.Binary + " run --"
	for _, arg := range program {
		line += " '" + arg + "'"
	}
	sh := c.Terminal(t, dir, append([]string{"salloc", "-Q", "-t", "10"}, flags...)...)
	out, code := sh.Line(t, long, line)
	if down, code := sh.Line(t, short, c.Binary+" down"); code != 0 {
		t.Errorf("down: exit %d\n%s", code, down)
	}
	sh.Close(t)
	return out, code
}

// The same four ranks in every form, the program's files untouched, and nothing left behind.
func TestPlainProgramInEveryForm(t *testing.T) {
	c := e2e.Slurm(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			dir := c.Folder(t)
			where := programs(t, c)
			out, code := f.run(t, c, dir, []string{"-N", "2", "--ntasks-per-node", "2"}, filepath.Join(where, "plain.sh"), dir)
			if code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			if !strings.Contains(out, "2 nodes x 2 ranks") {
				t.Errorf("the first line does not say what it is:\n%s", out)
			}
			ports := map[string]bool{}
			for rank := range 4 {
				node := fmt.Sprintf("n%d", rank/2+1)
				if !strings.Contains(out, fmt.Sprintf("[%d] plain %d on %s", rank, rank, node)) {
					t.Errorf("no line of rank %d:\n%s", rank, out)
				}
				v := variables(e2e.Read(filepath.Join(dir, fmt.Sprintf("env.%d", rank))))
				for name, want := range map[string]string{
					"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": fmt.Sprint(rank % 2), "NODE_RANK": fmt.Sprint(rank / 2),
					"SLURM_PROCID": fmt.Sprint(rank), "SLURM_LOCALID": fmt.Sprint(rank % 2), "SLURM_NTASKS": "4", // rewritten for ranks
				} {
					if v[name] != want {
						t.Errorf("rank %d: %s=%q, want %q", rank, name, v[name], want)
					}
				}
				for name := range v { // of our own step
					for _, bad := range []string{"SLURM_STEP", "SLURM_LAUNCH", "SLURM_SRUN_COMM", "SLURM_TASK_PID", "SLURM_CPU_BIND", "PMI", "SRUN_"} {
						if strings.HasPrefix(name, bad) {
							t.Errorf("rank %d sees %s=%s", rank, name, v[name])
						}
					}
				}
				if v["SLURM_JOB_ID"] == "" || v["MASTER_ADDR"] == "" {
					t.Errorf("rank %d: %v", rank, v)
				}
				ports[v["MASTER_ADDR"]+":"+v["MASTER_PORT"]] = true
				if got := strings.Fields(e2e.Read(filepath.Join(dir, fmt.Sprintf("where.%d", rank)))); len(got) != 2 || got[0] != node || got[1] != dir {
					t.Errorf("rank %d ran at %v, not %s %s", rank, got, node, dir)
				}
			}
			if len(ports) != 1 {
				t.Errorf("the ranks meet at %v", ports)
			}
			unchanged(t, c, where)
			c.Clean(t)
		})
	}
}

// Without a task count there is one driver, on the first node, in every form.
func TestDriverInEveryForm(t *testing.T) {
	c := e2e.Slurm(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			dir := c.Folder(t)
			where := programs(t, c)
			out, code := f.run(t, c, dir, []string{"-N", "2"}, filepath.Join(where, "plain.sh"), dir, "5")
			if code != 5 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			if !strings.Contains(out, "1 driver on n1 (ranks? add --ntasks-per-node") || strings.Count(out, "plain driver on n1") != 1 {
				t.Errorf("%s", out)
			}
			if v := variables(e2e.Read(filepath.Join(dir, "env.driver"))); v["RANK"] != "" || v["WORLD_SIZE"] != "" {
				t.Errorf("%v", v)
			}
			c.Clean(t)
		})
	}
}

// A real training run in every form: torch's DistributedDataParallel with DataLoader workers.
func TestTrainingInEveryForm(t *testing.T) {
	c := e2e.Slurm(t)
	python := c.Python(t)
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			dir := c.Folder(t)
			where := programs(t, c)
			out, code := f.run(t, c, dir, []string{"-N", "2", "--ntasks-per-node", "2", "--mem-per-cpu", "2000"},
				python, filepath.Join(where, "digits.py"), "--epochs", "2", "--target", "0.5", "--out", filepath.Join(dir, "out"))
			if code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			for _, file := range []string{"checkpoint.pt", "metrics.json", "curves.png"} {
				if _, err := os.Stat(filepath.Join(dir, "out", file)); err != nil {
					t.Error(err)
				}
			}
			unchanged(t, c, where)
			c.Clean(t)
		})
	}
}

// Other launchers inside of ours, in every form: a torchrun for each node, an `accelerate launch` for each rank.
func TestTorchrunAndAccelerate(t *testing.T) {
	c := e2e.Slurm(t)
	bin := filepath.Dir(c.Python(t))
	for _, tt := range []struct {
		program, line     string
		perNode, launches int // processes on each node, and launchers that start them
	}{
		{"torchrun.sh", "torchrun rank %d of %d on n%d: sum ", 2, 1},
		{"accelerate.sh", "accelerate rank %d of %d on n%d:", 2, 2},
	} {
		for i, f := range forms {
			t.Run(tt.program+" "+f.name, func(t *testing.T) {
				perNode, launches := tt.perNode, tt.launches
				if i > 0 { // every process imports torch, for seconds
					perNode, launches = 1, 1
				}
				dir := c.Folder(t)
				where := programs(t, c)
				flags := []string{"-N", "2", "--ntasks-per-node", strconv.Itoa(launches), "--mem-per-cpu", "2000"}
				out, code := f.run(t, c, dir, flags, "/usr/bin/env", "PATH="+bin+":/usr/bin:/bin", "PER_NODE="+strconv.Itoa(perNode), filepath.Join(where, tt.program))
				if code != 0 {
					t.Fatalf("exit %d\n%s", code, out)
				}
				for rank := range 2 * perNode {
					if want := fmt.Sprintf(tt.line, rank, 2*perNode, rank/perNode+1); !strings.Contains(out, want) {
						t.Errorf("no %q in\n%s", want, out)
					}
				}
				unchanged(t, c, where)
				c.Clean(t, "/tmp/torchelastic_") // torchrun's own
			})
		}
	}
}

// One gang over all four nodes, two ranks on each.
func TestFourNodes(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	out, code := bySubmit(t, c, dir, []string{"-N", "4", "--ntasks-per-node", "2"}, filepath.Join(programs(t, c), "plain.sh"), dir)
	if code != 0 || !strings.Contains(out, "4 nodes x 2 ranks") {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for rank := range 8 {
		if want := fmt.Sprintf("[%d] plain %d on n%d", rank, rank, rank/2+1); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
		if v := variables(e2e.Read(filepath.Join(dir, fmt.Sprintf("env.%d", rank)))); v["WORLD_SIZE"] != "8" || v["NODE_RANK"] != fmt.Sprint(rank/2) {
			t.Errorf("rank %d: WORLD_SIZE=%s NODE_RANK=%s", rank, v["WORLD_SIZE"], v["NODE_RANK"])
		}
	}
	c.Clean(t)
}

// unchanged compares the programs that ran with those of the checkout: byte for byte the same.
func unchanged(t *testing.T, c *e2e.Cluster, where string) {
	t.Helper()
	want, got := hashes(t, filepath.Join(c.Top, "ci/e2e/programs")), hashes(t, where)
	if len(want) < 8 || !maps.Equal(want, got) {
		t.Errorf("what ran is not what is in ci/e2e/programs:\n%v\n%v", got, want)
	}
}
