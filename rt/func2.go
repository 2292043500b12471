package rt

import (
	"context"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
)

// Func2 is a function with two results, each with a reference of its own: who needs one of them does not get the other. Make it with
// NewFunc2, as a variable of a package. More than two are a struct, or references in one.
type Func2[A, R, S any] struct{ d *declaration }

// NewFunc2 declares a function with two results. The name is what workers find it by, and is the only one of its kind in the program.
func NewFunc2[A, R, S any](name string, f func(context.Context, A) (R, S, error)) *Func2[A, R, S] {
	d := &declaration{stream: func(ctx context.Context, arg serve.Arg, give func(session.Encoded) error) error {
		a, err := value.Decode[A](arg.Format, arg.Bytes)
		if err != nil {
			return err
		}
		r, s, err := f(ctx, a)
		if err != nil {
			return err
		}
		first, err := value.Encode(r, "result")
		if err != nil {
			return err
		}
		second, err := value.Encode(s, "second result")
		if err != nil {
			first.Done()
			return err
		}
		if err := give(first); err != nil {
			second.Done()
			return err
		}
		return give(second)
	}}
	declared.add(" function", name, d)
	return &Func2[A, R, S]{d}
}

// Remote has the function run with a, somewhere, and gives what it will return; otherwise as Func.Remote. An error is that of both.
func (f *Func2[A, R, S]) Remote(ctx context.Context, a A, options ...Option) (*Ref[R], *Ref[S]) {
	holds, err := submitted(ctx, f.d, a, options, func(c *Client, number uint64, shape uint32, args session.Args) ([]*session.Hold, error) {
		return c.s.SubmitSeveral(ctx, number, shape, 2, args)
	})
	if err != nil {
		return failed[R](err), failed[S](err)
	}
	return refTo[R](holds[0]), refTo[S](holds[1])
}

// submitted sends a task of a declaration.
func submitted[A, T any](ctx context.Context, d *declaration, a A, options []Option, send func(*Client, uint64, uint32, session.Args) (T, error)) (T, error) {
	made, err := func() (none T, err error) {
		args, done, err := arguments(ctx, a)
		if err != nil {
			return none, err
		}
		defer done()
		c, err := connected()
		if err != nil {
			return none, err
		}
		number, err := d.number(c)
		if err != nil {
			return none, err
		}
		shape, err := forTask.shape(c.s, options)
		if err != nil {
			return none, err
		}
		defer shape.Done()
		return send(c, number, shape.Number, args)
	}()
	if err != nil {
		err = fail(d.name, err)
	}
	return made, err
}
