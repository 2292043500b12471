package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
	"github.com/maniple-hpc/maniple/rt/device"
)

// Exit codes of a keeper that ends by itself; otherwise it is the one that the agent said.
const (
	exitUsage   = 64
	exitOS      = 71 // the system refused something that must work
	exitBug     = 70
	exitCreate  = 73
	exitTry     = 75
	exitRefused = 77
	exitConfig  = 78
)

// fault is an error with the name and the exit code under which users and launchers know it.
type fault struct {
	name string
	code int
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// Main is `maniple keeper [--head=yes|no|auto]`. It must be called on the main thread, locked to it.
// It returns the process's exit code.
func Main(args []string) int {
	out := newEvents(os.Stdout)
	defer out.close()
	err := run(args, out)
	if err == nil {
		return 0
	}
	var over *ended
	if errors.As(err, &over) {
		return over.code
	}
	f := &fault{"KEEPER", exitBug, err}
	errors.As(err, &f)
	fmt.Fprintln(os.Stderr, "maniple:", f)
	out.emit(event{Event: "error", Code: f.name, Text: f.Error()})
	out.emit(event{Event: "end", Code: f.code, Reason: f.Error()})
	return f.code
}

// run is Main but for how errors are told.
func run(args []string, out *events) error {
	hosts, err := hostsHead(args)
	if err != nil {
		return &fault{"USAGE", exitUsage, err}
	}
	if unix.Gettid() != os.Getpid() {
		return errors.New("keeper: not on the process's main thread, so that programs could outlive it: main must lock it in init")
	}
	runtime.LockOSThread()
	runtime.GOMAXPROCS(min(2, runtime.NumCPU())) // it moves descriptors about; a node with 192 cores needs no more
	if err := prepare(); err != nil {
		return &fault{"PROCESS", exitOS, err}
	}
	k := &keeper{out: out, hosts: hosts, limits: device.RaiseLimits(), posts: make(chan func(), 256), done: make(chan struct{})}
	k.signals = make(chan os.Signal, 16)
	k.children = make(chan os.Signal, 1)
	signal.Notify(k.signals, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1, unix.SIGHUP, unix.SIGPIPE)
	signal.Notify(k.children, unix.SIGCHLD)
	defer signal.Stop(k.signals)
	defer signal.Stop(k.children)
	signal.Notify(make(chan os.Signal, 1), ignored()...)

	lines := make(chan []byte)
	go k.readLines(os.Stdin, lines)
	var first []byte
	for first == nil {
		select {
		case line, ok := <-lines:
			if !ok {
				return &fault{"BOOT_DOC", exitConfig, errors.New("keeper: no boot document on standard input; maniple starts keepers itself, see maniple up --help")}
			}
			first = line
		case s := <-k.signals:
			if s == unix.SIGTERM || s == unix.SIGINT {
				return &fault{"SIGNAL", 128 + int(s.(unix.Signal)), fmt.Errorf("keeper: %s before the boot document came", s)}
			}
		}
	}
	if k.doc, err = bootdoc.Parse(first); err != nil {
		return &fault{"BOOT_DOC", exitConfig, err}
	}
	return k.run(lines)
}

func hostsHead(args []string) (bool, error) {
	mode := "no"
	for _, arg := range args {
		value, ok := strings.CutPrefix(arg, "--head=")
		if !ok {
			return false, fmt.Errorf("keeper: unknown argument %q; it takes --head=yes, no or auto", arg)
		}
		mode = value
	}
	switch mode {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	case "auto": // the first task of the step
		return os.Getenv("SLURM_PROCID") == "0", nil
	}
	return false, fmt.Errorf("keeper: --head=%s: it is yes, no or auto", mode)
}

// prepare sets the properties of the process that its children depend on.
func prepare() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("keeper: become the parent of orphans: %w", err)
	}
	if err := CloseOnExec(); err != nil {
		return err
	}
	// A program gets the mask of this thread.
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil); err != nil {
		return fmt.Errorf("keeper: unblock signals: %w", err)
	}
	return nil
}

// CloseOnExec keeps descriptors that this process inherited from all that it starts: a lock or a pipe of the user's
// shell would else stay open as long as the cluster.
func CloseOnExec() error {
	if unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	dir, err := os.Open("/proc/self/fd") // by hand before Linux 5.11
	if err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		var fd int
		if n, _ := fmt.Sscan(name, &fd); n == 1 && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// ignored lists the signals that this process was started with ignored (a shell does so to background
// jobs, nohup to all). Asking to be notified is what makes them default again in programs.
func ignored() (found []os.Signal) {
	data, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(data), "\n") {
		var mask uint64
		if n, _ := fmt.Sscanf(line, "SigIgn: %x", &mask); n == 1 {
			for s := 1; s <= 31; s++ {
				if mask&(1<<(s-1)) != 0 && unix.Signal(s) != unix.SIGCHLD {
					found = append(found, unix.Signal(s))
				}
			}
		}
	}
	if len(found) == 0 {
		found = append(found, unix.SIGPIPE) // Notify without signals would mean all
	}
	return found
}

// ended is how a node ended in order.
type ended struct {
	code   int
	reason string
}

func (e *ended) Error() string { return e.reason }

// Bounds of what may be there at once, and of waiting.
const (
	maxPrograms = 8192
	maxHeld     = 4096
	maxHalfOpen = 64
	maxWaiting  = 64
	maxQueue    = 1024 // frames to a daemon that it has not read
	maxLine     = 16 << 20

	helloTime   = 5 * time.Second  // for a preamble
	waitingTime = 5 * time.Second  // of a connection for its daemon's restart
	lookupTime  = 10 * time.Second // for the file system to show a program
	killTime    = 10 * time.Second // in which KILL ends something, before the keeper goes on without
)
