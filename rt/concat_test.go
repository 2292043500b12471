package rt_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
	"github.com/maniple-hpc/maniple/transport/wire/fb"
)

var (
	patterned = rt.NewFunc("patterned", func(_ context.Context, n int) ([]byte, error) { return pattern(n), nil })
	lateBytes = rt.NewFunc("lateBytes", func(ctx context.Context, after *rt.Ref[string]) ([]byte, error) {
		_, err := after.Get(ctx)
		return []byte("late"), err
	})
	goneBytes = rt.NewFunc("goneBytes", func(context.Context, rt.None) ([]byte, error) { panic("gone") })
)

func TestConcat(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	flag := t.TempDir() + "/flag"
	gate := waits.Remote(ctx, flag)
	made, put, late := patterned.Remote(ctx, large), rt.Put(ctx, []byte("put")), lateBytes.Remote(ctx, gate)
	all := rt.Concat(ctx, []rt.Part{rt.Whole(put), {made, 100, 2000}, {put, 1, 1}, rt.Whole(late), {made, large - 5, rt.End}}, rt.CPUs(0.5))
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := all.Ready(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a part that is not there: %v", err)
	}
	if err := rt.Cancel(gate); err != nil {
		t.Fatal(err)
	}
	_, err := all.Get(ctx)
	contains(t, err, "cancelled")
	b, err := rt.Concat(ctx, []rt.Part{rt.Whole(put), {made, 100, 2000}, {put, 1, 1}, {made, large - 5, rt.End}}).Get(ctx)
	if want := slices.Concat([]byte("put"), pattern(large)[100:2000], pattern(large)[large-5:]); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	again := rt.Concat(ctx, []rt.Part{rt.Whole(rt.Concat(ctx, []rt.Part{{made, 0, 3}, rt.Whole(put)})), rt.Whole(made)})
	if b, err := again.Get(ctx); err != nil || !bytes.Equal(b, slices.Concat(pattern(3), []byte("put"), pattern(large))) {
		t.Errorf("of one more: %d bytes, %v", len(b), err)
	}
	if b, err := rt.Concat(ctx, nil).Get(ctx); err != nil || len(b) != 0 {
		t.Errorf("of none: %v, %v", b, err)
	}
}

func TestConcatOfWhatIsNotThere(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	put := rt.Put(ctx, []byte("put"))
	_, err := rt.Concat(ctx, []rt.Part{rt.Whole(put), rt.Whole(noBytes.Remote(ctx, rt.None{}))}).Get(ctx)
	var failed *rt.TaskError
	if !errors.As(err, &failed) || !errors.Is(err, errSentinel) {
		t.Errorf("of a part that failed: %v", err)
	}
	_, err = rt.Concat(ctx, []rt.Part{rt.Whole(goneBytes.Remote(ctx, rt.None{}))}).Get(ctx)
	if !errors.As(err, &failed) || failed.Type != "panic" || failed.Message != "gone" {
		t.Errorf("of a part that panicked: %v", err)
	}
	_, err = rt.Concat(ctx, []rt.Part{rt.Whole(put), {put, 2, 4}}).Get(ctx)
	contains(t, err, "part 1", put.ID(), "[2:4]", "3 elements")
	_, err = rt.Concat(ctx, []rt.Part{{put, 3, 2}}).Get(ctx)
	contains(t, err, "[3:2] of part 0 is no range")
	_, err = rt.Concat(ctx, []rt.Part{{Start: 1}}).Get(ctx)
	contains(t, err, "part 0 has no reference")
}

// Of values elsewhere the ranges alone are brought, by pieces of which some are on their way.
func TestConcatOfRangesElsewhere(t *testing.T) {
	const size, piece = 90 << 20, 16 << 20
	data := pattern(size)
	ctx, there := farAway(t, fb.FormatRaw, data)
	ref := fill.Remote(ctx, size)
	b, err := rt.Join(ctx, rt.Part{Ref: ref, Start: 5, Stop: 1005}, rt.Part{Ref: ref, Start: 1, Stop: rt.End})
	if err != nil || !bytes.Equal(b, slices.Concat(data[5:1005], data[1:])) {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	want := [][2]uint64{{0, 0}, {0, 0}, {5, 1000}}
	for at := uint64(1); at < size; at += piece {
		want = append(want, [2]uint64{at, min(piece, size-at)})
	}
	if asked, got := there.was(); !slices.Equal(asked, want) || got > 0 {
		t.Errorf("asked for were %v, and all of it %d times", asked, got)
	}
}

func TestConcatOfWhatIsMadeAnewMeanwhile(t *testing.T) {
	const size = 40 << 20
	data := pattern(size)
	other := slices.Clone(data)
	slices.Reverse(other)
	for name, now := range map[string][]byte{"the same": data, "other bytes": other, "another length": data[:size-1]} {
		t.Run(name, func(t *testing.T) {
			ctx, there := farAway(t, fb.FormatRaw, data)
			there.set(func() { there.after, there.later = 2, now })
			ref := fill.Remote(ctx, size)
			b, err := rt.Join(ctx, rt.Part{Ref: ref, Start: 3, Stop: size - 7})
			if len(now) != size {
				contains(t, err, "part 0", "made anew while it was read", "41943039 bytes, not 41943040")
				return
			}
			if _, got := there.was(); err != nil || !bytes.Equal(b, now[3:size-7]) || got != 1 {
				t.Errorf("%d bytes, %v; all of it was asked for %d times", len(b), err, got)
			}
		})
	}
}
