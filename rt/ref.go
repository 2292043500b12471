package rt

import (
	"context"
	"fmt"
	"runtime"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
)

// Ref is what a task, a call of an actor, or Put gives, or will give. While any process has one, the value lives.
// Send it inside of a value to hand it on; what the other side gets is a reference, too.
type Ref[T any] struct {
	h   *session.Hold // nil: err
	err error
}

// refTo makes a reference that lets go of its hold when nobody has it any more (RT-4).
func refTo[T any](h *session.Hold) *Ref[T] {
	r := &Ref[T]{h: h}
	runtime.AddCleanup(r, (*session.Hold).Release, h)
	return r
}

func failed[T any](err error) *Ref[T] { return &Ref[T]{err: err} }

// Put makes an object of a value. What went wrong comes out of Get.
func Put[T any](ctx context.Context, v T) *Ref[T] {
	h, err := func() (*session.Hold, error) {
		c, err := connected()
		if err != nil {
			return nil, err
		}
		e, err := value.Encode(v, "value")
		if err != nil {
			return nil, err
		}
		defer e.Done()
		return c.s.Put(ctx, e)
	}()
	if err != nil {
		return failed[T](fail("Put", err))
	}
	return refTo[T](h)
}

// Get waits for the value. Its error is what the task gave in place of one (TaskError, WorkerError, ...), or that of
// ctx, with what was waited for.
func (r *Ref[T]) Get(ctx context.Context) (T, error) {
	defer runtime.KeepAlive(r)
	var none T
	if r.h == nil {
		return none, r.fault()
	}
	for {
		if err := r.h.Session().Get(ctx, []*session.Hold{r.h}); err != nil {
			return none, outward(err)
		}
		if v, err, again := r.read(); !again {
			return v, err
		}
	}
}

// read reads a value that is here; again: it was, and has to be asked for anew.
func (r *Ref[T]) read() (T, error, bool) {
	var none T
	v, err := r.h.Outcome()
	if v == nil && err == nil {
		return none, nil, true
	}
	if err != nil {
		return none, outward(err), false
	}
	defer r.h.Read(v)
	got, err := value.Decode[T](v.Format, v.Bytes)
	if err != nil {
		return none, outward(err), false
	}
	return got, nil, false
}

// fault is why there is no object.
func (r *Ref[T]) fault() error {
	if r.err == nil {
		return &LostError{Message: "a reference that was never made"}
	}
	return r.err
}

// Ready waits until the value, or an error in its place, exists. It does not tell which.
func (r *Ref[T]) Ready(ctx context.Context) error {
	defer runtime.KeepAlive(r)
	if r.h == nil {
		return nil
	}
	_, err := r.h.Session().Wait(ctx, []*session.Hold{r.h}, 1)
	return outward(err)
}

// Release says that this reference is not needed any more. The garbage collector does so else, when it comes to it.
func (r *Ref[T]) Release() { r.h.Release() }

// ID names the object, as `maniple explain` does. It is "" if there is none.
func (r *Ref[T]) ID() string {
	if r.h == nil {
		return ""
	}
	return session.Name(r.h.ID())
}

// MarshalCBOR is how a reference is written inside of a value that is sent. Nobody counts one that is written by hand.
func (r *Ref[T]) MarshalCBOR() ([]byte, error) {
	if r.h == nil {
		return nil, r.fault()
	}
	return value.MarshalRef(value.AppendID(nil, r.h.ID()))
}

// UnmarshalCBOR reads what MarshalCBOR wrote, in a value that came.
func (r *Ref[T]) UnmarshalCBOR(b []byte) error {
	var text []byte
	if err := value.UnmarshalRef(b, &text); err != nil {
		return err
	}
	h, err := arrived(text)
	if err == nil {
		r.h = h
		runtime.AddCleanup(r, (*session.Hold).Release, h)
	}
	return err
}

// arrived gives a hold on an object that a value which came has named.
func arrived(text []byte) (*session.Hold, error) {
	name, err := value.ID(text)
	if err != nil {
		return nil, err
	}
	c, err := connected()
	if err != nil {
		return nil, err
	}
	h := c.s.Again(name)
	if h == nil {
		return nil, fmt.Errorf("the reference to %s came by a way on which nobody counts it", session.Name(name))
	}
	return h, nil
}

// holds are those of references; the first error of one that has none.
func holds[T any](refs []*Ref[T]) ([]*session.Hold, error) {
	out := make([]*session.Hold, len(refs))
	for i, r := range refs {
		if r.h == nil {
			return nil, r.fault()
		}
		out[i] = r.h
	}
	return out, nil
}

// GetAll waits for all values, in their order. The first error that comes is its own.
func GetAll[T any](ctx context.Context, refs []*Ref[T]) ([]T, error) {
	defer runtime.KeepAlive(refs)
	if len(refs) == 0 {
		return nil, nil
	}
	all, err := holds(refs)
	if err != nil {
		return nil, err
	}
	if err := all[0].Session().Get(ctx, all); err != nil {
		return nil, outward(err)
	}
	out := make([]T, len(refs))
	var waits error
	for i, r := range refs {
		v, err, again := r.read()
		switch {
		case again: // an error came before it, or another goroutine has read it
			waits = fmt.Errorf("rt: %s is not here", r.ID())
			continue
		case err != nil:
			return nil, err
		}
		out[i] = v
	}
	if waits == nil {
		return out, nil
	}
	for i, r := range refs {
		if out[i], err = r.Get(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Wait waits until n of refs have a value or an error, and gives those that do, at most n, and the others, both in their
// order. When ctx ends before, what there is comes with the error.
func Wait[T any](ctx context.Context, refs []*Ref[T], n int) (ready, rest []*Ref[T], err error) {
	defer runtime.KeepAlive(refs)
	n = min(n, len(refs))
	there := make([]bool, len(refs))
	var ask []*session.Hold
	var at []int
	for i, r := range refs {
		if r.h == nil {
			there[i] = true
			n--
			continue
		}
		ask, at = append(ask, r.h), append(at, i)
	}
	limit := min(n+len(refs)-len(ask), len(refs))
	if len(ask) > 0 {
		var are []bool
		are, err = ask[0].Session().Wait(ctx, ask, max(n, 0))
		for i, yes := range are {
			there[at[i]] = yes
		}
	}
	for i, r := range refs {
		if there[i] && len(ready) < limit {
			ready = append(ready, r)
		} else {
			rest = append(rest, r)
		}
	}
	return ready, rest, outward(err)
}

// Cancel ends a task: one that has not begun is not run, of one that runs the context ends, and so do those that it asked
// for. Its Get gives ErrCancelled, unless it was over.
func Cancel[T any](r *Ref[T]) error { return cancel(r, 0) }

// Abort is Cancel, and ends the process that runs the task: for code that does not look at its context.
func Abort[T any](r *Ref[T]) error { return cancel(r, 1) }

func cancel[T any](r *Ref[T], force uint32) error {
	defer runtime.KeepAlive(r)
	if r.h == nil {
		return nil
	}
	return outward(r.h.Session().Cancel(r.h, force))
}
