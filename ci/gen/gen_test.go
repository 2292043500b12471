package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const frameText = `namespace wire;
enum Limit : uint32 { Version = 1, HeaderSize = 4 }
struct Header { length:uint32; }
enum Flag : uint8 { More = 1 }
enum Class : uint8 { Liveness = 0, Control = 1 }
enum LivenessTypes : uint16 { Ping }
`

const wireText = `namespace fb;
enum FrameType : uint16 { None = 0, Ping = 1, Hello = 2 }
struct TaskID { agent:uint32; process:uint32; counter:uint64; }
struct Ping { task:TaskID; sent:uint64; }
// What a part is.
table Part { id:TaskID; names:[string]; }
table Hello { text:string; n:int32 = -1; parts:[Part]; }
`

func TestLoad(t *testing.T) {
	s, err := load([]byte(wireText), []byte(frameText))
	if err != nil {
		t.Fatal(err)
	}
	ping, part, hello := s.record("Ping"), s.record("Part"), s.record("Hello")
	if ping.size != 24 || ping.align != 8 || ping.fields[1].offset != 16 || ping.number != 1 {
		t.Errorf("Ping: %+v", ping)
	}
	if !part.fills || !hello.fills || part.number != 0 || part.doc[0] != "What a part is." {
		t.Errorf("Part: %+v, Hello: %+v", part, hello)
	}
	if f := hello.fields[1]; f.def != "-1" || hello.fields[0].def != "" {
		t.Errorf("Hello.n: %+v", f)
	}
	if f := hello.fields[2]; f.slot != 8 || !f.vector || f.record != part {
		t.Errorf("Hello.parts: %+v", f)
	}
	if s.classOf["Ping"] != "Liveness" || s.classOf["Hello"] != "" {
		t.Errorf("classes: %v", s.classOf)
	}
}

// What our verifier could not check, or what would mean other bytes in other languages, never gets
// into the schema.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ add, why string }{
		{"union U { Part }", "only namespace, enum, struct and table"},
		{"include \"other.fbs\";", "has no meaning"},
		{"root_type Hello;", "only namespace"},
		{"table A { b:[int8]; }", "make it [uint8]"},
		{"table A { b:[bool]; }", "make it [uint8]"},
		{"table A { b:[TaskID]; }", "make TaskID a table"},
		{"table A { b:Nothing; }", "not declared"},
		{"table A { b:float; }", "not declared"},
		{"table A { b:uint8 (deprecated); }", "attributes"},
		{"table A { b:int8 = x; }", "a default is a number"},
		{"struct A { b:string; }", "numbers and structs only"},
		{"struct A { b:[uint32]; }", "numbers and structs only"},
		{"struct A { b:uint32; c:uint64; }", "hidden padding before"},
		{"struct A { b:uint64; c:uint32; }", "hidden padding at its end"},
		{"struct A { }", "hidden padding"},
		{"table A { a:A; }", "holds itself"},
		{"table A { b:B; } table B { a:[A]; }", "holds itself"},
		{"table A { b:uint8; b:uint8; }", "twice"},
		{"table Part { b:uint8; }", "twice"},
		{"enum E : uint8 { A = 256 }", "more than uint8"},
		{"enum E : int8 { A = 1 }", "unsigned"},
		{"table A { b:uint8 }", "belongs"},
		{"table A {", "belongs"},
		{"table", "a name belongs"},
	} {
		if _, err := load([]byte(wireText+c.add), []byte(frameText)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want an error that says %q", c.add, err, c.why)
		}
	}
	for _, c := range []struct{ old, new, why string }{
		{"Hello = 2", "Hello = 1", "are both 1"},
		{"Hello = 2", "Hallo = 2", "needs a table or struct"},
		{"namespace fb", "namespace x", "the Go package is fb"},
	} {
		if _, err := load([]byte(strings.Replace(wireText, c.old, c.new, 1)), []byte(frameText)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want an error that says %q", c.new, err, c.why)
		}
	}
	for _, c := range []struct{ old, new, why string }{
		{"HeaderSize = 4", "HeaderSize = 8", "the struct Header has 4"},
		{"{ Ping }", "{ Pong }", "is no message"},
		{"{ Ping }", "{ Part }", "is no message"},
		{"enum LivenessTypes", "enum Types", "says what class"},
	} {
		if _, err := load([]byte(wireText), []byte(strings.Replace(frameText, c.old, c.new, 1))); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want an error that says %q", c.new, err, c.why)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wireText)
	f.Add(frameText)
	f.Fuzz(func(t *testing.T, text string) { _, _ = load([]byte(text), []byte(frameText)) })
}

// -check sees a schema that was changed without make generate, output that was changed by hand,
// and files of flatc that are missing or too many.
func TestCheck(t *testing.T) {
	const repo = "../.."
	for _, c := range []struct {
		name   string
		change func(t *testing.T, root string)
		stale  string
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"schema", func(t *testing.T, root string) { add(t, root, wireFile, "\ntable Added { x:uint8; }\n") }, "doc.go"},
		{"frame schema", func(t *testing.T, root string) { add(t, root, frameFile, "\nenum Added : uint8 { A }\n") }, "limits_gen.go"},
		{"our output", func(t *testing.T, root string) { add(t, root, wireDir+"/verify_gen.go", "\n") }, "verify_gen.go"},
		{"template", func(t *testing.T, root string) { add(t, root, pythonFile, "\n") }, "frames.py"},
		{"flatc's output", func(t *testing.T, root string) { add(t, root, fbDir+"/Hello.go", "\n") }, "doc.go"},
		{"flatc's output gone", func(t *testing.T, root string) { remove(t, root, fbDir+"/Hello.go") }, "doc.go"},
		{"a file too many", func(t *testing.T, root string) { add(t, root, fbDir+"/Old.go", "package fb\n") }, "doc.go"},
		{"views", func(t *testing.T, root string) { add(t, root, viewFile, "\n") }, "view_gen.go"},
		{"output gone", func(t *testing.T, root string) { remove(t, root, wireDir+"/frames.h") }, "frames.h"},
	} {
		root := t.TempDir()
		for _, dir := range []string{wireDir, filepath.Dir(viewFile), filepath.Dir(pythonFile)} {
			if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join(repo, dir))); err != nil {
				t.Fatal(err)
			}
		}
		c.change(t, root)
		err := verify(root, false)
		if c.stale == "" && err != nil || c.stale != "" && (err == nil || !strings.Contains(err.Error(), c.stale)) {
			t.Errorf("%s: %v, want %q named", c.name, err, c.stale)
		}
	}
}

func add(t *testing.T, root, path, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(root, path), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, root, path string) {
	t.Helper()
	if err := os.Remove(filepath.Join(root, path)); err != nil {
		t.Fatal(err)
	}
}

// A flatc of another version in the cache is not used.
func TestFlatcVersion(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no shell on PATH")
	}
	path := filepath.Join(t.TempDir(), "flatc")
	for _, c := range []struct {
		says string
		ok   bool
	}{{"flatc version " + flatcVersion, true}, {"flatc version 2.0.8", false}, {"", false}} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+c.says+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := isFlatc(path); (err == nil) != c.ok {
			t.Errorf("%q: %v", c.says, err)
		}
	}
	if err := isFlatc(path + "-none"); err == nil {
		t.Error("a flatc that does not exist was accepted")
	}
}
