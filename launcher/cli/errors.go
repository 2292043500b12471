package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
	"github.com/maniple-hpc/maniple/slurm"
)

// Fault is an error that knows its exit code and what to do about it.
type Fault struct {
	Name string // of ErrorCodes
	What string // the command or flag
	Why  string
	Do   string
	Err  error // for errors.Is; not printed

	silent bool // it was said already
	code   int
}

func (f *Fault) Error() string {
	s := f.What
	if f.Why != "" {
		s += ": " + f.Why
	}
	if f.Do != "" {
		s += "; " + f.Do
	}
	return s
}

func (f *Fault) Unwrap() error { return f.Err }

// exitOnly ends the command with a code and no message.
func exitOnly(code int) error { return &Fault{silent: true, code: code} }

func usage(what, why, do string) error { return &Fault{Name: "USAGE", What: what, Why: why, Do: do} }

// faultOf turns any error of a command into a Fault; what is the command.
func faultOf(what string, err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	name, do := classify(err)
	// "boot: x: y; z" of an inner room reads as "run: x: y; z".
	text := plain(err)
	if strings.Contains(text, "; ") {
		do = "" // it says so itself
	}
	return &Fault{Name: name, What: what, Why: text, Do: do, Err: err}
}

// plain is an error's text without the name of the room that it is from.
func plain(err error) string {
	text := err.Error()
	for _, room := range []string{"boot: ", "bootdoc: ", "local: ", "gang: ", "head: ", "transport: "} {
		text = strings.TrimPrefix(text, room)
	}
	return text
}

const (
	doDoctor = "`maniple doctor` looks at it"
	doSpace  = "free some space, or set TMPDIR to another disk"
	doOwn    = "set TMPDIR and XDG_STATE_HOME to directories of your own"
	doReport = "report it with the text"
)

// classify names the class of an error, and what to do if the error does not say. What is of no class is
// our bug: whoever adds an error adds its class.
func classify(err error) (name, do string) {
	var flag *spec.FlagError
	var join *boot.JoinError
	var refused *gang.RefusedError
	var site *slurm.Error
	var network *net.OpError
	var broken *json.SyntaxError
	var system syscall.Errno
	switch {
	case errors.As(err, &flag):
		return "USAGE", "see the command's --help"
	case errors.Is(err, boot.ErrNone):
		return "NO_CLUSTER", "start one with `maniple up`, or name it with --cluster"
	case errors.Is(err, boot.ErrUp):
		return "CLUSTER_UP", "end it with `maniple down`, or give this one another --cluster"
	case errors.As(err, &join):
		return classifyJoin(join)
	case errors.As(err, &refused):
		switch refused.Code {
		case gang.RefusedVersion:
			return "VERSION", "use the same maniple everywhere"
		case gang.RefusedDraining:
			return "DRAINING", "bring up another cluster"
		}
		return "REFUSED", "it is another cluster's, or another user's: `maniple status` lists yours"
	case errors.As(err, &site):
		return classOfSlurm(err), doDoctor
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "DISK_FULL", doSpace
	case errors.As(err, &network), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, gang.ErrDead), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "UNREACHABLE", doDoctor
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), textSays(err, "belongs to user", "is open to others", "somebody put it there"):
		return "REFUSED", doOwn
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE):
		return "CANNOT_CREATE", "end other programs, or raise the limits (`ulimit -a`)"
	case errors.As(err, &system), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), textSays(err, "boot: no directory for", "no directory for this node's files", "output file"):
		return "CANNOT_CREATE", "look at the path that it names"
	case textSays(err, "is neither the path of a socket", "not in a Slurm job"):
		return "USAGE", doDoctor
	case textSays(err, "this maniple knows"):
		return "VERSION", "use the same maniple everywhere"
	case errors.As(err, &broken), textSays(err, "can't be used as the node's name", "slurm: environment: "):
		return "CONFIG", doDoctor
	case textSays(err, "slurm: ", "local: ", "gang: ", "transport: "): // the rooms that start nodes and reach them
		return "UNREACHABLE", doDoctor
	}
	return "BUG", doReport
}

// overWire is the fault of an exchange with a cluster: what is of no class of its own is a cluster that
// does not answer.
func overWire(what, of string, err error) *Fault {
	f := &Fault{Name: "UNREACHABLE", What: what, Why: of + plain(err), Do: doDoctor, Err: err}
	if name, do := classify(err); name != "CANNOT_CREATE" && name != "BUG" {
		f.Name, f.Do = name, do
	}
	if strings.Contains(f.Why, "; ") {
		f.Do = "" // it says so itself
	}
	return f
}

// classifyJoin reads what a node said: its own errors come as text.
func classifyJoin(e *boot.JoinError) (name, do string) {
	switch {
	case e.Timeout > 0:
		return "JOIN_TIMEOUT", "look at " + e.Missing[0] + ", or give more time with --join-timeout"
	case textSays(e, "is kept by process"):
		return "CLUSTER_UP", "end it with `maniple down`, or give this one another --cluster"
	case textSays(e, "the node's port: "):
		return "CANNOT_CREATE", "give ports that are free, and above 1023, with --port-range"
	case textSays(e, "ulimit -u"):
		return "CANNOT_CREATE", "end other programs, or raise the limits (`ulimit -a`)"
	case textSays(e, "no space left", "quota exceeded"):
		return "DISK_FULL", doSpace
	case textSays(e, "belongs to user", "is open to others", "permission denied", "read-only file system", "somebody put it there"):
		return "REFUSED", doOwn
	}
	return "NODE_FAILED", "`maniple doctor` there says what is wrong with the node"
}

func textSays(err error, any ...string) bool {
	text := err.Error()
	for _, s := range any {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// exitCode is the table's.
func (f *Fault) exitCode() int {
	if f.Name == "" {
		return f.code
	}
	for _, row := range ErrorCodes {
		if row.Name == f.Name {
			return row.Exit
		}
	}
	return ExitBug
}

// record is the error for programs, the last line of standard output.
func (f *Fault) record() any {
	return struct {
		Version int    `json:"version"`
		Event   string `json:"event"`
		Code    string `json:"code"`
		Exit    int    `json:"exit_code"`
		What    string `json:"what"`
		Why     string `json:"why"`
		Do      string `json:"do,omitempty"`
	}{1, "error", f.Name, f.exitCode(), f.What, f.Why, f.Do}
}

// line is the message as printed.
func (f *Fault) line() string { return fmt.Sprintf("maniple: %s\n", f.Error()) }
