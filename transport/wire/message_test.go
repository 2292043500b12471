package wire

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// What is sent arrives, for every type and with any contents (WIRE-2, WIRE-4).
func TestRoundTrip(t *testing.T) {
	b := flatbuffers.NewBuilder(0)
	for _, typ := range types() {
		for seed := range uint64(50) {
			r := rand.New(rand.NewPCG(uint64(typ), seed))
			m := random(r, typ)
			if got := TypeOf(m); got != typ {
				t.Fatalf("TypeOf(%T) is %v, want %v", m, got, typ)
			}
			body, err := Marshal(b, m)
			if err != nil {
				t.Fatalf("%v seed %d: %v", typ, seed, err)
			}
			got, err := Unmarshal(typ, body)
			if err != nil {
				t.Fatalf("%v seed %d: %v", typ, seed, err)
			}
			if want := normal(m); !reflect.DeepEqual(got, want) {
				t.Fatalf("%v seed %d: got %+v, want %+v", typ, seed, got, want)
			}
			own, err := Marshal(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Marshal(b, m); err != nil || string(again) != string(own) {
				t.Fatalf("%v seed %d: a builder used before gives other bytes than a new one (%v)", typ, seed, err)
			}
		}
	}
}

// The caller may use the bytes again as soon as Unmarshal has returned.
func TestUnmarshalCopies(t *testing.T) {
	for _, typ := range types() {
		body, err := Marshal(nil, full(typ))
		if err != nil {
			t.Fatal(err)
		}
		m, err := Unmarshal(typ, body)
		if err != nil {
			t.Fatal(err)
		}
		for i := range body {
			body[i] = 0xff
		}
		if !reflect.DeepEqual(m, normal(full(typ))) {
			t.Errorf("%v: changing the bytes changed the message", typ)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name string
		m    Message
		why  string
	}{
		{"nil", nil, "no message"},
		{"nil of a type", (*fb.HelloT)(nil), "no message"},
		{"part", &fb.ResourceT{}, "no message"},
		{"nil element", &fb.RegisterT{Resources: []*fb.ResourceT{{}, nil}}, "Register.resources[1] is nil"},
		{"nil element below", &fb.RecAgentT{Register: &fb.RegisterT{Bundles: []*fb.BundleReservedT{{Bundles: []*fb.BundlePlaceT{nil}}}}}, "BundleReserved.bundles[0] is nil"},
		{"too large", &fb.ProgramLaunchT{Argv: repeat(long, 65)}, "more than"},
		{"far too large", &fb.ProgramLaunchT{Argv: repeat(long, 3000)}, "more than"},
		{"too many tables", &fb.RegisterT{Labels: repeat(&fb.LabelT{}, MaxTables+1)}, "tables"},
	} {
		body, err := Marshal(nil, c.m)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %d bytes, error %v, want one that says %q", c.name, len(body), err, c.why)
		}
	}
}

func repeat[T any](v T, n int) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func TestUnknownType(t *testing.T) {
	for _, typ := range []Type{0, 7, 71, 0xffff} {
		if m, err := Unmarshal(typ, make([]byte, 64)); !errors.Is(err, ErrUnknownType) {
			t.Errorf("type %d: %v, %v", typ, m, err)
		}
		if New(typ) != nil {
			t.Errorf("New(%d) is no nil interface", typ)
		}
	}
}

// A hot frame is written and read without allocating.
func TestHotFramesDoNotAllocate(t *testing.T) {
	in, out := full(fb.FrameTypeSubmit).(*fb.SubmitT), newSubmit()
	b := make([]byte, SubmitSize)
	n := testing.AllocsPerRun(100, func() {
		PutSubmit(b, in)
		if err := ReadSubmit(b, out); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !reflect.DeepEqual(in, out) {
		t.Errorf("got %+v, want %+v", out, in)
	}
	builder := flatbuffers.NewBuilder(128)
	if n := testing.AllocsPerRun(100, func() { _, _ = Marshal(builder, in) }); n != 0 {
		t.Errorf("Marshal with a builder: %v allocations", n)
	}
}

func TestClasses(t *testing.T) {
	for typ, want := range map[Type]Class{
		fb.FrameTypePing: ClassLiveness, fb.FrameTypeAck: ClassLiveness, fb.FrameTypeCredit: ClassLiveness,
		fb.FrameTypeHello: ClassControl, fb.FrameTypeCancel: ClassControl, fb.FrameTypeGroupCreate: ClassControl,
		fb.FrameTypeRankState: ClassControl, fb.FrameTypeRankOutputAck: ClassControl,
		fb.FrameTypeSubmit: ClassCalls, fb.FrameTypeResult: ClassCalls,
		fb.FrameTypeRankOutput: ClassData, fb.FrameTypeStateReply: ClassData,
		9999: ClassControl,
	} {
		if got := ClassOf(typ); got != want {
			t.Errorf("ClassOf(%v) is %v, want %v", typ, got, want)
		}
	}
}
