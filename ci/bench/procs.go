package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adopt makes this process the parent of whatever its children leave behind, so that every daemon that
// an experiment starts can be found by parent links alone.
func adopt() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// descendants are the live processes below this one.
func descendants() []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
	}
	var found []int
	for next := children[os.Getpid()]; len(next) > 0; {
		pid := next[0]
		next = append(next[1:], children[pid]...)
		found = append(found, pid)
	}
	return found
}

// others are the descendants that are not in known.
func others(known []int) []int {
	return slices.DeleteFunc(descendants(), func(pid int) bool { return slices.Contains(known, pid) })
}

// endAll ends every descendant that is not in spare, by id: TERM, then KILL after five seconds, and reaps them.
func endAll(spare []int) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
			list := others(spare)
			reap()
			if len(list) == 0 {
				return
			}
			for _, pid := range list {
				syscall.Kill(pid, sig)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}

// cpuTime is what the live descendants have used, user and system.
func cpuTime(pids []int) time.Duration {
	var total uint64
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		for _, t := range tasks {
			if data, err := os.ReadFile(t); err == nil {
				ns, _ := strconv.ParseUint(strings.Fields(string(data))[0], 10, 64)
				total += ns
			}
		}
	}
	return time.Duration(total)
}

// proportional is the proportional set size of the processes in MiB.
func proportional(pids []int) float64 {
	kb := 0
	for _, pid := range pids {
		f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if rest, found := strings.CutPrefix(s.Text(), "Pss:"); found {
				n, _ := strconv.Atoi(strings.Fields(rest)[0])
				kb += n
				break
			}
		}
		f.Close()
	}
	return float64(kb) / 1024
}

// usage is what a command took: wall time, and processor time of itself and the children it waited for.
type usage struct{ wall, cpu time.Duration }

// timed runs a command to its end and returns its wall time; its output is in the error if it fails.
func timed(env []string, argv ...string) (time.Duration, string, error) {
	u, out, err := measured(env, argv...)
	return u.wall, out, err
}

func measured(env []string, argv ...string) (usage, string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	file, err := os.CreateTemp("", "bench-*") // a pipe would be held open by the daemons that stay
	if err != nil {
		return usage{}, "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	start := time.Now()
	err = cmd.Run()
	u := usage{wall: time.Since(start)}
	if s := cmd.ProcessState; s != nil {
		u.cpu = s.UserTime() + s.SystemTime()
	}
	data, _ := os.ReadFile(file.Name())
	if err != nil {
		return u, string(data), fmt.Errorf("%s: %w: %s", filepath.Base(argv[0])+" "+strings.Join(argv[1:], " "), err, lastLines(string(data), 5))
	}
	return u, string(data), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
