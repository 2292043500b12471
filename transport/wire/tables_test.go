package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

// tablesProgram reads lines of a table's name and a body, and writes for each what it read, and the bytes that
// it makes of that; or "error". Anything but WireError ends it. A line without a body is packed from nothing.
const tablesProgram = `
import json, runpy, sys
sys.dont_write_bytecode = True
w = runpy.run_path("../../libs/python/maniple/_core/frames.py")
def plain(v):
    if isinstance(v, dict):
        return {k: plain(x) for k, x in v.items()}
    if isinstance(v, (list, tuple)):
        return [plain(x) for x in v]
    if isinstance(v, str):
        v = v.encode("utf-8", "surrogateescape")
    return "x" + v.hex() if isinstance(v, bytes) else v
for line in sys.stdin:
    name, _, body = line.strip().partition(" ")
    if not body:
        print("nothing", w["pack"](name, {}).hex())
        continue
    try:
        value = w["unpack"](name, bytes.fromhex(body))
    except w["WireError"]:
        print("error")
        continue
    print(json.dumps(plain(value), separators=(",", ":")), w["pack"](name, value).hex())
`

// plain is v as tablesProgram prints it.
func plain(v reflect.Value) string {
	var parts []string
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "null"
		}
		if isID(v.Type()) {
			var s sample
			s.collect("", v.Elem())
			return strings.ReplaceAll(fmt.Sprint(s.values), " ", ",")
		}
		return plain(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			parts = append(parts, fmt.Sprintf("%q:%s", v.Type().Field(i).Tag.Get("json"), plain(v.Field(i))))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf(`"x%x"`, v.Bytes())
		}
		for i := range v.Len() {
			parts = append(parts, plain(v.Index(i)))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case reflect.String:
		return fmt.Sprintf(`"x%x"`, v.String())
	case reflect.Bool:
		return fmt.Sprint(v.Bool())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprint(v.Int())
	}
	return fmt.Sprint(v.Uint())
}

type table struct {
	typ  Type
	body []byte
}

// inPython holds Python's word on every body against Go's: read alike or refused alike, and what Python
// writes Go reads as the same.
func inPython(t *testing.T, tables []table) (refused int) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on PATH")
	}
	var in bytes.Buffer
	for _, b := range tables {
		fmt.Fprintf(&in, "%s %x\n", b.typ, b.body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var errs bytes.Buffer
	cmd := exec.CommandContext(ctx, python, "-c", tablesProgram)
	cmd.Stdin, cmd.Stderr = &in, &errs
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		t.Fatalf("%v after %d of %d tables\n%s", err, len(lines), len(tables), errs.Bytes())
	}
	if len(lines) != len(tables) {
		t.Fatalf("%d lines for %d tables", len(lines), len(tables))
	}
	for i, b := range tables {
		want := b.body
		if len(want) == 0 {
			want = []byte{8, 0, 0, 0, 4, 0, 4, 0, 4, 0, 0, 0} // a table without fields
		}
		m, err := Unmarshal(b.typ, want)
		if err != nil {
			if refused++; lines[i] != "error" {
				t.Errorf("%s %x: Go says %v, Python read\n%s", b.typ, b.body, err, lines[i])
			}
			continue
		}
		value, theirs, _ := strings.Cut(lines[i], " ")
		if mine := plain(reflect.ValueOf(m)); value != mine && len(b.body) > 0 {
			t.Errorf("%s %x: Python read\n%s\nGo\n%s", b.typ, b.body, value, mine)
			continue
		}
		raw, err := hex.DecodeString(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Unmarshal(b.typ, raw); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: Go read %+v, %v from Python's %x, want %+v", b.typ, back, err, raw, m)
		}
		if t.Failed() {
			break
		}
	}
	return refused
}

func tableTypes() []Type {
	var out []Type
	for _, typ := range types() {
		if StructSize(typ) == 0 {
			out = append(out, typ)
		}
	}
	return out
}

// Every table with any contents, and with none, is the same in Go and in Python.
func TestPythonTables(t *testing.T) {
	var tables []table
	for _, typ := range tableTypes() {
		tables = append(tables, table{typ: typ})
		for seed := range uint64(20) {
			m := full(typ)
			if seed > 0 {
				m = random(rand.New(rand.NewPCG(uint64(typ), seed)), typ)
			}
			body, err := Marshal(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, table{typ, body})
		}
	}
	if refused := inPython(t, tables); refused > 0 {
		t.Errorf("%d of Go's own bodies were refused", refused)
	}
}

// Python refuses what Go refuses, with one type of error, and reads the rest as Go does (WIRE-1, WIRE-3).
func TestPythonTablesHostile(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	evil := []uint32{0, 1, 4, 0x7fffffff, 0x80000000, 0xfffffffc, 0xffffffff, 0x00040004}
	var tables []table
	for _, typ := range tableTypes() {
		body, err := Marshal(nil, full(typ))
		if err != nil {
			t.Fatal(err)
		}
		add := func(b []byte) { tables = append(tables, table{typ, append([]byte{}, b...)}) }
		for range 12 {
			add(body[:1+r.IntN(len(body)-1)])
			b := append([]byte{}, body...)
			for range 1 + r.IntN(3) {
				b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			}
			add(b)
			b = append([]byte{}, body...)
			binary.LittleEndian.PutUint32(b[r.IntN(len(b)/2)&^1:], evil[r.IntN(len(evil))])
			add(b)
			noise := make([]byte, 1+r.IntN(200))
			for i := range noise {
				noise[i] = byte(r.UintN(256)) >> r.UintN(9)
			}
			add(noise)
		}
	}
	text := make([]byte, 4+1<<10+4)
	binary.LittleEndian.PutUint32(text, 1<<10)
	const register = 40
	tables = append(tables, table{register, shared(10, 1, text)}, table{register, shared(10, 5000, text)}, // addresses
		table{register, shared(14, 1000, []byte{0xfc, 0xff, 0xff, 0xff, 4, 0, 4, 0})}) // labels
	refused := inPython(t, tables)
	if refused < len(tables)/4 || refused > len(tables)*19/20 {
		t.Errorf("%d of %d bodies were refused: the test has lost its bite", refused, len(tables))
	}
}

// What the schema has no place for is a WireError that names the place.
func TestPythonPackRefuses(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 on PATH")
	}
	run(t, python, "-c", `
import runpy, sys
sys.dont_write_bytecode = True
w = runpy.run_path("../../libs/python/maniple/_core/frames.py")
big = "x" * (w["MAX_MESSAGE"] + 1)
w["pack"].__globals__["MAX_TABLES"] = 100
for name, value, why in [
    ("Nothing", {}, "'Nothing'"),
    ("Submit", {}, "'Submit'"),
    ("Shape", {"nubmer": 1}, "nubmer"),
    ("Shape", {1: 1}, "no field 1"),
    ("Shape", [], "list"),
    ("Shape", 5, "int"),
    ("Shape", {"number": -1}, "Shape.number"),
    ("Shape", {"number": 1 << 32}, "Shape.number"),
    ("Shape", {"number": "1"}, "Shape.number"),
    ("Shape", {"name": 5}, "Shape.name"),
    ("Shape", {"name": "\ud800"}, "Shape.name"),
    ("Shape", {"group": 5}, "Shape.group"),
    ("Shape", {"group": (1, 2)}, "Shape.group"),
    ("Shape", {"resources": [None]}, "Resource"),
    ("Shape", {"resources": [{"amount": 1.5}]}, "Resource.amount"),
    ("Shape", {"resources": 7}, "Shape.resources"),
    ("Function", {"hash": 32}, "Function.hash"),
    ("Function", {"hash": "text"}, "Function.hash"),
    ("Methods", {"names": "abc"}, "Methods.names"),
    ("Methods", {"names": [1]}, "Methods.names"),
    ("RankStateAck", {"ranks": [1, -1]}, "RankStateAck.ranks"),
    ("Fork", {"env": [big]}, "more than"),
    ("Register", {"labels": [{}] * 100}, "more than 100 tables"),
]:
    try:
        w["pack"](name, value)
    except w["WireError"] as e:
        assert why in str(e), (name, why, str(e))
    else:
        raise AssertionError(f"{name} {value!r:.60} was packed")
for name, body in [("Nothing", bytes(12)), ("Shape", b""), ("Shape", bytes(7)), ("Shape", bytes(w["MAX_MESSAGE"] + 1))]:
    try:
        w["unpack"](name, body)
    except w["WireError"]:
        continue
    raise AssertionError(f"{name} of {len(body)} bytes was read")
# What is bytes-like, and text that is no text, goes through.
back = w["unpack"]("Failure", memoryview(w["pack"]("Failure", {"message": b"\xff\xfe", "pickle": bytearray(b"ab"), "task": w["TaskID"](1, 2, 3)})))
assert back["message"] == "\udcff\udcfe" and back["pickle"] == b"ab" and back["task"] == (1, 2, 3) and back["cause"] == "", back
assert w["unpack"]("Shape", w["pack"]("Shape", {}))["bundle"] == -1
`)
}
