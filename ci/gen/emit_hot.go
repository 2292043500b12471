package main

import (
	"fmt"
	"strings"
)

// emitHot writes, for each struct, its size and access to its bytes without a builder.
func emitHot(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp, "encoding/binary", fbImport)
	for _, r := range s.records {
		if !r.fixed {
			continue
		}
		size := r.name + "Size"
		p.f("// %s is the length of a %s in bytes.\nconst %s = %d\n", size, r.name, size, r.size)

		p.f("// Put%s writes m to the first %s bytes of b, which must be there. An ID that is nil is written as zero.", r.name, size)
		p.f("func Put%s(b []byte, m *fb.%sT) {\n_ = b[%s-1]", r.name, r.name, size)
		for _, f := range r.fields {
			p.f("%s", strings.ReplaceAll(put(f), "NESTED", nilSafe(f)))
		}
		p.f("}\n")

		p.f("// Read%s reads a %s from b, which must be exactly %s long, into m. IDs that m has are written to, others are made.", r.name, r.name, size)
		p.f("func Read%s(b []byte, m *fb.%sT) error {\nif len(b) != %s {\nreturn wrongLength(%q, len(b), %s)\n}", r.name, r.name, size, r.name, size)
		for _, f := range r.fields {
			if f.record != nil {
				p.f("if m.%s == nil {\nm.%s = new%s()\n}", f.goName(), f.goName(), f.typ)
				p.f("if err := Read%s(b[%d:%d], m.%s); err != nil {\nreturn err\n}", f.typ, f.offset, f.offset+f.size(), f.goName())
				continue
			}
			p.f("m.%s = %s", f.goName(), get(f))
		}
		p.f("return nil\n}\n")
		emitNew(p, r)
	}
	return p.gofmt()
}

func nilSafe(f *field) string {
	if f.record == nil {
		return ""
	}
	return fmt.Sprintf("if m.%s != nil {\nPut%s(b[%d:%d], m.%s)\n} else {\nclear(b[%d:%d])\n}",
		f.goName(), f.typ, f.offset, f.offset+f.size(), f.goName(), f.offset, f.offset+f.size())
}

func put(f *field) string {
	switch {
	case f.record != nil:
		return "NESTED"
	case f.scalar.size == 1:
		return fmt.Sprintf("b[%d] = byte(m.%s)", f.offset, f.goName())
	}
	value, typ := "m."+f.goName(), fmt.Sprintf("uint%d", 8*f.scalar.size)
	if f.typ != typ {
		value = typ + "(" + value + ")"
	}
	return fmt.Sprintf("binary.LittleEndian.PutUint%d(b[%d:], %s)", 8*f.scalar.size, f.offset, value)
}

func get(f *field) string {
	raw := fmt.Sprintf("b[%d]", f.offset)
	if f.scalar.size > 1 {
		raw = fmt.Sprintf("binary.LittleEndian.Uint%d(b[%d:])", 8*f.scalar.size, f.offset)
	}
	if _, isNumber := scalars[f.typ]; !isNumber {
		return "fb." + f.typ + "(" + raw + ")"
	}
	if strings.HasPrefix(f.typ, "int") {
		return f.typ + "(" + raw + ")"
	}
	return raw
}

// emitNew writes a constructor that gets a struct and all IDs in it by one allocation.
func emitNew(p *page, r *record) {
	p.f("func new%s() *fb.%sT {", r.name, r.name)
	var parts, sets []string
	collect(r, "x.m", &parts, &sets)
	if len(parts) == 0 {
		p.f("return &fb.%sT{}\n}\n", r.name)
		return
	}
	p.f("x := &struct {\nm fb.%sT\n%s\n}{}\n%s\nreturn &x.m\n}\n", r.name, strings.Join(parts, "\n"), strings.Join(sets, "\n"))
}

func collect(r *record, path string, parts, sets *[]string) {
	for _, f := range r.fields {
		if f.record == nil {
			continue
		}
		part := fmt.Sprintf("p%d", len(*parts))
		*parts = append(*parts, part+" fb."+f.typ+"T")
		*sets = append(*sets, path+"."+f.goName()+" = &x."+part)
		collect(f.record, "x."+part, parts, sets)
	}
}
