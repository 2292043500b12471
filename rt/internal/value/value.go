package value

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Tag is the CBOR tag of a reference: "MNPL". Its content is the ID of the object, 20 bytes little-endian, or an array
// that begins with it.
const Tag = 0x4d4e504c

const (
	headSize = 8 // of an envelope without buffers
	idSize   = 20
)

var (
	enc = must(cbor.EncOptions{Time: cbor.TimeRFC3339Nano, TimeTag: cbor.EncTagRequired, Sort: cbor.SortNone}.EncMode())
	dec = must(cbor.DecOptions{
		MaxArrayElements: 1<<31 - 1, MaxMapPairs: 1<<31 - 1, MaxNestedLevels: 4096, UTF8: cbor.UTF8DecodeInvalid,
		IntDec: cbor.IntDecConvertSignedOrBigInt, DefaultMapType: reflect.TypeFor[map[string]any](),
	}.DecMode())
)

func must[M any](mode M, err error) M {
	if err != nil {
		panic(err) // options of ours that contradict one another
	}
	return mode
}

// Marshal and Unmarshal are CBOR as values are written; for types that write themselves.
func Marshal(v any) ([]byte, error)      { return enc.Marshal(v) }
func Unmarshal(b []byte, into any) error { return dec.Unmarshal(b, into) }

// Encode gives the bytes of a value. name is what messages call it.
func Encode[T any](v T, name string) (session.Encoded, error) {
	k := kindOf(reflect.TypeFor[T]())
	switch k.way {
	case raw:
		return session.Encoded{Format: fb.FormatRaw, Bytes: any(v).([]byte)}, nil
	case binaryWay:
		if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && p.IsNil() {
			return session.Encoded{}, fault(name, fmt.Sprintf("a nil %T can't be sent", v))
		}
		b, err := any(v).(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			return session.Encoded{}, fault(name, err.Error())
		}
		return session.Encoded{Format: fb.FormatRaw, Bytes: b}, nil
	}
	var refs []*session.Hold
	if k.bad != "" || k.walk {
		w := walker{name: name}
		err := w.value(reflect.ValueOf(&v).Elem(), 0)
		if err == nil && k.bad != "" {
			err = fault(name+k.path, k.bad)
		}
		refs = w.refs
		if err != nil {
			return nothing(refs, err)
		}
	}
	meta, err := enc.Marshal(v)
	if err != nil {
		return nothing(refs, fault(name, err.Error()))
	}
	b := make([]byte, headSize, headSize+len(meta))
	binary.LittleEndian.PutUint32(b, uint32(len(meta)))
	return session.Encoded{Format: fb.FormatPlain, Bytes: append(b, meta...), Refs: refs}, nil
}

func nothing(refs []*session.Hold, err error) (session.Encoded, error) {
	e := session.Encoded{Refs: refs}
	e.Done()
	return e, err
}

// Decode reads a value. What it names is held by the session already.
func Decode[T any](format fb.Format, b []byte) (v T, err error) {
	switch format {
	case fb.FormatRaw:
		return decodeRaw[T](b)
	case fb.FormatPlain:
		meta, err := open(b)
		if err == nil {
			err = dec.Unmarshal(meta, &v)
		}
		if err != nil {
			return v, unread[T](err.Error())
		}
		return v, nil
	case fb.FormatPickle5:
		return v, unread[T]("Python pickled it: there, give back what plain values can say, or bytes")
	}
	return v, unread[T]("it is of format " + format.String())
}

func decodeRaw[T any](b []byte) (v T, err error) {
	b = append([]byte{}, b...)
	if p, ok := any(&v).(*[]byte); ok {
		*p = b
		return v, nil
	}
	if p, ok := any(&v).(*any); ok {
		*p = b
		return v, nil
	}
	into := any(&v)
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Pointer { // *M has both methods
		reflect.ValueOf(&v).Elem().Set(reflect.New(t.Elem()))
		into = v
	}
	if u, ok := into.(encoding.BinaryUnmarshaler); ok {
		if err := u.UnmarshalBinary(b); err != nil {
			return v, unread[T](err.Error())
		}
		return v, nil
	}
	return v, unread[T]("it is bytes")
}

func unread[T any](why string) error {
	return &session.Fault{Code: session.CodeValue, Type: "value", Message: fmt.Sprintf("a value can't be read as %v: %s", reflect.TypeFor[T](), why)}
}

// open gives what an envelope without buffers has inside.
func open(b []byte) ([]byte, error) {
	if len(b) < headSize {
		return nil, fmt.Errorf("an envelope of %d bytes", len(b))
	}
	size, buffers := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	if buffers != 0 || uint64(size) > uint64(len(b)-headSize) {
		return nil, fmt.Errorf("an envelope of %d bytes with %d of meta and %d buffers", len(b), size, buffers)
	}
	return b[headSize : headSize+size], nil
}

// AppendID writes an object's ID as it is inside of values.
func AppendID(b []byte, o id.Object) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(o.Task.Agent))
	b = binary.LittleEndian.AppendUint32(b, uint32(o.Task.Process))
	b = binary.LittleEndian.AppendUint64(b, o.Task.Counter)
	return binary.LittleEndian.AppendUint32(b, o.Index)
}

// ID reads what AppendID wrote.
func ID(b []byte) (o id.Object, err error) {
	if len(b) != idSize {
		return o, fmt.Errorf("a reference of %d bytes", len(b))
	}
	o.Task = id.Task{Agent: id.Agent(binary.LittleEndian.Uint32(b)), Process: id.Process(binary.LittleEndian.Uint32(b[4:])), Counter: binary.LittleEndian.Uint64(b[8:])}
	o.Index = binary.LittleEndian.Uint32(b[16:])
	return o, nil
}

// MarshalRef writes a reference; content is its ID, or an array that begins with it.
func MarshalRef(content any) ([]byte, error) {
	return enc.Marshal(cbor.Tag{Number: Tag, Content: content})
}

// UnmarshalRef reads what MarshalRef wrote.
func UnmarshalRef(b []byte, content any) error {
	var t cbor.RawTag
	if err := dec.Unmarshal(b, &t); err != nil {
		return err
	}
	if t.Number != Tag {
		return fmt.Errorf("tag %d is no reference", t.Number)
	}
	return dec.Unmarshal(t.Content, content)
}
