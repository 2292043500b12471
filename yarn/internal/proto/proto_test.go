package proto

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	A int32  `pb:"1,default=-1000"`
	B string `pb:"2"`
}

type sample struct {
	Call   int32             `pb:"1,zigzag,required"`
	Neg    int32             `pb:"2"`
	Wide   uint64            `pb:"3"`
	On     bool              `pb:"4,default=1"`
	Part   float32           `pb:"5"`
	Data   []byte            `pb:"6"`
	In     *inner            `pb:"7"`
	List   []inner           `pb:"8"`
	Nums   []int32           `pb:"9"`
	Env    map[string]string `pb:"10"`
	ACL    map[int32]inner   `pb:"11"`
	At     time.Time         `pb:"12"`
	Flat   inner             `pb:"13"`
	Again  *sample           `pb:"14"`
	Names  []string          `pb:"15"`
	Unseen string
}

func full() sample {
	return sample{
		Call: -33, Neg: -7, Wide: 1 << 63, On: true, Part: 0.5, Data: []byte{0, 1}, In: &inner{A: 0, B: "x"},
		List: []inner{{A: 1}, {A: -1000, B: "ü"}}, Nums: []int32{0, -1, 300}, Env: map[string]string{"b": "2", "a": ""},
		ACL: map[int32]inner{2: {B: "v"}}, At: time.UnixMilli(1700000000123), Flat: inner{A: 5}, Again: &sample{Call: 1, On: true, Flat: inner{A: 1}}, Names: []string{"", "z"},
	}
}

// PROTO-2.
func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, want := range []sample{full(), {Flat: inner{A: 1}}, {On: true, Flat: inner{B: "only"}}} {
		var got sample
		if err := Unmarshal(Marshal(want), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

// The bytes are protobuf's own: those of a call's header and of a float, worked out by hand.
func TestBytesAreProtobufs(t *testing.T) {
	for want, m := range map[string]any{
		"0841": struct { // -33 as sint32 is 65
			A int32 `pb:"1,zigzag"`
		}{-33},
		"0800": struct { // written though it is zero
			A int32 `pb:"1,required"`
		}{},
		"10f9ffffffffffffffff01": struct { // an int32 below zero takes ten bytes
			A int32 `pb:"2"`
		}{-7},
		"2d0000003f": struct {
			A float32 `pb:"5"`
		}{0.5},
		"22050a0161120022060a0162120132": struct { // PROTO-3: by key; an empty value is written
			A map[string]string `pb:"4"`
		}{map[string]string{"b": "2", "a": ""}},
		"0895fcc18aec32": struct { // milliseconds
			A time.Time `pb:"1"`
		}{time.UnixMilli(1747000000021)},
	} {
		if got := hex.EncodeToString(Marshal(m)); got != want {
			t.Errorf("%+v is %s, want %s", m, got, want)
		}
	}
}

func TestDefaultsOfWhatIsMissing(t *testing.T) {
	var got sample
	if err := Unmarshal([]byte{0x08, 0x02}, &got); err != nil || got.Call != 1 || !got.On || got.In != nil || got.Flat.A != 0 {
		t.Error(got, err)
	}
	var one inner
	if err := Unmarshal(nil, &one); err != nil || one.A != -1000 {
		t.Error(one, err)
	}
}

// PROTO-2: a newer Hadoop says more than we know.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	b := []byte{0xf8, 0x7f, 0x01, 0xfd, 0x7f, 1, 2, 3, 4, 0xf9, 0x7f, 1, 2, 3, 4, 5, 6, 7, 8, 0xfa, 0x7f, 0x02, 0xff, 0xff, 0x08, 0x02}
	var got sample
	if err := Unmarshal(b, &got); err != nil || got.Call != 1 {
		t.Error(got.Call, err)
	}
}

func TestPackedLists(t *testing.T) {
	var got sample
	if err := Unmarshal([]byte{0x4a, 0x03, 0x01, 0xac, 0x02}, &got); err != nil || !reflect.DeepEqual(got.Nums, []int32{1, 300}) {
		t.Error(got.Nums, err)
	}
}

// PROTO-1.
func TestHostileMessages(t *testing.T) {
	deep := []byte{}
	for range 200 {
		deep = append([]byte{0x72}, append(varintOf(len(deep)), deep...)...)
	}
	for name, b := range map[string][]byte{
		"a length beyond the end":  {0x32, 0xff, 0xff, 0xff, 0xff, 0x0f, 1},
		"a huge length":            {0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"an endless number":        {0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a number cut short":       {0x08, 0x80},
		"a group":                  {0x0b, 0x0c},
		"another type":             {0x3d, 1, 2, 3, 4},
		"messages in messages":     deep,
		"a million empty elements": []byte(strings.Repeat("\x42\x00", maxElements+1)),
	} {
		var got sample
		if err := Unmarshal(b, &got); err == nil {
			t.Errorf("%s was read as %d bytes of sense", name, len(b))
		}
	}
}

func varintOf(n int) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func TestDelimited(t *testing.T) {
	b := AppendDelimited(AppendDelimited(nil, inner{A: 7}), inner{B: strings.Repeat("x", 200)})
	first, rest, err := CutDelimited(b)
	var one, two inner
	if err != nil || Unmarshal(first, &one) != nil || one.A != 7 {
		t.Fatal(one, err)
	}
	second, rest, err := CutDelimited(rest)
	if err != nil || Unmarshal(second, &two) != nil || len(two.B) != 200 || len(rest) != 0 {
		t.Fatal(two, rest, err)
	}
	for _, bad := range []string{"", "\x05abc", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"} {
		if _, _, err := CutDelimited([]byte(bad)); err == nil {
			t.Errorf("%q was cut", bad)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add(Marshal(full()))
	f.Add([]byte{0x72, 0x02, 0x08, 0x41})
	f.Fuzz(func(t *testing.T, b []byte) {
		var first, second sample
		if Unmarshal(b, &first) != nil {
			return
		}
		again := Marshal(first)
		if err := Unmarshal(again, &second); err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
		if string(Marshal(second)) != string(again) {
			t.Fatalf("%x\n%x", again, Marshal(second))
		}
	})
}
