package logs

import (
	"errors"
	"fmt"
	"strings"
)

// Java writes objects as a stream (the Object Serialization Stream Protocol, version 5): a byte says what comes, and what came once is later referred to by its
// number. Numbers are big-endian, texts have their length before them. Of a class with a writeObject of its own what that wrote follows its fields: blocks of
// bytes and objects.
const (
	javaMagic  = 0xaced0005
	javaFirst  = 0x7e0000 // the first object's number
	javaDepth  = 100      // objects in each other
	javaNull   = 0x70
	javaRefer  = 0x71
	javaClass  = 0x72
	javaObject = 0x73
	javaText   = 0x74
	javaArray  = 0x75
	javaBlock  = 0x77
	javaEnd    = 0x78
	javaBlocks = 0x7a
	javaTexts  = 0x7c
	javaEnum   = 0x7e

	ownWrite     = 1 // of a class's flags: it has a writeObject,
	serializable = 2 // and its fields are there
)

// javaInstance is an object: its fields, and the objects that its class's own writeObject wrote, as those of a list or a map do.
type javaInstance struct {
	class  string
	fields map[string]any
	wrote  []any
}

// javaKind is a class.
type javaKind struct {
	name   string
	flags  byte
	fields []javaField
	above  *javaKind
}

type javaField struct {
	kind byte
	name string
}

// javaStream reads objects: int64, string, *javaInstance, []any and nil. Its first error stays.
type javaStream struct {
	b     []byte
	known []any
	deep  int
	err   error
}

// readJava reads the one object that b has.
func readJava(b []byte) (any, error) {
	s := &javaStream{b: b}
	if s.number(4) != javaMagic {
		s.fail("it does not begin as one does")
	}
	o := s.object()
	if s.err == nil && len(s.b) > 0 {
		s.fail("%d bytes are left over", len(s.b))
	}
	return o, s.err
}

func (s *javaStream) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("an object of Java's: "+format, args...)
	}
	s.b = nil
}

func (s *javaStream) take(n uint64) []byte {
	if n > uint64(len(s.b)) {
		s.fail("it ends too early")
		return nil
	}
	b := s.b[:n]
	s.b = s.b[n:]
	return b
}

// number reads one of n bytes, eight at most.
func (s *javaStream) number(n uint64) (v uint64) {
	for _, b := range s.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

// signed is what that is if it has a sign.
func signed(v uint64, n int) int64 { return int64(v<<(64-8*n)) >> (64 - 8*n) }

func (s *javaStream) text() string { return string(s.take(s.number(2))) }

// keep gives something a number.
func (s *javaStream) keep(o any) int {
	s.known = append(s.known, o)
	return len(s.known) - 1
}

// referred gives what a number stands for.
func (s *javaStream) referred() any {
	n := s.number(4) - javaFirst
	if n >= uint64(len(s.known)) {
		s.fail("it refers to object %d of %d", n, len(s.known))
		return nil
	}
	return s.known[n]
}

// object reads an object.
func (s *javaStream) object() any { return s.content(byte(s.number(1))) }

// content reads what comes behind the byte that says what it is.
func (s *javaStream) content(what byte) any {
	if s.deep++; s.deep > javaDepth {
		s.fail("its objects are nested too deeply")
	}
	defer func() { s.deep-- }()
	if s.err != nil {
		return nil
	}
	switch what {
	case javaNull:
		return nil
	case javaRefer:
		return s.referred()
	case javaText, javaTexts:
		length := uint64(2)
		if what == javaTexts {
			length = 8
		}
		t := string(s.take(s.number(length)))
		s.keep(t)
		return t
	case javaEnum:
		s.kind()
		at := s.keep(nil)
		name := s.object()
		s.known[at] = name
		return name
	case javaArray:
		k := s.kind()
		at := s.keep(nil)
		size := s.number(4)
		var list []any
		for range size {
			if s.err != nil || k == nil || len(k.name) < 2 {
				s.fail("an array of nothing known")
				break
			}
			list = append(list, s.value(k.name[1]))
		}
		s.known[at] = list
		return list
	case javaObject:
		k := s.kind()
		if k == nil {
			s.fail("an object without a class")
			return nil
		}
		o := &javaInstance{class: k.name, fields: map[string]any{}}
		s.keep(o)
		s.fill(o, k)
		return o
	}
	s.fail("0x%02x is not read here", what)
	return nil
}

// fill reads an object's fields, those of the classes above first.
func (s *javaStream) fill(o *javaInstance, k *javaKind) {
	var line []*javaKind
	for ; k != nil; k = k.above {
		if line = append(line, k); len(line) > javaDepth {
			s.fail("a class has too many above it")
			return
		}
	}
	for i := len(line) - 1; i >= 0 && s.err == nil; i-- {
		if line[i].flags&serializable == 0 {
			s.fail("class %.100q wrote itself", line[i].name)
			return
		}
		for _, f := range line[i].fields {
			o.fields[f.name] = s.value(f.kind)
		}
		if line[i].flags&ownWrite != 0 {
			o.wrote = append(o.wrote, s.written()...)
		}
	}
}

// written reads the objects up to the end of what a class wrote; its bytes are passed over.
func (s *javaStream) written() (list []any) {
	for s.err == nil {
		switch what := byte(s.number(1)); what {
		case javaEnd:
			return list
		case javaBlock:
			s.take(s.number(1))
		case javaBlocks:
			s.take(s.number(4))
		default:
			list = append(list, s.content(what))
		}
	}
	return list
}

// value reads a field's or an element's value.
func (s *javaStream) value(kind byte) any {
	switch kind {
	case 'B', 'Z':
		return signed(s.number(1), 1)
	case 'C', 'S':
		return signed(s.number(2), 2)
	case 'I', 'F':
		return signed(s.number(4), 4)
	case 'J', 'D':
		return signed(s.number(8), 8)
	case 'L', '[':
		return s.object()
	}
	s.fail("a field of kind %q", kind)
	return nil
}

// kind reads a class; nil: there is none.
func (s *javaStream) kind() *javaKind {
	if s.deep++; s.deep > javaDepth {
		s.fail("its classes are nested too deeply")
	}
	defer func() { s.deep-- }()
	switch what := s.number(1); what {
	case javaNull:
		return nil
	case javaRefer:
		k, is := s.referred().(*javaKind)
		if !is {
			s.fail("an object stands for a class")
		}
		return k
	case javaClass:
		k := &javaKind{name: s.text()}
		s.take(8) // its version
		s.keep(k)
		k.flags = byte(s.number(1))
		for range s.number(2) {
			f := javaField{kind: byte(s.number(1)), name: s.text()}
			if f.kind == 'L' || f.kind == '[' {
				s.object() // its class's name
			}
			if s.err != nil {
				return nil
			}
			k.fields = append(k.fields, f)
		}
		s.written()
		k.above = s.kind()
		return k
	default:
		s.fail("0x%02x is no class", what)
		return nil
	}
}

// errIndex: a file's index is no index.
var errIndex = errors.New("its index has something else than logs in it")

// fieldOf gives an object's field if it has that type.
func fieldOf[T any](o any, name string) (v T, err error) {
	if i, is := o.(*javaInstance); is {
		if v, is := i.fields[name].(T); is {
			return v, nil
		}
	}
	return v, fmt.Errorf("%w: there is no %s", errIndex, name)
}

// elements are those of a list, or keys and values of a map in turn.
func elements(o any, name string) ([]any, error) {
	list, err := fieldOf[*javaInstance](o, name)
	if err != nil {
		return nil, err
	}
	return list.wrote, nil
}

// index reads the index of an indexed file.
func (f *indexed) index(b []byte) error {
	o, err := readJava(b)
	if err != nil {
		return err
	}
	version, err := fieldOf[int64](o, "version")
	if err == nil && version != 1 {
		err = fmt.Errorf("it has version %d, and 1 is known", version)
	}
	if err != nil {
		return err
	}
	if f.codec, err = fieldOf[string](o, "compressName"); err != nil {
		return err
	}
	f.codec = strings.ToLower(f.codec)
	cycles, err := elements(o, "logMetas")
	if err != nil {
		return err
	}
	for _, cycle := range cycles {
		pairs, err := elements(cycle, "logMetas")
		if err != nil {
			return err
		}
		for i := 1; i < len(pairs); i += 2 {
			list, is := pairs[i].(*javaInstance)
			if !is {
				return errIndex
			}
			for _, l := range list.wrote {
				var e indexEntry
				container, err := fieldOf[string](l, "containerId")
				for name, to := range map[string]*int64{"fileSize": &e.raw, "fileCompressedSize": &e.size, "startIndex": &e.at} {
					if err == nil {
						*to, err = fieldOf[int64](l, name)
					}
				}
				if err == nil {
					e.name, err = fieldOf[string](l, "fileName")
				}
				if err != nil {
					return err
				}
				e.container = container
				f.logs = append(f.logs, e)
				if len(f.logs) > maxBlocks {
					return fmt.Errorf("%w: more than %d", errIndex, maxBlocks)
				}
			}
		}
	}
	return nil
}
