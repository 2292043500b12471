package proto

import (
	"cmp"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
)

// Marshal gives the bytes of a message: a struct, or a pointer to one. A nil pointer is an empty message.
func Marshal(m any) []byte { return Append(nil, m) }

// Append appends the bytes of a message to b.
func Append(b []byte, m any) []byte {
	v := reflect.ValueOf(m)
	if !v.IsValid() {
		return b
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return b
		}
		v = v.Elem()
	}
	return appendMessage(b, v)
}

// AppendDelimited appends a message with its length before it.
func AppendDelimited(b []byte, m any) []byte {
	body := Marshal(m)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func appendMessage(b []byte, v reflect.Value) []byte {
	for _, f := range planOf(v.Type()).fields {
		b = appendField(b, f, v.Field(f.index))
	}
	return b
}

func appendField(b []byte, f field, v reflect.Value) []byte {
	switch {
	case f.list:
		for i := range v.Len() {
			b = appendElement(b, f.number, f.element, v.Index(i))
		}
		return b
	case f.mapped:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(x, y reflect.Value) int {
			if x.Kind() == reflect.String {
				return cmp.Compare(x.String(), y.String())
			}
			return cmp.Compare(number(x), number(y))
		})
		for _, k := range keys {
			entry := appendElement(nil, 1, f.key, k)
			entry = appendElement(entry, 2, f.element, v.MapIndex(k))
			b = appendBytes(b, f.number, entry)
		}
		return b
	case f.required, f.present(v):
		return appendElement(b, f.number, f.element, v)
	}
	return b
}

// present tells whether a field is to be written: it differs from what its absence means.
func (f *field) present(v reflect.Value) bool {
	switch {
	case f.shape == varint:
		return number(v) != uint64(f.preset)
	case v.Kind() == reflect.Slice:
		return !v.IsNil() // an empty one that is there is said
	}
	return !v.IsZero()
}

func appendElement(b []byte, num uint64, e element, v reflect.Value) []byte {
	switch e.shape {
	case varint:
		n := number(v)
		if e.zigzag {
			n = uint64(int64(n)<<1) ^ uint64(int64(n)>>63)
		}
		return binary.AppendUvarint(binary.AppendUvarint(b, num<<3|wireVarint), n)
	case fixed32:
		b = binary.AppendUvarint(b, num<<3|wireFixed32)
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.Float())))
	case bytes:
		if v.Kind() == reflect.String {
			b = binary.AppendUvarint(binary.AppendUvarint(b, num<<3|wireBytes), uint64(v.Len()))
			return append(b, v.String()...)
		}
		return appendBytes(b, num, v.Bytes())
	case moment:
		return binary.AppendUvarint(binary.AppendUvarint(b, num<<3|wireVarint), uint64(millis(v)))
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return appendBytes(b, num, nil)
		}
		v = v.Elem()
	}
	return appendBytes(b, num, appendMessage(nil, v))
}

func appendBytes(b []byte, num uint64, data []byte) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, num<<3|wireBytes), uint64(len(data)))
	return append(b, data...)
}

// number is an integer or bool as protobuf's varint has it: negative ones extended to 64 bits.
func number(v reflect.Value) uint64 {
	switch {
	case v.CanInt():
		return uint64(v.Int())
	case v.CanUint():
		return v.Uint()
	case v.Kind() == reflect.Bool && v.Bool():
		return 1
	}
	return 0
}
