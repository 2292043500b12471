//go:build e2e

package slurm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/ci/e2e"
)

// The user's own srun inside the job works while our step and the gang run.
func TestOwnSrunBesideUs(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "driver.sh"), "#!/bin/bash\nsrun -N2 -n4 -c1 bash -c 'echo \"task $SLURM_PROCID of $SLURM_NTASKS on $(hostname)\"'\n", 0o755)
	out, code := bySubmit(t, c, dir, []string{"-N", "2", "-c", "2"}, script)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	for _, want := range []string{"task 0 of 4 on n1", "task 3 of 4 on n2"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "Memory required by task") || strings.Contains(out, "step creation temporarily disabled") {
		t.Errorf("the step had to wait:\n%s", out)
	}
	c.Clean(t)
}

// Options that shape tasks reach the batch script's environment, from which srun would take them for our
// step: one core, one GPU, no environment. The gang must have all that the job has, and a plain srun
// beside it what the user asked for (users' walk-through 2).
func TestAwkwardVariables(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	script := c.Write(t, filepath.Join(dir, "job.sh"), fmt.Sprintf(`#!/bin/bash
#SBATCH -N 2 -c 1 --ntasks-per-node=2 --gpus-per-task=1 --gpu-bind=single:1 --mem-per-cpu=500 --export=NONE -t 10 -o %[1]s/job.out
export GREETING=hello PATH=/usr/bin:/bin SRUN_CPUS_PER_TASK=1 SLURM_CPU_BIND=map_cpu:0 SLURM_DISTRIBUTION=cyclic SLURM_HINT=nomultithread
%[2]s run -- %[3]s/plain.sh %[1]s || exit
srun --export=ALL -n 2 -N 2 --overlap --mem=0 --gres=none sh -c 'echo "own srun on $(hostname)"' || exit
`, dir, c.Binary, where), 0o755)
	r := c.Run(t, short, dir, "sbatch", "--parsable", script)
	j := over(t, c, e2e.JobID(t, r), long)
	out := e2e.Read(filepath.Join(dir, "job.out"))
	if j.Result() != 0 {
		t.Fatalf("%s, result %d\n%s", j.State, j.Result(), out)
	}
	if !strings.Contains(out, "own srun on n1") || !strings.Contains(out, "own srun on n2") {
		t.Errorf("the user's own srun:\n%s", out)
	}
	for rank := range 4 {
		v := variables(e2e.Read(filepath.Join(dir, fmt.Sprintf("env.%d", rank))))
		if v["WORLD_SIZE"] != "4" || v["LOCAL_WORLD_SIZE"] != "2" || v["GREETING"] != "hello" || v["OMP_NUM_THREADS"] != "1" {
			t.Errorf("rank %d: WORLD_SIZE=%s LOCAL_WORLD_SIZE=%s GREETING=%s OMP_NUM_THREADS=%s\n%s", rank, v["WORLD_SIZE"], v["LOCAL_WORLD_SIZE"], v["GREETING"], v["OMP_NUM_THREADS"], out)
		}
		// All that the job has, though our step has one task per node, and to each rank its own.
		if want := fmt.Sprint(rank % 2); v["CUDA_VISIBLE_DEVICES"] != want {
			t.Errorf("rank %d sees GPU %q, want %s", rank, v["CUDA_VISIBLE_DEVICES"], want)
		}
	}
	c.Clean(t)
}

// With --gpus-per-task each rank sees its own GPU, with other flags all of its node, in every form. Neither
// --gres nor --gpus is among the variables of salloc's shell, and how --gpus-per-task is depends on the version.
func TestGPUsOfEachRank(t *testing.T) {
	c := e2e.Slurm(t)
	for _, ask := range []struct {
		flag  string
		masks [4]string
	}{
		{"--gpus-per-task=1", [4]string{"0", "1", "0", "1"}},
		{"--gpus-per-node=2", [4]string{"0,1", "0,1", "0,1", "0,1"}},
		{"--gres=gpu:2", [4]string{"0,1", "0,1", "0,1", "0,1"}},
	} {
		for _, f := range forms {
			t.Run(ask.flag+" "+f.name, func(t *testing.T) {
				dir := c.Folder(t)
				out, code := f.run(t, c, dir, []string{"-N", "2", "--ntasks-per-node", "2", ask.flag}, filepath.Join(programs(t, c), "plain.sh"), dir)
				if code != 0 {
					t.Fatalf("exit %d\n%s", code, out)
				}
				for rank, want := range ask.masks {
					v := variables(e2e.Read(filepath.Join(dir, fmt.Sprintf("env.%d", rank))))
					if _, two := v["ROCR_VISIBLE_DEVICES"]; v["CUDA_VISIBLE_DEVICES"] != want || two {
						t.Errorf("rank %d sees GPUs %q, want %s", rank, v["CUDA_VISIBLE_DEVICES"], want)
					}
				}
				c.Clean(t)
			})
		}
	}
}

// What Slurm told the first component of a heterogeneous job about its GPUs reaches the others' nodes by the
// environment, where there are none.
func TestHetJobWithGPUsOnItsFirstNode(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	script := c.Write(t, filepath.Join(dir, "job.sh"), fmt.Sprintf(`#!/bin/bash
#SBATCH -w n1 -n 1 --gres=gpu:1 -t 10 -o %[1]s/job.out
#SBATCH hetjob
#SBATCH -w n3 -n 1
%[2]s run -N 2 --ntasks-per-node 1 -- sh -c 'echo "here is $(hostname)"'
`, dir, c.Binary), 0o755)
	j := over(t, c, e2e.JobID(t, c.Run(t, short, dir, "sbatch", "--parsable", script)), long)
	out := e2e.Read(filepath.Join(dir, "job.out"))
	if j.Result() != 0 || !strings.Contains(out, "here is n1") || !strings.Contains(out, "here is n3") {
		t.Errorf("%s, result %d\n%s", j.State, j.Result(), out)
	}
	c.Clean(t)
}

// The program lies where the nodes do not see it: it is sent to them, and removed.
func TestProgramThatNodesDoNotSee(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	// /tmp of the login node is not that of the nodes, so salloc's shell is where this happens.
	private, err := os.MkdirTemp("/tmp", "maniple-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(private) })
	os.Chmod(private, 0o755)
	data, err := os.ReadFile(c.Binary)
	if err != nil {
		t.Fatal(err)
	}
	binary := c.Write(t, filepath.Join(private, "maniple"), string(data), 0o755)
	where := programs(t, c)
	r := c.Run(t, short, dir, append(append([]string{"salloc", "-Q"}, twoByTwo...), binary, "run", "--", filepath.Join(where, "plain.sh"), dir)...)
	if r.Code != 0 || strings.Count(r.Stdout, "plain ") != 4 {
		t.Fatalf("exit %d\n%s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	c.Clean(t)
}

// No home directory on the nodes: nothing of ours needs one.
func TestNoSharedHome(t *testing.T) {
	c := e2e.Slurm(t)
	dir := c.Folder(t)
	where := programs(t, c)
	for i := range 2 {
		node := fmt.Sprintf("n%d", i+1)
		c.Node(t, "exec", node, "mount", "-t", "tmpfs", "-o", "mode=0755,ro", "nohome", c.Home)
		t.Cleanup(func() { c.Node(t, "exec", node, "umount", c.Home) })
	}
	for _, f := range forms {
		out, code := f.run(t, c, dir, twoByTwo, filepath.Join(where, "plain.sh"), dir)
		if code != 0 || strings.Count(out, "plain ") < 4 {
			t.Errorf("%s: exit %d\n%s", f.name, code, out)
		}
	}
	c.Clean(t)
}

// Two jobs of one user on the same nodes at the same time do not see each other.
func TestTwoJobsOnTheSameNodes(t *testing.T) {
	c := e2e.Slurm(t)
	dirs, ids := []string{c.Folder(t), c.Folder(t)}, []string{}
	for _, dir := range dirs {
		ids = append(ids, submit(t, c, dir, append([]string{"-w", "n[1-2]"}, twoByTwo...), 4, "sh", "-c", `while [ ! -e go ]; do sleep 0.05; done; exit 0`))
	}
	for i, dir := range dirs {
		c.Write(t, filepath.Join(dir, "go"), "", 0o644)
		if j := over(t, c, ids[i], short); j.Result() != 0 {
			t.Errorf("job %s: result %d\n%s", ids[i], j.Result(), output(dir, ids[i]))
		}
		if i == 0 && c.Job(t, ids[1]).Over() {
			t.Error("the end of the first job ended the second")
		}
	}
	c.Clean(t)
}
