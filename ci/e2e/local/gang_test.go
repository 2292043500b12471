//go:build e2e

package local

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestEnvironmentOfRanks(t *testing.T) {
	w := newWorld(t)
	w.must("run", "--fake-nodes", "2", "-N", "2", "--ntasks-per-node", "2", "-o", "env-%t", "--", "sh", "-c",
		`echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $NODE_RANK $MASTER_ADDR $MASTER_PORT $OMP_NUM_THREADS; env | grep -E '^(SLURM_STEP|PMI)' || true`)
	port := ""
	for rank := range 4 {
		fields := strings.Fields(w.read("env-" + itoa(rank)))
		if len(fields) != 8 {
			t.Fatalf("rank %d: %q", rank, w.read("env-"+itoa(rank)))
		}
		want := fmt.Sprint(rank, rank%2, 4, 2, rank/2)
		if got := strings.Join(fields[:5], " "); got != want {
			t.Errorf("rank %d has %s, want %s", rank, got, want)
		}
		if port == "" {
			port = fields[6]
		}
		if fields[6] != port {
			t.Errorf("rank %d has port %s, others %s", rank, fields[6], port)
		}
	}
}

func TestInputGoesToRankZero(t *testing.T) {
	w := newWorld(t)
	big := strings.Repeat("0123456789abcdef\n", 100_000)
	p := w.start(big, "run", "-n", "2", "--", "sh", "-c", `if [ $RANK = 0 ]; then sha256sum; else wc -c; fi`)
	if code := p.code(30 * time.Second); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.err.String())
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(big))); !strings.Contains(p.out.String(), "[0] "+sum) {
		t.Errorf("rank 0 did not get the input whole:\n%s", p.out.String())
	}
	if !strings.Contains(p.out.String(), "[1] 0") {
		t.Errorf("rank 1 has input:\n%s", p.out.String())
	}
}

func TestOutputIsWholeAndInOrder(t *testing.T) {
	w := newWorld(t)
	w.must("run", "-n", "3", "-o", "lines-%t", "--", "sh", "-c", `seq -f "$RANK %.0f" 1 200000`)
	for rank := range 3 {
		lines := strings.Split(strings.TrimSpace(w.read("lines-"+itoa(rank))), "\n")
		if len(lines) != 200000 {
			t.Fatalf("rank %d: %d lines", rank, len(lines))
		}
		for i, line := range lines {
			if line != fmt.Sprint(rank, i+1) {
				t.Fatalf("rank %d, line %d: %q", rank, i+1, line)
			}
		}
	}
}

func TestRestartResumesFromTheCheckpoint(t *testing.T) {
	w := newWorld(t)
	program := w.file("count.sh", `
if [ "$RANK" = 0 ]; then
  n=$(cat checkpoint 2>/dev/null || echo 0)
  echo "starts at $n"
  echo $((n + 1)) > checkpoint
  [ "$n" -ge 2 ] || exit 7
fi
sleep 0.3
`)
	code, out, errs := w.run("run", "-n", "2", "--max-restarts", "2", "--", "sh", program)
	if code != 0 || !strings.Contains(out, "starts at 2") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	os.Remove(filepath.Join(w.dir, "checkpoint"))
	if code, _, errs := w.run("run", "-n", "2", "--max-restarts", "1", "--", "sh", program); code != 7 {
		t.Errorf("exit code %d after the last restart, want 7\n%s", code, errs)
	}
}

// binder binds MASTER_PORT as rank 0 without SO_REUSEADDR.
const binder = `
import os, socket, sys, time
if os.environ["RANK"] == "0":
    s = socket.socket()
    if len(sys.argv) > 1:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", int(os.environ["MASTER_PORT"])))
    s.listen()
    print("listens", flush=True)
time.sleep(0.3)
`

func TestMasterPortOfAPlainBinder(t *testing.T) {
	w := newWorld(t)
	program := w.file("binder.py", binder)
	code, out, errs := w.run("run", "-n", "2", "--", "python3", program)
	if code != 0 || !strings.Contains(out, "listens") {
		t.Errorf("exit code %d: a program that binds without SO_REUSEADDR should get another port\n%s\n%s", code, out, errs)
	}
	if !strings.Contains(errs, "MASTER_PORT_NOT_REUSABLE") {
		t.Errorf("stderr does not name MASTER_PORT_NOT_REUSABLE:\n%s", errs)
	}
	code, _, errs = w.run("run", "-n", "2", "--", "python3", program, "reuse")
	if code != 0 || strings.Contains(errs, "MASTER_PORT_NOT_REUSABLE") {
		t.Errorf("exit code %d with SO_REUSEADDR\n%s", code, errs)
	}
}

func TestTwoHundredGangsAtOnce(t *testing.T) {
	w := newWorld(t)
	program := w.file("binder.py", binder)
	w.must("up", "--fake-nodes", "2", "--cpus", "400")
	defer w.run("down")
	var wait sync.WaitGroup
	fails := make(chan string, 200)
	for range 200 {
		wait.Go(func() {
			p := w.start("", "run", "-n", "2", "--", "python3", program, "reuse")
			if code := p.code(170 * time.Second); code != 0 || strings.Contains(p.err.String(), "MASTER_PORT") {
				fails <- fmt.Sprintf("exit code %d: %s", code, p.err.String())
			}
		})
	}
	wait.Wait()
	close(fails)
	for f := range fails {
		t.Error(f)
	}
}

// The programs that users have, unchanged.
func TestProgramsRunUnchanged(t *testing.T) {
	python := torch(t)
	bin := filepath.Dir(python)
	programs := filepath.Join(top, "ci/e2e/programs")
	t.Run("digits", func(t *testing.T) {
		w := newWorld(t)
		out := w.must("run", "--fake-nodes", "2", "-N", "2", "--ntasks-per-node", "2", "--max-restarts", "1", "--", python, filepath.Join(programs, "digits.py"), "--epochs", "4", "--target", "0.8", "--crash-at", "2")
		if !strings.Contains(out, "resuming after epoch 1") {
			t.Errorf("did not resume from its checkpoint:\n%s", out)
		}
		var metrics struct {
			WorldSize int `json:"world_size"`
			History   []any
		}
		if err := json.Unmarshal([]byte(w.read("digits-out/metrics.json")), &metrics); err != nil || metrics.WorldSize != 4 || len(metrics.History) != 4 {
			t.Errorf("metrics: %+v, %v", metrics, err)
		}
		if png := w.read("digits-out/curves.png"); !strings.HasPrefix(png, "\x89PNG") {
			t.Error("no picture")
		}
	})
	for name, c := range map[string]struct {
		line  string
		ranks int // accelerate starts one process per machine on CPUs
	}{"torchrun.sh": {"torchrun rank %d of 4", 4}, "accelerate.sh": {"accelerate rank %d of 2", 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"), "PER_NODE="+itoa(c.ranks/2))
			out := w.must("run", "--fake-nodes", "2", "-N", "2", "--ntasks-per-node", "1", "--", filepath.Join(programs, name))
			for rank := range c.ranks {
				if want := fmt.Sprintf(c.line, rank); !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// A stranger's way: the wheel in a bare environment of another user.
func TestWheelAndBinaryWithoutGo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	w := newWorld(t)
	make := exec.Command("make", "wheel")
	make.Dir = top
	if out, err := make.CombinedOutput(); err != nil {
		t.Fatalf("make wheel: %v\n%s", err, out)
	}
	wheels, _ := filepath.Glob(filepath.Join(top, "dist/maniple-*.whl"))
	if len(wheels) == 0 {
		t.Fatal("no wheel in dist")
	}
	as := func(script string) string {
		t.Helper()
		cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin",
			"PIP_CERT="+os.Getenv("PIP_CERT"), "PIP_INDEX_URL="+os.Getenv("PIP_INDEX_URL"), "HOME="+w.dir, "TMPDIR="+w.tmp, w.mark, "bash", "-ec", script)
		cmd.Dir = w.dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s\n%s", script, err, out, w.logs())
		}
		return string(out)
	}
	os.Chown(w.dir, 65534, 65534)
	os.Chown(w.tmp, 65534, 65534)
	wheel := w.file(filepath.Base(wheels[0]), "")
	data, _ := os.ReadFile(wheels[0])
	os.WriteFile(wheel, data, 0o644)
	python := pythonForAll(t)
	as(python + ` -m venv v && v/bin/pip install -q numpy "` + wheel + `"`)
	out := as(`. v/bin/activate; maniple version; maniple demo`)
	if !regexp.MustCompile(`held-out accuracy 0\.9`).MatchString(out) {
		t.Errorf("maniple demo from the wheel:\n%s", out)
	}
	if out := as(`v/bin/python -m maniple version`); !strings.Contains(out, "maniple") {
		t.Errorf("python -m maniple: %s", out)
	}
	os.MkdirAll(filepath.Join(w.dir, "bin"), 0o755)
	bin, _ := os.ReadFile(binary)
	os.WriteFile(filepath.Join(w.dir, "bin/maniple"), bin, 0o755)
	if out := as(`PATH=~/bin:~/v/bin:$PATH; ` + `env -u VIRTUAL_ENV ~/bin/maniple demo`); !strings.Contains(out, "held-out accuracy") {
		t.Errorf("maniple demo from the binary:\n%s", out)
	}
}

// pythonForAll is a Python that another user may run: the distribution's.
func pythonForAll(t *testing.T) string {
	t.Helper()
	for _, p := range []string{"/usr/bin/python3", "/usr/local/bin/python3"} {
		if exec.Command(p, "-c", "import venv, ensurepip").Run() == nil {
			return p
		}
	}
	t.Fatal("no Python that another user may run: install python3 and python3-venv")
	return ""
}
