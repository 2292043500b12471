package wire

import (
	"encoding/binary"
	"strconv"
)

// Header is what every frame begins with, in little-endian order:
//
//	 0        4        8     10  11  12        16                24                32
//	+--------+--------+-----+---+---+---------+-----------------+-----------------+
//	| length | body   |type |cls|flg| message | seq             | corr            |
//	+--------+--------+-----+---+---+---------+-----------------+-----------------+
type Header struct {
	Length  uint32 // bytes of the frame after the header
	Body    uint32 // how many of them belong to the flatbuffer; the rest is payload
	Type    Type
	Class   Class
	Flags   uint8
	Message uint32 // the same in all fragments of one message; on a work connection the agent's place
	Seq     uint64 // number of the frame in its session, 0: not part of a session
	Corr    uint64 // ties a reply to its query, 0: none
}

// More tells whether further fragments of the message follow.
func (h Header) More() bool { return h.Flags&FlagMore != 0 }

// PutHeader writes h to the first HeaderSize bytes of b, which must be there.
func PutHeader(b []byte, h Header) {
	_ = b[HeaderSize-1]
	binary.LittleEndian.PutUint32(b[0:], h.Length)
	binary.LittleEndian.PutUint32(b[4:], h.Body)
	binary.LittleEndian.PutUint16(b[8:], uint16(h.Type))
	b[10] = uint8(h.Class)
	b[11] = h.Flags
	binary.LittleEndian.PutUint32(b[12:], h.Message)
	binary.LittleEndian.PutUint64(b[16:], h.Seq)
	binary.LittleEndian.PutUint64(b[24:], h.Corr)
}

// ParseHeader reads the header at the start of b. It refuses one that no sender of this version
// writes; a type that this build does not know is not an error here but in Unmarshal.
func ParseHeader(b []byte) (Header, error) {
	return parseHeader(b, MaxFragment, FlagMore)
}

// ParseWorkHeader is ParseHeader for a work connection: its frames are never cut, belong to no session, and
// the body of a struct has its length. Message is free for a hint there, which may be any number.
func ParseWorkHeader(b []byte) (Header, error) {
	h, err := parseHeader(b, MaxMessage, FlagDescriptor)
	if err != nil {
		return h, err
	}
	switch n := StructSize(h.Type); {
	case h.Seq != 0:
		return malformed("seq", h.Seq, "belongs to a session, which this connection has not")
	case n > 0 && h.Body != uint32(n):
		return Header{}, wrongLength(h.Type.String(), int(h.Body), n)
	}
	return h, nil
}

func parseHeader(b []byte, most uint32, flags uint8) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, &DecodeError{Why: strconv.Itoa(len(b)) + " bytes are less than a header"}
	}
	h := Header{
		Length:  binary.LittleEndian.Uint32(b[0:]),
		Body:    binary.LittleEndian.Uint32(b[4:]),
		Type:    Type(binary.LittleEndian.Uint16(b[8:])),
		Class:   Class(b[10]),
		Flags:   b[11],
		Message: binary.LittleEndian.Uint32(b[12:]),
		Seq:     binary.LittleEndian.Uint64(b[16:]),
		Corr:    binary.LittleEndian.Uint64(b[24:]),
	}
	switch {
	case h.Length > most:
		return malformed("length", uint64(h.Length), "is more than a frame may have")
	case h.Body > h.Length:
		return malformed("body", uint64(h.Body), "is more than the length of the frame")
	case h.Type == 0:
		return malformed("type", 0, "names no message")
	case h.Class >= NumClasses:
		return malformed("class", uint64(h.Class), "is no class")
	case h.Flags&^flags != 0:
		return malformed("flags", uint64(h.Flags), "has bits that mean nothing here")
	}
	return h, nil
}

func malformed(field string, v uint64, why string) (Header, error) {
	return Header{}, &DecodeError{Where: field, Why: strconv.FormatUint(v, 10) + " " + why}
}
