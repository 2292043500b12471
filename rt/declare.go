package rt

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// declaration is a function or an actor that this binary has, by its name.
type declaration struct {
	name    string
	run     serve.Func   // function
	stream  serve.Stream // function that gives a stream
	class   *serve.Class // actor
	methods []string     // by number
	known   atomic.Pointer[known]
}

// known is what a client's agent was told of a declaration.
type known struct {
	client *Client
	number uint64
}

// registry are the declarations of this binary.
type registry struct {
	mu     sync.Mutex
	byName map[string]*declaration
}

var declared = registry{byName: map[string]*declaration{}}

// add declares a name. Two of one name would be told apart by nobody, so that panics when the program starts.
func (r *registry) add(kind, name string, d *declaration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "" {
		panic(fmt.Sprintf("rt: a%s needs a name", kind))
	}
	if r.byName[name] != nil {
		panic(fmt.Sprintf("rt: a%s %q is declared twice: names are global in a program; begin them with the package's (data.shuffle)", kind, name))
	}
	d.name = name
	r.byName[name] = d
}

// addMethod gives a method of an actor its number.
func (r *registry) addMethod(d *declaration, name string, run serve.Func) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name == "" || d.class.Methods[name] != nil {
		panic(fmt.Sprintf("rt: the method %q of the actor %q has no name, or is declared twice", name, d.name))
	}
	d.class.Methods[name] = run
	d.methods = append(d.methods, name)
	return uint32(len(d.methods) - 1)
}

func (r *registry) each(do func(string, *declaration)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, d := range r.byName {
		do(name, d)
	}
}

// number gives the number that the agent knows a declaration by, and says what it is if that is new.
func (d *declaration) number(c *Client) (uint64, error) {
	if k := d.known.Load(); k != nil && k.client == c {
		return k.number, nil
	}
	declared.mu.Lock()
	methods := append([]string(nil), d.methods...)
	declared.mu.Unlock()
	h := sha256.New()
	fmt.Fprintf(h, "go\x00%s\x00", d.name)
	h.Write(c.hash[:])
	hash := h.Sum(nil)
	err := c.s.Define(&fb.FunctionT{Hash: hash, Name: d.name, Language: "go", Class_: d.class != nil}, c.hash[:], methods)
	if err != nil {
		return 0, err
	}
	k := &known{client: c, number: binary.LittleEndian.Uint64(hash)}
	d.known.Store(k)
	return k.number, nil
}

// fail is the error of a reference that could not be made.
func fail(what string, err error) error {
	switch err := err.(type) {
	case *session.Fault:
		g := *err
		g.Message = what + ": " + err.Message
		return outward(&g)
	case *Error: // says it all
		return err
	}
	return fmt.Errorf("rt: %s: %w", what, err)
}
