package sweep

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process is one process as the kernel described it. PID and Started name it for ever.
type Process struct {
	PID, Parent, Group, Session int
	Started                     uint64 // clock ticks since boot
	State                       byte   // as in ps: R, S, D, T, Z, ...
	Own                         bool   // runs as this process's user; only a Table tells
}

// Dead tells whether nothing of the process runs any more; its number is only not yet waited for.
func (p Process) Dead() bool { return p.State == 'Z' || p.State == 'X' }

// Same tells whether q is the same process as p, looked at another time.
func (p Process) Same(q Process) bool { return p.PID == q.PID && p.Started == q.Started }

// Read looks at one process. The error is os.ErrNotExist when there is none.
func Read(pid int) (Process, error) {
	var buf [1024]byte
	return readStat("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
}

func readStat(path string, buf []byte) (Process, error) {
	n, err := readFile(path, buf)
	if err != nil {
		return Process{}, err
	}
	return parseStat(buf[:n])
}

// parseStat reads "pid (name) state ppid pgrp session ... starttime ...". The name may hold spaces and
// brackets, so the rest begins behind the last bracket.
func parseStat(line []byte) (Process, error) {
	var p Process
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 2 || end < open {
		return p, fmt.Errorf("sweep: not a line of /proc/PID/stat: %q", line)
	}
	pid, err := strconv.Atoi(string(line[:open-1]))
	if err != nil {
		return p, fmt.Errorf("sweep: /proc/PID/stat: %w", err)
	}
	p.PID = pid
	fields := bytes.Fields(line[end+1:])
	if len(fields) < 20 {
		return p, fmt.Errorf("sweep: /proc/%d/stat has %d fields", pid, len(fields))
	}
	p.State = fields[0][0]
	for i, to := range []*int{&p.Parent, &p.Group, &p.Session} {
		if *to, err = strconv.Atoi(string(fields[1+i])); err != nil {
			return p, fmt.Errorf("sweep: /proc/%d/stat: %w", pid, err)
		}
	}
	if p.Started, err = strconv.ParseUint(string(fields[19]), 10, 64); err != nil {
		return p, fmt.Errorf("sweep: /proc/%d/stat: %w", pid, err)
	}
	return p, nil
}

// readFile reads the beginning of a small file of /proc without going through the poller.
func readFile(path string, buf []byte) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		if err == unix.ESRCH {
			err = unix.ENOENT
		}
		return 0, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err == unix.ESRCH {
			err = unix.ENOENT
		}
		if err != nil {
			return n, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// Table is a view of all processes that can be brought up to date cheaply. The zero Table is ready.
type Table struct {
	seen   map[int]bool
	others map[int]other // of other users, as they were when they were looked at
	before map[int]other // at the All before this one
}

// other is a process of another user. As long as its entry in /proc is the same one and its parent is
// there, which is another's too, it is no closer to us than it was: it is not read again. So a look costs
// what our own processes cost, and little for those of others, of which a shared node has many.
type other struct {
	inode uint64
	Process
}

// entry is a process in the list of /proc.
type entry struct {
	name  string
	pid   int
	inode uint64
	own   bool
}

// All looks at every process of the node. One that starts or ends meanwhile may be missing.
func (t *Table) All() ([]Process, error) {
	t.seen = make(map[int]bool)
	t.before, t.others = t.others, make(map[int]other, len(t.others))
	return t.New()
}

// New looks at those processes only whose numbers All and New did not meet before.
func (t *Table) New() ([]Process, error) {
	entries, err := t.list()
	if err != nil {
		return nil, err
	}
	same := make(map[int]bool) // others that were looked at before
	for _, e := range entries {
		o, met := t.before[e.pid]
		same[e.pid] = met && !e.own && o.inode == e.inode
	}
	var found []Process
	var buf [1024]byte
	for _, e := range entries {
		o := t.before[e.pid]
		if !same[e.pid] || !same[o.Parent] {
			o.inode = e.inode
			o.Process, err = readStat("/proc/"+e.name+"/stat", buf[:])
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			o.Own = e.own
		}
		if !o.Own {
			t.others[e.pid] = o
		}
		t.seen[e.pid] = true
		found = append(found, o.Process)
	}
	return found, nil
}

// list names the processes that were not seen yet, and whose they are.
func (t *Table) list() ([]entry, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("sweep: list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("sweep: list processes: %w", err)
	}
	if t.seen == nil {
		t.seen, t.others = make(map[int]bool), make(map[int]other)
	}
	fd, user := int(dir.Fd()), uint32(os.Geteuid())
	entries := make([]entry, 0, len(names))
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		pid, err := strconv.Atoi(name)
		if err != nil || t.seen[pid] {
			continue
		}
		var st unix.Stat_t
		if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil { // else it has ended
			entries = append(entries, entry{name, pid, st.Ino, st.Uid == user})
		}
	}
	return entries, nil
}

// Signal sends sig to p and to no later process with its number. It is no error that p is gone.
func (p Process) Signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
	case unix.ESRCH:
		return nil
	default: // a kernel before 5.3, or no descriptor left: looking right before it must do
		fd = -1
	}
	if q, err := Read(p.PID); err != nil || !p.Same(q) {
		return nil
	}
	if fd >= 0 {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if fd < 0 || err == unix.ENOSYS {
		err = unix.Kill(p.PID, sig)
	}
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("sweep: signal process %d: %w", p.PID, err)
	}
	return nil
}
