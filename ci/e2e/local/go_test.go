//go:build e2e

package local

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// goProgram builds a program of the tree, as its users would.
func (w *world) goProgram(dir string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, filepath.Base(dir))
	build := exec.Command("go", "build", "-o", path, "./"+dir)
	build.Dir, build.Env = top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// golang starts a driver in Go.
func (w *world) golang(program string, args ...string) *process {
	w.t.Helper()
	env := append([]string{}, w.env...)
	return w.launch("", append(env, "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH")), program, args...)
}

// The example programs of the guide, each on a cluster of its own.
func TestGoExamples(t *testing.T) {
	for name, right := range map[string]func(string) bool{
		"darts": func(out string) bool {
			pi, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
			return err == nil && math.Abs(pi-math.Pi) < 0.01
		},
		"parameters": func(out string) bool { return out == "y = 3.0x + 2.0\n" },
		"tour": func(out string) bool {
			return out == "to: 2\nwords: 3\non the way: after 600 km: no fuel\ntoo late\nthere: 1 not yet: 1\ncancelled\nsum: 332833500\nand: 1\nby a: bear\nEnter the king\nprimes: [2 3 5 7]\nfib: 13\n"
		},
		"bundles": func(out string) bool { return strings.Count(out, "an actor in process ") == 2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.golang(w.goProgram("rt/examples/" + name))
			if code := p.code(time.Minute); code != 0 || !right(p.out.String()) || p.err.String() != "" {
				t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
			}
			w.nothingLeft()
		})
	}
}

// Every part of the API once, on a cluster of its own.
func TestGoDriver(t *testing.T) {
	w := newWorld(t)
	p := w.golang(w.goProgram("ci/e2e/programs/driver"), "all")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") || !strings.Contains(p.out.String(), "a worker speaks\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.nothingLeft()
}

// Tasks on all nodes, an actor elsewhere, large values between them, a group over them, and one that is killed.
func TestGoNodes(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "gophers", "--fake-nodes", "3", "--cpus", "2")
	p := w.golang(w.goProgram("ci/e2e/programs/driver"), "nodes", "gophers")
	p.says("node ")
	_, name, _ := strings.Cut(p.out.String(), "node ")
	if err := syscall.Kill(w.keeper(strings.TrimSpace(name)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.file("go", "")
	if code := p.code(2 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "gophers")
	w.nothingLeft()
}

// RT-5: a cluster that Init started ends with its driver, by whatever death.
func TestGoDriverThatIsKilled(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			w := newWorld(t)
			p := w.golang(w.goProgram("ci/e2e/programs/driver"), "sleep")
			p.says("up")
			_ = p.cmd.Process.Signal(sig)
			if code := p.code(10 * time.Second); code != 128+int(sig) {
				t.Errorf("exit code %d\n%s", code, p.err.String())
			}
			w.nothingLeft()
		})
	}
}

// The fate rule, and a driver of Go beside one of Python on one cluster.
func TestGoWorkersEndWithTheirAgent(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "fate")
	program := w.goProgram("ci/e2e/programs/driver")
	p := w.golang(program, "sleep", "fate")
	p.says("up")
	_ = syscall.Kill(w.one("maniple agent"), syscall.SIGKILL)
	w.wait(5*time.Second, "the workers are gone", func() bool { return len(w.find("driver", "sleep")) <= 1 })
	if code := p.code(10 * time.Second); code != 0 || !strings.Contains(p.out.String(), "AGENT_DIED") {
		t.Errorf("exit code %d\n%s\n%s", code, p.out.String(), p.err.String())
	}
	q := w.golang(program, "all", "fate")
	if code := q.code(time.Minute); code != 0 {
		t.Errorf("exit code %d\n%s\n%s", code, q.out.String(), q.err.String())
	}
	w.must("down", "--cluster", "fate")
	w.nothingLeft()
}

// Large values go through shared memory, and what nobody needs any more is given back.
func TestGoObjects(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "objects", "--fake-nodes", "1", "--node-mem", "1G", "--object-spilling-directory", "none")
	p := w.golang(w.goProgram("ci/e2e/programs/driver"), "objects", "objects")
	if code := p.code(2 * time.Minute); code != 0 || p.out.String() != "all is well\n" {
		t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
	}
	w.must("down", "--cluster", "objects")
	w.nothingLeft()
}

// What users' binaries carry of us stays small.
func TestGoExampleIsSmall(t *testing.T) {
	w := newWorld(t)
	info, err := os.Stat(w.goProgram("rt/examples/parameters"))
	if err != nil || info.Size() > 8<<20 {
		t.Errorf("%v: %d bytes, and 8 MiB is the end", err, info.Size())
	}
}

// A binary that was built anew under its driver is not what its workers are.
func TestGoProgramThatChanges(t *testing.T) {
	w := newWorld(t)
	w.must("up", "--cluster", "changes")
	program := w.goProgram("ci/e2e/programs/driver")
	p := w.golang(program, "sleep", "changes")
	p.says("up")
	other, err := os.ReadFile(w.goProgram("rt/examples/darts"))
	if err == nil {
		err = errors.Join(os.Remove(program), os.WriteFile(program, other, 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	pids := w.find("driver", "sleep")
	for _, pid := range pids {
		if pid != p.cmd.Process.Pid { // the template and its workers
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if code := p.code(30 * time.Second); code != 0 {
		t.Errorf("exit code %d\n%s\n%s", code, p.out.String(), p.err.String())
	}
	if !strings.Contains(p.err.String(), "start the driver again") {
		t.Errorf("nobody says why: %s", p.err.String())
	}
	w.must("down", "--cluster", "changes")
}
