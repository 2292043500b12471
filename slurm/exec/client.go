package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	osexec "os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/slurm"
)

// DefaultTimeout is longer than Slurm's own message timeout (10 s, with a second try), so that Slurm's
// error arrives rather than ours.
const DefaultTimeout = 30 * time.Second

// maxOutput bounds what a program may print: an array of a million tasks.
const maxOutput = 256 << 20

// Client calls Slurm's programs. The zero value works.
type Client struct {
	Environ []string      // of the programs; nil: this process's
	Timeout time.Duration // of a call; 0: DefaultTimeout
	Cache   string        // path of the cache file; "": none
	Now     func() time.Time

	// Shielded keeps SIGTERM from the programs: for whoever asks while Slurm ends its job, which signals
	// every process that it has.
	Shielded bool
}

// start starts a program; a shielded one with SIGTERM blocked from its first instruction on, since the
// thread that forks passes its mask on.
func (c *Client) start(cmd *osexec.Cmd) error {
	if !c.Shielded {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var term, before unix.Sigset_t
	term.Val[0] = 1 << (unix.SIGTERM - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &term, &before); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return cmd.Start()
}

// result is what a program printed.
type result struct {
	stdout, stderr string
}

// run calls a program. What it prints on a failure becomes a *slurm.Error.
func (c *Client) run(ctx context.Context, op string, stdin io.Reader, dir string, argv ...string) (result, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, slurm.ErrTooSlow)
	defer cancel()
	environ := c.environ()
	path, err := lookPath(argv[0], environ)
	if err != nil {
		return result{}, &slurm.Error{
			Op: op, Kind: slurm.ErrMissing, Text: argv[0] + " is not on the PATH",
			Do: "load the site's Slurm module, or log in to a machine of the cluster",
		}
	}
	var stdout, stderr limited
	stdout.left, stderr.left = maxOutput, 1<<20
	cmd := osexec.CommandContext(ctx, path, argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = readable(argv[0], environ), dir, stdin, &stdout, &stderr
	// Its own process group, so that a wrapper script's children go too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err = c.start(cmd); err == nil {
		err = cmd.Wait()
	}
	r := result{stdout.String(), stderr.String()}
	switch {
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), slurm.ErrTooSlow):
		return r, &slurm.Error{
			Op: op, Kind: slurm.ErrTooSlow, Text: fmt.Sprintf("%s gave no answer in %v", argv[0], timeout),
			Do: "the controller is down or busy: `scontrol ping`; look with squeue whether it acted all the same",
		}
	case ctx.Err() != nil:
		return r, context.Cause(ctx)
	case err != nil:
		var exit *osexec.ExitError
		if !errors.As(err, &exit) {
			return r, fmt.Errorf("slurm: %s: start %s: %w", op, path, err)
		}
		e := slurm.ErrorOf(op, r.stderr)
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGPIPE {
			// Slurm's programs leave SIGPIPE alone: whom they spoke to, munged or the controller, hung up.
			return r, &slurm.Error{Op: op, Kind: slurm.ErrUnreachable, Text: "the other side of " + argv[0] + " hung up", Do: "the controller or munged is busy or restarting: try again"}
		}
		if e.Text == "" {
			e.Text = fmt.Sprintf("%s: %v", argv[0], exit)
		}
		return r, e
	}
	return r, nil
}

func (c *Client) environ() []string {
	if c.Environ != nil {
		return c.Environ
	}
	return os.Environ()
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// readable is the environment of a program whose output we read: without what changes its form.
func readable(program string, environ []string) []string {
	var kept []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "SLURM_TIME_FORMAT" || name == "SLURM_JSON" || name == "SLURM_YAML" || name == "SLURM_DEBUG_FLAGS" || name == "LC_ALL":
		case program != "sbatch" && (name == "SLURM_CLUSTERS" || hasPrefix(name, "SINFO_", "SACCT_", "SCONTROL_")):
		default:
			kept = append(kept, kv)
		}
	}
	return append(kept, "LC_ALL=C")
}

func hasPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// lookPath finds a program on the PATH of environ, which need not be this process's.
func lookPath(name string, environ []string) (string, error) {
	path := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v // the last one counts
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			continue // the working directory: never for Slurm's programs
		}
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fs.ErrNotExist
}

// limited keeps the first bytes and drops the rest.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.Buffer.Write(p[:n])
	return len(p), nil
}
