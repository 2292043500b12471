package wire

import (
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// packing looks a message over before flatbuffers packs it, because the builder panics on what it
// can't pack, and writes nonsense for an element that is nil.
type packing struct {
	bytes  int // what the body takes, at most
	tables int
	why    string
}

func (p *packing) add(inline int) {
	p.tables++
	p.bytes += inline
}

// A string takes its length, its zero byte and padding.
func (p *packing) text(s string) { p.bytes += len(s) + 8 }

func (p *packing) texts(v []string) {
	p.bytes += 8 + 4*len(v)
	for _, s := range v {
		p.text(s)
	}
}

func (p *packing) missing(field string, i int) bool {
	p.why = fmt.Sprintf("%s[%d] is nil", field, i)
	return false
}

func (p *packing) fits() bool {
	switch {
	case p.tables > MaxTables:
		p.why = fmt.Sprintf("more than %d tables", MaxTables)
	// Twice: the bound is not exact. Whether the body is too large is seen once it is packed.
	case p.bytes > 2*MaxMessage:
		p.why = fmt.Sprintf("more than %d bytes", MaxMessage)
	default:
		return true
	}
	return false
}

// marshal is Marshal for a message of type t.
func marshal(b *flatbuffers.Builder, t Type, m Message) ([]byte, error) {
	if n := StructSize(t); n > 0 {
		out := room(b, n)
		putStruct(out, m)
		return out, nil
	}
	var p packing
	if !measure(&p, m) {
		return nil, fmt.Errorf("wire: marshal: %s: %s", t, p.why)
	}
	if b == nil {
		b = flatbuffers.NewBuilder(min(p.bytes+16, MaxMessage))
	}
	b.Reset()
	b.Finish(m.Pack(b))
	body := b.FinishedBytes()
	if len(body) > MaxMessage {
		return nil, fmt.Errorf("wire: marshal: %s: %d bytes are more than %d; send less at once", t, len(body), MaxMessage)
	}
	return body, nil
}

// room gives n bytes in the builder's memory, or new ones.
func room(b *flatbuffers.Builder, n int) []byte {
	if b == nil {
		return make([]byte, n)
	}
	b.Reset()
	b.Prep(8, n)
	b.Pad(n)
	return b.Bytes[b.Head():][:n]
}

func unknown(t Type) error { return fmt.Errorf("wire: type %d: %w", uint16(t), ErrUnknownType) }
