package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// logs are where daemons under test write: maniple's own, and those of the Slurm testbeds.
var logs = []string{
	"/var/tmp/maniple-e2e-*/tmp/maniple-*/*/*/*.log",
	"/var/tmp/maniple-e2e/*/log/*.log",
}

// dump prints what tells why a suite hung: the processes below this one, and the ends of the daemons'
// logs that were written since it began.
func dump(to io.Writer, since time.Time, patterns []string) {
	fmt.Fprintln(to, "suite: processes of this suite:")
	for _, pid := range below(os.Getpid()) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
		fmt.Fprintf(to, "  %d  %s  (%s)\n", pid, strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " ")), where)
	}
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(pattern) // the patterns are valid
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil || info.ModTime().Before(since) {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil || len(text) == 0 {
				continue
			}
			fmt.Fprintf(to, "suite: the end of %s:\n%s\n", path, text[max(0, len(text)-4000):])
		}
	}
}

// below gives the processes that descend from pid by parent links.
func below(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		var parent, child int
		text := string(data)
		fmt.Sscan(text, &child)
		fmt.Sscanf(strings.TrimSpace(text[strings.LastIndexByte(text, ')')+1:]), "%1s %d", new(string), &parent)
		children[parent] = append(children[parent], child)
	}
	var found []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, children[next[0]]...)
	}
	return found
}
