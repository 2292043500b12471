package wire

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// feed gives body to Unmarshal in memory that ends where the body ends, and holds what came out to
// WIRE-1 and WIRE-2: no panic, and what is accepted is whole and can be sent on.
func feed(t testing.TB, typ Type, body []byte) bool {
	t.Helper()
	tight := make([]byte, len(body))
	copy(tight, body)
	m, err := Unmarshal(typ, tight[:len(tight):len(tight)])
	if err != nil {
		if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownType) {
			t.Fatalf("%v: error of another kind: %v", typ, err)
		}
		return false
	}
	if TypeOf(m) != typ {
		t.Fatalf("%v came out as %T", typ, m)
	}
	whole(t, typ.String(), reflect.ValueOf(m))
	again, err := Marshal(nil, m)
	if err != nil {
		t.Fatalf("%v: accepted but can't be sent on: %v", typ, err)
	}
	m2, err := Unmarshal(typ, again)
	if err != nil {
		t.Fatalf("%v: accepted, but its own bytes are not: %v", typ, err)
	}
	if !reflect.DeepEqual(m, m2) {
		t.Fatalf("%v: %+v became %+v", typ, m, m2)
	}
	return true
}

// whole fails for an ID or an element that is nil.
func whole(t testing.TB, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			if isID(v.Type()) {
				t.Fatalf("%s is nil", path)
			}
			return
		}
		whole(t, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			whole(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.Pointer && e.IsNil() {
				t.Fatalf("%s[%d] is nil", path, i)
			}
			whole(t, path, v.Index(i))
		}
	}
}

// Every prefix of every message, and every message with one bit changed.
func TestTruncatedAndFlipped(t *testing.T) {
	for _, typ := range types() {
		body, err := Marshal(nil, full(typ))
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(body) {
			if feed(t, typ, body[:n]) && StructSize(typ) > 0 {
				t.Errorf("%v: %d of %d bytes of a struct were accepted", typ, n, len(body))
			}
		}
		step := max(1, len(body)*8/2000)
		for bit := 0; bit < len(body)*8; bit += step {
			body[bit/8] ^= 1 << (bit % 8)
			feed(t, typ, body)
			body[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Words of the body replaced by those that break careless arithmetic.
func TestEvilWords(t *testing.T) {
	evil := []uint32{0, 1, 4, 8, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff, 0x00040004}
	for _, typ := range types() {
		body, err := Marshal(nil, full(typ))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+4 <= len(body); at += 2 {
			old := binary.LittleEndian.Uint32(body[at:])
			for _, w := range append(evil, uint32(len(body)), uint32(len(body)-at), uint32(-at)) {
				binary.LittleEndian.PutUint32(body[at:], w)
				feed(t, typ, body)
			}
			binary.LittleEndian.PutUint32(body[at:], old)
		}
	}
}

// Other messages' bytes and noise, of every length.
func TestNoise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, typ := range types() {
		for range 200 {
			b := make([]byte, r.IntN(300))
			for i := range b {
				b[i] = byte(r.UintN(256)) >> r.UintN(9)
			}
			feed(t, typ, b)
		}
		for _, other := range types() {
			body, err := Marshal(nil, full(other))
			if err != nil {
				t.Fatal(err)
			}
			feed(t, typ, body)
		}
	}
}

// shared builds a Register whose vector in slot has n offsets that all lead to the same thing.
func shared(slot, n int, thing []byte) []byte {
	var b []byte
	u32 := func(v int) { b = binary.LittleEndian.AppendUint32(b, uint32(v)) }
	u16 := func(v int) { b = binary.LittleEndian.AppendUint16(b, uint16(v)) }
	slots := slot + 2
	for slots%4 != 0 {
		slots += 2
	}
	u32(4 + slots) // the root lies behind its vtable
	u16(slots)
	u16(8)
	for s := 4; s < slots; s += 2 {
		if s == slot {
			u16(4)
		} else {
			u16(0)
		}
	}
	u32(slots) // the table: back to its vtable, then the vector's offset
	u32(4)
	u32(n)
	for i := range n {
		u32(4 * (n - i))
	}
	return append(b, thing...)
}

// A small body can't become much memory (WIRE-3).
func TestAmplification(t *testing.T) {
	const addresses, labels = 10, 14 // slots of Register
	text := make([]byte, 4+1<<20+4)
	binary.LittleEndian.PutUint32(text, 1<<20)
	if !feed(t, fb.FrameTypeRegister, shared(addresses, 1, text)) {
		t.Fatal("the test's own bytes are not well formed")
	}
	refused(t, shared(addresses, 100_000, text), "Register.addresses: more is reached")
	// A table without fields: its vtable lies behind it.
	table := []byte{0xfc, 0xff, 0xff, 0xff, 4, 0, 4, 0}
	if !feed(t, fb.FrameTypeRegister, shared(labels, 1, table)) {
		t.Fatal("the test's own bytes are not well formed")
	}
	refused(t, shared(labels, 1000, table), "Label: more is reached")
	many := shared(labels, MaxTables+1, make([]byte, 8*MaxTables))
	copy(many[len(many)-8*MaxTables:], table)
	refused(t, many, "too many tables")
	refused(t, make([]byte, MaxMessage+1), "more bytes")
}

func refused(t *testing.T, body []byte, why string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := Unmarshal(fb.FrameTypeRegister, body)
	runtime.ReadMemStats(&after)
	n := after.TotalAlloc - before.TotalAlloc
	if m != nil || err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want an error that says %q", err, why)
	}
	if n > 64<<10 {
		t.Errorf("refusing %d bytes took %d bytes of memory", len(body), n)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, typ := range types() {
		body, err := Marshal(nil, full(typ))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint16(typ), body)
	}
	f.Fuzz(func(t *testing.T, typ uint16, body []byte) { feed(t, Type(typ), body) })
}
