package rt

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

// Actor makes objects of type S that live in a process of their own. Make it with NewActor, as a variable of a package.
// If S has Close() error, that is called when such an object ends because nobody has a handle of it any more.
type Actor[A, S any] struct{ d *declaration }

// NewActor declares an actor by its constructor. The name is the only one of its kind in the program, functions included.
func NewActor[A, S any](name string, construct func(context.Context, A) (S, error)) *Actor[A, S] {
	d := &declaration{class: &serve.Class{Methods: map[string]serve.Func{}, Make: func(ctx context.Context, arg serve.Arg) (any, error) {
		a, err := value.Decode[A](arg.Format, arg.Bytes)
		if err != nil {
			return nil, err
		}
		return construct(ctx, a)
	}}}
	declared.add("n actor", name, d)
	return &Actor[A, S]{d}
}

// Method is one of an actor's.
type Method[S, A, R any] struct {
	d      *declaration
	name   string
	number uint32
}

// NewMethod declares a method: m is what a method expression such as (*T).Add is.
func NewMethod[C, S, A, R any](actor *Actor[C, S], name string, m func(S, context.Context, A) (R, error)) *Method[S, A, R] {
	number := declared.addMethod(actor.d, name, func(ctx context.Context, self any, arg serve.Arg) (session.Encoded, error) {
		return invoke(ctx, arg, func(ctx context.Context, a A) (R, error) { return m(self.(S), ctx, a) })
	})
	return &Method[S, A, R]{actor.d, name, number}
}

// Handle calls an actor. While any process has one the actor lives, unless it is detached. It may be sent in values.
type Handle[S any] struct {
	h *session.Hold
	c *calling
}

// calling is what copies of a handle share.
type calling struct {
	err     error // it could not be made
	class   string
	retries int32
	methods []string // of another program, by number; nil: of this one
}

func handle[S any](h *session.Hold, c *calling) Handle[S] {
	runtime.AddCleanup(c, (*session.Hold).Release, h)
	return Handle[S]{h, c}
}

// Remote makes an actor; its constructor runs later. What goes wrong comes out of Ready, and of calls.
func (a *Actor[A, S]) Remote(ctx context.Context, arg A, options ...Option) Handle[S] {
	c := &calling{class: a.d.name}
	h, err := func() (*session.Hold, error) {
		client, err := connected()
		if err != nil {
			return nil, err
		}
		number, err := a.d.number(client)
		if err != nil {
			return nil, err
		}
		s, err := forActor.settle(options)
		if err != nil {
			return nil, err
		}
		shape, err := forActor.shapeOf(client.s, &settings{resources: s.resources, node: s.node, group: s.group, bundle: s.bundle, env: s.env, pending: -1})
		if err != nil {
			return nil, err
		}
		defer shape.Done()
		if s.namespace == "" {
			s.namespace = client.s.Namespace
		}
		v, err := value.Encode(arg, "arg")
		if err != nil {
			return nil, err
		}
		args, done, err := client.s.Arguments(ctx, v)
		if err != nil {
			return nil, err
		}
		defer done()
		c.retries = s.retries
		return client.s.Create(ctx, &fb.CreateT{
			Shape: shape.Number, Function: number, MaxRestarts: s.restarts, MaxTaskRetries: s.retries, Name: s.name, Namespace_: s.namespace,
			Detached: s.detached, Concurrency: s.concurrency, MaxPending: s.pending,
		}, args)
	}()
	if err != nil {
		c.err = fail(a.d.name, err)
		return Handle[S]{c: c}
	}
	return handle[S](h, c)
}

// GetActor gives a handle of the actor of that name, in this program's namespace, or in that of option Namespace.
func GetActor[A, S any](ctx context.Context, actor *Actor[A, S], name string, options ...Option) (Handle[S], error) {
	client, err := connected()
	if err != nil {
		return Handle[S]{}, err
	}
	s, err := forActor.settle(options)
	if err != nil {
		return Handle[S]{}, fail("GetActor", err)
	}
	if s.namespace == "" {
		s.namespace = client.s.Namespace
	}
	var reply struct {
		Actor struct {
			ID       string   `json:"id"`
			Class    string   `json:"class"`
			Function string   `json:"function"`
			Methods  []string `json:"methods"`
			Retries  int32    `json:"max_task_retries"`
		} `json:"actor"`
	}
	if err := client.s.Query(ctx, "actor", s.namespace+"/"+name, &reply); err != nil {
		return Handle[S]{}, outward(err)
	}
	found, err := id.ParseTask(reply.Actor.ID)
	if err != nil {
		return Handle[S]{}, fmt.Errorf("rt: the agent's answer about the actor %s can't be read: %w", name, err)
	}
	h := client.s.Delivered(id.Object{Task: found})
	number, err := actor.d.number(client)
	if err == nil && reply.Actor.Class != actor.d.name {
		err = fmt.Errorf("the actor %q is a %s, not a %s", name, reply.Actor.Class, actor.d.name)
	}
	if err != nil {
		h.Release()
		return Handle[S]{}, fail("GetActor", err)
	}
	c := &calling{class: reply.Actor.Class, retries: reply.Actor.Retries}
	if reply.Actor.Function != strconv.FormatUint(number, 10) {
		c.methods = reply.Actor.Methods
	}
	return handle[S](h, c), nil
}

// Ready waits until the constructor has ended; its error is the constructor's.
func (h Handle[S]) Ready(ctx context.Context) error {
	defer runtime.KeepAlive(h.c)
	if err := h.usable(); err != nil {
		return err
	}
	if err := h.h.Session().Get(ctx, []*session.Hold{h.h}); err != nil {
		return outward(err)
	}
	v, err := h.h.Outcome()
	if v != nil {
		h.h.Read(v)
	}
	return outward(err)
}

func (h Handle[S]) usable() error {
	switch {
	case h.c == nil:
		return &Error{Code: session.CodeLost, Message: "a handle that was never made"}
	case h.h == nil:
		return h.c.err
	}
	return nil
}

// Release says that this handle and its copies are not needed any more.
func (h Handle[S]) Release() { h.h.Release() }

// ID names the actor, as `maniple explain` does.
func (h Handle[S]) ID() string {
	if h.h == nil {
		return ""
	}
	return h.h.ID().Task.String()
}

// MarshalCBOR is how a handle is written inside of a value that is sent.
func (h Handle[S]) MarshalCBOR() ([]byte, error) {
	if err := h.usable(); err != nil {
		return nil, err
	}
	return value.MarshalRef(&sentHandle{ID: value.AppendID(nil, h.h.ID()), Class: h.c.class, Retries: h.c.retries, Methods: h.c.methods})
}

// sentHandle is a handle inside of a value.
type sentHandle struct {
	_       struct{} `cbor:",toarray"`
	ID      []byte
	Class   string
	Retries int32
	Methods []string
}

// UnmarshalCBOR reads what MarshalCBOR wrote.
func (h *Handle[S]) UnmarshalCBOR(b []byte) error {
	var m sentHandle
	if err := value.UnmarshalRef(b, &m); err != nil {
		return err
	}
	held, err := arrived(m.ID)
	if err == nil {
		*h = handle[S](held, &calling{class: m.Class, retries: m.Retries, methods: m.Methods})
	}
	return err
}

// Remote calls the method. Calls of one process to an actor run in their order, unless it has Concurrency.
func (m *Method[S, A, R]) Remote(ctx context.Context, h Handle[S], a A, options ...Option) *Ref[R] {
	args, done, err := arguments(ctx, a)
	if err != nil {
		return failed[R](fail(m.title(), err))
	}
	defer done()
	return m.call(ctx, h, args, options)
}

// After is Remote with what a will be. Later calls of this process to the actor wait for it, too.
func (m *Method[S, A, R]) After(ctx context.Context, h Handle[S], a *Ref[A], options ...Option) *Ref[R] {
	defer runtime.KeepAlive(a)
	if a.h == nil {
		return failed[R](a.fault())
	}
	return m.call(ctx, h, session.Args{Deps: []*session.Hold{a.h}}, options)
}

func (m *Method[S, A, R]) title() string { return m.d.name + "." + m.name }

func (m *Method[S, A, R]) call(ctx context.Context, h Handle[S], args session.Args, options []Option) *Ref[R] {
	defer runtime.KeepAlive(h.c)
	if err := h.usable(); err != nil {
		return failed[R](err)
	}
	called, err := func() (*session.Hold, error) {
		number := m.number
		if h.c.class != m.d.name {
			return nil, fmt.Errorf("the handle is of a %s", h.c.class)
		}
		if h.c.methods != nil {
			i := slices.Index(h.c.methods, m.name)
			if i < 0 {
				return nil, fmt.Errorf("the actor was made by another program, which has no such method")
			}
			number = uint32(i)
		}
		if h.c.retries != 0 {
			options = append([]Option{Retries(int(h.c.retries))}, options...)
		}
		s := h.h.Session()
		shape, err := forCall.shape(s, options)
		if err != nil {
			return nil, err
		}
		defer shape.Done()
		return s.Call(ctx, h.h, number, shape.Number, args)
	}()
	if err != nil {
		return failed[R](fail(m.title(), err))
	}
	return refTo[R](called)
}

// Kill ends an actor for good, at once. What is asked of it gives an ActorError.
func Kill[S any](h Handle[S]) error {
	defer runtime.KeepAlive(h.c)
	if err := h.usable(); err != nil {
		return err
	}
	return outward(h.h.Session().Cancel(h.h, 1))
}
