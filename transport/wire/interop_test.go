package wire

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// The other languages' side of the test is made from the same random values, so that what C and
// Python write can be compared with Go's bytes, and what they read with Go's values (WIRE-5).

// sample is a header or a struct with its values in order, padding left out.
type sample struct {
	name   string // as the schema says it
	bytes  []byte // as Go writes it
	paths  []string
	values []uint64
}

func samples() []sample {
	r := rand.New(rand.NewPCG(3, 4))
	h := Header{
		Length: MaxFragment, Body: r.Uint32N(MaxFragment), Type: fb.FrameTypeSubmit, Class: ClassCalls, Flags: FlagMore,
		Message: r.Uint32(), Seq: r.Uint64(), Corr: r.Uint64(),
	}
	s := sample{name: "Header", bytes: make([]byte, HeaderSize),
		paths:  []string{"length", "body", "type", "class_", "flags", "message", "seq", "corr"},
		values: []uint64{uint64(h.Length), uint64(h.Body), uint64(h.Type), uint64(h.Class), uint64(h.Flags), uint64(h.Message), h.Seq, h.Corr}}
	PutHeader(s.bytes, h)
	out := []sample{s}
	for _, typ := range types() {
		if StructSize(typ) == 0 {
			continue
		}
		m := full(typ)
		s := sample{name: typ.String(), bytes: make([]byte, StructSize(typ))}
		s.collect("", reflect.ValueOf(m).Elem())
		putStruct(s.bytes, m)
		out = append(out, s)
	}
	l := &fb.LocationT{Kind: fb.LocationKindMemory, Agent: r.Uint32(), Arena: r.Uint64(), Offset: r.Uint64(), Size: r.Uint64()}
	s = sample{name: "Location", bytes: make([]byte, LocationSize)}
	s.collect("", reflect.ValueOf(l).Elem())
	PutLocation(s.bytes, l)
	return append(out, s)
}

func (s *sample) collect(prefix string, v reflect.Value) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		switch f := v.Field(i); {
		case f.Kind() == reflect.Pointer:
			s.collect(prefix+name+".", f.Elem())
		case name == "pad":
			f.SetUint(0)
		default:
			s.paths, s.values = append(s.paths, prefix+name), append(s.values, f.Uint())
		}
	}
}

// compare reads the other side's lines: a name, the bytes that it wrote from the values, and the
// values that it read from Go's bytes. Go reads those bytes, too.
func compare(t *testing.T, out []byte) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	all := samples()
	if len(lines) != len(all) {
		t.Fatalf("%d lines for %d structs:\n%s", len(lines), len(all), out)
	}
	for i, s := range all {
		want := fmt.Sprintf("%s %x", s.name, s.bytes)
		for _, v := range s.values {
			want += fmt.Sprintf(" %d", v)
		}
		if lines[i] != want {
			t.Errorf("got  %s\nwant %s", lines[i], want)
			continue
		}
		theirs, err := hex.DecodeString(strings.Fields(lines[i])[1])
		if err != nil {
			t.Fatal(err)
		}
		var back sample
		if s.name == "Location" {
			var m fb.LocationT
			if err := ReadLocation(theirs, &m); err != nil {
				t.Error(err)
			}
			back.collect("", reflect.ValueOf(&m).Elem())
		} else if s.name == "Header" {
			h, err := ParseHeader(theirs)
			if err != nil {
				t.Error(err)
				continue
			}
			back.values = []uint64{uint64(h.Length), uint64(h.Body), uint64(h.Type), uint64(h.Class), uint64(h.Flags), uint64(h.Message), h.Seq, h.Corr}
		} else {
			m, err := Unmarshal(fb.EnumValuesFrameType[s.name], theirs)
			if err != nil {
				t.Error(err)
				continue
			}
			back.collect("", reflect.ValueOf(m).Elem())
		}
		if !reflect.DeepEqual(back.values, s.values) {
			t.Errorf("%s: Go read %v from their bytes, want %v", s.name, back.values, s.values)
		}
	}
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return out
}

func TestPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on PATH")
	}
	var prog strings.Builder
	prog.WriteString("import sys, runpy\nsys.dont_write_bytecode = True\nw = runpy.run_path('../../libs/python/maniple/_core/frames.py')\n")
	prog.WriteString("def say(name, values, theirs):\n" +
		"    upper = ''.join('_' + c if c.isupper() and i else c for i, c in enumerate(name)).upper()\n" +
		"    kind, struct = w[name], w[upper + '_STRUCT']\n" +
		"    mine = struct.pack(*kind(**values))\n" +
		"    read = kind._make(struct.unpack(bytes.fromhex(theirs)))._asdict()\n" +
		"    print(name, mine.hex(), *[read[k] for k in values])\n")
	for _, s := range samples() {
		fmt.Fprintf(&prog, "say(%q, dict(", s.name)
		for i, p := range s.paths {
			fmt.Fprintf(&prog, "%s=%d, ", strings.ReplaceAll(p, ".", "_"), s.values[i])
		}
		fmt.Fprintf(&prog, "), '%x')\n", s.bytes)
	}
	compare(t, run(t, python, "-c", prog.String()))
}

func TestC(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc on PATH")
	}
	var prog strings.Builder
	prog.WriteString("#include \"frames.h\"\n#include <stdio.h>\n#include <string.h>\n" +
		"static void hex(const void *p, size_t n) { for (size_t i = 0; i < n; i++) printf(\"%02x\", ((const unsigned char *)p)[i]); }\n" +
		"int main(void)\n{\n")
	for _, s := range samples() {
		fmt.Fprintf(&prog, "    {\n        struct maniple_%s m;\n        static const unsigned char theirs[] = {", strings.ToLower(s.name))
		for _, b := range s.bytes {
			fmt.Fprintf(&prog, "%d,", b)
		}
		prog.WriteString("};\n        memset(&m, 0, sizeof m);\n")
		for i, p := range s.paths {
			fmt.Fprintf(&prog, "        m.%s = %dull;\n", p, s.values[i])
		}
		fmt.Fprintf(&prog, "        printf(\"%s \");\n        hex(&m, sizeof m);\n", s.name)
		// A pointer into a buffer may be cast, whatever its alignment.
		prog.WriteString("        unsigned char buf[sizeof theirs + 1];\n        memcpy(buf + 1, theirs, sizeof theirs);\n")
		fmt.Fprintf(&prog, "        const struct maniple_%s *p = (const void *)(buf + 1);\n", strings.ToLower(s.name))
		for _, p := range s.paths {
			fmt.Fprintf(&prog, "        printf(\" %%llu\", (unsigned long long)p->%s);\n", p)
		}
		prog.WriteString("        puts(\"\");\n    }\n")
	}
	for name, n := range enums() {
		fmt.Fprintf(&prog, "    _Static_assert(MANIPLE_%s == %d, \"%s\");\n", name, n, name)
	}
	prog.WriteString("    return 0;\n}\n")
	dir := t.TempDir()
	src, bin := filepath.Join(dir, "t.c"), filepath.Join(dir, "t")
	if err := os.WriteFile(src, []byte(prog.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, gcc, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I.", "-o", bin, src)
	compare(t, run(t, bin))
}

// Numbers, limits and classes say the same in all three languages.
func TestConstants(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on PATH")
	}
	var prog, want strings.Builder
	prog.WriteString("import runpy\nw = runpy.run_path('../../libs/python/maniple/_core/frames.py')\n" +
		"print(*[w[k] for k in 'VERSION HEADER_SIZE MAX_FRAGMENT MAX_MESSAGE MAX_TABLES MAX_DEPTH FLAG_MORE CLASS_LIVENESS CLASS_CONTROL CLASS_CALLS CLASS_DATA'.split()])\n")
	fmt.Fprintln(&want, Version, HeaderSize, MaxFragment, MaxMessage, MaxTables, MaxDepth, FlagMore, uint8(ClassLiveness), uint8(ClassControl), uint8(ClassCalls), uint8(ClassData))
	for _, typ := range types() {
		fmt.Fprintf(&prog, "print(%q, w[%q], w['CLASS_OF'].get(%d, w['CLASS_CONTROL']))\n", typ, screaming(typ.String()), typ)
		fmt.Fprintln(&want, typ, uint16(typ), uint8(ClassOf(typ)))
	}
	for name, n := range enums() {
		fmt.Fprintf(&prog, "print(%q, w[%q])\n", name, name)
		fmt.Fprintln(&want, name, n)
	}
	if got := string(run(t, python, "-c", prog.String())); got != want.String() {
		t.Errorf("Python says\n%s\nGo says\n%s", got, want.String())
	}
}

// screaming turns RankState into RANK_STATE.
func screaming(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteString(strings.ToUpper(string(c)))
	}
	return b.String()
}

// enums maps the names of the enums' values in C and Python to their numbers.
func enums() map[string]uint64 {
	out := map[string]uint64{}
	for _, names := range []any{
		fb.EnumNamesRole, fb.EnumNamesPurpose, fb.EnumNamesRefuseCode, fb.EnumNamesFormat, fb.EnumNamesResultFlag,
		fb.EnumNamesLocationKind, fb.EnumNamesWant, fb.EnumNamesObjectState, fb.EnumNamesActorPhase, fb.EnumNamesAttachKind,
		fb.EnumNamesLevel, fb.EnumNamesStrategy, fb.EnumNamesStdinTo, fb.EnumNamesGroupPhase, fb.EnumNamesCancelMode, fb.EnumNamesRankPhase,
	} {
		v := reflect.ValueOf(names)
		for _, k := range v.MapKeys() {
			out[screaming(k.Type().Name())+"_"+screaming(v.MapIndex(k).String())] = k.Uint()
		}
	}
	return out
}
