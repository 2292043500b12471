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
	Job     string `json:"job,omitempty"` // the site's, as the environment of its programs names it
	Place
}

// Self is the record of this process as the keeper of a node.
func Self(nodeKey string, port int) (Keeper, error) {
	p, err := Read(os.Getpid())
	if err != nil {
		return Keeper{}, fmt.Errorf("sweep: own start time: %w", err)
	}
	return Keeper{PID: p.PID, Started: p.Started, NodeKey: nodeKey, Port: port, Job: os.Getenv(envJob), Place: here()}, nil
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

// patience bounds Sweep: when so long nothing has ended by KILL, what is left hangs in the kernel.
const patience = 5 * time.Second

// Sweep ends what the dead keeper with nodeKey left: every process with its mark and what descends from
// such, except the caller; then dir, unless another keeper has it by now (dir "" removes none). known are
// programs as the keeper told of them: their sessions count as marked, for what cleared its environment.
// The number of processes ended is returned; an error names what could not be ended or removed.
func Sweep(nodeKey, dir string, known ...Process) (ended int, err error) {
	ended, err = Keeper{NodeKey: nodeKey, Job: os.Getenv(envJob)}.End(known...)
	if dir != "" {
		err = errors.Join(err, RemoveDir(dir, nodeKey))
	}
	return ended, err
}

// End ends the processes that k left; it is Sweep without the directory.
func (k Keeper) End(known ...Process) (int, error) {
	if k.NodeKey == "" {
		return 0, errors.New("sweep: no node key")
	}
	own := os.Getpid()
	started := make(map[int]uint64, len(known))
	for _, p := range known {
		started[p.PID] = p.Started
	}
	leaders := make(map[int]uint64)
	bears := make(map[Process]bool) // the mark
	marked := func(p Process) bool {
		if from, ok := started[p.Session]; ok && from <= p.Started {
			// A leader that is there tells whether the session's number was given out again.
			if leader, there := leaders[p.Session]; !there || leader == from {
				return true
			}
		}
		if !p.Own {
			return false
		}
		id := Process{PID: p.PID, Started: p.Started}
		is, looked := bears[id]
		if looked {
			return is
		}
		environ := readEnviron(p.PID)
		m, ok := parseMark(environ)
		is = ok && m.NodeKey == k.NodeKey && (m.job == k.Job || m.job == "") // "": programs may be spared Slurm's variables
		if len(environ) > 0 {
			bears[id] = is
		}
		return is
	}
	skip := func(p Process) bool { return p.PID == own }
	met := make(map[Process]bool)
	var t Table
	effort := Effort{Patience: patience}
	for {
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
		if effort.Over(time.Now(), len(live)) {
			return len(met), fmt.Errorf("sweep: %d processes of node %s do not end, the first is %d (state %c): it hangs in the kernel; look at its /proc/%d/stack as root", len(live), k.NodeKey, live[0].PID, live[0].State, live[0].PID)
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
	return remove(dir)
}

// remove takes keeper.json away last: who dies over it leaves a directory that is known for a dead one's.
func remove(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != bootdoc.KeeperName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err == nil {
		err = os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("sweep: remove the node's directory: %w", err)
	}
	bootdoc.RemoveEmpty(filepath.Dir(dir))
	return nil
}
