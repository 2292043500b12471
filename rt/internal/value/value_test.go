package value

import (
	"encoding/hex"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

type point struct {
	X, Y  float64
	Label string `cbor:"label"`
	Note  string `cbor:"-"`
	Next  *point
}

// celsius writes itself.
type celsius struct{ degrees int }

func (c celsius) MarshalBinary() ([]byte, error) { return []byte{byte(c.degrees)}, nil }

func (c *celsius) UnmarshalBinary(b []byte) error {
	c.degrees = int(b[0])
	return nil
}

type inner struct{ hook func() }

type layer struct {
	Name    string
	Weights []inner
}

type embedded struct {
	point
	Z int
}

func through[T any](t *testing.T, v T) {
	t.Helper()
	e, err := Encode(v, "arg")
	if err != nil {
		t.Errorf("%T: %v", v, err)
		return
	}
	got, err := Decode[T](e.Format, e.Bytes)
	if err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("%#v came back as %#v, %v", v, got, err)
	}
}

func TestThereAndBack(t *testing.T) {
	through(t, 42)
	through(t, math.MaxUint64-uint64(3))
	through(t, math.Inf(-1))
	through(t, "text \xff that is no UTF-8")
	through(t, []byte("bytes"))
	through(t, [][]byte{{1}, {}})
	through(t, [3]bool{true, false, true})
	through(t, map[string][]float64{"a": {1, 2}, "b": nil})
	through(t, map[int]point{7: {X: 1}})
	through(t, &point{X: 1, Y: -2, Label: "l", Next: &point{Label: "n"}})
	through(t, embedded{point{X: 1}, 2})
	through(t, []celsius{{3}, {4}})
	through(t, celsius{5})
	through(t, &celsius{6})
	through(t, *new(big.Int).Lsh(big.NewInt(1), 100))
	through(t, []any{int64(1), "two", []any{3.5}, map[string]any{"k": nil}, []byte{4}})
	through(t, make([]int, 200_000)) // more than a decoder takes by itself
	through(t, struct{}{})
	now := time.Now().Round(0)
	e, err := Encode(now, "arg")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode[time.Time](e.Format, e.Bytes); err != nil || !got.Equal(now) {
		t.Errorf("%v came back as %v, %v", now, got, err)
	}
}

// What other languages read: an envelope whose meta is CBOR, and bytes as they are.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		encode func() (string, fb.Format)
		want   string
		format fb.Format
	}{
		{func() (string, fb.Format) {
			e, _ := Encode([]int{1, 2}, "a")
			return hex.EncodeToString(e.Bytes), e.Format
		}, "0300000000000000820102", fb.FormatPlain},
		{func() (string, fb.Format) {
			e, _ := Encode([]byte{9}, "a")
			return hex.EncodeToString(e.Bytes), e.Format
		}, "09", fb.FormatRaw},
		{func() (string, fb.Format) {
			e, _ := Encode(celsius{7}, "a")
			return hex.EncodeToString(e.Bytes), e.Format
		}, "07", fb.FormatRaw},
		{func() (string, fb.Format) {
			e, _ := Encode(point{Label: "x"}, "a")
			return hex.EncodeToString(e.Bytes), e.Format
		}, "2500000000000000a46158fb00000000000000006159fb0000000000000000656c6162656c6178644e657874f6", fb.FormatPlain},
	} {
		if got, format := c.encode(); got != c.want || format != c.format {
			t.Errorf("%s of format %v, want %s of %v", got, format, c.want, c.format)
		}
	}
}

// VAL-1: with the path to what can't be sent.
func TestWhatCanNotBeSent(t *testing.T) {
	refuse := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := Encode(layer{"l", []inner{{hook: func() {}}, {}}}, "arg")
	refuse(err, "arg.Weights[0].hook: a func can't be sent")
	_, err = Encode(layer{}, "arg")
	refuse(err, "arg.Weights[].hook: a func can't be sent")
	_, err = Encode([]any{1, map[string]any{"c": make(chan int)}}, "arg")
	refuse(err, "arg[1][c]: a chan can't be sent")
	_, err = Encode(struct{ mu struct{ n int } }{}, "arg")
	refuse(err, "arg.mu: unexported state can't be sent")
	_, err = Encode(complex(1, 2), "arg")
	refuse(err, "complex")
	_, err = Encode(struct{ Err error }{}, "arg")
	refuse(err, "arg.Err: error can't be read back")
	_, err = Encode((*celsius)(nil), "arg")
	refuse(err, "nil")
	circle := &point{}
	circle.Next = circle
	_, err = Encode(circle, "arg")
	refuse(err, "does it contain itself")
}

// VAL-3.
func TestWhatCanNotBeRead(t *testing.T) {
	refuse := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	_, err := Decode[int](fb.FormatPickle5, nil)
	refuse(err, "Python")
	_, err = Decode[int](fb.FormatRaw, []byte{1})
	refuse(err, "int")
	_, err = Decode[int](fb.FormatPlain, []byte{1, 0, 0, 0, 0, 0, 0, 0, 0x61})
	refuse(err, "int")
	_, err = Decode[string](fb.FormatPlain, []byte{9, 0, 0, 0, 0, 0, 0, 0, 0x61, 'a'})
	refuse(err, "envelope")
	_, err = Decode[string](fb.FormatArrow, nil)
	refuse(err, "format Arrow")
}

// FuzzDecode: VAL-3, and what could be read is written and read again as the same.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{1, "a", []any{1, 2.5, nil}, map[string]any{"a": []byte{1}}, cbor.Tag{Number: Tag, Content: []byte("no reference")}} {
		meta, err := Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{byte(len(meta)), 0, 0, 0, 0, 0, 0, 0}, meta...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Decode[point](fb.FormatPlain, b)
		_, _ = Decode[[]celsiusOrNothing](fb.FormatPlain, b)
		v, err := Decode[any](fb.FormatPlain, b)
		if err != nil {
			return
		}
		if e, err := Encode(v, "v"); err == nil {
			if _, err := Decode[any](e.Format, e.Bytes); err != nil {
				t.Errorf("%#v can't be read again: %v", v, err)
			}
		}
	})
}

// celsiusOrNothing is one whose reading never fails.
type celsiusOrNothing struct{ b []byte }

func (c celsiusOrNothing) MarshalBinary() ([]byte, error) { return c.b, nil }

func (c *celsiusOrNothing) UnmarshalBinary(b []byte) error {
	c.b = b
	return nil
}
