package wire

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// Version is the version of the wire that this build speaks. Two sides of a connection must speak
// the same one; the handshake refuses any other with RefuseCode WireVersion.
const Version uint16 = 1

// What the wire carries at most. All of them are checked by whoever reads.
const (
	MaxFragment = 64 << 10 // bytes of one frame after its header
	MaxMessage  = 64 << 20 // bytes of one message, body and payload together
	MaxTables   = 1 << 20  // tables in one body
	MaxDepth    = 16       // tables inside tables
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

// Marshal gives the body of m's frames. With a builder the result lies in the builder's memory and
// is good until the builder is used again; with nil it is the caller's own.
func Marshal(b *flatbuffers.Builder, m Message) ([]byte, error) {
	t := typeOf(m)
	if t == fb.FrameTypeNone {
		return nil, fmt.Errorf("wire: marshal: %T is no message; give a pointer to a type that FrameType names", m)
	}
	return marshal(b, t, m)
}

// Unmarshal reads the body of a message of type t. It trusts nothing: the body is verified before
// it is unpacked, and an error (errors.Is ErrMalformed or ErrUnknownType) says where it is wrong.
func Unmarshal(t Type, body []byte) (Message, error) {
	if len(body) > MaxMessage {
		return nil, &DecodeError{Type: t, Why: fmt.Sprintf("%d bytes are more than a message may have", len(body))}
	}
	return unmarshal(t, body)
}
