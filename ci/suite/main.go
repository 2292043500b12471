package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: suite check|test|soak")
		os.Exit(64)
	}
	top, err := root()
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(70)
	}
	list, watchdog, ok := plan(os.Args[1])
	if !ok {
		fmt.Fprintf(os.Stderr, "suite: no suite is called %q: there are check, test and soak\n", os.Args[1])
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, watchdog, fmt.Errorf("the watchdog ends the suite after %s", watchdog))
	defer cancel()

	strict := os.Args[1] == "test"
	if !runAll(ctx, os.Stdout, list, top, strict, readAllowed(filepath.Join(top, "ci", "suite", "allowed.txt"))) {
		os.Exit(1)
	}
}

// runAll runs the parts one after the other; what is left when ctx ends is not run and counts as failed.
// The last line says what was counted.
func runAll(ctx context.Context, to io.Writer, list []part, top string, strict bool, allowed map[string]bool) bool {
	var all result
	for i, p := range list {
		start := time.Now()
		fmt.Fprintf(to, "=== %s (budget %s)\n", p.name, p.budget)
		r := p.run(ctx, top)
		took := time.Since(start)
		over := ""
		if p.budget > 0 && took > p.budget {
			over = "  OVER ITS BUDGET"
		}
		fmt.Fprintf(to, "--- %s: %d passed, %d failed, %d skipped in %s of %s%s\n", p.name, r.passed, r.failed, len(r.skipped), took.Round(100*time.Millisecond), p.budget, over)
		all.add(r)
		if ctx.Err() != nil {
			all.failed++
			all.names = append(all.names, fmt.Sprintf("the suite was stopped during %q: %v", p.name, context.Cause(ctx)))
			for _, rest := range list[i+1:] {
				all.failed++
				all.names = append(all.names, rest.name+": not run")
			}
			break
		}
	}
	for _, s := range all.skipped {
		verdict := ""
		if strict && !allowed[s.test] {
			verdict = "  (must run here)"
			all.failed++
		}
		fmt.Fprintf(to, "skipped: %s: %s%s\n", s.test, s.reason, verdict)
	}
	for _, f := range all.names {
		fmt.Fprintln(to, "failed:", f)
	}
	fmt.Fprintf(to, "%d passed, %d failed, %d skipped\n", all.passed, all.failed, len(all.skipped))
	return all.failed == 0 && all.passed > 0
}

// root is the folder of go.mod above the working directory.
func root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod in this folder or above it")
		}
		dir = up
	}
}

// readAllowed reads the names of tests that may be skipped under `test`, one a line, # for the reason.
func readAllowed(path string) map[string]bool {
	allowed := map[string]bool{}
	data, err := os.ReadFile(path)
	if err != nil {
		return allowed
	}
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, "#")
		if name = strings.TrimSpace(name); name != "" {
			allowed[name] = true
		}
	}
	return allowed
}
