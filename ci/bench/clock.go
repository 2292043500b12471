package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc.
const tick = 10 * time.Millisecond

// stat is what /proc says of a process, of which the bench needs a few.
type stat struct {
	pid, parent  int
	state        string
	own, reaped  time.Duration // user and system time; of children that were waited for, and theirs
	user, system time.Duration
	name         string
}

// readStat reads a process's line; ok is false if there is none.
func readStat(pid int) (s stat, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	text := string(data)
	open, shut := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || shut < open {
		return s, false
	}
	fields := strings.Fields(text[shut+1:])
	if len(fields) < 15 {
		return s, false
	}
	n := func(i int) time.Duration {
		v, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(v) * tick
	}
	parent, _ := strconv.Atoi(fields[1])
	s = stat{pid: pid, parent: parent, state: fields[0], user: n(11), system: n(12), reaped: n(13) + n(14), name: text[open+1 : shut]}
	s.own = s.user + s.system
	if exact, err := processClock(pid); err == nil {
		s.own = exact
	}
	return s, true
}

// processClock is the CPU time of a process with all its threads, those that have ended too, in nanoseconds.
func processClock(pid int) (time.Duration, error) {
	var ts unix.Timespec
	const schedClock = 2 // CPUCLOCK_SCHED of the whole process
	err := unix.ClockGettime(int32(^pid<<3|schedClock), &ts)
	return time.Duration(ts.Nano()), err
}

// family are the processes below this one, those that ended and that nobody has waited for too.
func family() []stat {
	children := map[int][]stat{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if s, ok := readStat(pid); ok {
				children[s.parent] = append(children[s.parent], s)
			}
		}
	}
	var found []stat
	for next := children[os.Getpid()]; len(next) > 0; {
		s := next[0]
		next = append(next[1:], children[s.pid]...)
		found = append(found, s)
	}
	return found
}

// spent is the CPU time of all that the bench started, but not its own: of who lives, and of who was waited for;
// spare: processes that do not count.
// The time of a child whose parent ignores SIGCHLD is nobody's.
func spent(spare []int) time.Duration {
	me, _ := readStat(os.Getpid())
	total := me.reaped
	for _, s := range family() {
		if !slices.Contains(spare, s.pid) {
			total += s.own + s.reaped
		}
	}
	return total
}

// memoryOf is a line of a process's status in MiB.
func memoryOf(pid int, name string) float64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, name+":"); found {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// role is what a process of ours is: keeper, head, agent, template, worker, or "".
func role(s stat) string {
	line := commandLine(s.pid)
	for _, name := range []string{"keeper", "head", "agent"} {
		if len(line) > 1 && filepath.Base(line[0]) == "maniple" && line[1] == name {
			return name
		}
	}
	if isTemplate(line) {
		if isTemplate(commandLine(s.parent)) { // forked from it, with its command line
			return "worker"
		}
		return "template"
	}
	return ""
}

func isTemplate(line []string) bool {
	return len(line) > 2 && line[1] == "-m" && line[2] == "maniple._template"
}

func commandLine(pid int) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.Split(strings.TrimRight(string(data), "\x00"), "\x00")
}
