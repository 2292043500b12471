package rt

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/maniple-hpc/maniple/rt/internal/session"
	"github.com/maniple-hpc/maniple/rt/internal/value"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

// End, as the stop of a range, is the end of the value.
const End = -1

// aloneFrom is the size from which ranges of values come alone: of a smaller one all comes as fast.
const aloneFrom = 128 << 10

// GetRange waits for the value of r and gives the range v[start:stop] of it. Of []byte that lies at another node only the range is brought from there; any other
// slice is brought whole first. Its error is that of Get, or says how long the value is, if the range does not lie in it.
func GetRange[S ~[]E, E any](ctx context.Context, r *Ref[S], start, stop int) (S, error) {
	defer runtime.KeepAlive(r)
	if start < 0 || stop != End && stop < start {
		return nil, &Error{Code: session.CodeOption, Message: fmt.Sprintf("GetRange: [%d:%d] is no range", start, stop)}
	}
	if r.h == nil {
		return nil, r.fault()
	}
	_, bytes := any(S(nil)).([]byte)
	if bytes {
		b, err := bytesAlone(ctx, r.h, start, stop)
		if b != nil || err != nil {
			return any(b).(S), err
		}
	}
	var s S
	var bad error
	err := r.h.Look(ctx, func(v *session.Value) {
		if bytes && v.Format == fb.FormatRaw { // without a copy of all of it
			s = any(v.Bytes).(S)
		} else {
			s, bad = value.Decode[S](v.Format, v.Bytes)
		}
		var end int
		if bad == nil {
			end, bad = within(r.ID(), start, stop, len(s))
		}
		if bad == nil {
			s = slices.Clone(s[start:end])
		}
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, outward(err)
	}
	return s, nil
}

// within is where a range ends in a value of so many elements.
func within(what string, start, stop, size int) (int, error) {
	if stop == End {
		stop = size
	}
	if start > stop || stop > size {
		return 0, &Error{Code: session.CodeValue, Message: fmt.Sprintf("[%d:%d] of %s is wanted, which has %d elements", start, stop, what, size)}
	}
	return stop, nil
}

// bytesAlone brings a range of bytes from another node; nil: all of the value is to be got.
func bytesAlone(ctx context.Context, h *session.Hold, start, stop int) ([]byte, error) {
	s := h.Session()
	if _, err := s.Wait(ctx, []*session.Hold{h}, 1); err != nil {
		return nil, outward(err)
	}
	if h.Here() {
		return nil, nil
	}
	w, ok, err := s.Measure(h).What(ctx)
	if !ok || err != nil || w.Format != fb.FormatRaw || w.Size <= aloneFrom {
		return nil, outward(err)
	}
	end, err := within(session.Name(h.ID()), start, stop, int(w.Size))
	if err != nil || end == start {
		return []byte{}, err
	}
	b := make([]byte, end-start)
	ok, err = s.Slice(h, uint64(start), uint64(end-start), w.Version).Read(ctx, b)
	if !ok {
		return nil, outward(err)
	}
	return b, nil
}
