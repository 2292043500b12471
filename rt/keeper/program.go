package keeper

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// program is one rank, from its launch until the agent forgets it.
type program struct {
	key     key
	launch  *fb.ProgramLaunchT
	phase   fb.RankPhase
	pid     int
	started uint64

	// The keeper's ends of its streams, so that the next agent can have them. A terminal is stdout alone.
	stdin, stdout, stderr *os.File

	// Once it ended.
	code, sig int32
	core      bool
	failure   string // it could not be started
	wall      int64
	rss, cpu  uint64

	// Ending its tree (trees.go).
	signals []unix.Signal // to be sent to all of it
	killAt  time.Time     // then KILL to all of it; zero: not yet
	checkAt time.Time     // ended: when to look for what is left
	clean   bool          // ended: nothing is left
	termed  bool          // ended: what was left was asked to go
	lost    bool          // forgotten by the agent: goes when it is clean
}

func (p *program) live() bool { return p.phase != fb.RankPhaseEnded }

// state is what the agent is told of it. Descriptors come along only where files says so.
func (p *program) state() *fb.ProgramStateT {
	group := p.key.group
	return &fb.ProgramStateT{
		Group: &group, Incarnation: p.key.number, Rank: p.key.rank, Phase: p.phase,
		Pid: uint32(p.pid), Started: p.started, Code: p.code, Signal: p.sig, Core: p.core, Error: p.failure,
		MaxRss: p.rss, CpuTime: p.cpu, Stdin: p.stdin != nil, Pty: p.launch.Pty, Wall: p.wall,
	}
}

// files are its descriptors in the order in which they are told.
func (p *program) files() (files []*os.File) {
	for _, f := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if f != nil {
			files = append(files, f)
		}
	}
	return files
}

// launch starts a program, or tells again how the one of that key is doing.
func (k *keeper) launch(m *fb.ProgramLaunchT) {
	name := keyOf(m.Group, m.Incarnation, m.Rank)
	if p := k.programs[name]; p != nil {
		if p.phase != fb.RankPhaseStarting {
			k.agent.send(p.state(), p.files()...)
		}
		return
	}
	p := &program{key: name, launch: m, phase: fb.RankPhaseStarting}
	k.programs[name] = p
	k.order = append(k.order, p)
	switch {
	case k.stop != nil:
		k.refuse(p, codeNoExec, "keeper: the node "+k.name+" ends: "+k.stop.reason)
	case len(k.order) > maxPrograms:
		k.refuse(p, codeNoExec, fmt.Sprintf("keeper: %d programs are on %s already; the bound is %d", len(k.order)-1, k.name, maxPrograms))
	case len(m.Argv) == 0 || m.Argv[0] == "":
		k.refuse(p, codeNotFound, "keeper: no program is named")
	default:
		k.readers.Add(1)
		go func() { // a file system that hangs must not hang the node
			defer k.readers.Done()
			path, err := lookup(m.Argv[0], m.Env, m.Cwd, k.done)
			k.post(func() { k.lookedUp(p, path, err) })
		}()
	}
}

// lookedUp starts the program that was found.
func (k *keeper) lookedUp(p *program, path string, err error) {
	if p.phase != fb.RankPhaseStarting {
		return // stopped meanwhile
	}
	if k.stop != nil {
		k.refuse(p, codeNoExec, "keeper: the node "+k.name+" ends: "+k.stop.reason)
		return
	}
	if err == nil {
		err = k.fork(p, path)
	}
	if err != nil {
		code := int32(codeNoExec)
		if bad, ok := err.(*startError); ok {
			code = bad.code
		}
		k.refuse(p, code, err.Error())
		return
	}
	p.phase = fb.RankPhaseRunning
	p.wall = time.Now().UnixNano()
	if self, err := sweep.Read(p.pid); err == nil { // it is not reaped yet, so it is there
		p.started = self.Started
	}
	k.pids[p.pid] = p
	k.log.Info("program started", "program", p.key.String(), "pid", p.pid)
	k.agent.send(p.state(), p.files()...)
}

// refuse ends a program that never ran.
func (k *keeper) refuse(p *program, code int32, why string) {
	p.phase, p.code, p.failure, p.wall, p.clean = fb.RankPhaseEnded, code, why, time.Now().UnixNano(), true
	k.log.Info("program not started", "program", p.key.String(), "error", why)
	k.agent.send(p.state())
}

// reap takes all children that ended: programs, daemons, and orphans that became ours.
func (k *keeper) reap() {
	for {
		var status unix.WaitStatus
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, &usage)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		switch p := k.pids[pid]; {
		case p != nil:
			k.exited(p, status, &usage)
		case k.agent.child != nil && k.agent.child.pid == pid:
			k.agent.exited(k.agent.child, status)
		case k.head != nil && k.head.child != nil && k.head.child.pid == pid:
			k.head.exited(k.head.child, status)
		default:
			k.treesStir()
		}
	}
}

// exited: the program's own process ended. What it left is seen to by trees.
func (k *keeper) exited(p *program, status unix.WaitStatus, usage *unix.Rusage) {
	delete(k.pids, p.pid)
	p.phase, p.wall = fb.RankPhaseEnded, time.Now().UnixNano()
	if status.Signaled() {
		p.sig, p.core = int32(status.Signal()), status.CoreDump()
	} else {
		p.code = int32(status.ExitStatus())
	}
	p.rss = uint64(usage.Maxrss) << 10
	p.cpu = uint64(usage.Utime.Nano() + usage.Stime.Nano())
	k.closeInput(p)
	p.checkAt = time.Now().Add(settle)
	k.log.Info("program ended", "program", p.key.String(), "pid", p.pid, "how", describe(status))
	k.agent.send(p.state())
}

// signal does what ProgramSignal asks.
func (k *keeper) signal(p *program, m *fb.ProgramSignalT) {
	sig := unix.Signal(m.Signal)
	switch {
	case m.Signal == 0 && !m.Tree:
		k.closeInput(p)
	case m.Signal < 0 || m.Signal > 64:
		k.log.Warn("no such signal", "program", p.key.String(), "signal", m.Signal)
	case p.phase == fb.RankPhaseStarting:
		if m.Tree {
			p.sig = m.Signal
			k.refuse(p, 0, "keeper: stopped before it was started")
		}
	case !m.Tree:
		if p.live() {
			_ = unix.Kill(p.pid, sig) // not reaped, so the number is still its own
		}
	default:
		if sig != 0 && sig != unix.SIGKILL {
			p.signals = append(p.signals, sig)
		}
		at := time.Now()
		if sig != unix.SIGKILL {
			at = at.Add(time.Duration(max(m.Grace, 0)))
		}
		p.killBy(at)
	}
}

func (k *keeper) closeInput(p *program) {
	if p.stdin != nil {
		k.agent.retire(p.stdin)
		p.stdin = nil
	}
}

// killBy has the whole tree killed at t, or at an earlier time that was named before.
func (p *program) killBy(t time.Time) {
	if p.killAt.IsZero() || t.Before(p.killAt) {
		p.killAt = t
	}
}

// forget: the agent needs nothing of it any more.
func (k *keeper) forget(p *program) {
	if p.live() {
		k.log.Warn("a program that runs is not forgotten", "program", p.key.String())
		return
	}
	k.agent.retire(p.files()...)
	p.stdin, p.stdout, p.stderr = nil, nil, nil
	delete(k.programs, p.key)
	p.lost = true
	for i, q := range k.order {
		if q == p {
			k.order = append(k.order[:i], k.order[i+1:]...)
			break
		}
	}
	if !p.clean {
		k.trees.lost = append(k.trees.lost, p)
	}
}

// resize tells a program's terminal its size.
func (p *program) resize(rows, cols uint16) {
	if p.launch.Pty && p.stdout != nil {
		_ = unix.IoctlSetWinsize(int(p.stdout.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	}
}

// groupName is the group in the form in which users see it.
func (k key) groupName() string {
	return id.Task{Agent: id.Agent(k.group.Agent), Process: id.Process(k.group.Process), Counter: k.group.Counter}.String()
}
