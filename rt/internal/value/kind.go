package value

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

type way uint8

const (
	plain way = iota
	raw
	binaryWay
)

// kind is what is known of a type.
type kind struct {
	way  way
	bad  string // why no value of it can be sent
	path string // to what is bad, without indices
	walk bool   // values of it have to be looked through
}

var (
	kinds sync.Map // reflect.Type to *kind

	holdType        = reflect.TypeFor[*session.Hold]()
	marshaler       = reflect.TypeFor[encoding.BinaryMarshaler]()
	unmarshaler     = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	cborMarshaler   = reflect.TypeFor[cbor.Marshaler]()
	cborUnmarshaler = reflect.TypeFor[cbor.Unmarshaler]()
	leaves          = map[reflect.Type]bool{reflect.TypeFor[time.Time](): true, reflect.TypeFor[big.Int](): true, reflect.TypeFor[cbor.RawMessage](): true}
)

const (
	maxDepth    = 1000
	hiddenState = "unexported state can't be sent: export the field, mark it `cbor:\"-\"`, or give the type MarshalBinary and UnmarshalBinary"
)

func kindOf(t reflect.Type) *kind {
	if k, ok := kinds.Load(t); ok {
		return k.(*kind)
	}
	k := &kind{}
	switch {
	case t == reflect.TypeFor[[]byte]():
		k.way = raw
	case writesItself(t) && !leaves[t] && !(t.Kind() == reflect.Pointer && leaves[t.Elem()]):
		k.way = binaryWay
	default:
		c := checker{k, map[reflect.Type]bool{}}
		c.check(t, "")
	}
	kinds.Store(t, k)
	return k
}

// writesItself tells whether values of t write themselves, and can be read back.
func writesItself(t reflect.Type) bool {
	return t.Implements(marshaler) && (t.Kind() == reflect.Pointer && t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler))
}

// isRef tells whether values of t are references.
func isRef(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Type == holdType
}

// itself tells whether values of t inside of others write themselves.
func itself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return leaves[t] || (t.Implements(cborMarshaler) || p.Implements(cborMarshaler)) && p.Implements(cborUnmarshaler) ||
		(t.Implements(marshaler) || p.Implements(marshaler)) && p.Implements(unmarshaler)
}

// checker looks through a type.
type checker struct {
	k  *kind
	on map[reflect.Type]bool // on the way here
}

func (c *checker) fail(path, why string) {
	if c.k.bad == "" {
		c.k.path, c.k.bad = path, why
	}
}

func (c *checker) check(t reflect.Type, path string) {
	switch {
	case isRef(t):
		c.k.walk = true
		return
	case itself(t):
		return
	case c.on[t]: // it may contain itself
		c.k.walk = true
		return
	}
	if why := never(t); why != "" {
		c.fail(path, why)
		return
	}
	c.on[t] = true
	defer delete(c.on, t)
	switch t.Kind() {
	case reflect.Interface:
		c.k.walk = true
	case reflect.Pointer:
		c.check(t.Elem(), path)
	case reflect.Slice, reflect.Array:
		c.check(t.Elem(), path+"[]")
	case reflect.Map:
		c.check(t.Key(), path+"[key]")
		c.check(t.Elem(), path+"[]")
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			switch sent(f) {
			case skipped:
			case hidden:
				c.fail(path+"."+f.Name, hiddenText(f.Type))
			default:
				c.check(f.Type, path+"."+f.Name)
			}
		}
	}
}

// never says why values of a type can't be sent, whatever they are; "" if they may.
func never(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Func:
		return "a func can't be sent"
	case reflect.Chan:
		return "a chan can't be sent"
	case reflect.UnsafePointer, reflect.Uintptr:
		return "an address can't be sent"
	case reflect.Complex64, reflect.Complex128:
		return "a complex number can't be sent: send its two parts"
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Sprintf("%v can't be read back: nothing says which type it has; use a type of its own, or any", t)
		}
	}
	return ""
}

type how uint8

const (
	whole how = iota
	hidden
	skipped
)

// sent tells how a field of a struct goes.
func sent(f reflect.StructField) how {
	tag, ok := f.Tag.Lookup("cbor")
	if !ok {
		tag = f.Tag.Get("json")
	}
	switch {
	case tag == "-" || f.Name == "_":
		return skipped
	case f.IsExported(), f.Anonymous && f.Type.Kind() == reflect.Struct:
		return whole
	}
	return hidden
}

func hiddenText(t reflect.Type) string {
	if why := never(t); why != "" {
		return why
	}
	return hiddenState
}

// walker looks through a value for what can't be sent, and for references.
type walker struct {
	name string
	path []string
	refs []*session.Hold
	seen map[id.Object]bool
}

func fault(path, why string) error {
	return &session.Fault{Code: session.CodeValue, Type: "value", Message: path + ": " + why}
}

func (w *walker) fail(why string) error { return fault(w.name+strings.Join(w.path, ""), why) }

func (w *walker) at(step string, v reflect.Value, depth int) error {
	before := w.path
	w.path = append(w.path, step)
	err := w.value(v, depth+1)
	w.path = before
	return err
}

func (w *walker) value(v reflect.Value, depth int) error {
	if depth > maxDepth {
		w.path = append(w.path[:8:8], "...")
		return w.fail("it is deeper than 1000: does it contain itself?")
	}
	t := v.Type()
	switch {
	case isRef(t):
		return w.ref((*session.Hold)(v.Field(0).UnsafePointer()))
	case itself(t):
		return nil
	}
	if why := never(t); why != "" {
		return w.fail(why)
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return w.value(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if k := kindOf(t.Elem()); k.bad == "" && !k.walk {
			return nil
		}
		for i := range v.Len() {
			if err := w.at(fmt.Sprintf("[%d]", i), v.Index(i), depth); err != nil {
				return err
			}
		}
	case reflect.Map:
		if k := kindOf(t.Elem()); k.bad == "" && !k.walk && !kindOf(t.Key()).walk {
			return nil
		}
		for it := v.MapRange(); it.Next(); {
			step := fmt.Sprintf("[%v]", it.Key())
			if err := w.at(step, it.Key(), depth); err != nil {
				return err
			}
			if err := w.at(step, it.Value(), depth); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			switch sent(f) {
			case skipped:
			case hidden:
				w.path = append(w.path, "."+f.Name)
				return w.fail(hiddenText(f.Type))
			default:
				if err := w.at("."+f.Name, v.Field(i), depth); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ref notes a reference (VAL-2).
func (w *walker) ref(h *session.Hold) error {
	if h == nil {
		return w.fail("a reference that was never made")
	}
	if w.seen == nil {
		w.seen = map[id.Object]bool{}
	}
	if !w.seen[h.ID()] {
		own := h.Session().Again(h.ID())
		if own == nil || h.Released() {
			own.Release()
			return w.fail("a reference that was released, or is from before rt.Init")
		}
		w.seen[h.ID()] = true
		w.refs = append(w.refs, own)
	}
	return nil
}
