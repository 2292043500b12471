package wire

import (
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// The normative text says what the code does: numbers, sizes and fields in its tables, and the
// bytes of its example.
func TestSpec(t *testing.T) {
	text, err := os.ReadFile("../../docs/spec/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	spec := string(text)
	for _, n := range []int{MaxFragment, MaxMessage, MaxTables, MaxDepth, HeaderSize} {
		if !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, n)).MatchString(spec) {
			t.Errorf("the spec does not name the limit %d", n)
		}
	}
	if !strings.Contains(spec, fmt.Sprintf("\nVersion %d.", Version)) {
		t.Errorf("the spec is not of version %d", Version)
	}
	classes := map[Class][]string{}
	for _, typ := range types() {
		classes[ClassOf(typ)] = append(classes[ClassOf(typ)], typ.String())
		row := fmt.Sprintf("| %d | %s | %d | %s |", typ, typ, StructSize(typ), fields(reflect.TypeOf(New(typ)).Elem()))
		if StructSize(typ) > 0 && !strings.Contains(spec, row) {
			t.Errorf("no row %q", row)
		}
	}
	classes[ClassControl] = []string{"all others"}
	for c := range Class(NumClasses) {
		name := strings.ToUpper(c.String()[:1]) + c.String()[1:]
		m := regexp.MustCompile(fmt.Sprintf(`\| %d \| %s \| (.*) \|`, c, name)).FindStringSubmatch(spec)
		if m == nil || !sameWords(m[1], classes[c]) {
			t.Errorf("class %d, %s: the spec has %q, the code %q", c, name, m, classes[c])
		}
	}
	example := regexp.MustCompile("(?s)```frame\n(.*?)```").FindStringSubmatch(spec)
	if example == nil {
		t.Fatal("no example of a frame")
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(example[1]), ""))
	if err != nil {
		t.Fatal(err)
	}
	body, err := Marshal(nil, &fb.PingT{Sent: 1, Loop: 2})
	if err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, HeaderSize)
	PutHeader(frame, Header{Length: uint32(len(body)), Body: uint32(len(body)), Type: fb.FrameTypePing, Class: ClassOf(fb.FrameTypePing)})
	if frame = append(frame, body...); string(frame) != string(want) {
		t.Errorf("the example is %x, the code writes %x", want, frame)
	}
}

func fields(t reflect.Type) string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		typ := strings.Replace(f.Type.Kind().String(), "uint", "u", 1) // an enum as its number
		if f.Type.Kind() == reflect.Pointer {
			typ = strings.TrimSuffix(f.Type.Elem().Name(), "T")
		}
		out = append(out, f.Tag.Get("json")+" "+typ)
	}
	return strings.Join(out, ", ")
}

func sameWords(list string, want []string) bool {
	have := map[string]bool{}
	for _, w := range strings.Split(list, ", ") {
		have[w] = true
	}
	for _, w := range want {
		if !have[w] {
			return false
		}
	}
	return len(have) == len(want)
}
