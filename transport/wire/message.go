package wire

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Type is the number of a kind of message; a constant fb.FrameTypeX stands for fb.XT.
type Type = fb.FrameType

// Message is a pointer to one of the object types of package fb that has a Type.
type Message interface {
	Pack(*flatbuffers.Builder) flatbuffers.UOffsetT
}

// TypeOf tells the type of m, or fb.FrameTypeNone if m is nil or no message of its own (a
// *fb.ResourceT is only ever part of one).
func TypeOf(m Message) Type { return typeOf(m) }

// New gives an empty message of type t, its IDs in place, or nil if there is no such type.
func New(t Type) Message { return newMessage(t) }

// Marshal gives the body of m's frames. With a builder the result lies in the builder's memory and
// is good until the builder is used again; with nil it is the caller's own.
func Marshal(b *flatbuffers.Builder, m Message) ([]byte, error) {
	t := typeOf(m)
	if t == fb.FrameTypeNone {
		return nil, fmt.Errorf("wire: marshal: %T is no message, or nil; give a pointer to a type that FrameType names", m)
	}
	return marshal(b, t, m)
}

// Unmarshal reads the body of a message of type t. It trusts nothing: the body is verified before
// it is unpacked, and an error (errors.Is ErrMalformed or ErrUnknownType) says where it is wrong.
func Unmarshal(t Type, body []byte) (Message, error) { return unmarshal(t, body) }
