package wire

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// verifier walks a flatbuffer before anybody else touches it. The generated functions in
// verify_gen.go say what a table of each type may hold; the steps here say what must hold for
// bytes to be that. After it, every access that package fb makes stays inside the slice.
//
// A flatbuffer, as the steps need it (offsets are unsigned and point forward, but for the one from
// a table to its vtable, which is signed and subtracted):
//
//	body:    u32 offset to the root table ...
//	table:   i32 offset to the vtable, then the fields inline
//	vtable:  u16 its own bytes, u16 bytes of the table, then per field u16 offset in the table, 0: absent
//	string:  u32 length, the bytes, one zero byte
//	vector:  u32 count, the elements; tables and strings as u32 offsets to them
//
// The vtable's word for the bytes of the table is read by nobody: Go's builder lets tables of
// different size share a vtable if their fields lie at the same offsets, so it may be wrong.
type verifier struct {
	b      []byte
	left   int // bytes of b not yet accounted for; what is reached twice is charged twice (WIRE-3)
	tables int
	depth  int
	where  string
	why    string
}

// tableAt is a table whose vtable has been checked.
type tableAt struct {
	name  string
	pos   int
	vt    int
	slots int // bytes of the vtable
}

// verify checks that body holds one table, as check wants it.
func verify(t Type, body []byte, check func(*verifier, int) bool) error {
	v := verifier{b: body, left: len(body)}
	if v.root(check) {
		return nil
	}
	return &DecodeError{Type: t, Where: v.where, Why: v.why}
}

func (v *verifier) root(check func(*verifier, int) bool) bool {
	if len(v.b) > MaxMessage {
		return v.fail("", "", "more bytes than a message may have")
	}
	if len(v.b) < 8 {
		return v.fail("", "", strconv.Itoa(len(v.b))+" bytes are less than a table")
	}
	v.left -= 4
	return check(v, int(binary.LittleEndian.Uint32(v.b)))
}

func (v *verifier) fail(table, field, why string) bool {
	v.where, v.why = table, why
	if field != "" {
		v.where += "." + field
	}
	return false
}

// spend accounts for n bytes that were reached. An honest writer reaches none of them twice.
func (v *verifier) spend(n int) bool {
	v.left -= n
	return v.left >= 0
}

func (v *verifier) u16(at int) int { return int(binary.LittleEndian.Uint16(v.b[at:])) }
func (v *verifier) u32(at int) int { return int(binary.LittleEndian.Uint32(v.b[at:])) }

// enter checks the table at pos and its vtable.
func (v *verifier) enter(pos int, name string) (tableAt, bool) {
	t := tableAt{name: name, pos: pos}
	if pos%4 != 0 || pos > len(v.b)-4 {
		return t, v.fail(name, "", fmt.Sprintf("table at %d is out of bounds or unaligned", pos))
	}
	t.vt = pos - int(int32(v.u32(pos)))
	if t.vt < 0 || t.vt%2 != 0 || t.vt > len(v.b)-4 {
		return t, v.fail(name, "", fmt.Sprintf("vtable at %d is out of bounds or unaligned", t.vt))
	}
	t.slots = v.u16(t.vt)
	if t.slots < 4 || t.slots%2 != 0 || t.slots > len(v.b)-t.vt {
		return t, v.fail(name, "", fmt.Sprintf("vtable of %d bytes", t.slots))
	}
	if v.depth++; v.depth > MaxDepth {
		return t, v.fail(name, "", "nested too deep")
	}
	if v.tables++; v.tables > MaxTables {
		return t, v.fail(name, "", "too many tables")
	}
	if !v.spend(4) {
		return t, v.fail(name, "", "more is reached than the body holds")
	}
	return t, true
}

func (v *verifier) leave() bool {
	v.depth--
	return true
}

// field gives the position of the field in slot, or 0 if it is absent.
func (v *verifier) field(t *tableAt, slot int, name string, size, align int) (int, bool) {
	if slot >= t.slots {
		return 0, true
	}
	off := v.u16(t.vt + slot)
	if off == 0 {
		return 0, true
	}
	at := t.pos + off
	if off < 4 || at > len(v.b)-size || at%align != 0 {
		return 0, v.fail(t.name, name, fmt.Sprintf("%d bytes at %d are out of bounds or unaligned", size, at))
	}
	if !v.spend(size) {
		return 0, v.fail(t.name, name, "more is reached than the body holds")
	}
	return at, true
}

// inline checks a number, an enum or a struct.
func (v *verifier) inline(t *tableAt, slot int, name string, size, align int) bool {
	_, ok := v.field(t, slot, name, size, align)
	return ok
}

// follow gives where the offset at position at leads; n bytes must be there, aligned to 4.
func (v *verifier) follow(t *tableAt, name string, at, n int) (int, bool) {
	off := v.u32(at)
	to := at + off
	if off == 0 || to%4 != 0 || to > len(v.b)-n {
		return 0, v.fail(t.name, name, fmt.Sprintf("offset %d at %d leads out of bounds or is unaligned", off, at))
	}
	return to, true
}

// text checks a string field.
func (v *verifier) text(t *tableAt, slot int, name string) bool {
	at, ok := v.field(t, slot, name, 4, 4)
	return ok && (at == 0 || v.textAt(t, name, at))
}

func (v *verifier) textAt(t *tableAt, name string, at int) bool {
	to, ok := v.follow(t, name, at, 4)
	if !ok {
		return false
	}
	n := v.u32(to)
	if n > len(v.b)-to-5 {
		return v.fail(t.name, name, fmt.Sprintf("string of %d bytes at %d is out of bounds", n, to))
	}
	if v.b[to+4+n] != 0 {
		return v.fail(t.name, name, "string without its zero byte")
	}
	if !v.spend(n + 5) {
		return v.fail(t.name, name, "more is reached than the body holds")
	}
	return true
}

// vector gives count and first element of a vector field of elements of size bytes; position 0 if
// it is absent.
func (v *verifier) vector(t *tableAt, slot int, name string, size int) (at, n int, ok bool) {
	at, ok = v.field(t, slot, name, 4, 4)
	if !ok || at == 0 {
		return 0, 0, ok
	}
	to, ok := v.follow(t, name, at, 4)
	if !ok {
		return 0, 0, false
	}
	n = v.u32(to)
	to += 4
	if n > (len(v.b)-to)/size || to%min(size, 8) != 0 {
		return 0, 0, v.fail(t.name, name, fmt.Sprintf("vector of %d elements at %d is out of bounds or unaligned", n, to))
	}
	if !v.spend(4 + n*size) {
		return 0, 0, v.fail(t.name, name, "more is reached than the body holds")
	}
	return to, n, true
}

// numbers checks a vector of numbers or enums.
func (v *verifier) numbers(t *tableAt, slot int, name string, size int) bool {
	_, _, ok := v.vector(t, slot, name, size)
	return ok
}

// texts checks a vector of strings.
func (v *verifier) texts(t *tableAt, slot int, name string) bool {
	at, n, ok := v.vector(t, slot, name, 4)
	for i := 0; ok && i < n; i++ {
		ok = v.textAt(t, name, at+4*i)
	}
	return ok
}

// table checks a table inside a table.
func (v *verifier) table(t *tableAt, slot int, name string, check func(*verifier, int) bool) bool {
	at, ok := v.field(t, slot, name, 4, 4)
	return ok && (at == 0 || v.below(t, name, at, check))
}

// vectorOfTables checks a vector of tables.
func (v *verifier) vectorOfTables(t *tableAt, slot int, name string, check func(*verifier, int) bool) bool {
	at, n, ok := v.vector(t, slot, name, 4)
	for i := 0; ok && i < n; i++ {
		ok = v.below(t, name, at+4*i, check)
	}
	return ok
}

func (v *verifier) below(t *tableAt, name string, at int, check func(*verifier, int) bool) bool {
	to, ok := v.follow(t, name, at, 4)
	return ok && check(v, to)
}
