package proto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
)

const (
	maxDepth    = 64      // messages in each other
	maxElements = 1 << 20 // of all lists and maps of one message together
)

var (
	errShort    = errors.New("it ends too early")
	errVarint   = errors.New("a number is longer than 64 bits")
	errElements = errors.New("its lists have too many elements")
	errDepth    = errors.New("its messages are nested too deeply")
)

// Unmarshal reads a message into the struct that m points to. What the message does not have is set to its
// default. Byte slices are copies. After an error the struct's content is undefined.
func Unmarshal(b []byte, m any) error {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("proto: %T is no pointer to a struct", m)
	}
	v = v.Elem()
	v.SetZero()
	d := decoder{left: maxElements}
	if err := d.message(b, v, 0); err != nil {
		return fmt.Errorf("proto: %s: not a message of this kind: %w", v.Type().Name(), err)
	}
	return nil
}

// CutDelimited takes a message with its length before it from the front of b.
func CutDelimited(b []byte) (body, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, fmt.Errorf("proto: a message's length: %w", errShort)
	}
	return b[k : k+int(n)], b[k+int(n):], nil
}

// Find gives where in a message a field is: the last of a path of numbers, which lead from message to message. Of bytes, texts and messages it is
// the content, of a number what it is written as; nil: it is not there. It is a part of b, so that it can be changed in place.
func Find(b []byte, path ...uint64) (found []byte) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return nil
		}
		b = b[n:]
		at := b
		raw, err := cut(&b, tag&7)
		if err != nil {
			return nil
		}
		if tag>>3 == path[0] {
			if found = at[:len(at)-len(b)]; tag&7 == wireBytes {
				found = raw.bytes
			}
		}
	}
	if len(path) > 1 {
		return Find(found, path[1:]...)
	}
	return found
}

type decoder struct {
	left int // elements that may still come
}

func (d *decoder) message(b []byte, v reflect.Value, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	p := planOf(v.Type())
	if p.preset {
		for _, f := range p.fields {
			if f.preset != 0 && !f.list && !f.mapped {
				setNumber(v.Field(f.index), uint64(f.preset))
			}
		}
	}
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errVarint
		}
		b = b[n:]
		raw, err := cut(&b, tag&7)
		if err != nil {
			return err
		}
		i, known := p.byNumber[tag>>3]
		if !known {
			continue
		}
		f := &p.fields[i]
		if err := d.field(f, raw, v.Field(f.index), depth); err != nil {
			return fmt.Errorf("%s: %w", v.Type().Field(f.index).Name, err)
		}
	}
	return nil
}

// value is what stands behind a tag.
type value struct {
	wire   uint64
	number uint64
	bytes  []byte
}

// cut takes a value from the front of b.
func cut(b *[]byte, wire uint64) (value, error) {
	v := value{wire: wire}
	switch wire {
	case wireVarint:
		n, k := binary.Uvarint(*b)
		if k == 0 {
			return v, errShort
		} else if k < 0 {
			return v, errVarint
		}
		v.number, *b = n, (*b)[k:]
	case wireFixed32, wireFixed64:
		size := 4
		if wire == wireFixed64 {
			size = 8
		}
		if len(*b) < size {
			return v, errShort
		}
		if size == 4 {
			v.number = uint64(binary.LittleEndian.Uint32(*b))
		}
		*b = (*b)[size:]
	case wireBytes:
		n, k := binary.Uvarint(*b)
		if k <= 0 || n > uint64(len(*b)-k) {
			return v, errShort
		}
		v.bytes, *b = (*b)[k:k+int(n)], (*b)[k+int(n):]
	default:
		return v, fmt.Errorf("wire type %d is not known", wire)
	}
	return v, nil
}

func (d *decoder) field(f *field, raw value, to reflect.Value, depth int) error {
	switch {
	case f.list && f.shape == varint && raw.wire == wireBytes: // a packed list
		for b := raw.bytes; len(b) > 0; {
			one, err := cut(&b, wireVarint)
			if err == nil {
				err = d.add(f, one, to, depth)
			}
			if err != nil {
				return err
			}
		}
		return nil
	case f.list:
		return d.add(f, raw, to, depth)
	case f.mapped:
		return d.entry(f, raw, to, depth)
	}
	return d.element(f.element, raw, to, depth)
}

func (d *decoder) add(f *field, raw value, to reflect.Value, depth int) error {
	if d.left--; d.left < 0 {
		return errElements
	}
	one := reflect.New(f.typ).Elem()
	if err := d.element(f.element, raw, one, depth); err != nil {
		return err
	}
	to.Set(reflect.Append(to, one))
	return nil
}

// entry reads one pair of a map.
func (d *decoder) entry(f *field, raw value, to reflect.Value, depth int) error {
	if d.left--; d.left < 0 {
		return errElements
	}
	if raw.wire != wireBytes {
		return fmt.Errorf("wire type %d for a pair", raw.wire)
	}
	key, val := reflect.New(f.key.typ).Elem(), reflect.New(f.typ).Elem()
	for b := raw.bytes; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errVarint
		}
		b = b[n:]
		part, err := cut(&b, tag&7)
		if err != nil {
			return err
		}
		switch tag >> 3 {
		case 1:
			err = d.element(f.key, part, key, depth)
		case 2:
			err = d.element(f.element, part, val, depth)
		}
		if err != nil {
			return err
		}
	}
	if to.IsNil() {
		to.Set(reflect.MakeMap(to.Type()))
	}
	to.SetMapIndex(key, val)
	return nil
}

func (d *decoder) element(e element, raw value, to reflect.Value, depth int) error {
	want := uint64(wireVarint)
	switch e.shape {
	case fixed32:
		want = wireFixed32
	case bytes, message:
		want = wireBytes
	}
	if raw.wire != want {
		return fmt.Errorf("wire type %d, not %d", raw.wire, want)
	}
	switch e.shape {
	case varint:
		n := raw.number
		if e.zigzag {
			n = n>>1 ^ -(n & 1)
		}
		setNumber(to, n)
	case fixed32:
		to.SetFloat(float64(math.Float32frombits(uint32(raw.number))))
	case bytes:
		if to.Kind() == reflect.String {
			to.SetString(string(raw.bytes))
		} else {
			to.SetBytes(append(make([]byte, 0, len(raw.bytes)), raw.bytes...))
		}
	case moment:
		if raw.number == 0 {
			to.SetZero()
			break
		}
		to.Set(reflect.ValueOf(time.UnixMilli(int64(raw.number))))
	case message:
		if to.Kind() == reflect.Pointer {
			if to.IsNil() {
				to.Set(reflect.New(to.Type().Elem()))
			}
			to = to.Elem()
		}
		return d.message(raw.bytes, to, depth+1)
	}
	return nil
}

func setNumber(v reflect.Value, n uint64) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n != 0)
	case reflect.Int32:
		v.SetInt(int64(int32(n)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint32:
		v.SetUint(uint64(uint32(n)))
	default:
		v.SetUint(n)
	}
}

// millis is a time in milliseconds since 1970, the zero time 0.
func millis(v reflect.Value) int64 {
	t := v.Interface().(time.Time)
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
