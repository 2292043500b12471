package wire

import (
	"errors"
	"testing"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func TestHeader(t *testing.T) {
	good := Header{Length: 0x0102, Body: 0x0101, Type: fb.FrameTypeRankOutput, Class: ClassData, Flags: FlagMore,
		Message: 0x090a0b0c, Seq: 0x1112131415161718, Corr: 0x2122232425262728}
	b := make([]byte, HeaderSize+4)
	PutHeader(b, good)
	want := "\x02\x01\x00\x00\x01\x01\x00\x00\x5d\x00\x03\x01\x0c\x0b\x0a\x09\x18\x17\x16\x15\x14\x13\x12\x11\x28\x27\x26\x25\x24\x23\x22\x21\x00\x00\x00\x00"
	if string(b) != want {
		t.Fatalf("written as %x, want %x", b, want)
	}
	if got, err := ParseHeader(b); err != nil || got != good || !got.More() {
		t.Fatalf("read as %+v, %v", got, err)
	}
	for _, c := range []struct {
		name   string
		change func(*Header)
	}{
		{"longer than a fragment", func(h *Header) { h.Length = MaxFragment + 1 }},
		{"huge", func(h *Header) { h.Length = 1<<32 - 1 }},
		{"body beyond the frame", func(h *Header) { h.Body = h.Length + 1 }},
		{"no type", func(h *Header) { h.Type = 0 }},
		{"no class", func(h *Header) { h.Class = NumClasses }},
		{"flags", func(h *Header) { h.Flags = 2 }},
	} {
		h := good
		c.change(&h)
		PutHeader(b, h)
		if got, err := ParseHeader(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: read as %+v, %v", c.name, got, err)
		}
	}
	for n := range HeaderSize {
		if _, err := ParseHeader(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	// A type of a later build is not the header's business.
	unknown := good
	unknown.Type = 60000
	PutHeader(b, unknown)
	if got, err := ParseHeader(b); err != nil || got != unknown {
		t.Errorf("an unknown type: %+v, %v", got, err)
	}
}

func FuzzHeader(f *testing.F) {
	b := make([]byte, HeaderSize)
	PutHeader(b, Header{Length: 100, Body: 50, Type: 16, Class: 2, Seq: 1})
	f.Add(b)
	f.Add(b[:31])
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ParseHeader(in[:len(in):len(in)])
		if err != nil {
			if !errors.Is(err, ErrMalformed) || h != (Header{}) {
				t.Fatalf("%+v, %v", h, err)
			}
			return
		}
		if h.Length > MaxFragment || h.Body > h.Length || h.Class >= NumClasses {
			t.Fatalf("accepted %+v", h)
		}
		out := make([]byte, HeaderSize)
		PutHeader(out, h)
		if string(out) != string(in[:HeaderSize]) {
			t.Fatalf("%x became %x", in[:HeaderSize], out)
		}
	})
}
