package wire

import "github.com/maniple-hpc/maniple/transport/wire/fb"

// Class is the urgency of a message. A sender with frames of several classes ready sends those of
// the lowest first, so that a large argument never delays a cancel; order is kept within a class.
type Class uint8

const (
	ClassLiveness Class = iota // proof of life and acknowledgements: never wait, never many
	ClassControl               // membership, groups, handshake, cancel: small and seldom
	ClassCalls                 // the hot path: submit, call, result
	ClassData                  // bytes of users: output, input, large replies
	NumClasses                 // how many there are
)

// String is the name that logs and status show.
func (c Class) String() string {
	switch c {
	case ClassLiveness:
		return "liveness"
	case ClassControl:
		return "control"
	case ClassCalls:
		return "calls"
	case ClassData:
		return "data"
	}
	return "class(?)"
}

// ClassOf tells the class that messages of type t travel in. What it does not know is control.
func ClassOf(t Type) Class {
	switch t {
	case fb.FrameTypeAck, fb.FrameTypePing, fb.FrameTypePong:
		return ClassLiveness
	case fb.FrameTypeSubmit, fb.FrameTypeCall, fb.FrameTypeResult, fb.FrameTypeRelease,
		fb.FrameTypeGet, fb.FrameTypeReady, fb.FrameTypeBlocked, fb.FrameTypeUnblocked, fb.FrameTypeSeal:
		return ClassCalls
	case fb.FrameTypeRankOutput, fb.FrameTypeRankInput, fb.FrameTypeStateReply:
		return ClassData
	}
	return ClassControl
}
