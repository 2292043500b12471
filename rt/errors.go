package rt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/maniple-hpc/maniple/rt/internal/session"
)

// ErrCancelled is what a task that was cancelled gives.
var ErrCancelled = errors.New("rt: it was cancelled")

// TaskError is the error that user code returned, or its panic. errors.Is finds in it what RegisterError has named.
type TaskError struct {
	Task      string // its ID
	Type      string // of the error, as %T prints it; "panic" for one
	Message   string
	Traceback string // of a panic; other languages give one for errors, too
	Node      string
	PID       int
	causes    []error
}

func (e *TaskError) Error() string {
	text := fmt.Sprintf("rt: task %s: %s", e.Task, e.Message)
	if e.Traceback != "" {
		text += "\n" + strings.TrimRight(e.Traceback, "\n")
	}
	return text
}

// Unwrap gives the registered errors that the task's error was.
func (e *TaskError) Unwrap() []error { return e.causes }

// WorkerError says that the process of a task died, or could not be started, and that its retries are used up. The text
// has how it ended and where.
type WorkerError struct{ Task, Node, Message string }

func (e *WorkerError) Error() string { return "rt: " + e.Message }

// ActorError says that an actor can't be called: it is dead, or is being made again.
type ActorError struct {
	Actor, Node, Message string
	Dead                 bool // for good; else the call may have run
}

func (e *ActorError) Error() string { return "rt: " + e.Message }

// LostError says that a value is gone.
type LostError struct{ Object, Message string }

func (e *LostError) Error() string { return "rt: " + e.Message }

// GroupError says why a group of bundles is not there, and will not be.
type GroupError struct{ Group, Message string }

func (e *GroupError) Error() string { return "rt: " + e.Message }

// Error is whatever else the runtime has to say. Code is its stable name, as in docs/spec/errors.md.
type Error struct {
	Code, Task, Message string
	err                 error
}

func (e *Error) Error() string { return "rt: " + e.Message }

// Unwrap gives ErrCancelled, or the context's error, for what ended by these.
func (e *Error) Unwrap() error { return e.err }

// outward makes the error that users see of one of the session's.
func outward(err error) error {
	f, ok := err.(*session.Fault)
	if !ok {
		return err
	}
	task := ""
	if !f.Task.IsZero() {
		task = f.Task.String()
	}
	e := &Error{Code: f.Code, Task: task, Message: f.Message, err: f.Err}
	switch f.Code {
	case session.User:
		return &TaskError{Task: task, Type: f.Type, Message: f.Message, Traceback: f.Traceback, Node: f.Node, PID: f.PID, causes: registered(f.Cause)}
	case "CANCELLED":
		e.err = ErrCancelled
	case "TIMEOUT":
		if e.err == nil {
			e.err = context.DeadlineExceeded
		}
	case "WORKER_DIED", "ENVIRONMENT":
		return &WorkerError{Task: task, Node: f.Node, Message: f.Message}
	case "ACTOR_DIED", "ACTOR_UNSCHEDULABLE", "ACTOR_GROUP_REMOVED", "ACTOR_UNAVAILABLE", "NAME_TAKEN":
		return &ActorError{Actor: task, Node: f.Node, Message: f.Message, Dead: f.Code != "ACTOR_UNAVAILABLE"}
	case session.CodeLost, session.CodeOwner, session.CodeRemake:
		return &LostError{Object: task, Message: f.Message}
	}
	return e
}

// known errors are those that travel by their names.
var (
	causesMu sync.Mutex
	byName   = map[string]error{
		"context.Canceled": context.Canceled, "context.DeadlineExceeded": context.DeadlineExceeded, "rt.ErrCancelled": ErrCancelled,
		"io.EOF": io.EOF, "io.ErrUnexpectedEOF": io.ErrUnexpectedEOF, "fs.ErrNotExist": fs.ErrNotExist, "fs.ErrExist": fs.ErrExist, "fs.ErrPermission": fs.ErrPermission,
	}
)

// RegisterError names an error, so that errors.Is finds it in the error of a task that returned it in another process.
// Call it when the program starts; the name is the only one of its kind.
func RegisterError(name string, err error) {
	causesMu.Lock()
	defer causesMu.Unlock()
	if name == "" || strings.Contains(name, "\n") || err == nil || byName[name] != nil {
		panic(fmt.Sprintf("rt: the error %q has no name or is registered twice", name))
	}
	byName[name] = err
}

// causes names the registered errors that err is, one on each line.
func causes(err error) string {
	causesMu.Lock()
	defer causesMu.Unlock()
	var out []string
	for name, known := range byName {
		if errors.Is(err, known) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func registered(names string) (out []error) {
	causesMu.Lock()
	defer causesMu.Unlock()
	for name := range strings.Lines(names) {
		if err := byName[strings.TrimSuffix(name, "\n")]; err != nil {
			out = append(out, err)
		}
	}
	return out
}
