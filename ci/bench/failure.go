package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The rank that fails waits for the word, leaves the moment in which it does, and ends with 3.
const fails = `if [ "$RANK" = 1 ]; then
  while [ ! -e "$0/go" ]; do sleep 0.01; done
  date +%s%N > "$0/failed"; exit 3
fi
sleep 1000`

// One rank of the other node ignores TERM itself, so that only KILL ends it.
const stubborn = `[ "$RANK" != 2 ] || trap "" TERM
exec "$0" "$1" sh -c "$2" "$1"`

// firstFailure: from the end of the rank that fails to that of all others on two nodes, each of which has a
// grandchild that left its session and ignores TERM.
func firstFailure(l *lab) error {
	var runs []float64
	for range pairs {
		took, err := l.failure()
		if err != nil {
			return err
		}
		runs = append(runs, took.Seconds())
	}
	l.add(single("first failure ends the gang", "s", runs).most(2).noted("2 nodes x 2 ranks, each with a grandchild in a session of its own that ignores TERM, as one rank does; until the last of them is gone"))
	return nil
}

func (l *lab) failure() (time.Duration, error) {
	const ranks = 4
	dir, err := os.MkdirTemp(l.dir, "failure-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	var said bytes.Buffer
	cmd := exec.Command(l.binary, "run", "--fake-nodes", "2", "-N", "2", "--ntasks-per-node", "2", "--",
		"sh", "-c", stubborn, filepath.Join(l.top, "ci/e2e/programs/stubborn.sh"), dir, fails)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), l.env...), &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err = within(time.Minute, "all ranks have a grandchild", func() bool {
		ready, _ := filepath.Glob(filepath.Join(dir, "ready.*"))
		return len(ready) == ranks && len(l.ofGangs()) >= 3*ranks-1 // each rank, its grandchild, and but for one a sleep
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "go"), nil, 0o600)
	}
	if err == nil {
		err = within(time.Minute, "rank 1 fails", func() bool {
			data, _ := os.ReadFile(filepath.Join(dir, "failed"))
			return bytes.HasSuffix(data, []byte("\n"))
		})
	}
	if err == nil {
		err = within(time.Minute, "all ranks and grandchildren are gone", func() bool { return len(l.ofGangs()) == 0 })
	}
	over := time.Now()
	if err != nil {
		cmd.Process.Kill()
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); err == nil && code != 3 {
		err = fmt.Errorf("exit code %d, not that of the rank, 3", code)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, lastLines(said.String(), 4))
	}
	data, _ := os.ReadFile(filepath.Join(dir, "failed"))
	ns, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	return over.Sub(time.Unix(0, ns)), err
}

// ofGangs are the live processes below this one that belong to a gang, by their environment.
func (l *lab) ofGangs() (found []int) {
	for _, pid := range l.strangers() {
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && bytes.Contains(env, []byte("\x00MANIPLE_GROUP=")) {
			found = append(found, pid)
		}
	}
	return found
}

// within waits until ok.
func within(limit time.Duration, what string, ok func() bool) error {
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("after %v still not: %s", limit, what)
		}
	}
	return nil
}
