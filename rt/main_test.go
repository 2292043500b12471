package rt_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/rt/internal/nodetest"
)

// The test's binary is its own worker.
func TestMain(m *testing.M) {
	if os.Getenv("MANIPLE_SERVE") != "" {
		_, err := rt.Init(context.Background(), rt.Config{})
		fmt.Fprintln(os.Stderr, "Init of a worker came back:", err)
		os.Exit(3)
	}
	os.Unsetenv("MANIPLE_ADDRESS")
	os.Exit(m.Run())
}

// join starts a node and makes the test a driver of it.
func join(t *testing.T, cpus int, config work.Config) (context.Context, *nodetest.Node) {
	t.Helper()
	n := nodetest.Start(t, cpus, config)
	c, err := rt.Init(t.Context(), rt.Config{Address: n.Path, Namespace: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	t.Cleanup(func() {
		if said := n.Said(); len(said) > 0 {
			t.Errorf("the agent had to say: %q", said)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx, n
}

// must is a value that has to come.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// until waits for something that comes by itself, and gives up with the test's context.
func until(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}

// leaks tells of goroutines that were not there before.
func leaks(t *testing.T) func() {
	before := runtime.NumGoroutine()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
			}
			b := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, b[:runtime.Stack(b, true)])
			return
		}
	}
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("error %v does not say %q", err, w)
		}
	}
}
