package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/maniple-hpc/maniple/launcher/boot"
	"github.com/maniple-hpc/maniple/launcher/spec"
	"github.com/maniple-hpc/maniple/rt/gang"
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

func classify(err error) (name, do string) {
	var flag *spec.FlagError
	var join *boot.JoinError
	var refused *gang.RefusedError
	switch {
	case errors.As(err, &flag):
		return "USAGE", ""
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
		return "REFUSED", ""
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "DISK_FULL", "free some space, or set TMPDIR to another disk"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), textSays(err, "belongs to user", "is open to others", "somebody put it there"):
		return "REFUSED", ""
	case errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EMFILE):
		return "CANNOT_CREATE", ""
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, gang.ErrDead), errors.Is(err, context.DeadlineExceeded):
		return "UNREACHABLE", "`maniple doctor` looks at it"
	}
	return "UNREACHABLE", ""
}

// classifyJoin reads what a node said: its own errors come as text.
func classifyJoin(e *boot.JoinError) (name, do string) {
	switch {
	case e.Timeout > 0:
		return "JOIN_TIMEOUT", "look at " + e.Missing[0] + ", or give more time with --join-timeout"
	case textSays(e, "no space left", "quota exceeded"):
		return "DISK_FULL", "free some space, or set TMPDIR to another disk"
	case textSays(e, "belongs to user", "is open to others", "permission denied", "read-only file system", "somebody put it there"):
		return "REFUSED", ""
	}
	return "NODE_FAILED", ""
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

// line is the message as printed.
func (f *Fault) line() string { return fmt.Sprintf("maniple: %s\n", f.Error()) }
