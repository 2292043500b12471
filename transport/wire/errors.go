package wire

import (
	"errors"
	"fmt"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var (
	// ErrMalformed is what every DecodeError is: the peer sent bytes that no honest sender of this
	// version writes. The connection that they came on is of no further use.
	ErrMalformed = errors.New("malformed")
	// ErrUnknownType is the error for a frame type that this build does not have.
	ErrUnknownType = errors.New("unknown frame type")
)

// DecodeError tells which part of a header or body was refused, and why.
type DecodeError struct {
	Type  Type   // of the message; None for a header
	Where string // table and field, "" for the whole
	Why   string
}

func (e *DecodeError) Error() string {
	s := "wire: malformed "
	if e.Type == 0 {
		s += "header"
	} else {
		s += e.Type.String()
	}
	if e.Where != "" {
		s += ": " + e.Where
	}
	return s + ": " + e.Why
}

// Is makes every DecodeError an ErrMalformed.
func (e *DecodeError) Is(target error) bool { return target == ErrMalformed }

func wrongLength(name string, have, want int) error {
	return &DecodeError{Type: fb.EnumValuesFrameType[name], Where: name, Why: fmt.Sprintf("%d bytes, a struct of %d is wanted", have, want)}
}
