package transport

import (
	"fmt"
	"io"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// PreambleSize is the length of a Preamble on the wire.
const PreambleSize = 8

// preambleVersion changes only if the eight bytes themselves do; the wire has its own version.
const preambleVersion = 1

// Preamble is what a connection from outside begins with, in clear, before TLS: which process of
// the node is meant, and for what. The keeper reads it and hands the descriptor on; nothing in it
// is secret or trusted.
//
//	 0       4         5      6         7   8
//	+-------+---------+------+---------+---+
//	| MNPL  | version | role | purpose | 0 |
//	+-------+---------+------+---------+---+
type Preamble struct {
	Role    fb.Role    // Head or Agent: who is wanted
	Purpose fb.Purpose // what for
}

// WritePreamble writes p in one call of Write.
func WritePreamble(w io.Writer, p Preamble) error {
	b := [PreambleSize]byte{'M', 'N', 'P', 'L', preambleVersion, byte(p.Role), byte(p.Purpose), 0}
	if _, err := w.Write(b[:]); err != nil {
		return fmt.Errorf("transport: write preamble: %w", err)
	}
	return nil
}

// ReadPreamble reads exactly PreambleSize bytes. Give the connection a deadline first. What is not
// ours is ErrNotOurs.
func ReadPreamble(r io.Reader) (Preamble, error) {
	var b [PreambleSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Preamble{}, fmt.Errorf("transport: read preamble: %w", err)
	}
	return ParsePreamble(b)
}

// ParsePreamble is the part of ReadPreamble that reads nothing.
func ParsePreamble(b [PreambleSize]byte) (Preamble, error) {
	p := Preamble{Role: fb.Role(b[5]), Purpose: fb.Purpose(b[6])}
	switch {
	case string(b[:4]) != "MNPL":
		return Preamble{}, fmt.Errorf("%w: it begins with % x", ErrNotOurs, b)
	case b[4] != preambleVersion:
		return Preamble{}, fmt.Errorf("%w: preamble of version %d, this build reads %d", ErrNotOurs, b[4], preambleVersion)
	case p.Role != fb.RoleHead && p.Role != fb.RoleAgent:
		return Preamble{}, fmt.Errorf("%w: preamble wants role %d", ErrNotOurs, b[5])
	case p.Purpose > fb.PurposeBulk && p.Purpose != fb.PurposeProbe || b[7] != 0:
		return Preamble{}, fmt.Errorf("%w: preamble with purpose %d and end %d", ErrNotOurs, b[6], b[7])
	}
	return p, nil
}
