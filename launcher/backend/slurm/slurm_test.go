package slurm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/launcher/backend"
	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/slurm"
	"github.com/maniple-hpc/maniple/slurm/slurmtest"
)

// ownerVariable makes this program a launcher that starts the keepers of a job and stays.
const ownerVariable = "TEST_OWNER_OF_KEEPERS"

func TestMain(m *testing.M) {
	slurmtest.Main()
	if os.Getenv(ownerVariable) != "" {
		s, err := (&Backend{Environ: os.Environ()}).Start(context.Background(), backend.Request{Doc: doc(), Head: true, Binary: "/opt/maniple"})
		if err != nil {
			panic(err)
		}
		for ev := range s.Events() {
			fmt.Println(ev.Kind)
		}
	}
	os.Exit(m.Run())
}

// job is the environment of a batch script on two nodes.
var job = []string{"SLURM_JOB_ID=7", "SLURM_MEM_PER_NODE=1024", "SLURM_JOB_NODELIST=n[1-2]", "SLURMD_NODENAME=n1", "SLURM_CPUS_PER_TASK=8", "SLURM_EXPORT_ENV=NONE", "SLURM_GPU_BIND=single:1", "FLAVOUR=vanilla"}

func doc() *bootdoc.Doc {
	return &bootdoc.Doc{Version: bootdoc.Version, Cluster: strings.Repeat("ab", 16), Secret: []byte(strings.Repeat("s", 32)), Name: "7", Owner: "stdin"}
}

// keepers is a stand-in for srun: it reads the boot document, says what keepers say and ends with its input.
const keepers = `
read -r doc
printf '%s\n' "$doc" > "$SLURMTEST_DIR/doc"
echo '0: {"event":"head","addresses":["10.0.0.1:7"]}'
read -r head
printf '%s\n' "$head" > "$SLURMTEST_DIR/head"
echo '1: {"event":"ready","node":"n2","agent":2}'
echo '0: {"event":"ready","agent":1}'
cat > "$SLURMTEST_DIR/rest"
echo '0: {"event":"end","code":0}'
echo '1: {"event":"end","code":0}'
`

func start(t *testing.T, f *slurmtest.Fake, more ...string) (backend.Session, error) {
	t.Helper()
	b := &Backend{Environ: f.Environ(append(slices.Clone(job), more...)...)}
	return b.Start(t.Context(), backend.Request{Doc: doc(), Head: true, Binary: "/opt/maniple"})
}

func next(t *testing.T, s backend.Session, kind string) backend.Event {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case ev, ok := <-s.Events():
			if !ok {
				t.Fatalf("the session ended without %q: %v", kind, s.Wait())
			}
			if ev.Kind == kind {
				return ev
			}
			t.Logf("passing over %+v", ev)
		case <-timeout:
			t.Fatalf("no %q", kind)
		}
	}
}

func envOf(f *slurmtest.Fake) string {
	_, dir, _ := strings.Cut(f.Environ()[1], "=")
	return dir
}

func TestStepIsWhatTheDesignSays(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s, backend.KindHead); ev.Node != "n1" || len(ev.Addresses) != 1 {
		t.Errorf("%+v", ev)
	}
	if err := s.Send(backend.HeadLine([]string{"10.0.0.1:7"})); err != nil {
		t.Fatal(err)
	}
	if ev := next(t, s, backend.KindReady); ev.Node != "n2" || ev.Agent != 2 {
		t.Errorf("%+v", ev)
	}
	if ev := next(t, s, backend.KindReady); ev.Node != "n1" { // from the label
		t.Errorf("%+v", ev)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	if n := len(f.Calls()); n != 1 { // STEP-2
		t.Errorf("%d calls of Slurm's programs; srun alone may ask the controller for a launch", n)
	}
	call := f.Calls()[0]
	args := strings.Join(call.Args, " ")
	for _, want := range []string{"-N 2 -n 2 --ntasks-per-node=1 --overlap --mem=0 --cpu-bind=none --mpi=none --no-kill", "--export=ALL", "--label", "/opt/maniple keeper --head=auto"} {
		if !strings.Contains(args, want) {
			t.Errorf("%s: no %s", args, want)
		}
	}
	if strings.Contains(args, "unbuffered") || strings.Contains(args, strings.Repeat("s", 32)) {
		t.Error(args)
	}
	for _, kv := range call.Env { // STEP-1
		for _, bad := range []string{"SLURM_CPUS_PER_TASK=", "SLURM_EXPORT_ENV=", "SLURM_GPU_BIND=", "SLURM_MEM_PER_NODE="} {
			if strings.HasPrefix(kv, bad) {
				t.Error(kv)
			}
		}
		if strings.Contains(kv, strings.Repeat("s", 32)) {
			t.Error("the secret is in the environment")
		}
	}
	if !slices.Contains(call.Env, "FLAVOUR=vanilla") || !slices.Contains(call.Env, "SLURM_JOB_ID=7") {
		t.Error("the user's environment is not handed on")
	}
	if !slices.Contains(call.Env, "MANIPLE_SLURM_MEM_PER_NODE=1024") {
		t.Error("the keepers are not told the job's memory")
	}
	var d bootdoc.Doc
	data, _ := os.ReadFile(filepath.Join(envOf(f), "doc"))
	if err := json.Unmarshal(data, &d); err != nil || d.Check() != nil || !slices.Equal(d.Expect, []string{"n1", "n2"}) {
		t.Errorf("%s: %v", data, err)
	}
	if head, _ := os.ReadFile(filepath.Join(envOf(f), "head")); string(head) != `{"head":["10.0.0.1:7"]}`+"\n" {
		t.Errorf("%q", head)
	}
	if rest, _ := os.ReadFile(filepath.Join(envOf(f), "rest")); !strings.Contains(string(rest), `"drain"`) {
		t.Errorf("%q", rest)
	}
}

func TestOutsideOfAJob(t *testing.T) {
	_, err := (&Backend{Environ: []string{"PATH=/nowhere"}}).Start(t.Context(), backend.Request{Doc: doc()})
	if !errors.Is(err, ErrOutside) {
		t.Error(err)
	}
}

func TestWithoutSrun(t *testing.T) {
	f := slurmtest.New(t)
	f.Remove("srun")
	if _, err := start(t, f, "PATH="+envOf(f)); !errors.Is(err, slurm.ErrMissing) {
		t.Error(err)
	}
}

func TestChosenNodes(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers})
	b := &Backend{Environ: f.Environ("SLURM_JOB_ID=7", "SLURM_JOB_NODELIST=n[1-4]")}
	s, err := b.Start(t.Context(), backend.Request{Doc: doc(), Nodes: []bootdoc.Node{{Name: "n4"}, {Name: "n2"}}, Binary: "/opt/maniple"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Nodes(), []string{"n2", "n4"}) { // Slurm numbers its tasks in this order
		t.Error(s.Nodes())
	}
	s.Stop(t.Context())
	if args := strings.Join(f.Calls()[0].Args, " "); !strings.Contains(args, "-N 2 -n 2") || !strings.Contains(args, "--nodelist=n[2,4]") || !strings.Contains(args, "--head=no") {
		t.Error(args)
	}
	if _, err := b.Start(t.Context(), backend.Request{Doc: doc(), Nodes: []bootdoc.Node{{Name: "n9"}}}); err == nil || !strings.Contains(err.Error(), "n9 is not in job 7") {
		t.Error(err)
	}
}

// A heterogeneous job has a step for each component, of which the first hosts the head; together they
// are one session.
func TestHetJob(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers}).On("srun", slurmtest.Answer{Args: []string{"--het-group=1"}, Script: `
read -r doc
read -r head
printf '%s\n' "$head" > "$SLURMTEST_DIR/head.1"
echo '0: {"event":"ready"}'
echo '1: {"event":"ready"}'
cat > /dev/null
`})
	b := &Backend{Environ: f.Environ(append(strings.Split(slurmtest.Recorded(t, "22.05", "env.het"), "\n"), "PATH="+envOf(f)+":/usr/bin:/bin")...)}
	s, err := b.Start(t.Context(), backend.Request{Doc: doc(), Binary: "/opt/maniple", Head: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Nodes(), []string{"n1", "n2", "n3"}) {
		t.Error(s.Nodes())
	}
	next(t, s, backend.KindHead)
	if err := s.Send(backend.HeadLine([]string{"a:1"})); err != nil {
		t.Fatal(err)
	}
	ready := map[string]bool{}
	for range 4 { // the stand-in of the first component speaks for two nodes
		ready[next(t, s, backend.KindReady).Node] = true
	}
	if !ready["n1"] || !ready["n2"] || !ready["n3"] {
		t.Error(ready)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	for i, want := range []string{"-N 1 -n 1", "-N 2 -n 2"} {
		args := strings.Join(f.Calls()[i].Args, " ")
		if strings.Contains(args, "--het-group=1") != (i == 1) {
			args = strings.Join(f.Calls()[1-i].Args, " ")
		}
		if !strings.Contains(args, want) || strings.Contains(args, "--head=auto") != (i == 0) {
			t.Error(args)
		}
	}
}

func TestLossesAreToldOnce(t *testing.T) { // STEP-4
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: `
read -r doc
echo 'srun: error: Node failure on n2' >&2
echo 'srun: error: Node failure on n2' >&2
echo 'srun: error: n2: task 1: Killed' >&2
cat > /dev/null
exit 1
`})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	ev := next(t, s, backend.KindLost)
	if ev.Node != "n2" || !strings.Contains(ev.Text, "NODE_FAIL") {
		t.Errorf("%+v", ev)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	seen := make(chan backend.Event, 16)
	go func() {
		s.Send(backend.DrainLine("test", time.Now(), true))
		s.(*session).closeInput()
	}()
	for ev := range s.Events() {
		seen <- ev
	}
	close(seen)
	for ev := range seen {
		if ev.Kind == backend.KindLost {
			t.Errorf("again: %+v", ev)
		}
	}
	s.Stop(ctx)
}

func TestKilledKeeperIsLost(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: `
read -r doc
echo '1: {"event":"end","code":0}'
echo 'srun: error: n[1-2]: tasks 0-1: Exited with exit code 1' >&2
exit 1
`})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	lost := map[string]bool{}
	for ev := range s.Events() {
		if ev.Kind == backend.KindLost {
			lost[ev.Node] = true
		}
	}
	if !lost["n1"] {
		t.Errorf("lost %v", lost)
	}
	var e *slurm.Error
	if err := s.Wait(); !errors.As(err, &e) || !strings.Contains(err.Error(), "Exited with exit code 1") {
		t.Error(err)
	}
}

func TestRefusedStepNamesSlurmsReason(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Stderr: "srun: error: Unable to create step for job 7: Memory required by task is not available\n", Code: 1})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	for range s.Events() {
	}
	if err := s.Wait(); !errors.Is(err, slurm.ErrRefused) || !strings.Contains(err.Error(), "Memory required") {
		t.Error(err)
	}
}

func TestWarnings(t *testing.T) {
	for line, want := range map[string]slurm.Cause{
		"slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-21T09:43:00 DUE TO TIME LIMIT ***": slurm.CauseTimeLimit,
		"slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-21T09:43:00 DUE TO PREEMPTION ***": slurm.CausePreempted,
		"0: slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-21T09:43:00 ***":                slurm.CauseCancelled,
	} {
		f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: "read -r doc; echo '" + line + "' >&2; cat >/dev/null"})
		s, err := start(t, f)
		if err != nil {
			t.Fatal(err)
		}
		if ev := next(t, s, backend.KindStopping); ev.Reason != string(want) {
			t.Errorf("%s: %+v", line, ev)
		}
		s.Stop(t.Context())
	}
}

// The program is not on the nodes: it is sent there, and started by a shell that removes it.
func TestProgramIsSentToNodesThatLackIt(t *testing.T) {
	f := slurmtest.New(t).
		On("srun", slurmtest.Answer{Script: `read -r doc; echo 'srun: error: n2: task 1: Exited with exit code 2' >&2; echo '0: slurmstepd-n1: error: execve(): /opt/maniple: No such file or directory' >&2; cat >/dev/null; exit 2`}).
		On("srun", slurmtest.Answer{Args: []string{"/bin/sh"}, Script: keepers}).
		On("sbcast", slurmtest.Answer{})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	if ev := <-s.Events(); ev.Kind != backend.KindHead { // no node was lost
		t.Errorf("%+v", ev)
	}
	s.Stop(t.Context())
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	calls := f.Calls()
	if len(calls) != 3 || calls[1].Program != "sbcast" || calls[1].Args[1] != "/opt/maniple" {
		t.Fatalf("%+v", calls)
	}
	copied := calls[1].Args[2]
	if !strings.HasPrefix(copied, "/tmp/maniple-") || !slices.Contains(calls[2].Args, copied) || !strings.Contains(strings.Join(calls[2].Args, " "), `rm -f "$0"`) {
		t.Error(calls[1].Args, calls[2].Args)
	}
}

// A released step lives on: nobody reads what it prints, and it does not die of that.
func TestRelease(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: `
read -r doc
echo '0: {"event":"head","addresses":["a:1"]}'
cat > /dev/null
while [ ! -e "$SLURMTEST_DIR/released" ]; do sleep 0.01; done
i=0; while [ $i -lt 100 ]; do echo "0: {\"event\":\"text $i\"}"; i=$((i+1)); done
echo alive > "$SLURMTEST_DIR/alive"
`})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, backend.KindHead)
	if err := s.Release(); err != nil {
		t.Error(err)
	}
	s.Wait() // the session is over, srun is not
	if err := os.WriteFile(filepath.Join(envOf(f), "released"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if data, err := os.ReadFile(filepath.Join(envOf(f), "alive")); err == nil && string(data) == "alive\n" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it did not get to its end")
		}
	}
}

// A step that does not end in time is killed by two interrupts of srun.
func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: `
trap 'echo int >> "$SLURMTEST_DIR/ints"; [ $(wc -l < "$SLURMTEST_DIR/ints") -ge 2 ] && exit 130' INT
read -r doc
echo '0: {"event":"head","addresses":["a:1"]}'
while :; do sleep 0.01; done
`}).On("srun", slurmtest.Answer{Args: []string{"--head=no"}})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, backend.KindHead)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err == nil || !strings.Contains(err.Error(), "did not end in time") {
		t.Error(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// Jobs that asked for GPUs per task or in total: the step names what each node has.
func TestStepHasTheJobsGPUs(t *testing.T) {
	const uneven = "JobId=7 JobName=x   Nodes=n1 CPU_IDs=0 Mem=500 GRES=gpu:h100:3(IDX:0-2)   Nodes=n2 CPU_IDs=0 Mem=500 GRES=gpu:h100:1(IDX:0) MinCPUsNode=1\n"
	for _, tt := range []struct {
		name, env, scontrol, want, warning string
		calls                              int
	}{
		{"none", "X=1", "", "", "", 1},
		{"per node", "SLURM_GPUS_PER_NODE=2", "", "", "", 1},
		{"per task", "SLURM_GPUS_PER_TASK=1 SLURM_TASKS_PER_NODE=2(x2)", "", "--gpus-per-node=2", "", 1},
		{"per task, uneven", "SLURM_GPUS_PER_TASK=2 SLURM_TASKS_PER_NODE=2,1", "", "--gpus-per-node=2", "4 on n1, 2 on n2", 1},
		{"total", "SLURM_GPUS=4", uneven, "--gpus-per-node=1", "3 on n1, 1 on n2", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: keepers}).On("scontrol", slurmtest.Answer{Stdout: tt.scontrol})
			s, err := start(t, f, strings.Fields(tt.env)...)
			if err != nil {
				t.Fatal(err)
			}
			if tt.warning != "" {
				if ev := next(t, s, backend.KindWarning); !strings.Contains(ev.Text, tt.warning) {
					t.Errorf("%+v", ev)
				}
			}
			s.Stop(t.Context())
			calls := f.Calls()
			args := strings.Join(calls[len(calls)-1].Args, " ")
			if len(calls) != tt.calls || !strings.Contains(args, tt.want) || tt.want == "" && strings.Contains(args, "gpu") {
				t.Errorf("%d calls, %s", len(calls), args)
			}
		})
	}
}

// srun waits for the task of a node that lost its power until Slurm declares it failed; we do not.
func TestStopDoesNotWaitForDeadNodes(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Script: `
read -r doc
echo '0: {"event":"head","addresses":["a:1"]}'
read -r drain
echo '0: {"event":"end","code":0}'
exec sleep 600
`})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, backend.KindHead)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	began := time.Now()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// srun was killed, and Slurm killed its tasks for that: a second step clears up after them, one that ends
// with its input. After nodes that died there is none.
func TestKilledStepIsClearedUp(t *testing.T) {
	f := slurmtest.New(t).On("srun", slurmtest.Answer{Args: []string{"--head=auto"}, Script: `read -r doc; kill -KILL $$`}).
		On("srun", slurmtest.Answer{Args: []string{"--head=no"}, Script: `cat > "$SLURMTEST_DIR/cleaned"`})
	s, err := start(t, f)
	if err != nil {
		t.Fatal(err)
	}
	for range s.Events() {
	}
	if s.Wait() == nil {
		t.Error("a killed step is no error")
	}
	calls := f.Calls()
	if len(calls) != 2 || !slices.Contains(calls[1].Args, "--head=no") || !slices.Contains(calls[1].Args, "--overlap") {
		t.Fatalf("%d calls: %v", len(calls), calls)
	}
	if data, err := os.ReadFile(filepath.Join(envOf(f), "cleaned")); err != nil || !strings.HasPrefix(string(data), `{"version":`) || strings.Count(string(data), "\n") != 1 {
		t.Errorf("the second step was told %q, %v", data, err)
	}
}

// What Slurm ends, the keepers have ended before its KILL.
func TestGrace(t *testing.T) {
	for wait, want := range map[time.Duration]time.Duration{0: 1, 2: 1, 5: 3, 30: 25, 60: 30, 300: 30} {
		if got := grace(wait * time.Second); got != want*time.Second {
			t.Errorf("KillWait %d: %v, want %d s", wait, got, want)
		}
	}
}
