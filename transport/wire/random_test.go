package wire

import (
	"math/rand/v2"
	"reflect"
	"sort"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// types gives every type that FrameType names, in the order of their numbers.
func types() []Type {
	var out []Type
	for t := range fb.EnumNamesFrameType {
		if t != fb.FrameTypeNone {
			out = append(out, t)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// random gives a message of type t with random contents: absent tables, empty vectors, strings
// that are not text, now and then a long one.
func random(r *rand.Rand, t Type) Message {
	m := New(t)
	fillRandom(r, reflect.ValueOf(m).Elem(), false)
	return m
}

// full gives a message of type t in which nothing is absent, the same every time.
func full(t Type) Message {
	m := New(t)
	fillRandom(rand.New(rand.NewPCG(uint64(t), 1)), reflect.ValueOf(m).Elem(), true)
	return m
}

func fillRandom(r *rand.Rand, v reflect.Value, full bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillRandom(r, v.Field(i), full)
		}
	case reflect.Pointer:
		if !full && r.IntN(4) == 0 {
			v.SetZero()
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fillRandom(r, v.Elem(), full)
	case reflect.Slice:
		n := 2
		if !full {
			n = r.IntN(5)
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			e := v.Index(i)
			if e.Kind() == reflect.Pointer { // an element that is nil can't be packed
				e.Set(reflect.New(e.Type().Elem()))
				e = e.Elem()
			}
			fillRandom(r, e, full)
		}
	case reflect.String:
		n := r.IntN(12)
		if full {
			n = 5
		} else if r.IntN(50) == 0 {
			n = r.IntN(5000)
		}
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.UintN(256))
			if full {
				b[i] = 'a' + b[i]%26
			}
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(full || r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> r.IntN(64) >> (64 - v.Type().Bits()))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	default:
		panic("a kind of field that the schema did not have: " + v.Type().String())
	}
}

// normal gives m as Unmarshal returns it: WIRE-2 makes absent IDs zero, and an absent vector is an
// empty one.
func normal(m Message) Message {
	normalise(reflect.ValueOf(m).Elem())
	return m
}

func normalise(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			normalise(v.Field(i))
		}
	case reflect.Pointer:
		if v.IsNil() {
			if !isID(v.Type()) {
				return
			}
			v.Set(reflect.New(v.Type().Elem()))
		}
		normalise(v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		for i := range v.Len() {
			normalise(v.Index(i))
		}
	}
}

func isID(t reflect.Type) bool {
	return t == reflect.TypeFor[*fb.TaskIDT]() || t == reflect.TypeFor[*fb.ObjectIDT]()
}
