package objstore

import (
	"errors"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/id"
)

var (
	// ErrUnknown: no such object, process, slab or arena here; a message may have crossed its end.
	ErrUnknown = errors.New("unknown here")
	// ErrForbidden: the process has no right to that; its connection is of no use any more.
	ErrForbidden = errors.New("not its right")
	// ErrShort, as the cause of a GrowFailed: the node's memory is short now, and Bound says so; who waits goes on waiting.
	ErrShort = errors.New("the node's memory is short")
	// ErrExists: an object has one value for ever, and it is here already.
	ErrExists = errors.New("exists")
)

// FullError says that a request did not get memory, and who has it.
type FullError struct {
	Process   id.Process
	Size      int64  // bytes asked for
	Withdrawn bool   // its process does not want it any more
	Never     bool   // no waiting would help: it is more than the store may ever hold
	Disk      error  // why nothing more could be written to files; nil: nothing was tried, or it worked
	Writing   int64  // bytes that were on their way to files: who takes them may be slow, or hang
	Cause     error  // what the system said when it was asked for memory; nil: it was not the system
	Waited    int64  // nanoseconds
	Holders   string // Explanation.Text at that moment
}

func (e *FullError) Error() string {
	who := ProcessName(e.Process)
	switch {
	case e.Withdrawn:
		return fmt.Sprintf("objstore: %s wanted %s, and does not any more", who, Bytes(e.Size))
	case e.Never:
		return fmt.Sprintf("objstore: %s wants %s: more than this node's store may ever hold: %s; make smaller objects, or give the store more memory",
			who, Bytes(e.Size), e.Holders)
	case e.Cause != nil:
		return fmt.Sprintf("objstore: %s wants %s: the system gave no memory: %v: %s; lower the store's budget to what the node has",
			who, Bytes(e.Size), e.Cause, e.Holders)
	}
	if e.Disk != nil {
		return fmt.Sprintf("objstore: %s wants %s: the store is full, and what lies in it could not be spilled for %.3g s: %v: %s; drop references and views, or give it a directory with more room (--object-spilling-directory)",
			who, Bytes(e.Size), float64(e.Waited)/1e9, e.Disk, e.Holders)
	}
	if e.Writing > 0 {
		return fmt.Sprintf("objstore: %s wants %s: the store is full, and in %.3g s %s of it could not be written to files: that disk or server (--object-spilling-directory) is slow, or hangs: %s; drop references and views, or give the store more memory",
			who, Bytes(e.Size), float64(e.Waited)/1e9, Bytes(e.Writing), e.Holders)
	}
	return fmt.Sprintf("objstore: %s wants %s: the store is full, and %.3g s made no room: %s; drop references and views, or give the store more memory",
		who, Bytes(e.Size), float64(e.Waited)/1e9, e.Holders)
}

func (e *FullError) Unwrap() []error { return []error{e.Cause, e.Disk} }
