package transporttest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Main runs the tests of a package, then fails if goroutines of ours are left. Call it from
// TestMain; it exits.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := goroutines(time.Now().Add(2 * time.Second)); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines are left:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// goroutines waits for those that are about to end, then gives the stacks of the rest.
func goroutines(until time.Time) string {
	for {
		var left []string
		buf := make([]byte, 1<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "maniple") && !strings.Contains(g, "transporttest.goroutines") {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(until) {
			return strings.Join(left, "\n\n")
		}
		runtime.Gosched()
		<-time.After(10 * time.Millisecond)
	}
}
