package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pairs is how many alternating pairs a comparison has.
var pairs = 7

// quick makes of a run a trial of the bench itself: one pair, small sizes, and no figure that counts.
var quick = os.Getenv("BARS_QUICK") != ""

// lab is where experiments run: the binary, a folder of its own, an environment without ours, and the
// Slurm testbed once an experiment asked for it.
type lab struct {
	top, dir, binary string
	env              []string
	report           *Report
	rayIdle          float64 // MiB that Ray's processes have, if it was started
	bed              *testbed
	closing          sync.Once
	ending           atomic.Bool // by a signal: nothing new begins
}

func newLab(title string) (*lab, error) {
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return nil, fmt.Errorf("not in a checkout: %w", err)
	}
	l := &lab{top: strings.TrimSpace(string(top))}
	l.report = newReport(l.top, title)
	if l.dir, err = os.MkdirTemp("/var/tmp", "maniple-bench-"); err != nil {
		return nil, err
	}
	os.Chmod(l.dir, 0o755)
	l.binary = filepath.Join(l.dir, "maniple")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.binary, "./launcher/cmd/maniple")
	build.Dir, build.Env = l.top, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(l.dir)
		return nil, fmt.Errorf("build: %w: %s", err, out)
	}
	l.env = []string{"TMPDIR=" + l.dir, "XDG_STATE_HOME=" + filepath.Join(l.dir, "state")}
	return l, nil
}

// close ends all that the lab started and removes its folder.
func (l *lab) close() {
	l.closing.Do(func() {
		if l.bed != nil {
			l.bed.down()
			l.bed = nil
		}
		endAll(nil)
		os.RemoveAll(l.dir)
	})
}

// sweep ends what an experiment left, but not the testbed.
func (l *lab) sweep() {
	endAll(l.spared())
}

// spared are the processes that stay when an experiment is over: the testbed's.
func (l *lab) spared() []int {
	if l.bed == nil {
		return nil
	}
	return l.bed.before
}

// strangers are what experiments started and that still lives.
func (l *lab) strangers() []int { return others(l.spared()) }

func (l *lab) add(r Result) { l.report.Results = append(l.report.Results, r) }

// measure runs an experiment. One that fails, or gives no figure, is a result, too.
func (l *lab) measure(e experiment) {
	before := len(l.report.Results)
	err := e.run(l)
	if err == nil && len(l.report.Results) == before {
		err = errors.New("it gave no figure")
	}
	if err != nil {
		l.add(Result{Schema: schema, Name: e.name, Error: anonymous(err.Error(), l.folders()...)})
	}
}

// folders are those that no report names.
func (l *lab) folders() []string { return []string{l.dir, l.top} }

// maniple runs the product to its end.
func (l *lab) maniple(args ...string) (time.Duration, error) {
	took, _, err := timed(l.env, append([]string{l.binary}, args...)...)
	return took, err
}

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
