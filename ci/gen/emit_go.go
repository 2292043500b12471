package main

import "strings"

// emitLimits writes the constants of frame.fbs and the class of each type.
func emitLimits(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp, fbImport)
	p.f("// Constants of this version of the wire. Whoever reads checks all of them.\nconst (")
	for _, v := range s.limits.values {
		p.f("%s = %d%s", v.name, v.value, comment(v.doc))
	}
	p.f(")\n")
	p.f("// Bits of Header.Flags.\nconst (")
	for _, v := range s.flags.values {
		p.f("Flag%s uint8 = %d%s", v.name, v.value, comment(v.doc))
	}
	p.f(")\n")
	p.f("// Classes, most urgent first.\nconst (")
	for _, v := range s.classes.values {
		p.f("Class%s Class = %d%s", v.name, v.value, comment(v.doc))
	}
	p.f("NumClasses = %d // how many there are", len(s.classes.values))
	p.f(")\n")
	p.f("func classOf(t Type) Class {\nswitch t {")
	for _, c := range s.classes.values {
		var types []string
		for _, r := range s.frames {
			if s.classOf[r.name] == c.name {
				types = append(types, "fb.FrameType"+r.name)
			}
		}
		if len(types) > 0 {
			p.f("case %s:\nreturn Class%s", strings.Join(types, ", "), c.name)
		}
	}
	p.f("}\nreturn ClassControl\n}")
	return p.gofmt()
}

// emitRegistry writes what ties the types to their numbers.
func emitRegistry(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp, fbImport)
	p.f("func typeOf(m Message) Type {\nswitch m := m.(type) {")
	for _, r := range s.frames {
		p.f("case *fb.%sT:\nif m != nil {\nreturn fb.FrameType%s\n}", r.name, r.name)
	}
	p.f("}\nreturn fb.FrameTypeNone\n}\n")

	p.f("func newMessage(t Type) Message {\nswitch t {")
	for _, r := range s.frames {
		p.f("case fb.FrameType%s:", r.name)
		if r.fixed {
			p.f("return new%s()", r.name)
		} else {
			p.f("return &fb.%sT{}", r.name)
		}
	}
	p.f("}\nreturn nil\n}\n")

	p.f("func unmarshal(t Type, body []byte) (Message, error) {\nswitch t {")
	for _, r := range s.frames {
		p.f("case fb.FrameType%s:", r.name)
		if r.fixed {
			p.f("m := new%s()\nif err := Read%s(body, m); err != nil {\nreturn nil, err\n}\nreturn m, nil", r.name, r.name)
			continue
		}
		p.f("if err := verify(t, body, verify%s); err != nil {\nreturn nil, err\n}", r.name)
		p.f("m := fb.GetRootAs%s(body, 0).UnPack()", r.name)
		if r.fills {
			p.f("fill%s(m)", r.name)
		}
		p.f("return m, nil")
	}
	p.f("}\nreturn nil, unknown(t)\n}\n")

	p.f("// StructSize is the length of the body of messages that are structs, 0 for tables and what is unknown.")
	p.f("func StructSize(t Type) int {\nswitch t {")
	for _, r := range s.frames {
		if r.fixed {
			p.f("case fb.FrameType%s:\nreturn %sSize", r.name, r.name)
		}
	}
	p.f("}\nreturn 0\n}\n")

	p.f("// putStruct writes m, whose type has a StructSize, to b.")
	p.f("func putStruct(b []byte, m Message) {\nswitch m := m.(type) {")
	for _, r := range s.frames {
		if r.fixed {
			p.f("case *fb.%sT:\nPut%s(b, m)", r.name, r.name)
		}
	}
	p.f("}\n}\n")

	p.f("// measure adds up what m will take, and finds what can't be packed.")
	p.f("func measure(p *packing, m Message) bool {\nswitch m := m.(type) {")
	for _, r := range s.frames {
		if !r.fixed {
			p.f("case *fb.%sT:\nreturn measure%s(p, m)", r.name, r.name)
		}
	}
	p.f("}\nreturn true\n}")
	return p.gofmt()
}

// emitVerify writes one function per table, made of the verifier's steps.
func emitVerify(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp)
	for _, r := range s.records {
		if r.fixed {
			continue
		}
		p.f("func verify%s(v *verifier, pos int) bool {", r.name)
		p.f("t, ok := v.enter(pos, %q)", r.name)
		p.f("return ok &&")
		for _, f := range r.fields {
			switch {
			case f.vector && f.isString():
				p.f("v.texts(&t, %d, %q) &&", f.slot, f.name)
			case f.vector && f.record != nil:
				p.f("v.vectorOfTables(&t, %d, %q, verify%s) &&", f.slot, f.name, f.typ)
			case f.vector:
				p.f("v.numbers(&t, %d, %q, %d) &&", f.slot, f.name, f.scalar.size)
			case f.isString():
				p.f("v.text(&t, %d, %q) &&", f.slot, f.name)
			case f.record != nil && !f.record.fixed:
				p.f("v.table(&t, %d, %q, verify%s) &&", f.slot, f.name, f.typ)
			default:
				p.f("v.inline(&t, %d, %q, %d, %d) &&", f.slot, f.name, f.size(), f.align())
			}
		}
		p.f("v.leave()\n}\n")
	}
	return p.gofmt()
}

// emitPack writes one function per table that finds before packing what the builder would choke on.
func emitPack(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp, fbImport)
	for _, r := range s.records {
		if r.fixed {
			continue
		}
		p.f("func measure%s(p *packing, m *fb.%sT) bool {", r.name, r.name)
		// Inline bytes at most, the vtable, and the offset to it.
		p.f("p.add(%d)", r.size+2*len(r.fields)+12)
		for _, f := range r.fields {
			g := f.goName()
			switch {
			case f.vector && f.isString():
				p.f("p.texts(m.%s)", g)
			case f.vector && f.record != nil:
				p.f("p.bytes += 8 + 4*len(m.%s)", g)
				p.f("for i, e := range m.%s {\nif e == nil {\nreturn p.missing(%q, i)\n}", g, r.name+"."+f.name)
				p.f("if !measure%s(p, e) {\nreturn false\n}\n}", f.typ)
			case f.vector:
				p.f("p.bytes += %d + %d*len(m.%s)", max(8, 4+f.scalar.size), f.scalar.size, g)
			case f.isString():
				p.f("p.text(m.%s)", g)
			case f.record != nil && !f.record.fixed:
				p.f("if m.%s != nil && !measure%s(p, m.%s) {\nreturn false\n}", g, f.typ, g)
			}
		}
		p.f("return p.fits()\n}\n")
	}
	return p.gofmt()
}

// emitFill writes what puts zero structs where a body has none, and copies bytes, which UnPack leaves in
// the body.
func emitFill(s *schema, stamp string) ([]byte, error) {
	p := goPage(stamp, fbImport)
	for _, r := range s.records {
		if !r.fills {
			continue
		}
		p.f("func fill%s(m *fb.%sT) {", r.name, r.name)
		for _, f := range r.fields {
			g := f.goName()
			switch {
			case f.isBytes():
				p.f("m.%s = append([]byte{}, m.%s...)", g, g)
			case f.record == nil || !f.record.fixed && !f.record.fills:
			case f.record.fixed:
				p.f("if m.%s == nil {\nm.%s = new%s()\n}", g, g, f.typ)
			case f.vector:
				p.f("for _, e := range m.%s {\nfill%s(e)\n}", g, f.typ)
			default:
				p.f("if m.%s != nil {\nfill%s(m.%s)\n}", g, f.typ, g)
			}
		}
		p.f("}\n")
	}
	return p.gofmt()
}
