package work

import (
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/maniple-hpc/maniple/transport"
	"github.com/maniple-hpc/maniple/transport/wire"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// A view's fields are those of the struct that wire reads from the same bytes, each settable where it lies.
func TestViews(t *testing.T) {
	for typ, view := range map[wire.Type]any{
		fb.FrameTypeSubmit: Submit{}, fb.FrameTypeCall: Call{}, fb.FrameTypeResult: Result{}, fb.FrameTypeRelease: Release{},
		fb.FrameTypeGet: Get{}, fb.FrameTypeReady: Ready{}, fb.FrameTypeBlocked: Blocked{}, fb.FrameTypeUnblocked: Unblocked{},
		fb.FrameTypeCancel: Cancel{}, fb.FrameTypeSeal: Seal{}, fb.FrameTypePut: Put{}, fb.FrameTypeRecall: Recall{},
		fb.FrameTypeRecalled: Recalled{}, fb.FrameTypeAwaits: Awaits{}, fb.FrameTypeStarted: Started{}, fb.FrameTypeCredit: Credit{},
	} {
		_, f := Extend(nil, typ, 3)
		v := reflect.ValueOf(f).Convert(reflect.TypeOf(view))
		fields := reflect.TypeOf(wire.New(typ)).Elem()
		for i := range fields.NumField() {
			name := fields.Field(i).Name
			if name == "Pad" {
				continue
			}
			get, set := v.MethodByName(name), v.MethodByName("Set"+name)
			if !get.IsValid() || !set.IsValid() {
				t.Errorf("%s: no access to %s", typ, name)
				continue
			}
			want := value(get.Type().Out(0), uint64(0x0102030405060708)*uint64(i+1))
			set.Call([]reflect.Value{want})
			if got := get.Call(nil)[0]; !got.Equal(want) {
				t.Errorf("%s.%s is %v, was set to %v", typ, name, got, want)
			}
		}
		m, err := f.Message() // all fields were set, none over another
		if err != nil {
			t.Fatal(err)
		}
		for i := range fields.NumField() {
			name := fields.Field(i).Name
			if name == "Pad" {
				continue
			}
			want := value(v.MethodByName(name).Type().Out(0), uint64(0x0102030405060708)*uint64(i+1)).Interface()
			got := reflect.ValueOf(m).Elem().Field(i).Interface()
			switch g := got.(type) {
			case *fb.TaskIDT:
				got = task(g)
			case *fb.ObjectIDT:
				got = id.Object{Task: task(g.Task), Index: g.Index}
			}
			if got != want {
				t.Errorf("%s.%s reads as %v, was set to %v", typ, name, got, want)
			}
		}
		if string(f.Payload()) != "\x00\x00\x00" {
			t.Errorf("%s: the payload was written to: % x", typ, f.Payload())
		}
	}
}

func task(t *fb.TaskIDT) id.Task {
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

func value(typ reflect.Type, n uint64) reflect.Value {
	v := reflect.New(typ).Elem()
	switch typ {
	case reflect.TypeFor[id.Task]():
		v.Set(reflect.ValueOf(id.Task{Agent: id.Agent(n), Process: id.Process(n + 1), Counter: n + 2}))
	case reflect.TypeFor[id.Object]():
		v.Set(reflect.ValueOf(id.Object{Task: id.Task{Agent: id.Agent(n), Process: id.Process(n + 1), Counter: n + 2}, Index: uint32(n + 3)}))
	default:
		v.SetUint(n >> (64 - typ.Bits()))
	}
	return v
}

func TestLocation(t *testing.T) {
	b := make([]byte, wire.LocationSize)
	l := Location(b)
	l.SetKind(fb.LocationKindMemory)
	l.SetAgent(7)
	l.SetArena(8)
	l.SetOffset(64)
	l.SetSize(100)
	var m fb.LocationT
	if err := wire.ReadLocation(b, &m); err != nil || m != (fb.LocationT{Kind: fb.LocationKindMemory, Agent: 7, Arena: 8, Offset: 64, Size: 100}) {
		t.Errorf("%+v, %v", m, err)
	}
}

// Extend makes whole frames that Check lets through, in memory that was used before.
func TestExtend(t *testing.T) {
	dst := []byte(strings.Repeat("x", 500))[:0]
	dst, f := Extend(dst, fb.FrameTypeReady, 0)
	Ready(f).SetState(fb.ObjectStateLost)
	dst, f = Extend(dst, fb.FrameTypePut, 24+2)
	Put(f).SetRefs(1)
	o := id.Object{Task: id.Task{Agent: 1, Process: 2, Counter: 3}, Index: 4}
	PutObject(f.Payload(), o)
	if n, err := Check(dst); err != nil || n != len(dst) {
		t.Fatalf("%d of %d, %v", n, len(dst), err)
	}
	var types []wire.Type
	for f := range Frames(dst) {
		types = append(types, f.Type())
		if f.Type() == fb.FrameTypePut && (ObjectAt(f.Payload()) != o || string(f.Payload()[24:]) != "\x00\x00") {
			t.Errorf("payload % x", f.Payload())
		}
	}
	if !reflect.DeepEqual(types, []wire.Type{fb.FrameTypeReady, fb.FrameTypePut}) {
		t.Errorf("%v", types)
	}
	if _, err := AppendMessage(nil, &fb.ForkT{}, 0, make([]byte, wire.MaxMessage)); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("more than a message may have: %v", err)
	}
}

// BATCH-2: each rule of a frame, on one that breaks it, behind one that is whole.
func TestCheckRules(t *testing.T) {
	u32 := binary.LittleEndian.PutUint32
	objects := func(f Frame, deps, refs uint32) {
		Submit(f).SetDeps(deps)
		Submit(f).SetRefs(refs)
	}
	for _, c := range []struct {
		name string
		edit func(f Frame)
		why  string
	}{
		{"as it was", func(f Frame) {}, ""},
		{"longer than a message", func(f Frame) { u32(f, wire.MaxMessage+1) }, "length"},
		{"body beyond the frame", func(f Frame) { u32(f[4:], 1000) }, "body"},
		{"no type", func(f Frame) { f[8] = 0 }, "type"},
		{"a type of a later build", func(f Frame) { f[9] = 200 }, ""},
		{"no class", func(f Frame) { f[10] = 9 }, "class"},
		{"more fragments", func(f Frame) { f[11] = wire.FlagMore }, "flags"},
		{"a place", func(f Frame) { f[12] = 1 }, ""},
		{"a session's number", func(f Frame) { f[16] = 1 }, "seq"},
		{"a correlation", func(f Frame) { f[24] = 1 }, ""},
		{"a body too short", func(f Frame) { u32(f[4:], wire.SubmitSize-1) }, "Submit"},
		{"a body too long", func(f Frame) { u32(f[4:], wire.SubmitSize+1) }, "Submit"},
		{"as many objects as fit", func(f Frame) { objects(f, 1, 1) }, ""},
		{"one object too many", func(f Frame) { objects(f, 2, 1) }, "names 3 objects"},
		{"far too many objects", func(f Frame) { objects(f, 1<<31, 1<<31) }, "names 4294967296 objects"},
	} {
		first, f := submit(1, 0), submit(2, 50)
		c.edit(f)
		b := append(append([]byte{}, first...), f...)
		n, err := Check(b[:len(b):len(b)])
		switch {
		case c.why == "" && (err != nil || n != len(b)):
			t.Errorf("%s: %d of %d, %v", c.name, n, len(b), err)
		case c.why != "" && (!errors.Is(err, transport.ErrProtocol) || !errors.Is(err, wire.ErrMalformed) && !strings.Contains(c.why, "objects") || !strings.Contains(err.Error(), c.why) || n != len(first)):
			t.Errorf("%s: %d, %v; want %d and an error that says %q", c.name, n, err, len(first), c.why)
		}
	}
	for typ, f := range map[wire.Type]Frame{
		fb.FrameTypeCall:   message(t, &fb.CallT{Deps: 1, Refs: 1}, make([]byte, 47)),
		fb.FrameTypeResult: message(t, &fb.ResultT{Refs: 1}, make([]byte, 23)),
		fb.FrameTypePut:    message(t, &fb.PutT{Refs: 2}, make([]byte, 47)),
		fb.FrameTypeSeal:   message(t, &fb.SealT{Refs: 1}, nil),
	} {
		if n, err := Check(f); n != 0 || !errors.Is(err, transport.ErrProtocol) {
			t.Errorf("%s with an object too many: %d, %v", typ, n, err)
		}
	}
}

// What is not all there yet is left; a header that can't be is refused before its frame is there.
func TestCheckPrefixes(t *testing.T) {
	frames := some(t)
	b := join(frames)
	ends := map[int]int{}
	at := 0
	for _, f := range frames {
		for range len(f) {
			ends[len(ends)] = at
		}
		at += len(f)
	}
	for n := range len(b) {
		if whole, err := Check(b[:n:n]); err != nil || whole != ends[n] {
			t.Errorf("%d bytes: %d whole, %v; want %d", n, whole, err, ends[n])
		}
	}
	bad := submit(1, 1<<20)
	bad[10] = 9
	if _, err := Check(bad[:wire.HeaderSize]); !errors.Is(err, transport.ErrProtocol) {
		t.Errorf("a bad header alone: %v", err)
	}
}
