package rt_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/maniple-hpc/maniple/rt"
	"github.com/maniple-hpc/maniple/rt/agent/work"
)

// asked is what a stream of the tests is to do.
type asked struct {
	N, Size int
	Fails   string // "error", "panic": after N
	Notes   string // a file that gets a byte for each item, and is removed at the end
}

var (
	streams = rt.NewStream("streams", func(ctx context.Context, a asked) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			if a.Notes != "" {
				defer os.Remove(a.Notes)
			}
			for i := range a.N {
				if a.Notes != "" {
					note(a.Notes)
				}
				if !yield(append([]byte{byte(i)}, make([]byte, a.Size)...), nil) {
					return
				}
			}
			switch a.Fails {
			case "error":
				yield(nil, errSentinel)
			case "panic":
				panic("at the end")
			}
		}
	})
	halves = rt.NewFunc2("halves", func(_ context.Context, a asked) (int, []byte, error) {
		if a.Fails == "panic" {
			panic("in the middle")
		}
		return a.N, make([]byte, a.Size), map[string]error{"error": errSentinel}[a.Fails]
	})
	badHalf   = rt.NewFunc2("badHalf", func(context.Context, rt.None) (int, func(), error) { return 1, func() {}, nil })
	firstByte = rt.NewFunc("firstByte", func(_ context.Context, b []byte) (int, error) { return int(b[0]), nil })
)

func note(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, _ = f.Write([]byte{1})
		_ = f.Close()
	}
}

// read gives the first bytes of what a stream gives, and its error.
func read(ctx context.Context, s *rt.Stream[[]byte]) (got []byte, err error) {
	for b, err := range s.All(ctx) {
		if err != nil {
			return got, err
		}
		got = append(got, b[0])
	}
	return got, nil
}

func TestStreams(t *testing.T) {
	ctx, _ := join(t, 2, work.Config{})
	want := make([]byte, 200) // more than a function may be ahead
	for i := range want {
		want[i] = byte(i)
	}
	for _, size := range []int{0, 1000, 300 << 10} { // in frames and in shared memory
		got, err := read(ctx, streams.Remote(ctx, asked{N: len(want), Size: size}))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("of %d bytes: %v, %v", size, got, err)
		}
	}
	s := streams.Remote(ctx, asked{N: 5})
	for b, err := range s.All(ctx) { // a loop that is left
		if err != nil || b[0] != 0 {
			t.Fatal(b, err)
		}
		break
	}
	if got, err := read(ctx, s); err != nil || !slices.Equal(got, want[1:5]) {
		t.Errorf("in the next loop: %v, %v", got, err)
	}
	if got, err := read(ctx, s); err != nil || len(got) > 0 {
		t.Errorf("behind the end: %v, %v", got, err)
	}
	i := 0
	for ref, err := range streams.Remote(ctx, asked{N: 3, Size: 200 << 10}).Refs(ctx) {
		if got := must[int](t)(firstByte.After(ctx, ref).Get(ctx)); err != nil || got != i {
			t.Errorf("item %d: %d, %v", i, got, err)
		}
		i++
	}
	if i != 3 {
		t.Errorf("%d references", i)
	}
}

func TestStreamsThatFail(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	var failed *rt.TaskError
	got, err := read(ctx, streams.Remote(ctx, asked{N: 3, Fails: "error"}))
	if len(got) != 3 || !errors.As(err, &failed) || !errors.Is(err, errSentinel) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = read(ctx, streams.Remote(ctx, asked{N: 70, Fails: "panic"}))
	if contains(t, err, "at the end"); len(got) != 70 {
		t.Errorf("%v before the panic", got)
	}
	if _, err := read(ctx, streams.Remote(ctx, asked{}, rt.Concurrency(2))); err == nil {
		t.Error("an option of actors is taken")
	}
	for _, err := range streams.Remote(ctx, asked{}, rt.Concurrency(2)).Refs(ctx) {
		contains(t, err, "Concurrency")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := read(short, streams.Remote(ctx, asked{N: 1 << 20})); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: %v", err)
	}
}

// A function waits for its reader, and ends when nobody reads any more.
func TestStreamsWaitForTheirReader(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	notes := filepath.Join(t.TempDir(), "notes")
	s := streams.Remote(ctx, asked{N: 1 << 20, Notes: notes})
	made := func() int64 {
		info, err := os.Stat(notes)
		if err != nil {
			return -1
		}
		return info.Size()
	}
	until(t, ctx, "as much is made as may be ahead", func() bool { return made() == 64 })
	n := 0
	for _, err := range s.All(ctx) {
		if n++; err != nil || n == 100 {
			break
		}
	}
	if n != 100 {
		t.Fatalf("%d items", n)
	}
	if got := made(); got > 100+64+1 {
		t.Errorf("%d items are made, 100 are read", got)
	}
	s.Close()
	s.Close()
	until(t, ctx, "the function has ended", func() bool { return made() < 0 })
	if got, err := read(ctx, s); err != nil || len(got) > 0 {
		t.Errorf("a stream that is closed gives %v, %v", got, err)
	}
	if got := must[int](t)(firstByte.Remote(ctx, []byte{7}).Get(ctx)); got != 7 {
		t.Errorf("the worker is of no use: %d", got)
	}
}

// Large items hold it by their bytes: one that was taken lets it make one more.
func TestStreamsWaitByTheirBytes(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{StreamBytes: 5 << 20})
	notes := filepath.Join(t.TempDir(), "notes")
	s := streams.Remote(ctx, asked{N: 20, Size: 1 << 20, Notes: notes})
	made := func() int64 {
		info, err := os.Stat(notes)
		if err != nil {
			return 20
		}
		return info.Size()
	}
	i := int64(0)
	for ref, err := range s.Refs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		ref.Release()
		i++
		until(t, ctx, "the next ones are made", func() bool { return made() >= min(i+4, 20) })
		if got := made(); got > min(i+4, 20) {
			t.Fatalf("%d items are made, %d are taken", got, i)
		}
	}
	if i != 20 {
		t.Errorf("%d items", i)
	}
}

func TestTwoResults(t *testing.T) {
	ctx, _ := join(t, 1, work.Config{})
	for _, size := range []int{3, 300 << 10} {
		n, b := halves.Remote(ctx, asked{N: 7, Size: size})
		if got := must[[]byte](t)(b.Get(ctx)); len(got) != size {
			t.Errorf("%d bytes", len(got))
		}
		if got := must[int](t)(n.Get(ctx)); got != 7 {
			t.Errorf("%d", got)
		}
	}
	n, b := halves.Remote(ctx, asked{N: 9})
	b.Release() // one of them is enough
	if got := must[int](t)(square.After(ctx, n).Get(ctx)); got != 81 {
		t.Errorf("%d", got)
	}
	for how, want := range map[string]string{"error": errSentinel.Error(), "panic": "in the middle"} {
		n, b := halves.Remote(ctx, asked{Fails: how})
		_, err := n.Get(ctx)
		contains(t, err, want)
		_, err = b.Get(ctx)
		contains(t, err, want)
	}
	one, other := badHalf.Remote(ctx, rt.None{})
	_, err := other.Get(ctx)
	contains(t, err, "second result: a func can't be sent")
	_, err = one.Get(ctx)
	contains(t, err, "second result")
	wrong, _ := halves.Remote(ctx, asked{}, rt.Concurrency(2))
	_, err = wrong.Get(ctx)
	contains(t, err, "halves", "Concurrency")
}
