package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// pairs is how many alternating pairs a comparison has.
const pairs = 7

// lab is where an experiment runs: the binary, a folder of its own, an environment without ours.
type lab struct {
	top, dir, binary string
	env              []string
	report           *Report
}

// experiment measures and adds results.
type experiment struct {
	name string
	run  func(*lab) error
}

var experiments = []experiment{
	{"start", startHead},
	{"idle", idle},
	{"second-node", secondNode},
	{"run-true", runTrue},
	{"gang-64", gang64},
	{"submit", submit},
}

// issues name the experiments whose bars they set.
var issues = map[string][]string{
	"first-light": {"start", "idle", "second-node", "run-true", "gang-64", "submit", "simulation", "demo", "kills", "clusters"},
}

func main() {
	if err := adopt(); err != nil {
		fail(err)
	}
	args := os.Args[1:]
	title := "bench"
	switch {
	case len(args) == 0:
		fail(fmt.Errorf("usage: bench all | bars NAME | EXPERIMENT [EXPERIMENT ...]"))
	case args[0] == "all":
		args = args[:0]
		for _, e := range experiments {
			args = append(args, e.name)
		}
	case args[0] == "bars" && len(args) == 2:
		names, ok := issues[args[1]]
		if !ok {
			fail(fmt.Errorf("no bars are called %q", args[1]))
		}
		title, args = args[1], names
	}
	l, err := newLab()
	if err != nil {
		fail(err)
	}
	defer os.RemoveAll(l.dir)
	for _, name := range args {
		i := slices.IndexFunc(all(), func(e experiment) bool { return e.name == name })
		if i < 0 {
			fail(fmt.Errorf("no experiment is called %q", name))
		}
		fmt.Fprintln(os.Stderr, "measuring", name)
		if err := all()[i].run(l); err != nil {
			l.report.Results = append(l.report.Results, Result{Schema: 1, Name: name, Skipped: strings.ReplaceAll(err.Error(), "\n", " | ")})
		}
		endAll()
	}
	ok := l.report.print()
	if err := l.report.save(l.top, title); err != nil {
		fail(err)
	}
	if !ok {
		os.RemoveAll(l.dir)
		os.Exit(1)
	}
}

func all() []experiment { return append(experiments, suites...) }

func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func newLab() (*lab, error) {
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return nil, fmt.Errorf("not in a checkout: %w", err)
	}
	l := &lab{top: strings.TrimSpace(string(top)), report: newReport()}
	if l.dir, err = os.MkdirTemp("/var/tmp", "maniple-bench-"); err != nil {
		return nil, err
	}
	os.Chmod(l.dir, 0o755)
	l.binary = filepath.Join(l.dir, "maniple")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.binary, "./launcher/cmd/maniple")
	build.Dir, build.Env = l.top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	l.env = []string{"TMPDIR=" + l.dir, "XDG_STATE_HOME=" + filepath.Join(l.dir, "state")}
	return l, nil
}

func (l *lab) add(r Result) { l.report.Results = append(l.report.Results, r) }

// alternate runs ours and theirs `pairs` times, in an order drawn by lot for each pair.
func alternate(ours, theirs func() (float64, error)) (a, b []float64, err error) {
	for range pairs {
		var x, y float64
		first, second := func() (e error) { x, e = ours(); return }, func() (e error) { y, e = theirs(); return }
		if rand.IntN(2) == 0 {
			first, second = second, first
		}
		if err := first(); err != nil {
			return nil, nil, err
		}
		if err := second(); err != nil {
			return nil, nil, err
		}
		a, b = append(a, x), append(b, y)
	}
	return a, b, nil
}
