package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/keeper/sweep"
)

// fork starts a program that was found at path. It runs on the main thread: when that ends, by any
// death of this process, the kernel kills the program (KEEP-1). What a child inherits from its thread or
// parent (CPUs, the preference of the kernel's killer) is set here for the moment of the fork, so that
// there is no time at which the program runs without.
func (k *keeper) fork(p *program, path string) error {
	m := p.launch
	s, err := openStreams(m.Stdin, m.Pty, m.Rows, m.Cols)
	if err != nil {
		return explainExec(path, err)
	}
	defer closeFiles(s.theirs)
	mark := sweep.Mark{NodeKey: k.key, Group: p.key.groupName(), Incarnation: p.key.number, Rank: p.key.rank}
	env := mark.Strings()
	for _, entry := range m.Env {
		if !sweep.Marks(entry) {
			env = append(env, entry)
		}
	}
	cwd := m.Cwd
	if cwd == "" {
		cwd = "/"
	}
	files := make([]uintptr, 3)
	for i := range files {
		files[i] = s.theirs[min(i, len(s.theirs)-1)].Fd()
	}
	unbind, err := bindCPUs(m.Cpus)
	if err != nil {
		closeFiles(s.ours())
		return noExec("%s: %w", path, err)
	}
	k.oom.raise()
	pid, err := syscall.ForkExec(path, m.Argv, &syscall.ProcAttr{
		Dir: cwd, Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: m.Pty, Ctty: 0, Pdeathsig: syscall.SIGKILL},
	})
	k.oom.restore()
	unbind()
	if err != nil {
		closeFiles(s.ours())
		return explainExec(path, err)
	}
	p.pid, p.stdin, p.stdout, p.stderr = pid, s.stdin, s.stdout, s.stderr
	return nil
}

// streams are both sides of a program's standard streams. Ours are non-blocking, for whoever reads them,
// but unknown to this process's poller: the keeper does not want to wake up for output.
type streams struct {
	stdin, stdout, stderr *os.File
	theirs                []*os.File // three, or one for all
}

func (s *streams) ours() (files []*os.File) {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			files = append(files, f)
		}
	}
	return files
}

func openStreams(stdin, pty bool, rows, cols uint16) (s streams, err error) {
	defer func() {
		if err != nil {
			closeFiles(s.ours())
			closeFiles(s.theirs)
		}
	}()
	if pty {
		master, slave, err := openTerminal(rows, cols)
		if err != nil {
			return s, err
		}
		s.stdout, s.theirs = master, []*os.File{slave}
		return s, unix.SetNonblock(int(master.Fd()), true)
	}
	var in *os.File
	if stdin {
		if in, s.stdin, err = pipe("stdin"); err != nil {
			return s, err
		}
	} else if in, err = os.OpenFile(os.DevNull, os.O_RDONLY, 0); err != nil {
		return s, err
	}
	s.theirs = append(s.theirs, in)
	for _, ours := range []**os.File{&s.stdout, &s.stderr} {
		r, w, err := pipe("output")
		if err != nil {
			return s, err
		}
		*ours = r
		s.theirs = append(s.theirs, w)
	}
	for _, f := range s.ours() {
		if err := unix.SetNonblock(int(f.Fd()), true); err != nil {
			return s, err
		}
	}
	return s, nil
}

func pipe(name string) (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// openTerminal makes a pseudo-terminal. The program's side is asked of the kernel by the keeper's side,
// so that it is right in a container with another /dev/pts as well.
func openTerminal(rows, cols uint16) (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("terminal: /dev/ptmx: %w", err)
	}
	master = os.NewFile(uintptr(fd), "terminal")
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("terminal: unlock: %w", err)
	}
	if rows > 0 && cols > 0 {
		if err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
			return nil, nil, fmt.Errorf("terminal: size: %w", err)
		}
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		err = fmt.Errorf("terminal: other side: %w", errno)
		return nil, nil, err
	}
	return master, os.NewFile(peer, "terminal"), nil
}

// bindCPUs binds this thread to cpus, none meaning all that it has, until the function is called.
func bindCPUs(cpus []uint32) (unbind func(), err error) {
	if len(cpus) == 0 {
		return func() {}, nil
	}
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("bind to CPUs: %w", err)
	}
	for _, cpu := range cpus {
		set.Set(int(cpu))
	}
	if set.Count() == 0 {
		return nil, fmt.Errorf("bind to CPUs %v: there are no such", cpus)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("bind to CPUs %v: %w: this node's programs may use %d others", cpus, err, before.Count())
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }, nil
}

// programOOM is by how much programs are preferred to the keeper and its daemons when the kernel has to
// end something for want of memory.
const programOOM = 500

// oomScore changes this process's own preference, which a child inherits at the fork. Everyone may raise
// it, and lower it again to where it was.
type oomScore struct {
	f      *os.File
	before string
	raised string
}

func openOOMScore(log *slog.Logger) (o oomScore) {
	const path = "/proc/self/oom_score_adj"
	data, err := os.ReadFile(filepath.Clean(path))
	if err == nil {
		o.before = strings.TrimSpace(string(data))
		var n int
		if n, err = strconv.Atoi(o.before); err == nil {
			o.raised = strconv.Itoa(min(n+programOOM, 1000))
			o.f, err = os.OpenFile(path, os.O_WRONLY, 0)
		}
	}
	if err != nil {
		log.Warn("programs are not preferred when memory runs out", "error", err)
	}
	return o
}

func (o *oomScore) raise()   { o.write(o.raised) }
func (o *oomScore) restore() { o.write(o.before) }
func (o *oomScore) write(value string) {
	if o.f != nil {
		_, _ = o.f.WriteAt([]byte(value), 0)
	}
}
