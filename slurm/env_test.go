package slurm

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// recorded reads a file of testdata, which ci/e2e/testbed/record.sh took from a real Slurm.
func recorded(t *testing.T, version, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", version, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// versions are those of which outputs are recorded.
func versions(t *testing.T) []string {
	dirs, err := filepath.Glob("testdata/[0-9]*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no recorded outputs", err)
	}
	for i, d := range dirs {
		dirs[i] = filepath.Base(d)
	}
	return dirs
}

func getenvOf(text string) func(string) string {
	vars := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			vars[k] = v
		}
	}
	return func(name string) string { return vars[name] }
}

func TestEnvironOutside(t *testing.T) {
	e, ok, err := Environ(func(string) string { return "" })
	if e != nil || ok || err != nil {
		t.Error(e, ok, err)
	}
}

func TestEnvironOfBatchScript(t *testing.T) {
	for _, v := range versions(t) {
		e, ok, err := Environ(getenvOf(recorded(t, v, "env.batch")))
		if err != nil || !ok {
			t.Fatal(v, err)
		}
		if !reflect.DeepEqual(e.Nodes, []string{"n1", "n2"}) || e.Tasks != 3 || !reflect.DeepEqual(e.TasksPerNode, []int{2, 1}) || e.CPUsPerTask != 2 ||
			!reflect.DeepEqual(e.CPUsPerNode, []int{4, 2}) || e.Partition != "low" || e.MemPerCPU != 500<<20 || e.NodeName != "n1" {
			t.Errorf("%s: %+v", v, e)
		}
		if e.GPUs != "0" || e.JobName != "record" || e.Restarts != 0 || e.Array != nil || e.Het != nil {
			t.Errorf("%s: %+v", v, e)
		}
		if v >= "24" && e.End.IsZero() {
			t.Errorf("%s: no end time", v)
		}
	}
}

func TestEnvironOfStep(t *testing.T) {
	for _, v := range versions(t) {
		e, _, err := Environ(getenvOf(recorded(t, v, "env.step")))
		if err != nil || e.Step == nil || !e.Step.LauncherRun || e.Step.ID != "0" || e.Step.Tasks != 3 || len(e.Step.Nodes) != 2 || e.Step.GPUs != "0" {
			t.Errorf("%s: %+v %v", v, e.Step, err)
		}
	}
}

func TestEnvironOfSallocOnLoginNode(t *testing.T) {
	for _, v := range versions(t) {
		e, _, err := Environ(getenvOf(recorded(t, v, "env.salloc")))
		if err != nil || e.NodeName != "" || len(e.Nodes) != 2 {
			t.Errorf("%s: %+v %v", v, e, err)
		}
	}
}

func TestEnvironOfArray(t *testing.T) {
	for _, v := range versions(t) {
		e, _, err := Environ(getenvOf(recorded(t, v, "env.array")))
		if err != nil || e.Array == nil || e.Array.TaskID != 3 || e.Array.Count != 2 || e.Array.Min != 3 || e.Array.Max != 5 || e.Array.Inc != 2 {
			t.Errorf("%s: %+v %v", v, e.Array, err)
		}
		if !strings.HasSuffix(e.FullID(), "_3") {
			t.Error(v, e.FullID())
		}
	}
}

func TestEnvironOfHetJob(t *testing.T) {
	for _, v := range versions(t) {
		e, _, err := Environ(getenvOf(recorded(t, v, "env.het")))
		if err != nil || e.Het == nil || len(e.Het.Groups) != 2 {
			t.Fatalf("%s: %+v %v", v, e, err)
		}
		g := e.Het.Groups
		if len(g[0].Nodes) != 1 || len(g[1].Nodes) != 2 || g[1].JobID != g[0].JobID+1 || len(e.AllNodes()) != 3 || !reflect.DeepEqual(g[1].CPUsPerNode, []int{2, 2}) {
			t.Errorf("%s: %+v", v, g)
		}
	}
}

func TestGPUsOfAJob(t *testing.T) {
	for kv, want := range map[string][3]int{
		"SLURM_GPUS_PER_TASK=2": {2, 0, 0}, "SLURM_GPUS_PER_TASK=h100:2": {2, 0, 0}, "SLURM_TRES_PER_TASK=cpu=1,gres/gpu:h100=2": {2, 0, 0},
		"SLURM_GPUS=4": {0, 4, 0}, "SLURM_GPUS=a100:1,h100:3": {0, 4, 0}, "SLURM_GPUS_ON_NODE=2": {0, 0, 2},
	} {
		e, _, err := Environ(getenvOf("SLURM_JOB_ID=1\n" + kv))
		if err != nil || e.GPUsPerTask != want[0] || e.GPUsTotal != want[1] || e.GPUsOnNode != want[2] {
			t.Errorf("%s: %d %d %d %v", kv, e.GPUsPerTask, e.GPUsTotal, e.GPUsOnNode, err)
		}
	}
	for v, want := range map[string]int{
		"": 0, "3": 3, "a100:2": 2, "cpu=8,gres/gpu=1": 1, "gres/gpu:a100=2,cpu=1": 2, "gres:gpu:2": 2, "gres/gpu:a100=1,gres/gpu:h100=2": 3, "cpu=2": 0,
		"cpu=1,gres/gpumem=80,gres/nvme=3,license/x=1,mem=2G": 0, "gres/gpu": 1,
	} {
		if n, err := CountGPUs(v); n != want || err != nil {
			t.Errorf("CountGPUs(%q): %d %v, want %d", v, n, err, want)
		}
	}
	for _, v := range []string{"x", "a100:", "gres/gpu=lots", "-1", "99999999"} {
		if n, err := CountGPUs(v); err == nil {
			t.Errorf("CountGPUs(%q): %d", v, n)
		}
	}
	// Printed by 22.05 for `--gpus=4` on two nodes: the division is not even.
	got, err := ParseNodeGPUs("JobId=1 JobName=x JOB_GRES=gpu:h100:4   Nodes=n1 CPU_IDs=0 Mem=500 GRES=gpu:h100:3(IDX:0-2)   Nodes=n[2-3] CPU_IDs=0 Mem=500 GRES= MinCPUsNode=1\n")
	if err != nil || !reflect.DeepEqual(got, map[string]int{"n1": 3, "n2": 0, "n3": 0}) {
		t.Error(got, err)
	}
}

func TestEnvironSaysWhichVariableIsWrong(t *testing.T) {
	for _, kv := range []string{"SLURM_NTASKS=x", "SLURM_TASKS_PER_NODE=2(x", "SLURM_JOB_NODELIST=n[1", "SLURM_MEM_PER_NODE=lots", "SLURM_HET_SIZE=99999"} {
		name, _, _ := strings.Cut(kv, "=")
		if _, _, err := Environ(getenvOf("SLURM_JOB_ID=1\n" + kv)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", kv, err)
		}
	}
}

// Variables that would shrink the next step are gone, those of the job stay.
func TestStepEnv(t *testing.T) {
	for _, name := range []string{
		"SLURM_CPUS_PER_TASK", "SRUN_CPUS_PER_TASK", "SLURM_GPU_BIND", "SLURM_GPUS_PER_TASK", "SLURM_EXPORT_ENV", "SLURM_MEM_PER_CPU", "SLURM_NTASKS_PER_NODE",
		"SLURM_NTASKS", "SLURM_NPROCS", "SLURM_DISTRIBUTION", "SLURM_CPU_BIND_LIST", "SLURM_STEP_ID", "SLURM_STEPID", "SLURM_PROCID", "PMI_RANK", "PMIX_RANK",
		"SLURM_TRES_BIND", "SLURM_HINT", "SLURM_EXACT", "SLURM_LAUNCH_NODE_IPADDR", "SRUN_DEBUG", "SLURM_OPEN_MODE", "SLURM_WAIT", "SLURM_MPI_TYPE",
	} {
		if got := StepEnv([]string{name + "=1"}); len(got) != 0 {
			t.Errorf("%s stays", name)
		}
	}
	for _, name := range []string{
		"PATH", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CONF", "SLURM_JOB_NODELIST", "SLURM_JOB_CPUS_PER_NODE", "SLURM_CLUSTER_NAME", "SLURM_SUBMIT_DIR", "SLURM_RESTART_COUNT",
		"SLURM_ARRAY_TASK_ID", "SLURM_HET_SIZE", "SLURM_JOB_GPUS", "SLURM_JOB_NAME", "SLURM_TMPDIR", "CUDA_VISIBLE_DEVICES", "SLURMD_NODENAME", "SLURM_JOB_END_TIME",
	} {
		if got := StepEnv([]string{name + "=1"}); len(got) != 1 {
			t.Errorf("%s is dropped", name)
		}
	}
}

func TestStepEnvOfRecordedJob(t *testing.T) {
	for _, v := range versions(t) {
		kept := strings.Join(StepEnv(strings.Split(recorded(t, v, "env.awkward"), "\n")), "\n")
		for _, bad := range []string{"SLURM_GPUS_PER_TASK=", "SLURM_CPUS_PER_TASK=", "SLURM_EXPORT_ENV=", "SLURM_GPU_BIND=", "SLURM_NTASKS", "SLURM_MEM_PER_CPU", "SLURM_TRES"} {
			if strings.Contains(kept, "\n"+bad) {
				t.Errorf("%s: %s stays", v, bad)
			}
		}
	}
}

func TestParseRecordedJobs(t *testing.T) {
	for _, v := range versions(t) {
		jobs, err := ParseJobs(recorded(t, v, "scontrol.jobs"), time.UTC)
		if err != nil {
			t.Fatal(v, err)
		}
		byName := map[string]*Job{}
		for _, j := range jobs {
			byName[j.Name] = j
		}
		for name, want := range map[string]struct {
			state  State
			result int
			over   bool
		}{
			"ok": {Completed, 0, true}, "fails": {Failed, 3, true}, "signal": {Failed, 128 + 9, true}, "cancelled": {Cancelled, 143, true},
			"waits": {Pending, 0, false}, "record": {Running, 0, false}, "a name = with State=RUNNING and | bar": {Completed, 0, true},
		} {
			j := byName[name]
			if j == nil {
				t.Errorf("%s: no job %q", v, name)
				continue
			}
			if j.State != want.state || j.Over() != want.over || want.over && j.Result() != want.result {
				t.Errorf("%s: %s is %s, over %v, result %d (exit %d signal %d)", v, name, j.State, j.Over(), j.Result(), j.ExitCode, j.Signal)
			}
		}
		if j := byName["record"]; j != nil {
			if j.Nodes != "n[1-2]" || j.NumNodes != 2 || j.Limit != 10*time.Minute || j.TRES["cpu"] != 6 || j.TRES["mem"] != 3000<<20 || j.User == "" || j.End.Sub(j.Started) != 10*time.Minute ||
				!strings.HasSuffix(j.StdOut, ".out") {
				t.Errorf("%s: %+v", v, j)
			}
		}
		if j := byName["waits"]; j != nil && (j.Reason == "" || !j.Started.IsZero() && j.Started.Before(j.Submitted)) {
			t.Errorf("%s: %+v", v, j)
		}
	}
}

func TestStopping(t *testing.T) {
	for _, v := range versions(t) {
		for file, want := range map[string]Cause{"stopping.cancelled": CauseCancelled, "stopping.requeued": CauseRequeued, "stopping.timelimit": CauseTimeLimit, "stopping.preempted": CauseRequeued} { // at TERM a preempted job is back in the queue already
			jobs, err := ParseJobs(recorded(t, v, file), time.UTC)
			if err != nil || len(jobs) != 1 {
				t.Fatalf("%s %s: %d jobs, %v", v, file, len(jobs), err)
			}
			// "now" is when it was recorded: the file's first line.
			now, err := ParseTime(strings.SplitN(recorded(t, v, file), "\n", 2)[0], time.UTC)
			if err != nil {
				t.Fatal(err)
			}
			if got := jobs[0].Stopping(0, now); got != want {
				t.Errorf("%s %s: %s", v, file, got)
			}
		}
	}
}

func TestParseRecordedPartitions(t *testing.T) {
	for _, v := range versions(t) {
		list, err := ParsePartitions(recorded(t, v, "sinfo.partitions"))
		if err != nil || len(list) != 3 {
			t.Fatal(v, list, err)
		}
		low, short := list[0], list[2]
		if low.Name != "low" || !low.Default || !low.Up || low.Nodes != 4 || low.Limit != Infinite || low.DefaultTime != time.Hour || low.CPUs != 8 || low.GPUs != 4 || low.MaxNodes != 0 {
			t.Errorf("%s: %+v", v, low)
		}
		if short.Default || short.Nodes != 2 || short.Limit != 10*time.Minute || !reflect.DeepEqual(short.GPUTypes, []string{"h100"}) || short.Memory != 16000<<20 {
			t.Errorf("%s: %+v", v, short)
		}
	}
}

func TestParseRecordedOptions(t *testing.T) {
	for _, v := range versions(t) {
		byName := map[string]Option{}
		for _, o := range ParseOptions(recorded(t, v, "sbatch.help")) {
			byName[o.Name] = o
		}
		for name, want := range map[string]Option{
			"nodes": {Short: "N", Value: NeedsValue}, "partition": {Short: "p", Value: NeedsValue}, "hold": {Short: "H", Value: NoValue}, "exclusive": {Value: OptionalValue},
			"export": {Value: NeedsValue}, "gpus-per-node": {Value: NeedsValue}, "requeue": {Value: NoValue}, "no-requeue": {Value: NoValue}, "signal": {Value: NeedsValue},
			"extra-node-info": {Short: "B", Value: NeedsValue}, "container": {Value: NeedsValue}, "wrap": {Value: NeedsValue}, "nice": {Value: OptionalValue}, "no-kill": {Short: "k", Value: NoValue},
			"gpu-bind": {Value: NeedsValue}, "parsable": {Value: NoValue}, "mem": {Value: NeedsValue}, "kill-on-invalid-dep": {Value: NeedsValue},
		} {
			o, ok := byName[name]
			if !ok && name == "kill-on-invalid-dep" {
				continue // some builds leave it out of the page
			}
			if !ok || o.Short != want.Short || o.Value != want.Value {
				t.Errorf("%s: --%s is %+v", v, name, o)
			}
		}
		if n := len(byName); n < 70 {
			t.Errorf("%s: %d options", v, n)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for _, v := range versions(t) {
		for file, want := range map[string]error{
			"error.partition": ErrRefused, "error.unreachable": ErrUnreachable, "error.nojob": ErrNoJob, "error.option": ErrRefused,
			"error.gres": ErrRefused, "error.permission": ErrNotYours,
		} {
			e := ErrorOf("submit", recorded(t, v, file))
			if e.Kind != want || e.Text == "" || (e.Do == "" && want != ErrNoJob) || strings.Contains(e.Text, "sbatch:") {
				t.Errorf("%s %s: %q kind %v", v, file, e.Error(), e.Kind)
			}
		}
	}
}
