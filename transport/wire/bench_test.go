package wire

import (
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

func BenchmarkHeader(b *testing.B) {
	b.ReportAllocs()
	buf := make([]byte, HeaderSize)
	h := Header{Length: 100, Body: 72, Type: fb.FrameTypeSubmit, Class: ClassCalls}
	for b.Loop() {
		h.Seq++
		PutHeader(buf, h)
		if _, err := ParseHeader(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutSubmit(b *testing.B) {
	b.ReportAllocs()
	m, buf := full(fb.FrameTypeSubmit).(*fb.SubmitT), make([]byte, SubmitSize)
	for b.Loop() {
		PutSubmit(buf, m)
	}
}

func BenchmarkReadSubmit(b *testing.B) {
	b.ReportAllocs()
	m, buf := full(fb.FrameTypeSubmit).(*fb.SubmitT), make([]byte, SubmitSize)
	PutSubmit(buf, m)
	for b.Loop() {
		if err := ReadSubmit(buf, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	for _, typ := range []Type{fb.FrameTypeSubmit, fb.FrameTypeRankOutput, fb.FrameTypeGroupCreate, fb.FrameTypeRegister} {
		b.Run(typ.String(), func(b *testing.B) {
			b.ReportAllocs()
			m, builder := full(typ), flatbuffers.NewBuilder(1024)
			for b.Loop() {
				if _, err := Marshal(builder, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, typ := range []Type{fb.FrameTypeSubmit, fb.FrameTypeRankOutput, fb.FrameTypeGroupCreate, fb.FrameTypeRegister} {
		b.Run(typ.String(), func(b *testing.B) {
			b.ReportAllocs()
			body, err := Marshal(nil, full(typ))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Unmarshal(typ, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify is the part of Unmarshal that safety costs.
func BenchmarkVerify(b *testing.B) {
	b.ReportAllocs()
	body, err := Marshal(nil, full(fb.FrameTypeRegister))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := verify(fb.FrameTypeRegister, body, verifyRegister); err != nil {
			b.Fatal(err)
		}
	}
}
