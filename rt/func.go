package rt

import (
	"context"
	"runtime"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
)

// None is the argument, or the result, of what has none.
type None struct{}

// Func is a function that runs in a worker. Make it with NewFunc, as a variable of a package.
type Func[A, R any] struct{ d *declaration }

// NewFunc declares a function. The name is what workers find it by, and is the only one of its kind in the program.
func NewFunc[A, R any](name string, f func(context.Context, A) (R, error)) *Func[A, R] {
	d := &declaration{run: func(ctx context.Context, _ any, arg serve.Arg) (session.Encoded, error) {
		return invoke(ctx, arg, f)
	}}
	declared.add(" function", name, d)
	return &Func[A, R]{d}
}

// invoke reads an argument, runs f, and writes its result.
func invoke[A, R any](ctx context.Context, arg serve.Arg, f func(context.Context, A) (R, error)) (session.Encoded, error) {
	a, err := value.Decode[A](arg.Format, arg.Bytes)
	if err != nil {
		return session.Encoded{}, err
	}
	r, err := f(ctx, a)
	if err != nil {
		return session.Encoded{}, err
	}
	return value.Encode(r, "result")
}

// Remote has the function run with a, somewhere, and gives what it will return. It waits only for credit. A deadline of
// ctx is the task's, too; to cancel ctx later does nothing, Cancel does.
func (f *Func[A, R]) Remote(ctx context.Context, a A, options ...Option) *Ref[R] {
	args, done, err := arguments(ctx, a)
	if err != nil {
		return failed[R](fail(f.d.name, err))
	}
	defer done()
	return f.submit(ctx, args, options)
}

// arguments are what a call is sent with, to be let go of when it has left.
func arguments[A any](ctx context.Context, a A) (session.Args, func(), error) {
	c, err := connected()
	if err != nil {
		return session.Args{}, nil, err
	}
	v, err := value.Encode(a, "arg")
	if err != nil {
		return session.Args{}, nil, err
	}
	return c.s.Arguments(ctx, v)
}

// After is Remote with what a will be: the function starts when it is there. An error of a is one of the result.
func (f *Func[A, R]) After(ctx context.Context, a *Ref[A], options ...Option) *Ref[R] {
	defer runtime.KeepAlive(a)
	if a.h == nil {
		return failed[R](a.fault())
	}
	return f.submit(ctx, session.Args{Deps: []*session.Hold{a.h}}, options)
}

func (f *Func[A, R]) submit(ctx context.Context, args session.Args, options []Option) *Ref[R] {
	h, err := func() (*session.Hold, error) {
		c, err := connected()
		if err != nil {
			return nil, err
		}
		number, err := f.d.number(c)
		if err != nil {
			return nil, err
		}
		shape, err := forTask.shape(c.s, options)
		if err != nil {
			return nil, err
		}
		defer shape.Done()
		return c.s.Submit(ctx, number, shape.Number, args)
	}()
	if err != nil {
		return failed[R](fail(f.d.name, err))
	}
	return refTo[R](h)
}
