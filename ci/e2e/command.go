package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Result is what a command did.
type Result struct {
	Stdout, Stderr string
	Code           int // 128+N if signal N ended it
	Took           time.Duration
}

// Env is the environment of the user's login shell; more is added to it.
func (c *Cluster) Env(more ...string) []string {
	return append([]string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + c.Home, "USER=" + c.User, "LOGNAME=" + c.User, "SHELL=/bin/bash", "LANG=C.UTF-8",
		"SLURM_CONF=" + c.Conf, "MANIPLE=" + c.Binary,
		"TORCHINDUCTOR_CACHE_DIR=" + c.Home + "/.cache/inductor", // else torch leaves a folder in each node's /tmp
	}, more...)
}

// Command prepares a command of the user on the login node, in dir, in a session of its own.
func (c *Cluster) Command(ctx context.Context, dir string, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, c.Env()
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Credential: &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID)},
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// Run runs a command of the user and waits for it; it may take limit.
func (c *Cluster) Run(t testing.TB, limit time.Duration, dir string, argv ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r := Do(t, c.Command(ctx, dir, argv...))
	if ctx.Err() != nil {
		t.Fatalf("%s took more than %v\nstdout: %s\nstderr: %s", strings.Join(argv, " "), limit, clip(r.Stdout), clip(r.Stderr))
	}
	return r
}

// Do runs a prepared command.
func Do(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	return Result{stdout.String(), stderr.String(), ExitCode(cmd.ProcessState), time.Since(began)}
}

// ExitCode is the code of an ended process as a shell shows it.
func ExitCode(s *os.ProcessState) int {
	if s == nil {
		return -1
	}
	if ws, ok := s.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return s.ExitCode()
}

// Root runs one of Slurm's programs as the administrator and returns what it prints.
func (c *Cluster) Root(t testing.TB, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+c.Conf)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// Until waits until ok says yes; what names it in the failure. The limit is generous: the machine is
// shared.
func Until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("after %v still not: %s", limit, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Write makes a file of the user's.
func (c *Cluster) Write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, mode)
	if err := os.Chown(path, c.UID, c.GID); err != nil {
		t.Fatal(err)
	}
	return path
}

// Read is a file's text, "" if it is not there.
func Read(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(data)
}
