package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var (
	demoFirst    = regexp.MustCompile(`first step after [0-9.]+ s on (\d+) ranks`)
	demoAccuracy = regexp.MustCompile(`held-out accuracy ([0-9.]+);`)
)

// demo: `make demo` twice. The first run may have to prepare its environment; of the second the time from
// the command to the first training step counts.
func demo(l *lab) error {
	var accuracies []float64
	var whole, first time.Duration
	tmp := filepath.Join(l.dir, "demo")
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	for range 2 {
		cmd := exec.Command("make", "demo")
		cmd.Dir, cmd.Env = l.top, append(os.Environ(), "TMPDIR="+tmp)
		out, in, err := os.Pipe()
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = in, in
		start := time.Now()
		err = cmd.Start()
		in.Close()
		if err != nil {
			out.Close()
			return err
		}
		var text strings.Builder
		first = 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if demoFirst.MatchString(lines.Text()) {
				first = time.Since(start)
			}
			text.WriteString(lines.Text() + "\n")
		}
		out.Close()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("make demo: %w: %s", err, lastLines(text.String(), 4))
		}
		whole = time.Since(start)
		m := demoAccuracy.FindStringSubmatch(text.String())
		if m == nil || first == 0 {
			return fmt.Errorf("make demo said neither its first step nor its accuracy: %s", lastLines(text.String(), 4))
		}
		accuracy, _ := strconv.ParseFloat(m[1], 64)
		accuracies = append(accuracies, accuracy)
	}
	files, _ := filepath.Glob(filepath.Join(tmp, "maniple-*", "*")) // what torch leaves is torch's
	if left := l.strangers(); len(left)+len(files) > 0 {
		return fmt.Errorf("make demo left %d processes and %d files behind", len(left), len(files))
	}
	l.add(single("demo: held-out accuracy", "", accuracies).least(0.95).noted("exit code 0, nothing left behind"))
	l.add(single("demo: second run, first step", "s", []float64{first.Seconds()}).most(20).noted("from `make demo` to the first training step of 4 ranks"))
	l.add(single("demo: second run, whole", "s", []float64{whole.Seconds()}))
	return nil
}

// simulation: 1,000 nodes join and run 300 gangs with 1% of frames lost and 20 nodes dying.
func simulation(l *lab) error {
	var runs []float64
	for range 3 {
		cmd := exec.Command("go", "test", "-count", "1", "-v", "-run", "^TestThousandNodes$", "./rt/sim")
		cmd.Dir = l.top
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("TestThousandNodes: %w: %s", err, lastLines(string(out), 4))
		}
		m := regexp.MustCompile(`in ([0-9.]+) s of CPU`).FindStringSubmatch(string(out))
		if m == nil {
			return fmt.Errorf("no figure in: %s", lastLines(string(out), 4))
		}
		seconds, _ := strconv.ParseFloat(m[1], 64)
		runs = append(runs, seconds)
	}
	l.add(single("1,000 nodes, 300 gangs simulated", "s", runs).most(60).noted("CPU"))
	return nil
}

// soak counts failures of the soak tests with these names.
func soak(name string, tests ...string) func(*lab) error {
	return func(l *lab) error {
		return l.tests(name, tests, nil, "./ci/e2e/...") // on a testbed of its own: nodes may die
	}
}

// tests runs tests by their names and counts those that fail; the bar is none. One that is skipped or that
// there is none of fails the bar, too, and what shortens a soak by hand does not count here.
func (l *lab) tests(name string, tests []string, env []string, packages string) error {
	cmd := exec.Command("go", "test", "-json", "-tags", "e2e,soak", "-count", "1", "-timeout", "60m", "-run", "^("+strings.Join(tests, "|")+")$", packages)
	cmd.Dir, cmd.Stderr = l.top, os.Stderr
	cmd.Env = append(append(os.Environ(), "MANIPLE_SOAK_ROUNDS=", "MANIPLE_SOAK_VICTIMS="), env...)
	out, runErr := cmd.Output()
	count := countTests(strings.NewReader(string(out)), tests...)
	if runErr != nil && len(count.failed) == 0 {
		count.failed = append(count.failed, runErr.Error())
	}
	note := fmt.Sprintf("%d passed, %d failed", count.passed, len(count.failed))
	if len(count.failed) > 0 {
		note += ": " + strings.Join(count.failed[:min(5, len(count.failed))], ", ")
		note = join(note, anonymous(strings.TrimSpace(count.said), l.folders()...))
		if f, err := os.CreateTemp("", "maniple-bench-failed-*.json"); err == nil { // to look at; named on the terminal only
			_, _ = f.Write(out)
			_ = f.Close()
			fmt.Fprintln(os.Stderr, "  what failed is in", f.Name())
		}
	}
	l.add(failures(name, len(count.failed)).noted(note))
	return nil
}

type counted struct {
	passed int
	failed []string
	said   string // the last lines of the first that failed
}

// countTests counts the tests of `go test -json` that have no test below them. One of those wanted that did
// not end counts as failed.
func countTests(out io.Reader, wanted ...string) (c counted) {
	ended, parent, said := map[string]string{}, map[string]bool{}, map[string]string{}
	var order []string
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	for lines.Scan() {
		var e struct{ Action, Package, Test, Output string }
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" {
			continue
		}
		if e.Action == "output" && !strings.HasPrefix(strings.TrimSpace(e.Output), "---") {
			said[e.Package+e.Test] = lastLines(said[e.Package+e.Test]+e.Output, 6) + "\n"
		}
		if i := strings.LastIndex(e.Test, "/"); i > 0 {
			parent[e.Package+e.Test[:i]] = true
		}
		if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
			ended[e.Package+e.Test] = e.Action
			order = append(order, e.Package+" "+e.Test)
			wanted = slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return name == e.Test })
		}
	}
	for _, at := range order {
		pkg, test, _ := strings.Cut(at, " ")
		switch action := ended[pkg+test]; {
		case action != "pass" && (!parent[pkg+test] || !anyBelow(pkg+test, ended)):
			if c.failed = append(c.failed, test); c.said == "" {
				c.said = said[pkg+test]
			}
		case action == "pass" && !parent[pkg+test]:
			c.passed++
		}
	}
	for _, name := range wanted {
		c.failed = append(c.failed, name+" was not run")
	}
	return c
}

// anyBelow tells whether a test below at did not pass, which then speaks for it.
func anyBelow(at string, ended map[string]string) bool {
	for test, action := range ended {
		if strings.HasPrefix(test, at+"/") && action != "pass" {
			return true
		}
	}
	return false
}

// suite: `make test` BARS_SUITE times in a row, each in a clean clone: the first with an empty home and
// empty caches, the others with what the first left in them.
func suite(l *lab) error {
	const cold, warm = "make test, clean clone, empty caches", "make test again, clean clone, cached"
	times, _ := strconv.Atoi(os.Getenv("BARS_SUITE"))
	if times < 1 {
		l.add(Result{Schema: schema, Name: cold, Skipped: "not asked for: BARS_SUITE=1 runs it once (some 25 min), BARS_SUITE=3 three times in a row"})
		return nil
	}
	// Not the parent of what its children leave behind, as in the other experiments: a suite of an hour makes
	// thousands of orphans, which nobody would reap.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
		return err
	}
	defer adopt()
	home, clone := filepath.Join(l.dir, "home"), filepath.Join(l.dir, "clone")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	defer removeAll(home)
	var took []float64
	closing := ""
	for i := range times {
		if _, _, err := timed(nil, "git", "clone", "-q", l.top, clone); err != nil {
			return err
		}
		cmd := exec.Command("make", "test")
		cmd.Dir = clone
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME=", "XDG_STATE_HOME=", "GOCACHE=", "GOMODCACHE=", "GOPATH=")
		start := time.Now()
		out, err := cmd.CombinedOutput()
		closing = lastLines(string(out), 1)
		if err != nil {
			os.WriteFile(filepath.Join(os.TempDir(), "maniple-bench-suite.log"), out, 0o600)
			return fmt.Errorf("run %d of %d: %w: %s", i+1, times, err, lastLines(string(out), 6))
		}
		took = append(took, time.Since(start).Minutes())
		removeAll(clone)
	}
	l.add(single(cold, "min", took[:1]).most(45).noted(closing))
	if times > 1 {
		l.add(single(warm, "min", took[1:]).most(25).noted(closing))
	}
	return nil
}

// removeAll removes a module cache too, which is read-only.
func removeAll(dir string) {
	exec.Command("chmod", "-R", "u+w", dir).Run()
	os.RemoveAll(dir)
}
