package rt

import (
	"context"
	"iter"
	"runtime"

	"github.com/maniple-hpc/maniple/rt/internal/serve"
	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
)

// streamAhead is how many results a function that gives a stream may be ahead of who reads it.
const streamAhead = 64

// StreamFunc is a function that runs in a worker and gives results one after the other. Make it with NewStream, as a variable of a package.
type StreamFunc[A, R any] struct{ d *declaration }

// NewStream declares a function that gives a stream. The name is what workers find it by, and is the only one of its kind in the
// program. An error ends the stream.
func NewStream[A, R any](name string, f func(context.Context, A) iter.Seq2[R, error]) *StreamFunc[A, R] {
	d := &declaration{stream: func(ctx context.Context, arg serve.Arg, give func(session.Encoded) error) error {
		a, err := value.Decode[A](arg.Format, arg.Bytes)
		if err != nil {
			return err
		}
		for r, err := range f(ctx, a) {
			if err != nil {
				return err
			}
			e, err := value.Encode(r, "result")
			if err != nil {
				return err
			}
			if err := give(e); err != nil {
				return err
			}
		}
		return nil
	}}
	declared.add(" function", name, d)
	return &StreamFunc[A, R]{d}
}

// Remote has the function run with a, somewhere, and gives what it will yield. It waits only for credit. The function is at most 64
// results ahead of who reads them, and if they are large an eighth of the memory for values, and is cancelled when nobody will.
func (f *StreamFunc[A, R]) Remote(ctx context.Context, a A, options ...Option) *Stream[R] {
	st, err := submitted(ctx, f.d, a, options, func(c *Client, number uint64, shape uint32, args session.Args) (*session.Stream, error) {
		return c.s.SubmitStream(ctx, number, shape, streamAhead, args)
	})
	if err != nil {
		return &Stream[R]{err: err}
	}
	s := &Stream[R]{st: st}
	runtime.AddCleanup(s, (*session.Stream).Close, st)
	return s
}

// Stream is what a StreamFunc gives. It is read once, by one goroutine, and can't be sent.
type Stream[R any] struct {
	st  *session.Stream // nil: err
	err error
}

// Refs gives references to the results as they come, whose values stay where they are. The loop ends with the function; an error of it
// is that of the last reference. The loop's own error is that of ctx. Who leaves the loop before may go on in another one.
func (s *Stream[R]) Refs(ctx context.Context) iter.Seq2[*Ref[R], error] {
	return func(yield func(*Ref[R], error) bool) {
		defer runtime.KeepAlive(s)
		if s.st == nil {
			yield(nil, s.err)
			return
		}
		for {
			h, err := s.st.Next(ctx)
			switch {
			case err != nil:
				yield(nil, outward(err))
				return
			case h == nil || !yield(refTo[R](h), nil):
				return
			}
		}
	}
}

// All gives the values as they come. With an error, of the function or of ctx, the loop ends. Who leaves it before may go on in
// another one, or calls Close.
func (s *Stream[R]) All(ctx context.Context) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		for ref, err := range s.Refs(ctx) {
			var v R
			if err == nil {
				v, err = ref.Get(ctx)
				ref.Release()
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Close cancels the function, if it goes on, and lets go of what was not read. The garbage collector does so else, when it comes to it.
func (s *Stream[R]) Close() {
	if s.st != nil {
		s.st.Close()
	}
}
