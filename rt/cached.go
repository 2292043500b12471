package rt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// maxKey is how many bytes the key of a cached value has at most.
const maxKey = 256

// making is the key of a context under which the keys are that are being made with it.
type making struct{ key string }

// Cached gives the value that this node keeps under a key, made by make if there is none. The key, of 1 to 256 bytes, names the content for all programs of the cluster: best
// with a hash of what make depends on. One process of the node makes the value while the others that ask wait; if it fails, the next one makes it, and the error is
// its own caller's only. The value outlives the program, and goes when memory is short, the least recently used first. What finds no room is given to its maker alone.
func Cached[T any](ctx context.Context, key string, make func(context.Context) (T, error)) (T, error) {
	var none T
	c, err := connected()
	switch {
	case err != nil:
		return none, err
	case key == "":
		return none, &Error{Code: session.CodeOption, Message: fmt.Sprintf("Cached: a key has 1 to %d bytes, and an empty one names nothing", maxKey)}
	case len(key) > maxKey:
		return none, &Error{Code: session.CodeOption, Message: fmt.Sprintf("Cached: a key has 1 to %d bytes, not %d: give a hash of a longer one", maxKey, len(key))}
	case ctx.Value(making{key}) != nil:
		return none, &Error{Code: session.CodeDeadlock, Message: fmt.Sprintf("what makes cached value %q asks for it itself", key)}
	case !c.s.HasMemory():
		return make(ctx)
	}
	for lost := false; ; {
		h, mine, err := c.s.Cached(ctx, key)
		if errors.Is(err, session.ErrMaking) {
			sayNotKept("cached value %q is not kept on node %s, as others that are asked for now: whoever asks makes it for itself: %v", key, c.s.Node, err)
			return make(ctx)
		}
		if err != nil {
			return none, fail("Cached", err)
		}
		if mine {
			return keepCached(ctx, h, key, make)
		}
		v, err := (&Ref[T]{h: h}).Get(ctx)
		h.Release()
		var unmade *Error
		var gone *LostError
		switch {
		case errors.As(err, &unmade) && unmade.Code == session.CodeNotMade:
		case errors.As(err, &gone) && !lost:
			lost = true
		default:
			return v, err
		}
	}
}

// keepCached makes a value and keeps it, if there is room. Whatever goes wrong, who waits is told.
func keepCached[T any](ctx context.Context, h *session.Hold, key string, make func(context.Context) (T, error)) (T, error) {
	s, kept := h.Session(), false
	defer func() {
		if !kept {
			s.Unmade(h)
		}
		h.Release()
	}()
	v, err := make(context.WithValue(ctx, making{key}, true))
	if err != nil {
		return v, err
	}
	e, err := value.Encode(v, "value")
	if err == nil && len(e.Refs) > 0 {
		err = &session.Fault{Code: session.CodeValue, Message: fmt.Sprintf("cached value %q has references in it, which would be kept for as long as the cluster lives: get their values first", key)}
	}
	defer e.Done()
	if err != nil {
		return v, fail("Cached", err)
	}
	if len(e.Bytes) == 0 { // what lies in shared memory has bytes
		e = session.Encoded{Format: fb.FormatPlain, Bytes: []byte{1, 0, 0, 0, 0, 0, 0, 0, 0x40}}
	}
	if err = s.Keep(ctx, h, e); err == nil {
		kept = true
		return v, nil
	}
	var full *session.Fault
	if errors.As(err, &full) && (full.Code == session.CodeFull || full.Code == session.CodeDiskFull) && ctx.Err() == nil {
		sayNotKept("cached value %q of %d bytes is not kept on node %s, as others that find no room: whoever asks makes it for itself: %v", key, len(e.Bytes), s.Node, err)
		return v, nil
	}
	return v, fail("Cached", err)
}

// notKept is for what is said once.
var notKept sync.Once

// sayNotKept says that something is not kept.
func sayNotKept(text string, about ...any) {
	notKept.Do(func() { fmt.Fprintf(os.Stderr, "maniple: "+text+"\n", about...) })
}
