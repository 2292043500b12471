package proto

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shape is how a Go type lies on the wire.
type shape uint8

const (
	varint  shape = iota + 1 // every integer and bool
	fixed32                  // float32
	bytes                    // string and []byte
	message                  // a struct, or a pointer to one
	moment                   // time.Time, as milliseconds
)

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// element is one value: a field, an element of a slice, or a part of a map.
type element struct {
	typ    reflect.Type
	shape  shape
	zigzag bool
}

// field is one field of a message.
type field struct {
	element
	number   uint64
	index    int
	required bool
	preset   int64   // what a missing one stands for
	list     bool    // a slice of element
	key      element // of a map; element is then its value
	mapped   bool
}

// plan is how a struct is written and read.
type plan struct {
	fields   []field
	byNumber map[uint64]int
	preset   bool // some field has a default other than zero
}

var plans sync.Map // reflect.Type -> *plan

// planOf gives the plan of a struct type. It panics on tags that can't be meant.
func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{byNumber: map[uint64]int{}}
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("pb")
		if !ok {
			continue
		}
		f, err := fieldOf(t.Field(i), tag)
		if _, twice := p.byNumber[f.number]; err == nil && twice {
			err = fmt.Errorf("number %d is there twice", f.number)
		}
		if err != nil {
			panic(fmt.Sprintf("proto: %s.%s: %v", t, t.Field(i).Name, err))
		}
		f.index = i
		p.byNumber[f.number] = len(p.fields)
		p.fields = append(p.fields, f)
		p.preset = p.preset || f.preset != 0
	}
	plans.Store(t, p)
	return p
}

func fieldOf(sf reflect.StructField, tag string) (f field, err error) {
	words := strings.Split(tag, ",")
	if f.number, err = strconv.ParseUint(words[0], 10, 28); err != nil || f.number == 0 {
		return f, fmt.Errorf("the tag %q has no field number", tag)
	}
	if !sf.IsExported() {
		return f, fmt.Errorf("a field with a number must be exported")
	}
	t := sf.Type
	switch {
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		f.list, t = true, t.Elem()
	case t.Kind() == reflect.Map:
		f.mapped = true
		if f.key, err = elementOf(t.Key()); err != nil {
			return f, err
		}
		t = t.Elem()
	}
	if f.element, err = elementOf(t); err != nil {
		return f, err
	}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "required":
			f.required = true
		case "zigzag":
			f.zigzag = true
		case "default":
			if f.preset, err = strconv.ParseInt(value, 10, 64); err != nil || f.shape != varint {
				return f, fmt.Errorf("the default %q is no number", value)
			}
		default:
			return f, fmt.Errorf("no option is called %q", name)
		}
	}
	return f, nil
}

var timeType = reflect.TypeFor[time.Time]()

func elementOf(t reflect.Type) (element, error) {
	e := element{typ: t}
	switch t.Kind() {
	case reflect.Bool, reflect.Int32, reflect.Int64, reflect.Int, reflect.Uint32, reflect.Uint64:
		e.shape = varint
	case reflect.Float32:
		e.shape = fixed32
	case reflect.String:
		e.shape = bytes
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Uint8 {
			return e, fmt.Errorf("%s can't be an element", t)
		}
		e.shape = bytes
	case reflect.Struct:
		e.shape = message
		if t == timeType {
			e.shape = moment
		}
	case reflect.Pointer:
		if t.Elem().Kind() != reflect.Struct || t.Elem() == timeType {
			return e, fmt.Errorf("%s can't be written", t)
		}
		e.shape = message
	default:
		return e, fmt.Errorf("%s can't be written", t)
	}
	return e, nil
}
