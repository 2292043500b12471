package gang

import (
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Spec is a gang: programs on bundles. Without a Program it is a bare placement group.
type Spec struct {
	Name        string
	Strategy    fb.Strategy
	Bundles     []*fb.BundleT
	Program     *fb.ProgramT
	MaxRestarts int           // after failures of the program; -1: no bound
	Detached    bool          // lives on without this client
	Wait        time.Duration // give up placing it after this time; 0: wait for ever
}

// Ranks is how many programs the gang has.
func (s *Spec) Ranks() int {
	n := 0
	for _, b := range s.Bundles {
		n += int(b.Ranks)
	}
	return n
}

// Interrupt is a signal by which the user or the system wants something of a run.
type Interrupt syscall.Signal

// Interrupts. What is none of these drains as TERM does.
const (
	Interrupted = Interrupt(syscall.SIGINT)   // Ctrl-C: the first drains, the second stops
	Quit        = Interrupt(syscall.SIGQUIT)  // Ctrl-\: stops
	Terminated  = Interrupt(syscall.SIGTERM)  // drains, and stops when the grace is over; the second stops
	Warned      = Interrupt(syscall.SIGUSR1)  // a site's early warning: as TERM, and its exit code
	HungUp      = Interrupt(syscall.SIGHUP)   // the terminal went away
	Resized     = Interrupt(syscall.SIGWINCH) // the terminal has another size
)

// String is the interrupt's name in messages and reasons: "Ctrl-C", "TERM".
func (i Interrupt) String() string {
	switch i {
	case Interrupted:
		return "Ctrl-C"
	case Quit:
		return `Ctrl-\`
	}
	return strings.TrimPrefix(unix.SignalName(syscall.Signal(i)), "SIG")
}

// Code is the exit code of what it ends.
func (i Interrupt) Code() int {
	if i == Warned {
		i = Terminated
	}
	return 128 + int(i)
}

// IO is where a run's input comes from and its output goes. The zero value has none of either.
type IO struct {
	Stdin  io.Reader // nil: none. Not closed
	Stdout io.Writer // nil: dropped
	Stderr io.Writer // nil: dropped
	// Terminal is the user's terminal, for a program with a pty: put in raw mode meanwhile.
	Terminal *os.File

	Output string // pattern of files for stdout (and stderr, unless Error is set): %j %x %t %N %n %u %%; "": Stdout
	Error  string // pattern of files for stderr; "": as Output, or Stderr
	Append bool   // to files that exist; else they are truncated, but never by a restart of the gang
	Dir    string // that relative patterns start from; "": the working directory
	Job    string // for %j; "": the beginning of the cluster's ID and the group's, since other clusters have a group of that ID too
	User   string // for %u

	Prefix     Prefix
	Interrupts <-chan Interrupt
	Started    func(*fb.GroupUpdateT) // called each time all ranks run
	Notice     func(*fb.NoticeT)      // nil: written to Stderr as "maniple: text"
	Waits      func(bool)             // whether it waits to be placed, when that changes
	Explain    func(string)           // why it waits, when that changes; nil: written to Stderr
}

// Prefix says whether lines on Stdout and Stderr are marked with their rank.
type Prefix uint8

// Kinds of prefixes.
const (
	PrefixAuto   Prefix = iota // with more than one rank
	PrefixAlways               // whole lines also with one rank
	PrefixNever                // bytes as they come
)

// End is how a gang ended.
type End struct {
	Group    id.Task
	Code     int    // exit code to give to the user
	Cause    string // ok, rank, node, cancelled, infeasible, start, drained, port, timeout, lost
	Reason   string // a sentence, for infeasible, lost, ...
	Rank     int    // that failed first; -1: none
	Node     string // where it ran
	Signal   int    // that ended it; 0: none
	Tail     string // its last lines
	Ranks    int
	Restarts int
	Wall     time.Time

	Unwritten error // why not all output is in its files; nil: it is
}
