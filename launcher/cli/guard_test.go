package cli

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
)

// A question that fails is asked again, and what is not known ends nothing: only a cluster that is over is not waited for.
func TestUntilUnused(t *testing.T) {
	late, gone := errors.New("no answer for 10 s"), errors.New("the cluster has ended")
	type look struct {
		names  []string
		silent []string
		err    error
		over   error
	}
	silent := slices.Repeat([]look{{silent: []string{"n2"}}}, unusedTries+1)
	turns := slices.Repeat([]look{{silent: []string{"n2"}}, {silent: []string{"n1"}}}, unusedTries) // each tells at every other look
	late1 := append(slices.Repeat([]look{{silent: []string{"n2"}}}, unusedTries), slices.Repeat([]look{{silent: []string{"n1", "n2"}}}, unusedTries+1)...)
	for _, tt := range []struct {
		name  string
		looks []look
		want  error
		said  string
	}{
		{"nobody", []look{{}}, nil, ""},
		{"busy", []look{{names: []string{"a", "b"}}, {names: []string{"c"}, silent: []string{"n1"}}, {}}, nil, "a, b"},
		{"late", []look{{err: late}, {err: late}, {}}, nil, ""},
		{"late, then busy", []look{{err: late}, {names: []string{"a"}}, {err: late}, {}}, nil, "a"},
		{"gone", []look{{err: late}, {err: late, over: gone}}, gone, ""},
		{"silent", silent, nil, ""},
		{"silent, and one that was late", late1, nil, ""},
		{"silent by turns", append(turns, look{}), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, said := 0, ""
				err := untilUnused(t.Context(), func() ([]string, []string, error) {
					l := tt.looks[n]
					n++
					return l.names, l.silent, l.err
				}, func() error { return tt.looks[n-1].over }, func(names string) { said += names })
				if !errors.Is(err, tt.want) || n != len(tt.looks) || said != tt.said {
					t.Errorf("%v after %d of %d looks, said %q", err, n, len(tt.looks), said)
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := untilUnused(ctx, func() ([]string, []string, error) { cancel(); return nil, nil, late }, func() error { return nil }, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}
