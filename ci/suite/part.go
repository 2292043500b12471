package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How the output of a part is counted.
const (
	countOne    = iota // the exit status is one pass or failure
	countGo            // go test -json
	countPytest        // pytest's closing line
)

type part struct {
	name   string
	argv   []string
	env    []string
	count  int
	budget time.Duration // said, not enforced
}

type skip struct{ test, reason string }

type result struct {
	passed, failed int
	skipped        []skip
	names          []string // of what failed
}

func (r *result) add(o result) {
	r.passed += o.passed
	r.failed += o.failed
	r.skipped = append(r.skipped, o.skipped...)
	r.names = append(r.names, o.names...)
}

// holders is how long the output of a part that has ended may be held open by what it left behind.
var holders = 10 * time.Second

// run starts the part in a process group of its own and waits for it. When ctx ends, Go processes
// dump their stacks (SIGQUIT), and what is left after five seconds is killed.
func (p part) run(ctx context.Context, dir string) result {
	began := time.Now()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), p.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, in, err := os.Pipe()
	if err != nil {
		return result{failed: 1, names: []string{p.name + ": " + err.Error()}}
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return result{failed: 1, names: []string{p.name + ": " + err.Error()}}
	}
	in.Close()
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		fmt.Printf("suite: %s: %v after %s\n", p.name, context.Cause(ctx), time.Since(began).Round(time.Second))
		dump(os.Stdout, began, logs)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGQUIT)
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	counted := make(chan result, 1)
	go func() { counted <- p.read(out) }() // ends when every holder of the pipe has ended
	err = cmd.Wait()
	var r result
	select {
	case r = <-counted:
	case <-time.After(holders):
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		out.Close()
		r = <-counted
		r.failed++
		r.names = append(r.names, p.name+": left processes behind that hold its output")
	}
	close(done)
	watch.Wait()
	out.Close()
	switch {
	case p.count == countOne && err == nil:
		r.passed++
	case err != nil && r.failed == 0:
		r.failed++
		r.names = append(r.names, fmt.Sprintf("%s: %v", p.name, err))
	}
	return r
}

func (p part) read(out io.Reader) result {
	switch p.count {
	case countGo:
		return readGo(out)
	case countPytest:
		return readPytest(out, p.name)
	}
	io.Copy(os.Stdout, out)
	return result{}
}

// readGo counts top-level and sub-tests of `go test -json`; it prints what failed, whole, and one line a package.
func readGo(out io.Reader) result {
	var r result
	output := map[string]*strings.Builder{}
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	for lines.Scan() {
		var e struct {
			Action, Package, ImportPath, Test, Output string
			Elapsed                                   float64
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // the compiler, or go itself
			continue
		}
		key := strings.TrimPrefix(e.Package, "github.com/maniple-hpc/maniple/")
		if e.Test != "" {
			key += "." + e.Test
		}
		switch e.Action {
		case "build-output": // the compiler; it speaks of an ImportPath, not of a Package
			fmt.Print(e.Output)
			continue
		case "output":
			if output[key] == nil {
				output[key] = new(strings.Builder)
			}
			output[key].WriteString(e.Output)
			continue
		case "build-fail":
			r.failed++
			r.names = append(r.names, e.ImportPath+" does not build")
			continue
		case "pass":
			if e.Test != "" {
				r.passed++
			} else {
				fmt.Printf("ok   %-28s %.1f s\n", key, e.Elapsed)
			}
		case "skip":
			if e.Test != "" {
				r.skipped = append(r.skipped, skip{key, reasonOf(output[key])})
			}
		case "fail":
			if text := output[key]; text != nil {
				fmt.Print(text.String())
			}
			if e.Test != "" {
				r.failed++
				r.names = append(r.names, key)
			} else {
				fmt.Printf("FAIL %-28s %.1f s\n", key, e.Elapsed)
			}
		default:
			continue
		}
		delete(output, key)
	}
	// What never ended was killed: what it had said so far is all that there is.
	for _, key := range slices.Sorted(maps.Keys(output)) {
		if strings.TrimSpace(output[key].String()) == "" {
			continue
		}
		fmt.Printf("did not end: %s\n%s", key, output[key])
		r.failed++
		r.names = append(r.names, key+" did not end")
	}
	return r
}

// reasonOf is the last line that a test printed before it was skipped, without its place in the source.
func reasonOf(text *strings.Builder) string {
	if text == nil {
		return "no reason given"
	}
	reason := "no reason given"
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			reason = line
		}
	}
	if _, after, found := strings.Cut(reason, ".go:"); found {
		if _, text, found := strings.Cut(after, ": "); found {
			return text
		}
	}
	return reason
}

var closing = regexp.MustCompile(`(\d+) (passed|failed|skipped|errors?)`)

func readPytest(out io.Reader, name string) result {
	var r result
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 1<<20), 64<<20)
	last := ""
	for lines.Scan() {
		line := lines.Text()
		fmt.Println(line)
		if rest, found := strings.CutPrefix(line, "SKIPPED "); found {
			r.skipped = append(r.skipped, skip{name, rest})
		}
		if rest, found := strings.CutPrefix(line, "FAILED "); found {
			r.names = append(r.names, rest)
		}
		if closing.MatchString(line) {
			last = line
		}
	}
	for _, m := range closing.FindAllStringSubmatch(last, -1) {
		n, _ := strconv.Atoi(m[1])
		switch m[2] {
		case "passed":
			r.passed += n
		case "failed", "error", "errors":
			r.failed += n
		}
	}
	return r
}
