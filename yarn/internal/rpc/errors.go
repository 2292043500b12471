package rpc

import (
	"errors"
	"fmt"
	"strings"
)

// Detail is the server's own classification of an error.
type Detail int32

// Details that matter to a client.
const (
	DetailApplication  Detail = 1  // thrown by the method
	DetailNoMethod     Detail = 2  // the server is older or newer
	DetailNoProtocol   Detail = 3  // the wrong port
	DetailUnauthorized Detail = 15 // the login failed
)

// RemoteError is an exception that the server threw.
type RemoteError struct {
	Class   string // of Java, in full
	Message string // without class and stack
	Stack   string // the rest of what the server said
	Detail  Detail
	Fatal   bool // the server closed the connection with it

	text string // as it came
}

func (e *RemoteError) Error() string {
	if e.Message == "" {
		return e.Name()
	}
	return e.Name() + ": " + e.Message
}

// Name is the class without its package.
func (e *RemoteError) Name() string {
	return e.Class[strings.LastIndexAny(e.Class, ".$")+1:]
}

// remoteError takes an error response apart. The server's text is often the whole stack.
func remoteError(h responseHeader) *RemoteError {
	text, stack, _ := strings.Cut(h.Message, "\n\tat ")
	text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), h.Class))
	return &RemoteError{
		Class: h.Class, Message: strings.TrimSpace(strings.TrimPrefix(text, ":")), Stack: stack,
		Detail: h.Detail, Fatal: h.Status == statusFatal, text: h.Message,
	}
}

// Classes that say that nothing was done.
const (
	classStandby   = "org.apache.hadoop.ipc.StandbyException"
	classRetriable = "org.apache.hadoop.ipc.RetriableException"
)

// What can go wrong besides a RemoteError, for errors.Is.
var (
	ErrUnreachable = errors.New("the service can't be reached")            // no connection, or it broke
	ErrSilent      = errors.New("no answer in time")                       // our own limit; the server may have acted
	ErrNotHadoop   = errors.New("this is not Hadoop's RPC")                // the wrong port, or another version
	ErrLogin       = errors.New("the login failed")                        // credentials, or no common way to log in
	ErrClosed      = errors.New("the client is closed")                    // after Close
	ErrTooLarge    = errors.New("the request is larger than Hadoop takes") // ipc.maximum.data.length
)

// standby tells whether the server says that another one is active.
func standby(err error) bool {
	var r *RemoteError
	return errors.As(err, &r) && r.Class == classStandby
}

// unanswered tells whether a server did not say what became of the call, so that another one is to be asked.
func unanswered(err error) bool {
	return standby(err) || errors.Is(err, ErrUnreachable) || errors.Is(err, ErrSilent) || errors.Is(err, ErrLogin)
}

// broken is a failure of the connection; what was on it may be tried again.
func broken(err error) error {
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrNotHadoop) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
