package wire

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// layout finds the parts of a body whose root table has a string in its first field.
type layout struct{ root, vtable, field, text int }

func find(b []byte) layout {
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	l := layout{root: u32(0)}
	l.vtable = l.root - int(int32(u32(l.root)))
	l.field = l.root + int(binary.LittleEndian.Uint16(b[l.vtable+4:]))
	l.text = l.field + u32(l.field)
	return l
}

// Each rule of docs/spec/wire.md, section 9, on a body that breaks it and no other.
func TestVerifierRules(t *testing.T) {
	u16 := func(b []byte, at, v int) { binary.LittleEndian.PutUint16(b[at:], uint16(v)) }
	u32 := func(b []byte, at, v int) { binary.LittleEndian.PutUint32(b[at:], uint32(v)) }
	for _, c := range []struct {
		name string
		edit func(b []byte, l layout)
		why  string
	}{
		{"as written", func([]byte, layout) {}, ""},
		{"root unaligned", func(b []byte, l layout) { u32(b, 0, l.root+1) }, "Goodbye: table at"},
		{"root outside", func(b []byte, l layout) { u32(b, 0, len(b)) }, "Goodbye: table at"},
		{"root far outside", func(b []byte, l layout) { u32(b, 0, -4) }, "Goodbye: table at"},
		{"vtable before the body", func(b []byte, l layout) { u32(b, l.root, l.root+4) }, "vtable at"},
		{"vtable behind the body", func(b []byte, l layout) { u32(b, l.root, l.root-len(b)) }, "vtable at"},
		{"vtable unaligned", func(b []byte, l layout) { u32(b, l.root, l.root-l.vtable+1) }, "vtable at"},
		{"vtable too short", func(b []byte, l layout) { u16(b, l.vtable, 2) }, "vtable of"},
		{"vtable of odd length", func(b []byte, l layout) { u16(b, l.vtable, 5) }, "vtable of"},
		{"vtable too long", func(b []byte, l layout) { u16(b, l.vtable, len(b)-l.vtable+2) }, "vtable of"},
		{"size in the vtable", func(b []byte, l layout) { u16(b, l.vtable+2, 0xffff) }, ""},
		{"field in the table's head", func(b []byte, l layout) { u16(b, l.vtable+4, 2) }, "Goodbye.reason: 4 bytes at"},
		{"field unaligned", func(b []byte, l layout) { u16(b, l.vtable+4, l.field-l.root+1) }, "Goodbye.reason: 4 bytes at"},
		{"field outside", func(b []byte, l layout) { u16(b, l.vtable+4, 0xfffc) }, "Goodbye.reason: 4 bytes at"},
		{"field absent", func(b []byte, l layout) { u16(b, l.vtable+4, 0) }, ""},
		{"offset 0", func(b []byte, l layout) { u32(b, l.field, 0) }, "Goodbye.reason: offset"},
		{"offset unaligned", func(b []byte, l layout) { u32(b, l.field, l.text-l.field+2) }, "Goodbye.reason: offset"},
		{"offset outside", func(b []byte, l layout) { u32(b, l.field, len(b)-l.field) }, "Goodbye.reason: offset"},
		{"offset backwards", func(b []byte, l layout) { u32(b, l.field, -4) }, "Goodbye.reason: offset"},
		{"string too long", func(b []byte, l layout) { u32(b, l.text, len(b)-l.text-4) }, "Goodbye.reason: string of"},
		{"string far too long", func(b []byte, l layout) { u32(b, l.text, -1) }, "Goodbye.reason: string of"},
		{"string without its zero", func(b []byte, l layout) { b[l.text+4+5] = 'x' }, "zero byte"},
		{"string that is not text", func(b []byte, l layout) { b[l.text+4] = 0xff }, ""},
	} {
		body, err := Marshal(nil, &fb.GoodbyeT{Reason: "hello"})
		if err != nil {
			t.Fatal(err)
		}
		c.edit(body, find(body))
		check(t, c.name, fb.FrameTypeGoodbye, body, c.why)
	}
}

func check(t *testing.T, name string, typ Type, body []byte, why string) {
	t.Helper()
	m, err := Unmarshal(typ, body)
	switch {
	case why == "" && err != nil:
		t.Errorf("%s: refused: %v", name, err)
	case why != "" && err == nil:
		t.Errorf("%s: accepted as %+v", name, m)
	case why != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), why)):
		t.Errorf("%s: %v, want an error that says %q", name, err, why)
	}
}

// Numbers and structs inside tables are aligned as C wants them.
func TestVerifierAlignment(t *testing.T) {
	body, err := Marshal(nil, &fb.GroupCreateT{Group: &fb.TaskIDT{Agent: 1}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, "as written", fb.FrameTypeGroupCreate, body, "")
	root := int(binary.LittleEndian.Uint32(body))
	vtable := root - int(int32(binary.LittleEndian.Uint32(body[root:])))
	binary.LittleEndian.PutUint16(body[vtable+4:], 4) // the ID begins 4 bytes behind a table that is not on 8, or the other way
	if (root+4)%8 == 0 {
		binary.LittleEndian.PutUint16(body[vtable+4:], 8)
	}
	check(t, "struct at 4", fb.FrameTypeGroupCreate, append(body, make([]byte, 16)...), "GroupCreate.group: 16 bytes at")
}

// A field may not lie in the head of its table, nor two fields in the same place; a vector of large
// numbers is aligned as they are.
func TestVerifierPlaces(t *testing.T) {
	refuse := []byte{12, 0, 0, 0, 6, 0, 8, 0, 4, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0}
	check(t, "code at 4", fb.FrameTypeRefuse, refuse, "")
	refuse[8] = 2
	check(t, "code at 2", fb.FrameTypeRefuse, refuse, "Refuse.code")
	// Three of Registered's numbers of eight bytes, all at the same place.
	registered := []byte{20, 0, 0, 0, 12, 0, 12, 0, 0, 0, 4, 0, 4, 0, 4, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}
	check(t, "three in one place", fb.FrameTypeRegistered, registered, "")
	v := verifier{b: registered, left: 8 + 8 + 7} // one byte too few for the third
	tab := tableAt{name: "Registered", pos: 20, vt: 4, slots: 12}
	if !v.inline(&tab, 6, "term", 8, 8) || !v.inline(&tab, 8, "clock", 8, 8) {
		t.Errorf("two fields: %s", v.why)
	}
	if v.inline(&tab, 10, "drain_deadline", 8, 8) {
		t.Error("the third field was not charged for")
	}
	vector := []byte{0, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	v = verifier{b: vector, left: 100}
	if v.numbersAt(t, 4, 8) {
		t.Error("a vector of eight-byte numbers at 12 was accepted")
	}
	if v = (verifier{b: vector, left: 100}); !v.numbersAt(t, 4, 4) {
		t.Errorf("a vector of four-byte numbers at 12: %s", v.why)
	}
}

// numbersAt checks a vector whose offset lies at position at.
func (v *verifier) numbersAt(t *testing.T, at, size int) bool {
	t.Helper()
	// A table at 0 whose vtable, behind the vector, says where the field is.
	b := append(append([]byte{}, v.b...), 6, 0, 8, 0, byte(at), 0)
	tab := tableAt{name: "T", pos: 0, vt: len(v.b), slots: 6}
	v.b = b
	return v.numbers(&tab, 4, "v", size)
}

// A later build appends fields; this one reads what it knows and lets the rest be.
func TestNewerFields(t *testing.T) {
	body := []byte{
		12, 0, 0, 0, // the root table
		8, 0, 12, 0, 4, 0, 8, 0, // a vtable with one field more than Goodbye has
		8, 0, 0, 0, // the table: back to the vtable
		8, 0, 0, 0, // reason
		7, 7, 7, 7, // the new field, whatever it is
		2, 0, 0, 0, 'h', 'i', 0, 0,
	}
	m, err := Unmarshal(fb.FrameTypeGoodbye, body)
	if err != nil || m.(*fb.GoodbyeT).Reason != "hi" {
		t.Errorf("%+v, %v", m, err)
	}
}

// An older build did not write the last fields: they are at their defaults.
func TestOlderFields(t *testing.T) {
	body := []byte{8, 0, 0, 0, 4, 0, 4, 0, 4, 0, 0, 0}
	m, err := Unmarshal(fb.FrameTypeGroupUpdate, body)
	if err != nil {
		t.Fatal(err)
	}
	if u := m.(*fb.GroupUpdateT); u.Group == nil || u.End != nil || u.Phase != fb.GroupPhasePending || len(u.Ranks) != 0 {
		t.Errorf("%+v", u)
	}
}

// The schema can't nest as deep, so the bound is tried on a table that holds itself.
func TestVerifierDepth(t *testing.T) {
	var self func(v *verifier, pos int) bool
	self = func(v *verifier, pos int) bool {
		t, ok := v.enter(pos, "Self")
		return ok && v.table(&t, 4, "self", self) && v.leave()
	}
	chain := func(n int) []byte {
		b := []byte{12, 0, 0, 0, 6, 0, 8, 0, 4, 0, 0, 0}
		for i := range n {
			b = binary.LittleEndian.AppendUint32(b, uint32(8+8*i))
			b = binary.LittleEndian.AppendUint32(b, 4)
		}
		// The last has a vtable of its own, in which the field is absent.
		b = binary.LittleEndian.AppendUint32(b, uint32(0xffffffff-7)) // 8 bytes further on
		b = append(b, 0, 0, 0, 0, 4, 0, 4, 0)
		return b
	}
	if err := verify(fb.FrameTypeHello, chain(MaxDepth-1), self); err != nil {
		t.Errorf("%d deep: %v", MaxDepth, err)
	}
	if err := verify(fb.FrameTypeHello, chain(MaxDepth), self); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("%d deep: %v", MaxDepth+1, err)
	}
}
