package main

import (
	"fmt"
	"strings"
)

// schema is both files, resolved and checked.
type schema struct {
	enums   []*enum
	records []*record // tables and structs, in the order of the file
	frames  []*record // those that FrameType names, in the order of their numbers
	header  *record
	limits  *enum
	flags   *enum
	classes *enum
	classOf map[string]string // record to class, for those that are not Control
}

type enum struct {
	name   string
	base   string
	doc    []string
	values []enumValue
}

type enumValue struct {
	name  string
	value uint64
	doc   string
}

// record is a table or a struct.
type record struct {
	name   string
	doc    []string
	fixed  bool // a struct
	fields []*field
	number uint64 // in FrameType, 0: part of others only
	size   int    // struct: bytes; table: bytes of all its fields inline, an upper bound
	align  int
	fills  bool // table: a struct in it may be absent, or bytes in it lie in the input; or in a table that it holds
}

type field struct {
	name   string
	doc    string
	typ    string // as written, without brackets
	vector bool
	def    string  // default, "" is 0
	scalar *scalar // of scalars and enums, also as elements
	record *record // of structs and tables, also as elements
	offset int     // in a struct
	slot   int     // in a table: place in the vtable
}

func (f *field) isString() bool { return f.typ == "string" }
func (f *field) isBytes() bool  { return f.vector && f.typ == "uint8" }

// size and align of the field as it lies inline in its record.
func (f *field) size() int {
	switch {
	case f.vector || f.isString() || f.record != nil && !f.record.fixed:
		return 4
	case f.record != nil:
		return f.record.size
	}
	return f.scalar.size
}

func (f *field) align() int {
	switch {
	case f.vector || f.isString() || f.record != nil && !f.record.fixed:
		return 4
	case f.record != nil:
		return f.record.align
	}
	return f.scalar.size
}

// goName is the name that flatc gives to the field in the object API.
func (f *field) goName() string {
	var b strings.Builder
	up := true
	for i, c := range f.name {
		if c == '_' && i != len(f.name)-1 {
			up = true
			continue
		}
		if up {
			b.WriteString(strings.ToUpper(string(c)))
		} else {
			b.WriteRune(c)
		}
		up = false
	}
	return b.String()
}

// scalar is a number of the schema in each language.
type scalar struct {
	size   int
	c      string
	python string // code of Python's struct
}

var scalars = map[string]*scalar{
	"bool":   {1, "uint8_t", "?"},
	"uint8":  {1, "uint8_t", "B"},
	"int8":   {1, "int8_t", "b"},
	"uint16": {2, "uint16_t", "H"},
	"int16":  {2, "int16_t", "h"},
	"uint32": {4, "uint32_t", "I"},
	"int32":  {4, "int32_t", "i"},
	"uint64": {8, "uint64_t", "Q"},
	"int64":  {8, "int64_t", "q"},
}

// load parses both files and resolves what they name.
func load(wire, frame []byte) (*schema, error) {
	w, err := parse("wire.fbs", wire)
	if err != nil {
		return nil, err
	}
	if w.namespace != "fb" {
		return nil, fmt.Errorf("gen: wire.fbs: namespace is %q; the Go package is fb", w.namespace)
	}
	f, err := parse("frame.fbs", frame)
	if err != nil {
		return nil, err
	}
	s := &schema{enums: w.enums, records: w.records, classOf: map[string]string{}}
	if err := s.resolve(w); err != nil {
		return nil, fmt.Errorf("gen: wire.fbs: %w", err)
	}
	if err := s.number(); err != nil {
		return nil, fmt.Errorf("gen: wire.fbs: %w", err)
	}
	if err := s.frame(f); err != nil {
		return nil, fmt.Errorf("gen: frame.fbs: %w", err)
	}
	return s, nil
}

func (s *schema) record(name string) *record {
	for _, r := range s.records {
		if r.name == name {
			return r
		}
	}
	return nil
}

func findEnum(enums []*enum, name string) *enum {
	for _, e := range enums {
		if e.name == name {
			return e
		}
	}
	return nil
}

// number gives each record the number that FrameType has for its name.
func (s *schema) number() error {
	types := findEnum(s.enums, "FrameType")
	if types == nil {
		return fmt.Errorf("no enum FrameType")
	}
	seen := map[uint64]string{}
	for _, v := range types.values {
		if old, ok := seen[v.value]; ok {
			return fmt.Errorf("FrameType: %s and %s are both %d", old, v.name, v.value)
		}
		seen[v.value] = v.name
		if v.name == "None" {
			continue
		}
		r := s.record(v.name)
		if r == nil || v.value == 0 {
			return fmt.Errorf("FrameType: %s = %d needs a table or struct of that name and a number above 0", v.name, v.value)
		}
		r.number = v.value
		s.frames = append(s.frames, r)
	}
	return nil
}

// frame takes header, limits, flags and classes from the second file.
func (s *schema) frame(f *file) error {
	if err := (&schema{enums: f.enums, records: f.records}).resolve(f); err != nil {
		return err
	}
	s.limits, s.classes, s.flags = findEnum(f.enums, "Limit"), findEnum(f.enums, "Class"), findEnum(f.enums, "Flag")
	if s.limits == nil || s.classes == nil || s.flags == nil || len(f.records) != 1 || f.records[0].name != "Header" {
		return fmt.Errorf("wants the enums Limit, Flag and Class and the struct Header")
	}
	s.header = f.records[0]
	for _, v := range s.limits.values {
		if v.name == "HeaderSize" && int(v.value) != s.header.size {
			return fmt.Errorf("HeaderSize is %d, the struct Header has %d bytes", v.value, s.header.size)
		}
	}
	for _, c := range s.classes.values {
		types := findEnum(f.enums, c.name+"Types")
		if types == nil {
			if c.name != "Control" {
				return fmt.Errorf("no enum %sTypes says what class %s carries", c.name, c.name)
			}
			continue
		}
		for _, v := range types.values {
			r := s.record(v.name)
			if r == nil || r.number == 0 || s.classOf[v.name] != "" {
				return fmt.Errorf("%sTypes: %s is no message, or has a class already", c.name, v.name)
			}
			s.classOf[v.name] = c.name
		}
	}
	return nil
}
