//go:build e2e

package local

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
		"bundles":    func(out string) bool { return strings.Count(out, "an actor in process ") == 2 },
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
