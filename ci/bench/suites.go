package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// suites are the bars that are whole test programs: they hold or they don't.
var suites = []experiment{
	{"demo", func(l *lab) error {
		start := time.Now()
		cmd := exec.Command("make", "demo")
		cmd.Dir = l.top
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make demo: %w: %s", err, lastLines(string(out), 4))
		}
		r := single("make demo", "s", 0, []float64{time.Since(start).Seconds()})
		r.Note = "accuracy over 0.95, exit code 0"
		l.add(r)
		return nil
	}},
	{"simulation", simulation},
	{"kills", goTests("100 random kills", "TestHundredRandomKills")},
	{"clusters", goTests("100 starts of two clusters", "TestHundredStartsOfTwoClusters")},
}

// simulation: 1,000 nodes join and run 300 gangs with 1% of frames lost and 20 nodes dying.
func simulation(l *lab) error {
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
	r := single("1,000 nodes, 300 gangs", "s", 60, []float64{seconds})
	r.Note = "CPU of the simulation"
	l.add(r)
	return nil
}

// goTests counts failures of soak tests; the bar is none.
func goTests(name, pattern string) func(*lab) error {
	return func(l *lab) error {
		cmd := exec.Command("go", "test", "-json", "-tags", "e2e,soak", "-count", "1", "-timeout", "60m", "-run", "^"+pattern+"$", "./ci/e2e/...")
		cmd.Dir, cmd.Stderr = l.top, os.Stderr
		out, runErr := cmd.Output()
		passed, failed := 0, 0
		first := ""
		for line := range strings.Lines(string(out)) {
			var e struct{ Action, Test string }
			if json.Unmarshal([]byte(line), &e) != nil || e.Test == "" {
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				if first == "" {
					first = e.Test
				}
			}
		}
		if passed+failed == 0 {
			return fmt.Errorf("no such test ran: %v", runErr)
		}
		r := single(name, "", 0, []float64{float64(failed)})
		r.Of, r.Pass, r.Note = "failures", failed == 0, fmt.Sprintf("%d passed, %d failed %s", passed, failed, first)
		if failed > 0 {
			r.Limit = 0.5 // shown as a bar that fails
		}
		l.add(r)
		return nil
	}
}
