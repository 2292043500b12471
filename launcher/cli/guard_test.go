package cli

import (
	"context"
	"errors"
	"testing"
)

// A question that fails is asked again, and what is not known ends nothing: only a cluster that is over is not waited for.
func TestUntilUnused(t *testing.T) {
	late, gone := errors.New("no answer for 10 s"), errors.New("the cluster has ended")
	type look struct {
		names []string
		all   bool
		err   error
		over  error
	}
	silent := make([]look, unusedTries+1)
	for _, tt := range []struct {
		name  string
		looks []look
		want  error
		said  string
	}{
		{"nobody", []look{{all: true}}, nil, ""},
		{"busy", []look{{names: []string{"a", "b"}, all: true}, {names: []string{"c"}}, {all: true}}, nil, "a, b"},
		{"late", []look{{err: late}, {err: late}, {all: true}}, nil, ""},
		{"late, then busy", []look{{err: late}, {names: []string{"a"}, all: true}, {err: late}, {all: true}}, nil, "a"},
		{"gone", []look{{err: late}, {err: late, over: gone}}, gone, ""},
		{"silent", silent, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, said := 0, ""
			err := untilUnused(t.Context(), func() ([]string, bool, error) {
				l := tt.looks[n]
				n++
				return l.names, l.all, l.err
			}, func() error { return tt.looks[n-1].over }, func(names string) { said += names })
			if !errors.Is(err, tt.want) || n != len(tt.looks) || said != tt.said {
				t.Errorf("%v after %d of %d looks, said %q", err, n, len(tt.looks), said)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := untilUnused(ctx, func() ([]string, bool, error) { cancel(); return nil, false, late }, func() error { return nil }, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}
