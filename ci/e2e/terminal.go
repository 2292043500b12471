package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a shell of the user's on a terminal of its own: what a person types into.
type Terminal struct {
	cmd    *exec.Cmd
	master *os.File
	count  int
	done   chan struct{} // closed when the reader has ended

	mu  sync.Mutex
	out bytes.Buffer
}

// Terminal opens argv (which ends in a shell) on a new terminal.
func (c *Cluster) Terminal(t testing.TB, dir string, argv ...string) *Terminal {
	t.Helper()
	master, slave, err := openTerminal()
	if err != nil {
		t.Fatal(err)
	}
	cmd := c.Command(context.WithoutCancel(t.Context()), dir, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	cmd.Env = append(cmd.Env, "PS1=", "PS2=", "TERM=dumb", "BASH_SILENCE_DEPRECATION_WARNING=1", "HISTFILE=")
	err = cmd.Start()
	slave.Close()
	if err != nil {
		master.Close()
		t.Fatal(err)
	}
	s := &Terminal{cmd: cmd, master: master, done: make(chan struct{})}
	go s.read()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
			cmd.Process.Kill()
			cmd.Wait()
		}
		master.Close()
		<-s.done
	})
	return s
}

func (s *Terminal) read() {
	defer close(s.done)
	buf := make([]byte, 4096)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.out.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Text is all that the terminal showed, with plain line ends.
func (s *Terminal) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.out.String(), "\r\n", "\n")
}

// Type sends keys.
func (s *Terminal) Type(t testing.TB, keys string) {
	t.Helper()
	if _, err := s.master.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// Line types a command and waits for its end; it returns what it printed and its exit code.
func (s *Terminal) Line(t testing.TB, limit time.Duration, command string) (out string, code int) {
	t.Helper()
	s.count++
	begin, end := fmt.Sprintf("<begin %d>", s.count), fmt.Sprintf("<end %d ", s.count)
	defer func() {
		if t.Failed() {
			t.Logf("the terminal shows:\n%s", s.Text())
		}
	}()
	// The marks are written in pieces, so that the terminal's echo of the line is none of them.
	s.Type(t, fmt.Sprintf("echo '<''begin %d>'; %s; echo '<''end %d '$?'>'\n", s.count, command, s.count))
	Until(t, limit, fmt.Sprintf("the end of %q in the terminal", command), func() bool {
		_, after, ok := strings.Cut(s.Text(), end)
		if !ok && s.ended() {
			t.Fatalf("the shell ended; the terminal shows:\n%s", s.Text())
		}
		return ok && strings.Contains(after, ">")
	})
	text := s.Text()
	_, text, _ = strings.Cut(text, begin)
	out, text, _ = strings.Cut(text, end)
	fmt.Sscanf(text, "%d>", &code)
	return strings.TrimSpace(out), code
}

func (s *Terminal) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Close ends the shell and waits for it.
func (s *Terminal) Close(t testing.TB) {
	t.Helper()
	s.Type(t, "exit\n")
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Errorf("the shell does not end; the terminal shows:\n%s", s.Text())
		s.cmd.Process.Kill()
		<-ended
	}
}

func openTerminal() (master, slave *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open /dev/ptmx: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		unix.Close(fd)
		return nil, nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	unix.SetNonblock(fd, true) // so that Close ends a Read
	name := fmt.Sprintf("/dev/pts/%d", n)
	slave, err = os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		unix.Close(fd)
		return nil, nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave, nil
}
