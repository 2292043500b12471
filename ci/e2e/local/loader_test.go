//go:build e2e

package local

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// complaints are of our own code, of a worker that lost an exception, or of an agent that refused a process. After a Ctrl-C torch's processes complain, too.
var complaints = regexp.MustCompile(`libs/python/maniple|(?m)^\(.*\) (Traceback|Exception ignored)|^maniple: process`)

// interrupted is what a process of torch's loader says when a signal's handler has raised where its reader was taking a tensor from it, as torch's own does when another of them is
// killed. Without Maniple, too: in 6 of 15 such runs.
var interrupted = regexp.MustCompile(`(?m)^\(.*\) Traceback \(most recent call last\):\n\(.*\)   File ".*/multiprocessing/resource_sharer\.py", line \d+, in _serve$`)

// ci/e2e/programs/loads.py with both twins of the Python package: what it says of its own processes is right, nobody was refused
// by an agent or lost an exception, and nothing is left.
func TestLoaderInAnActor(t *testing.T) {
	program, err := os.ReadFile(filepath.Join(top, "ci/e2e/programs/loads.py"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, pure string }{{"by the extension", ""}, {"in Python alone", "1"}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			env := append([]string{}, w.env...)
			env = append(env, "MANIPLE_PURE="+tt.pure, "PYTHONPATH="+filepath.Join(top, "libs/python"), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
			p := w.launch("", env, torch(t), "-c", string(program))
			if code := p.code(8 * time.Minute); code != 0 || !strings.HasSuffix(p.out.String(), "all is well\n") {
				t.Errorf("exit code %d\n%s\n%s\n%s", code, p.out.String(), p.err.String(), w.logs())
			}
			if complaints.MatchString(interrupted.ReplaceAllString(p.err.String(), "")) {
				t.Errorf("somebody complains:\n%s", p.err.String())
			}
			w.nothingLeft()
		})
	}
}
