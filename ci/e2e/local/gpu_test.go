//go:build e2e && gpu

package local

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// cards are the UUIDs of this machine's NVIDIA GPUs. The tag gpu says that there are some.
func cards(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("nvidia-smi", "-L").Output()
	if err != nil {
		t.Fatalf("the tag gpu is for machines with an NVIDIA GPU: nvidia-smi -L: %v", err)
	}
	var uuids []string
	for _, m := range regexp.MustCompile(`(?m)^GPU \d+:.*UUID: (GPU-[0-9a-f-]+)\)`).FindAllSubmatch(out, -1) {
		uuids = append(uuids, string(m[1]))
	}
	return uuids
}

// cudaPython is a Python whose torch sees the GPU: MANIPLE_E2E_PYTHON, or python3.
func cudaPython(t *testing.T) string {
	t.Helper()
	python := os.Getenv("MANIPLE_E2E_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import torch; assert torch.cuda.is_available()").CombinedOutput(); err != nil {
		t.Fatalf("%s has no torch with CUDA (MANIPLE_E2E_PYTHON names another): %v\n%s", python, err, out)
	}
	return python
}

// seen is what ci/e2e/programs/on_gpus.py prints per rank.
type seen struct {
	Rank, Visible int
	Masks         map[string]string
	Device        string
	First, Last   float64
}

// cuda runs the program and returns what each rank saw, by rank.
func (w *world) cuda(t *testing.T, python string, flags ...string) []seen {
	t.Helper()
	program, backend := filepath.Join(top, "ci/e2e/programs/on_gpus.py"), "nccl"
	if len(flags) > 0 && flags[0] == "gloo" {
		backend, flags = "gloo", flags[1:]
	}
	args := append(append([]string{"run"}, flags...), "-o", "seen-%t", "-e", "err-%t", "--", python, program, "--backend", backend)
	if code, out, errs := w.run(args...); code != 0 {
		t.Fatalf("%v: exit code %d\n%s\n%s\n%s", args, code, out, errs, w.read("err-0"))
	}
	var all []seen
	for rank := 0; ; rank++ {
		text := w.read("seen-" + itoa(rank))
		if text == "" {
			return all
		}
		var s seen
		if err := json.Unmarshal([]byte(text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:]), &s); err != nil {
			t.Fatalf("rank %d printed %q: %v", rank, text, err)
		}
		all = append(all, s)
	}
}

func TestDoctorNamesTheGPUs(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	var report struct {
		Node struct {
			GPUs     []struct{ ID string } `json:"gpus"`
			HostGPUs int                   `json:"host_gpus"`
		} `json:"node"`
	}
	if err := json.Unmarshal([]byte(w.must("doctor", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Node.GPUs) != len(uuids) {
		t.Fatalf("doctor sees %v, nvidia-smi %v", report.Node.GPUs, uuids)
	}
	for i, gpu := range report.Node.GPUs {
		if gpu.ID != uuids[i] {
			t.Errorf("GPU %d is %s, nvidia-smi says %s", i, gpu.ID, uuids[i])
		}
	}
}

// What nodes tell of GPUs is what nvidia-smi does.
func TestNodesTellWhatGPUsDo(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	secondProgram(t)
	w.must("up", "--cluster", "gpus")
	var report struct {
		Devices []struct {
			Error   string
			Devices struct {
				Driver, Error string
				GPUs          []struct {
					ID     string
					Memory uint64
					Busy   int
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(w.must("nodes", "--cluster", "gpus", "--json")), &report); err != nil {
		t.Fatal(err)
	}
	w.must("down", "--cluster", "gpus")
	if len(report.Devices) != 1 || report.Devices[0].Error+report.Devices[0].Devices.Error != "" || len(report.Devices[0].Devices.GPUs) != len(uuids) {
		t.Fatalf("%+v, nvidia-smi has %v", report.Devices, uuids)
	}
	out, err := exec.Command("nvidia-smi", "--query-gpu=uuid,memory.total,driver_version", "--format=csv,noheader,nounits").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		g, driver := report.Devices[0].Devices.GPUs[i], report.Devices[0].Devices.Driver
		if got := fmt.Sprintf("%s, %d, %s", g.ID, g.Memory>>20, driver); got != line || g.Busy > 100 {
			t.Errorf("%s and %d%%, nvidia-smi says %s", got, g.Busy, line)
		}
	}
}

func TestEachRankSeesItsGPU(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	python := cudaPython(t)
	ranks := w.cuda(t, python, "-n", itoa(len(uuids)), "--gpus-per-task", "1")
	if len(ranks) != len(uuids) {
		t.Fatalf("%d ranks on %d GPUs", len(ranks), len(uuids))
	}
	taken := map[string]bool{}
	for _, s := range ranks {
		if s.Visible != 1 || len(s.Masks) != 1 || s.Masks["CUDA_VISIBLE_DEVICES"] == "" {
			t.Errorf("rank %d sees %d GPUs by %v", s.Rank, s.Visible, s.Masks)
		}
		if !strings.Contains(s.Masks["CUDA_VISIBLE_DEVICES"], s.Device) {
			t.Errorf("rank %d has mask %v and computes on %s", s.Rank, s.Masks, s.Device)
		}
		if taken[s.Device] {
			t.Errorf("two ranks on GPU %s", s.Device)
		}
		taken[s.Device] = true
		if s.Last >= s.First/2 {
			t.Errorf("rank %d learned nothing: loss %g, then %g", s.Rank, s.First, s.Last)
		}
	}
}

func TestRanksShareTheNodesGPUs(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	ranks := w.cuda(t, cudaPython(t), "gloo", "-N", "1", "--ntasks-per-node", "2", "--gpus-per-node", itoa(len(uuids)))
	if len(ranks) != 2 {
		t.Fatalf("%d ranks", len(ranks))
	}
	for _, s := range ranks {
		if s.Visible != len(uuids) {
			t.Errorf("rank %d sees %d of %d GPUs by %v", s.Rank, s.Visible, len(uuids), s.Masks)
		}
	}
}

func TestNoGPUUnlessAsked(t *testing.T) {
	cards(t)
	w := newWorld(t)
	ranks := w.cuda(t, cudaPython(t), "-n", "2")
	if len(ranks) != 2 {
		t.Fatalf("%d ranks", len(ranks))
	}
	for _, s := range ranks {
		if s.Visible != 0 {
			t.Errorf("rank %d asked for none and sees %d by %v", s.Rank, s.Visible, s.Masks)
		}
	}
}

func TestMoreGPUsThanThereAre(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	code, _, errs := w.run("run", "-N", "1", "-n", itoa(len(uuids)+1), "--gpus-per-task", "1", "--", "true")
	if code != 78 || !strings.Contains(errs, "GPU") {
		t.Errorf("exit code %d, want 78 and words on GPUs:\n%s", code, errs)
	}
}

// One gang holds the GPUs, the next waits, says for whom, and gets them when they are free.
func TestGangsTakeTurns(t *testing.T) {
	uuids, w := cards(t), newWorld(t)
	w.must("up", "--cluster", "turns")
	defer w.must("down", "--cluster", "turns")
	gpus := itoa(len(uuids))
	first := w.start("", "run", "--cluster", "turns", "-N", "1", "-n", "1", "--gpus-per-node", gpus, "--", "sh", "-c", "echo have; while [ ! -e go ]; do sleep 0.05; done")
	w.wait(20*time.Second, "the first gang", func() bool { return strings.Contains(first.out.String(), "have") })
	second := w.start("", "run", "--cluster", "turns", "-N", "1", "-n", "1", "--gpus-per-node", gpus, "--", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
	w.wait(20*time.Second, "the second gang's reason for waiting", func() bool {
		return strings.Contains(second.err.String(), "GPU")
	})
	w.file("go", "")
	for i, p := range []*process{first, second} {
		if code := p.code(30 * time.Second); code != 0 {
			t.Errorf("gang %d: exit code %d\n%s", i, code, p.err.String())
		}
	}
	if want := strings.Join(uuids, ","); !strings.Contains(second.out.String(), want) {
		t.Errorf("the second gang's mask: %q, want %s", fmt.Sprint(second.out.String()), want)
	}
}
