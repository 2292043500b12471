package sweep

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

// Keeper is what keeper.json in a node's directory holds.
type Keeper struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
	NodeKey string `json:"node_key"`
	Port    int    `json:"port"`
}

// Alive tells whether that keeper still runs.
func (k Keeper) Alive() bool {
	p, err := Read(k.PID)
	return err == nil && p.Started == k.Started && !p.Dead()
}

// ReadKeeper reads keeper.json of dir.
func ReadKeeper(dir string) (Keeper, error) {
	var k Keeper
	data, err := os.ReadFile(filepath.Join(dir, bootdoc.KeeperName))
	if err != nil {
		return k, fmt.Errorf("sweep: %w", err)
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("sweep: %s: %w", filepath.Join(dir, bootdoc.KeeperName), err)
	}
	return k, nil
}

// patience bounds Sweep: what KILL has not ended by then hangs in the kernel.
const patience = 5 * time.Second

// Sweep ends what the dead keeper with nodeKey left: every process with its mark and what descends from
// such, except the caller; then dir, unless another keeper has it by now (dir "" removes none). known are
// programs as the keeper told of them: their sessions count as marked, for what cleared its environment.
// The number of processes ended is returned; an error names what could not be ended or removed.
func Sweep(nodeKey, dir string, known ...Process) (ended int, err error) {
	if nodeKey == "" {
		return 0, errors.New("sweep: no node key")
	}
	ended, err = endMarked(nodeKey, known)
	if dir != "" {
		err = errors.Join(err, RemoveDir(dir, nodeKey))
	}
	return ended, err
}

func endMarked(nodeKey string, known []Process) (int, error) {
	own, job := os.Getpid(), os.Getenv(envJob)
	started := make(map[int]uint64, len(known))
	for _, p := range known {
		started[p.PID] = p.Started
	}
	leaders := make(map[int]uint64)
	marked := func(p Process) bool {
		if from, ok := started[p.Session]; ok && from <= p.Started {
			// A leader that is there tells whether the session's number was given out again.
			if leader, there := leaders[p.Session]; !there || leader == from {
				return true
			}
		}
		m, ok := ReadMark(p.PID)
		return ok && m.NodeKey == nodeKey && m.job == job
	}
	skip := func(p Process) bool { return p.PID == own }
	met := make(map[Process]bool)
	deadline := time.Now().Add(patience)
	for {
		var t Table
		all, err := t.All()
		if err != nil {
			return len(met), err
		}
		clear(leaders)
		for _, p := range all {
			if p.PID == p.Session {
				leaders[p.PID] = p.Started
			}
		}
		var live []Process
		for _, p := range Closure(all, func(p Process) bool { return !p.Dead() && marked(p) }, skip) {
			if !p.Dead() {
				live = append(live, p)
				met[Process{PID: p.PID, Started: p.Started}] = true
			}
		}
		if len(live) == 0 {
			return len(met), nil
		}
		if time.Now().After(deadline) {
			return len(met), fmt.Errorf("sweep: %d processes of node %s do not end, the first is %d (state %c): it hangs in the kernel; look at its /proc/%d/stack as root", len(live), nodeKey, live[0].PID, live[0].State, live[0].PID)
		}
		_ = Kill(live, all) // what fails is still there in the next round, and is named at the end
		for _, p := range live {
			_ = waitGone(p, 20*time.Millisecond)
		}
	}
}

// lockTime is how long RemoveDir waits for the dead keeper's lock.
const lockTime = 2 * time.Second

// waitGone waits until p has ended, without asking again and again where the kernel can tell.
func waitGone(p Process, most time.Duration) error {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		time.Sleep(time.Millisecond)
		return err
	}
	defer unix.Close(fd)
	if q, err := Read(p.PID); err != nil || !q.Same(p) {
		return nil
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(most/time.Millisecond))
	return err
}

// RemoveDir removes a node's directory if it is the one of the keeper with nodeKey and that keeper or
// nobody holds it, and then those above it that are empty: the cluster's and the user's.
func RemoveDir(dir, nodeKey string) error {
	var lock *os.File
	for deadline := time.Now().Add(lockTime); ; time.Sleep(lockTime / 100) {
		k, err := ReadKeeper(dir)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // removed by somebody else, or another one's that is just being made
		case err != nil:
			return err
		case k.NodeKey != nodeKey:
			return nil
		}
		if lock, err = Lock(dir); err == nil {
			defer lock.Close()
			break
		}
		if k.PID == os.Getpid() {
			break // it is held by ourselves
		}
		// The kernel closes a dead keeper's files one after the other: its agent may be here before the
		// lock is free. Or the next keeper holds it, who will soon have put its own name there.
		if !errors.Is(err, ErrHeld) || time.Now().After(deadline) {
			return err
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("sweep: remove the node's directory: %w", err)
	}
	bootdoc.RemoveEmpty(filepath.Dir(dir))
	return nil
}

// ErrHeld: another living process holds the directory.
var ErrHeld = errors.New("sweep: the directory is held by a living keeper")

// Lock takes a node's directory for this process until the file is closed. The kernel lets go of it
// when the process dies, in whatever pid namespace it ran.
func Lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, fmt.Errorf("%s: %w", dir, ErrHeld)
		}
		return nil, fmt.Errorf("sweep: lock %s: %w", dir, err)
	}
	return f, nil
}
